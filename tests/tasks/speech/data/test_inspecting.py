"""`redense data check` of recordings says what is there and names each clip that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.data.inspecting import inspect_recordings
from redense.tasks.speech.data.layouts import looks_like_recordings

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


def test_what_is_usable_is_counted_and_the_rest_is_named(corpus: Write, sound: Write):
    root = corpus(["Uno dos", "tres", "4", "cinco"], "train.jsonl")
    corpus(["uno"], "test.jsonl", seconds=0.8)
    sound(root / "train-3.wav", level=0.0)
    facts = inspect_recordings(SpeechData(source=str(root)))
    assert facts.splits == {"train": (2, 0.8), "test": (1, 0.8)}
    assert facts.lengths == (0.4, 0.4, 0.8)
    assert facts.words == (4, 3)  # uno twice
    assert set(facts.symbols) == set("uno dos tres")
    assert tuple(map(str, facts.faults)) == ("train-2.wav has digits", "train-3.wav is silent")
    assert facts.broken == 1
    assert facts.changed == {"to lower case": 1}


def test_the_command_lists_them_and_exits_with_1_if_a_sound_is_broken(corpus: Write, redense: Run):
    root = corpus(["uno dos", "dos uno"], "train.jsonl")
    corpus(["uno"], "validation.jsonl")
    corpus(["dos"], "test.jsonl")
    code, out, _ = redense("data", "check", root)
    assert code == 0
    assert out.splitlines()[0] == "test: 1 clip, 0.0 min"
    assert "one wrong word is 100.0 points of the word error rate" in out
    assert "cannot be used" not in out
    (root / "train-1.wav").write_bytes(b"RIFF")
    code, out, _ = redense("data", "check", root)
    assert code == 1
    assert "\n1 cannot be used:\n  train-1.wav " in out
    assert out.endswith("training leaves these clips out, and refuses the set with data.broken: refuse\n")
    code, out, _ = redense("data", "check", root, "--data.broken", "refuse")
    assert code == 1
    assert out.endswith("training refuses this set, or leaves these clips out with data.broken: skip\n")


def test_pictures_are_no_recordings(tmp_path: Path, image_folder: Path):
    assert not looks_like_recordings(image_folder)
    (tmp_path / "notes.txt").write_text("text")
    assert not looks_like_recordings(tmp_path)
    assert not looks_like_recordings(tmp_path / "notes.txt")
