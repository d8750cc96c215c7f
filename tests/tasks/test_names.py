"""Names that somebody else wrote: files that are there under another spelling."""

from __future__ import annotations

from pathlib import Path

from redense.tasks.names import Alike


def test_a_file_is_looked_for_below_the_root_alone_and_only_where_one_can_be_meant(tmp_path: Path):
    inside = tmp_path / "Corpus" / "Sen\u0303al"
    inside.mkdir(parents=True)
    (inside / "a.wav").touch()
    alike, asked = Alike(tmp_path), tmp_path / "corpus" / "se\u00f1al" / "A.WAV"
    assert alike.find(asked) == inside / "a.wav"
    assert alike.find(inside / "a.wav") == inside / "a.wav"
    assert alike.find(inside / "b.wav") == inside / "b.wav"
    assert Alike(tmp_path / "Corpus").find(asked) == asked
    assert alike.find(tmp_path / ("x" * 300)) == tmp_path / ("x" * 300)
    (inside / "A.wav").touch()
    assert Alike(tmp_path).find(asked) == asked
