"""`redense data check` of recordings says what is there and names each clip that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.data.inspecting import check
from redense.tasks.speech.data.layouts import looks_like_recordings

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


def test_what_is_usable_is_counted_and_the_rest_is_named(corpus: Write, sound: Write):
    root = corpus(["Uno dos", "tres", "4", "cinco"], "train.jsonl")
    corpus(["uno"], "test.jsonl", seconds=0.8)
    sound(root / "train-3.wav", level=0.0)
    told: list[tuple[int, int]] = []
    found = check(SpeechData(source=str(root)), False, lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]
    assert found.facts["splits"] == {"train": {"clips": 2, "seconds": 0.8}, "test": {"clips": 1, "seconds": 0.8}}
    assert (found.facts["words"], found.facts["different_words"]) == (4, 3)  # uno twice
    assert found.facts["symbols"] == "".join(sorted(set("uno dos tres")))
    assert list(map(str, found.faults)) == ["train-2.wav has digits", "train-3.wav is silent"]
    assert found.broken
    assert found.facts["changed"] == {"to lower case": 1}
    assert [line for line in found.lines if not line.startswith(("note: ", "taken for "))] == [
        "test: 1 clip, 0.0 min",
        "train: 2 clips, 0.0 min",
        "clips: 0.4 to 0.8 s long, half of them at least 0.4 s",
        "transcripts: 4 words, of which 3 different; 8 symbols: d e n o r s t u",
        "transcripts that training would change: 1 to lower case",
        "2 cannot be used:",
        "  train-2.wav has digits",
        "  train-3.wav is silent",
    ]


def test_clips_with_letters_that_are_not_learned_are_said_to_be_left_out(corpus: Write, redense: Run):
    corpus(["uno dos", "tres"], "train.jsonl")
    corpus(["uno"], "dev.jsonl")
    root = corpus(["uno", "zinc"], "test.jsonl")
    said = "note: left out 1 clips: has 'c', which no training transcript has: 1 (test-1.wav)"
    assert said in redense("data", "check", root)[1]


def test_speakers_are_counted_where_they_are_named(tmp_path: Path, sound: Write):
    lines: list[str] = []
    for index, (text, seconds) in enumerate((("si", 30), ("no", 60))):
        sound(tmp_path / f"{index}.wav", seconds=seconds, rate=1_000)
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "text": text, "speaker": "one"}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    found = check(SpeechData(source=str(tmp_path), max_seconds=90), False, lambda done, total: None)
    assert found.lines[:3] == [
        "train: 2 clips, 1.5 min",
        "clips: 30.0 to 60.0 s long, half of them at least 60.0 s; 1 speaker",
        "transcripts: 2 words, of which 2 different; 4 symbols: i n o s",
    ]


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


def test_what_is_known_of_recordings_is_shown_with_the_caches_and_can_be_cleared(corpus: Write, redense: Run):
    redense("data", "check", corpus(["uno dos"], "train.jsonl"))
    assert json.loads(redense("data", "cache", "--json")[1])["bytes"]["heard"] > 0
    assert redense("data", "cache", "--clear", "heard")[0] == 0
    assert json.loads(redense("data", "cache", "--json")[1])["bytes"]["heard"] == 0
