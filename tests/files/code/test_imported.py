"""A script is known by its bytes and those of the modules that it imports."""

from __future__ import annotations

from pathlib import Path

from redense.files.code.imported import modules_from
from redense.files.pieces import changed_pieces


def test_a_script_has_its_own_bytes_and_those_of_modules_next_to_it(tmp_path: Path):
    (tmp_path / "run.py").write_text(
        "import json, numpy\nfrom near import x\nfrom kit.part import y\nz = __import__('called')\n"
    )
    (tmp_path / "called.py").write_text("")
    (tmp_path / "near.py").write_text("x = 1\n")
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "part.py").write_text("y = 1\n")
    (tmp_path / "alone.py").write_text("")
    before = modules_from(tmp_path / "run.py")
    assert sorted(before) == ["called", "kit.part", "near", "run.py"]
    (tmp_path / "kit" / "part.py").write_text("y = 2\n")
    assert changed_pieces(before, modules_from(tmp_path / "run.py")) == ["kit.part"]
    (tmp_path / "run.R").write_text("cat(1)\n")
    assert list(modules_from(tmp_path / "run.R")) == ["run.R"]
