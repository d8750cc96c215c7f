import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from redense.errors import DataError
from redense.tasks.speech.config import SpeechData, SpeechModel
from redense.tasks.speech.data import checking, tones
from redense.tasks.speech.data.loading import Corpus, load_corpus
from redense.tasks.speech.task import Speech

Write = Callable[..., Path]
WORDS = ("uno", "dos", "tres", "seis", "siete", "ocho", "nueve", "diez", "cien", "mil")


def sentences(count: int) -> list[str]:
    return [
        f"{WORDS[index % 10]} {WORDS[index // 10 % 10]} {'mil ' * (index // 100)}".strip() for index in range(count)
    ]


def load(source: Path | str | tuple[str, ...], **settings: Any) -> Corpus:
    return load_corpus(SpeechData(source=source if isinstance(source, tuple) else str(source), **settings))


def texts(corpus: Corpus) -> dict[str, set[str]]:
    return {name: {utterance.text for utterance in part} for name, part in corpus.splits.items()}


def test_a_sentence_is_on_one_side_however_often_it_is_said(corpus: Write):
    found = texts(load(corpus([*sentences(60), *map(str.upper, sentences(60))])))
    assert all(found.values())
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    assert set().union(*found.values()) == set(sentences(60))


def test_several_sources_share_one_split(corpus: Write):
    one, two = corpus(sentences(40), folder="one"), corpus(sentences(60), folder="two")
    both = load((str(one), str(two)))
    assert sum(map(len, both.splits.values())) == 100
    assert len({utterance.clip.name for part in both.splits.values() for utterance in part}) == 100
    assert texts(both) == texts(load(two))


def test_a_given_split_is_kept_and_a_missing_one_is_taken_from_training(corpus: Write, tmp_path: Path):
    corpus(["cien cien mil"], "test.jsonl")
    found = load(corpus(sentences(60), "train.jsonl"))
    assert [utterance.text for utterance in found.splits["test"]] == ["cien cien mil"]
    assert len(found.splits["validation"]) > 0
    assert len(found.splits["train"]) + len(found.splits["validation"]) == 60


@pytest.mark.parametrize("sayings", [sentences(30), ["uno"] * 30], ids=["by sentences", "by names"])
def test_a_clip_stays_in_its_given_split_also_if_training_has_one_of_its_name(
    sayings: list[str], tmp_path: Path, sound: Write
):
    for seed, (split, own) in enumerate({"train": sayings, "test": sayings[::-1]}.items()):
        for index in range(len(own)):
            sound(tmp_path / "set" / split / f"{index}.wav", seed=100 * seed + index)
        lines = ["file_name,text", *(f"{index}.wav,{text}" for index, text in enumerate(own))]
        (tmp_path / "set" / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    found = load(tmp_path / "set").splits
    assert {name: {one.clip.path.parent.name for one in part} for name, part in found.items()} == {
        "train": {"train"},
        "validation": {"train"},
        "test": {"test"},
    }
    assert len(found["test"]) == 30
    assert len({one.clip.name for part in found.values() for one in part}) == 60


def test_several_test_sets_keep_their_names(corpus: Write):
    corpus(["dos uno"], "test_93.jsonl")
    corpus(["uno dos"], "test_92.jsonl")
    corpus(sentences(10), "dev.jsonl")
    assert load(corpus(sentences(10), "train.jsonl")).parts == ("92", "93")


def test_a_test_set_without_a_name_has_one_beside_others(corpus: Write):
    corpus(sentences(60), "train.jsonl")
    corpus([f"tres {text}" for text in sentences(3)], "test.jsonl")
    assert load(corpus([f"mil {text}" for text in sentences(3)], "test_93.jsonl")).parts == ("93", "test")


def test_all_that_is_left_out_is_counted_and_named(corpus: Write, sound: Write):
    root = corpus([*sentences(50), "tiene 2", "[pitido]", "vacio", "mudo", "largo", "corto", "falta", "roto"])
    names = {text: root / f"manifest-{50 + index}.wav" for index, text in enumerate(
        ["tiene", "pitido", "vacio", "mudo", "largo", "corto", "falta", "roto"])}  # fmt: skip
    names["vacio"].write_bytes(b"")
    soundfile.write(names["mudo"], np.zeros(8_000), 8_000)
    sound(names["largo"], 3.0)
    sound(names["corto"], 0.05)
    names["falta"].unlink()
    names["roto"].write_bytes(b"RIFF but nothing more")
    found = load(root, max_seconds=2.0)
    assert sum(map(len, found.splits.values())) == 50
    (left,) = [note for note in found.notes if note.startswith("left out")]
    assert left.startswith("left out 8 clips")
    for cause in ("has digits", "has brackets", "is empty", "is silent", "is longer than 2 s", "is shorter than 0.1 s",
                  "cannot be read (No such file", "is no sound file"):  # fmt: skip
        assert f"{cause}" in left
    with pytest.raises(DataError, match=r"data\.broken: skip"):
        load(root, max_seconds=2.0, broken="refuse")


@pytest.mark.parametrize(
    ("level", "seconds", "rate", "cause"),
    [
        (0.0, 0.4, 8_000, "is silent"),
        (0.3, 0.0, 8_000, "holds no sound"),
        (0.3, 0.4, 100, "says that it has 100 samples"),
    ],
)
def test_a_clip_without_sound_that_can_be_used_is_refused_as_data_check_says(
    level: float, seconds: float, rate: int, cause: str, corpus: Write, sound: Write
):
    root = corpus(sentences(50), "train.jsonl")
    sound(root / "train-3.wav", seconds, rate=rate, level=level)
    assert any(cause in note for note in load(root).notes)
    with pytest.raises(DataError, match=f"a clip {cause}.*train-3.wav"):
        load(root, broken="refuse")


def test_what_was_changed_in_transcripts_is_counted(corpus: Write):
    found = load(corpus([*sentences(40), "¡Mil!"]), accents="fold")
    assert found.notes[-1] == "transcripts changed: 1 to lower case, 1 without punctuation"


def test_a_language_of_which_nothing_is_known_is_said(corpus: Write):
    root = corpus(sentences(60))
    assert any("data.language 'spa' changes nothing" in note for note in load(root, language="spa").notes)
    assert not any("data.language" in note for note in load(root, language="es").notes)


def test_letters_that_training_never_shows_are_left_out_elsewhere(corpus: Write):
    corpus(["uno", "zzz"], "test.jsonl")
    corpus(["dos"], "dev.jsonl")
    found = load(corpus(["uno dos"], "train.jsonl"))
    assert texts(found)["test"] == {"uno"}
    assert any("'z', which no training transcript has" in note for note in found.notes)


def test_a_given_alphabet_is_the_alphabet(corpus: Write):
    found = load(corpus([*sentences(50), "xyz"]), alphabet=" abcdefghijklmnopqrstuv" + "z")
    assert found.alphabet.symbols[:3] == (" ", "a", "b")
    assert any("'x', which is not in data.alphabet" in note for note in found.notes)


def test_the_fingerprint_is_that_of_sounds_and_texts(corpus: Write, sound: Write):
    root = corpus(sentences(50))
    before = load(root).fingerprint
    assert load(root).fingerprint == before
    own = root / "manifest-0.wav"
    status = own.stat()
    sound(own, seed=99)
    os.utime(own, ns=(status.st_atime_ns, status.st_mtime_ns))  # as an archive gives its files one date
    assert own.stat().st_size == status.st_size
    assert load(root).fingerprint != before


def test_other_pieces_of_the_same_files_are_other_data(tmp_path: Path, sound: Write):
    sound(tmp_path / "long.wav", 16)

    def cut(seconds: float, late: float = 0.0) -> str:
        rows = [
            {"audio_filepath": "long.wav", "offset": index * 0.5 + late, "duration": seconds, "text": text}
            for index, text in enumerate(sentences(30))
        ]
        (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load(tmp_path).fingerprint

    assert cut(0.2) == cut(0.2)
    assert len({cut(0.2), cut(0.3), cut(0.2, 1e-5)}) == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("all.jsonl", '{"audio_filepath": "0.wav", "text": "uno"}'), ("test.jsonl", "{first}")),
        (("metadata.csv", "file_name,text\n0.wav,uno"), ("metadata.jsonl", '{"file_name": "0.wav", "text": "uno"}')),
        (("metadata.csv", "0|uno"), ("metadata_test.csv", "{first}")),
    ],
    ids=["a list of all and one of the test", "two tables", "LJSpeech's"],
)
def test_a_clip_that_two_lists_of_a_folder_name_is_refused(
    first: tuple[str, str], second: tuple[str, str], tmp_path: Path, sound: Write
):
    sound(tmp_path / "0.wav")
    for name, text in (first, second):
        (tmp_path / name).write_text(text.replace("{first}", first[1]))
    with pytest.raises(DataError, match=f"{first[0]} and .*{second[0]} both name 0(.wav)?: remove one of them"):
        load(tmp_path)


@pytest.mark.parametrize(("sayings", "settings"), [(sentences(40), {"limit": 5}), (["uno"] * 40, {})])
def test_names_that_are_no_utf8_can_be_clips(
    sayings: list[str], settings: dict[str, int], tmp_path: Path, sound: Write
):
    for index, text in enumerate(sayings):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9%d" % index))
        sound(tmp_path / "0.wav").rename(path.with_suffix(".wav"))
        path.with_suffix(".txt").write_text(text)
    found = load(tmp_path, **settings).splits
    assert all(found.values())
    assert len(found["train"]) <= settings.get("limit", 40)


def test_a_limit_holds_where_a_recording_has_two_transcripts(tmp_path: Path, sound: Write):
    rows: list[str] = []
    for index, text in enumerate(sentences(60)):
        name = sound(tmp_path / f"{index // 2}.wav", seed=index // 2).name
        rows.append(json.dumps({"audio_filepath": name, "text": text}))
    (tmp_path / "all.jsonl").write_text("\n".join(rows))
    assert [len(load(tmp_path, limit=limit).splits["train"]) for limit in range(1, 9)] == [*range(1, 9)]


def test_a_source_without_splits_beside_one_with_them_is_trained_on_and_what_it_repeats_is_said(corpus: Write):
    corpus(sentences(20), "train.jsonl")
    corpus([f"tres {text}" for text in sentences(5)], "validation.jsonl")
    one = corpus([f"mil {text}" for text in sentences(5)], "test.jsonl")
    two = corpus([*sentences(9), "mil uno uno", "mil dos uno"], folder="two")
    found = load((str(one), str(two)))
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 31, "validation": 5, "test": 5}
    said = "2 clips of a source without splits went to training, with a sentence that given validation or test clips"
    assert any(said in note for note in found.notes)
    assert not any("without splits" in note for note in load(one).notes)


def test_where_clips_without_a_split_went_is_said_beside_a_list_that_has_one(corpus: Write):
    corpus(sentences(20), "train.jsonl")
    corpus([f"tres {text}" for text in sentences(5)], "dev.jsonl")
    corpus([f"mil {text}" for text in sentences(5)], "test.jsonl")
    root = corpus([f"seis {text}" for text in sentences(3)], "heldout.jsonl")
    said = "no list, folder or source puts 3 clips into a split, such as heldout-0.wav: 3 to training"
    assert said in load(root).notes


def listed(folder: Path, **rows: Sequence[tuple[float, float, str]]) -> Path:
    for name, pieces in rows.items():
        lines = [{"audio_filepath": "a.wav", "offset": at, "duration": long, "text": text} for at, long, text in pieces]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_pieces_of_a_recording_that_overlap_in_two_splits_are_said(tmp_path: Path, sound: Write):
    sound(tmp_path / "a.wav", 5.0)
    train = [(0.0, 1.0, "uno dos"), (3.95, 1.0, "dos uno"), (0.2, 0.2, "dos")]
    root = listed(tmp_path, train=train, dev=[(1.0, 1.0, "uno")], test=[(0.8, 1.0, "dos"), (3.0, 1.0, "uno")])
    (train_test, dev_test) = [note for note in load(root).notes if "sound in common" in note]
    assert "of 2 test clips 1 has sound" in train_test
    assert "in the training split, such as a.wav@0.8 (a.wav): the test figures flatter" in train_test
    assert "of 2 test clips 1 has sound" in dev_test
    assert "such as a.wav@0.8 (a.wav@1): the test" in dev_test


def test_a_clip_that_a_list_names_twice_is_refused_unless_it_is_trained_on(tmp_path: Path, sound: Write):
    sound(tmp_path / "a.wav", 5.0)
    piece = (3.0, 1.0, "uno")
    root = listed(tmp_path, train=[(0.0, 1.0, "uno")] * 2, dev=[(1.0, 1.0, "uno")], test=[piece])
    assert len(load(root).splits["train"]) == 2
    with pytest.raises(DataError, match=r"a\.wav@3: one recording with one transcript is there twice"):
        load(listed(tmp_path, test=[piece] * 2))
    with pytest.raises(ValueError, match="source names one place twice"):
        load((str(root), str(root)))


def test_the_fingerprint_says_which_of_several_test_sets_a_clip_is_in(tmp_path: Path, sound: Write):
    sound(tmp_path / "a.wav", 5.0)
    pieces = [(0.5 * place, 0.4, f"dos {'mil ' * place}".strip()) for place in range(7)]

    def load_two(cut: int) -> Corpus:
        return load(listed(tmp_path, train=pieces[:2], dev=pieces[2:3], test_a=pieces[3:cut], test_b=pieces[cut:]))

    before, moved = load_two(4), load_two(5)
    assert before.parts == moved.parts == ("a", "b")
    assert before.fingerprint != moved.fingerprint
    assert before.known_as == moved.known_as  # as an older redense has written it
    live = SpeechData(source=str(tmp_path), features="live")
    assert Speech(live, SpeechModel(hidden=8), before).known_as == before.known_as
    (tmp_path / "test_b.jsonl").unlink()
    one = load(listed(tmp_path, test_a=pieces[3:]))  # keeps the key that it has had
    assert (one.fingerprint, one.known_as) == (before.known_as[0], ())


def test_clips_are_listened_to_once(corpus: Write, monkeypatch: pytest.MonkeyPatch):
    root = corpus(sentences(50))
    first = load(root)
    monkeypatch.setattr(checking, "look", lambda *given: pytest.fail("it was heard before"))
    assert load(root).fingerprint == first.fingerprint


@pytest.mark.parametrize(("old", "new"), [("{", "{]"), (r"\d(?=\d*\.)", "7"), ('"clips"', '"cups"')])
def test_a_damaged_memory_only_costs_time(old: str, new: str, corpus: Write, own_cache: Path):
    root = corpus(sentences(50))
    before, (kept,) = load(root).fingerprint, (own_cache / "heard").iterdir()
    whole = kept.read_text()
    kept.write_text(re.sub(old, new, whole))
    assert kept.read_text() != whole
    assert load(root).fingerprint == before
    assert kept.read_text() == whole


def test_a_limit_takes_the_same_training_clips_and_leaves_the_others(corpus: Write):
    root = corpus(sentences(80))
    all_, few = load(root), load(root, limit=7)
    assert len(few.splits["train"]) == 7
    assert texts(few)["train"] <= texts(all_)["train"]
    assert texts(few)["test"] == texts(all_)["test"]


def test_a_split_without_clips_is_refused(corpus: Write):
    with pytest.raises(DataError, match="no clip is left for"):
        load(corpus(["uno"]))


def test_the_tones_are_made_once_and_are_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tones, "_SENTENCES", 60)
    found = load("tones")
    monkeypatch.setattr(tones, "write_tones", lambda *given: pytest.fail("they were there"))
    assert len(found.splits["train"]) > 30
    assert json.dumps(found.notes).count("left out") == 0
    assert load("tones").fingerprint == found.fingerprint


def test_whole_recordings_with_several_transcripts_and_pieces_that_end_too_early_are_noted(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    lines = [{"audio_filepath": "a.wav", "text": text, "start": 0.5 * n} for n, text in enumerate(sentences(2))]
    lines += [{"audio_filepath": "a.wav", "text": "cien", "offset": 0.4, "duration": 9, "split": "test"}]
    lines += [{"audio_filepath": "a.wav", "text": "mil", "offset": 0.4, "duration": 0.65, "split": "dev"}]
    for line in lines[:2]:
        line["split"] = "train"
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    notes = load(tmp_path, alphabet="abcdefghijklmnopqrstuvwxyz ").notes
    assert any("1 recording has several transcripts, such as a.wav: the whole of it is taken" in note for note in notes)
    (short,) = [note for note in notes if "is the file whole" in note]
    assert "1 clip ends before the list or the file's header says, such as a.wav@0.4, of which 8.4 s are" in short


def test_a_recording_that_is_cut_off_is_noted_also_when_it_was_heard_before(corpus: Write):
    folder = corpus(sentences(30))
    path = folder / "cut.ogg"
    soundfile.write(path, np.random.default_rng(0).standard_normal(96_000) / 10, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with (folder / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"audio_filepath": path.name, "text": "uno"}) + "\n")
    for _ in range(2):
        assert any("cut.ogg, which is cut off: is the file whole?" in note for note in load(folder).notes)
