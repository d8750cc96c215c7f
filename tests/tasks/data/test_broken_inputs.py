"""Inputs that cannot be used as they are: `data check` refuses what training refuses, and names the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense.cli import main
from redense.errors import RedenseError
from redense.tasks import catalog
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.data.loading import load_captions
from redense.tasks.captioning.tokens import vocabulary_of
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images
from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.data.loading import load_corpus

from . import making as make


@dataclass(frozen=True)
class Broken:
    """What is written, what is said of it, and the exit code of the check."""

    make: Callable[[Path], object]
    task: str
    said: tuple[str, ...]
    code: int
    options: tuple[str, ...] = ()


INPUTS: dict[str, Broken] = {}
PAIR = ("cat", "dog")


def broken(task: str, *said: str, code: int = 1, options: tuple[str, ...] = ()) -> Callable[..., Any]:
    def note(maker: Callable[[Path], object]) -> Callable[[Path], object]:
        INPUTS[maker.__name__] = Broken(maker, task, said, code, options)
        return maker

    return note


def images(*said: str, **more: Any) -> Callable[..., Any]:
    return broken("classification", *said, **more)


# --- pictures in classes ---


@images("x.png is no image of a known format")
def a_text_that_is_called_png(at: Path) -> None:
    make.classes(at)
    make.write(at / "cat" / "x.png", "not a picture")


@images("is empty")
def an_empty_file(at: Path) -> None:
    make.classes(at)
    make.write(at / "cat" / "x.png")


@images("is truncated")
def half_a_picture(at: Path) -> None:
    make.classes(at)
    make.write(at / "cat" / "x.png", make.png(64, 64)[:-200])


@images("and 20 more of this kind", "30 cannot be used")
def many_broken_files_are_ten_examples(at: Path) -> None:
    make.classes(at)
    for number in range(30):
        make.write(at / "cat" / f"b{number}.jpg", "no")


@images("data.size")
def two_sizes(at: Path) -> None:
    make.classes(at)
    make.pictures(at / "cat", ["wide"], width=20)


@images("expected at least two classes")
def one_class(at: Path) -> None:
    make.classes(at, names=("cat",))


@images("owl is an empty class folder")
def an_empty_class_folder(at: Path) -> None:
    make.classes(at)
    (at / "owl").mkdir()


@images("wolf has 4 images of a class that no training image shows")
def a_class_of_the_test_alone(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "test", 4, ("cat", "wolf"))


@images(r"of a class that no training image shows: 'cafe\u0301' is called like 'caf\xe9'")
def a_class_whose_name_another_system_has_written(at: Path) -> None:
    make.classes(at / "train", names=("caf\u00e9", "cat"))
    make.classes(at / "test", 4, ("cafe\u0301", "cat"))


@images("validation split is empty")
def too_few_to_divide(at: Path) -> None:
    make.classes(at, 2)


@images("2 images in val/ itself, in no class folder")
def loose_pictures_in_a_split(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "val", 3)
    make.pictures(at / "val", ["x", "y"])


@images("train/ could be a split or a class beside bus/, car/", code=2)
def a_folder_train_among_classes(at: Path) -> None:
    make.classes(at, names=("bus", "car", "train"))


@images("has both val/ and valid/", code=2)
def two_folders_for_validation(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "val", 3)
    make.classes(at / "valid", 3)


@images("each of cat/, dog/ holds test/, train/", "expected train/cat/ and not cat/train/", code=2)
def splits_inside_classes(at: Path) -> None:
    for kind in PAIR:
        make.classes(at / kind, names=("train", "test"))


@images("each of cat/, dog/ holds some of test/, train/", "expected train/cat/ and not cat/train/", code=2)
def splits_inside_classes_of_which_one_is_in_no_test(at: Path) -> None:
    make.classes(at / "cat", names=("train", "test"))
    make.classes(at / "dog", names=("train",))


@images("my_test: is it of the test split?", code=2)
def splits_inside_the_names_of_folders_and_a_class_that_the_test_lacks(at: Path) -> None:
    make.classes(at / "my_train", names=("bird", *PAIR))
    make.classes(at / "my_test")


@images("line 12: 'holdout' in the column 'split', expected train, validation or test", code=2)
def a_column_of_splits_with_another_word(at: Path) -> None:
    make.pictures(at, range(20))
    rows = [(f"{n}.png", PAIR[n % 2], "train" if n < 10 else "holdout") for n in range(20)]
    make.rows(at / "labels.csv", [("file", "label", "split"), *rows])


@images("line 22: no split, where other lines have one", code=2)
def a_row_without_a_split(at: Path) -> None:
    make.pictures(at, range(21))
    rows = [(f"{n}.png", PAIR[n % 2], "train" if n < 20 else "") for n in range(21)]
    make.rows(at / "labels.csv", [("file", "label", "split"), *rows])


@images("is no table that can be read", "save it as text in UTF-8", code=2)
def a_table_in_utf_16(at: Path) -> None:
    make.pictures(at, range(20))
    make.write(at / "labels.csv", "".join(f"{n}.png,{PAIR[n % 2]}\n" for n in range(20)).encode("utf-16"))


@images("gone/7.png in line 9 of labels.csv is missing", options=("--label", "label"))
def a_picture_of_another_folder_is_not_taken_for_a_missing_one(at: Path) -> None:
    make.pictures(at / "gone", range(7))
    make.pictures(at / "here", range(7, 20))
    rows = [(f"{'gone' if n < 8 else 'here'}/{n}.png", PAIR[n % 2]) for n in range(20)]
    make.rows(at / "labels.csv", [("file", "label"), *rows])


@images("has test/ but no train/", code=2)
def a_test_without_training(at: Path) -> None:
    make.classes(at / "test")


@images("are called like splits", code=2)
def splits_one_folder_too_deep(at: Path) -> None:
    for split in ("train", "test"):
        make.classes(at / "train" / split)


@images("holds one folder, archive/, which holds test/, train/", code=2)
def a_set_in_a_folder_of_its_own(at: Path) -> None:
    make.classes(at / "archive" / "train")
    make.classes(at / "archive" / "test", 3)


@images("2 images lie in no class folder", code=2)
def validation_pictures_that_are_not_sorted(at: Path) -> None:
    make.classes(at / "train")
    make.pictures(at / "val", range(2))


@images("neither idx files", "labels.csv", code=2)
def a_folder_without_pictures(at: Path) -> None:
    make.write(at / "notes" / "a.txt", "text")


@images("gone.png in line 22 of labels.csv is missing")
def a_table_that_names_a_missing_picture(at: Path) -> None:
    make.pictures(at / "x", range(20))
    make.rows(at / "labels.csv", [("id", "label"), *((n, PAIR[n % 2]) for n in range(20)), ("gone.png", "cat")])


@images("has another class than before", code=2)
def a_table_with_two_classes_for_a_picture(at: Path) -> None:
    make.pictures(at / "x", range(20))
    make.rows(at / "labels.csv", [("id", "label"), *((n, PAIR[n % 2]) for n in range(20)), ("0.png", "dog")])


@images("has no class")
def a_table_with_an_empty_cell(at: Path) -> None:
    make.pictures(at / "x", range(20))
    make.rows(at / "labels.csv", [("id", "label"), *((n, PAIR[n % 2] if n else "") for n in range(20))])


@images("choose one with data.label", code=2)
def a_table_with_two_columns_that_could_be_it(at: Path) -> None:
    make.pictures(at / "x", range(20))
    make.rows(at / "labels.csv", [("id", "colour", "shape"), *((n, "red", PAIR[n % 2]) for n in range(20))])


@images("is no column of classes; did you mean 'shape'", code=2, options=("--label", "shap"))
def a_column_that_is_not_there(at: Path) -> None:
    a_table_with_two_columns_that_could_be_it(at)


@images("both give classes", code=2)
def two_tables_for_one_split(at: Path) -> None:
    make.pictures(at / "x", range(20))
    for name in ("labels.csv", "classes.csv"):
        make.rows(at / name, [("id", "label"), *((n, PAIR[n % 2]) for n in range(20))])


@images("no t10k-labels-idx1-ubyte", code=2)
def three_of_four_idx_files(at: Path) -> None:
    pixels, labels = make.arrays()
    for name, array in (("train-images-idx3", pixels), ("train-labels-idx1", labels), ("t10k-images-idx3", pixels)):
        make.write(at / f"{name}-ubyte", make.idx(array))


@images("truncated", code=2)
def a_short_idx_file(at: Path) -> None:
    three_of_four_idx_files(at)
    make.write(at / "t10k-labels-idx1-ubyte", make.idx(make.arrays()[1])[:-3])


@images("several sets: emnist-digits, emnist-letters; choose one with data.label", code=2)
def two_sets_of_emnist(at: Path) -> None:
    pixels, labels = make.arrays()
    for name in ("digits", "letters"):
        make.write(at / f"emnist-{name}-train-images-idx3-ubyte", make.idx(pixels))
        make.write(at / f"emnist-{name}-train-labels-idx1-ubyte", make.idx(labels))


@images("expected x_train and y_train", code=2)
def arrays_of_other_names(at: Path) -> None:
    np.savez(at / "a.npz", weights=np.zeros(3))


@images("has numbers from -1 to 1", code=2)
def arrays_below_nothing(at: Path) -> None:
    np.savez(at / "a.npz", x=np.linspace(-1, 1, 8 * 64).reshape(8, 8, 8), y=np.arange(8) % 2)


@images("no arrays that can be read", code=2)
def pickled_arrays(at: Path) -> None:
    np.savez(at / "a.npz", x=np.array([{}], dtype=object), y=np.zeros(1))


@images("image 1 has label -1", code=2)
def a_table_of_parquet_with_one_hidden_label(at: Path) -> None:
    make.parquet(at, {"train": [0, 1] * 10, "test": [0, -1, 1]})


# --- captions ---


def captioned(*said: str, **more: Any) -> Callable[..., Any]:
    return broken("captioning", *said, **more)


@captioned("12 cannot be used", "12 images without a caption (12 of them sentences without a word)", code=0)
def sentences_of_punctuation(at: Path) -> None:
    lines = [*make.captions(40), *({"file_name": f"{n}.png", "text": "..."} for n in range(40, 52))]
    make.pictures(at, range(52))
    make.json_lines(at / "metadata.jsonl", lines)


@captioned("no word occurs 5 times")
def words_that_are_all_rare(at: Path) -> None:
    make.pictures(at, range(40))
    make.json_lines(at / "metadata.jsonl", ({"file_name": f"{n}.png", "text": f"w{n} x{n}"} for n in range(40)))


@captioned("8 training sentences have no word that occurs 5 times", code=0)
def sentences_that_lose_every_word(at: Path) -> None:
    for split, count in (("train", 40), ("val", 4), ("test", 4)):
        rare = [{"file_name": f"{n}.png", "text": f"w{n}"} for n in range(8)] if split == "train" else []
        make.pictures(at / split, range(count))
        make.json_lines(at / split / "metadata.jsonl", [*rare, *make.captions(count - len(rare), len(rare))])


@captioned("gone.png is missing")
def a_caption_of_a_missing_picture(at: Path) -> None:
    make.pictures(at, range(40))
    make.json_lines(at / "metadata.jsonl", [*make.captions(40), {"file_name": "gone.png", "text": "a dog"}])


@captioned("not JSON", code=2)
def damaged_json_of_coco(at: Path) -> None:
    make.write(at / "annotations" / "captions_train2017.json", '{"images": [')


@captioned("expected text or a list of texts", code=2)
def a_number_for_a_sentence(at: Path) -> None:
    make.pictures(at, range(40))
    make.json_lines(at / "metadata.jsonl", [*make.captions(40), {"file_name": "0.png", "text": 5}])


# --- recordings ---


def spoken(*said: str, **more: Any) -> Callable[..., Any]:
    return broken("speech", *said, **more)


def talk(at: Path, **splits: list[dict[str, object]]) -> None:
    """Write three lists of clips that can be used, with more lines in some."""
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        lines = [{"audio_filepath": f"{split}{n}.wav", "text": "one two"} for n in range(count)]
        for line in lines:
            make.wav(at / str(line["audio_filepath"]))
        make.json_lines(at / f"{split}.jsonl", [*lines, *splits.get(split, [])])


@spoken("train.jsonl, line 9: no transcript", code=2)
def a_line_without_text(at: Path) -> None:
    talk(at, train=[{"audio_filepath": "train0.wav", "text": None}])


@spoken("long.wav is longer than 16 s (data.max_seconds)", code=0)
def a_clip_of_20_seconds(at: Path) -> None:
    talk(at, train=[{"audio_filepath": "long.wav", "text": "one"}])
    make.wav(at / "long.wav", 20)


@spoken("is silent", "training leaves these clips out")
def silence(at: Path) -> None:
    talk(at, train=[{"audio_filepath": "s.wav", "text": "one"}])
    make.wav(at / "s.wav", level=0)


@spoken("gone.wav cannot be read", "training leaves these clips out")
def a_sound_that_is_missing(at: Path) -> None:
    talk(at, train=[{"audio_filepath": "gone.wav", "text": "one"}])


@spoken("has digits", "has no words", code=0)
def transcripts_that_cannot_be_learned(at: Path) -> None:
    talk(at, train=[{"audio_filepath": "train0.wav", "text": text} for text in ("2 euros", "...")])


@spoken("no clip is left for test", "which no training transcript has")
def a_test_in_letters_that_training_lacks(at: Path) -> None:
    talk(at)
    make.json_lines(at / "test.jsonl", [{"audio_filepath": "test0.wav", "text": "привет"}])


@spoken("12.m4a ", "training leaves these clips out")
def a_transcript_whose_sound_is_of_another_format(at: Path) -> None:
    for n in range(12):
        make.wav(at / f"{n}.WAV")
        make.write(at / f"{n}.TXT", f"one two{' three' * (n % 3)}")
    make.write(at / "12.m4a", "no sound")
    make.write(at / "12.txt", "one")


@spoken("no transcripts found", "LJSpeech", code=2)
def sounds_alone(at: Path) -> None:
    make.wav(at / "a.wav")


@spoken("expected NAME|TEXT", code=2)
def a_line_of_ljspeech_without_text(at: Path) -> None:
    make.wav(at / "wavs" / "a.wav")
    make.write(at / "metadata.csv", "a|one\nb|\n")


# --- what must hold of each ---


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


def _train(task: str, place: str, options: tuple[str, ...]) -> None:
    """Load a set as training does."""
    if task == "classification":
        load_images(ImageData(source=place, label=options[1] if options else None))
    elif task == "captioning":
        config = CaptionData(source=place)
        vocabulary_of(load_captions(config).train.tokens, config.threshold, place)
    else:
        load_corpus(SpeechData(source=place))


@pytest.mark.parametrize("name", INPUTS)
def test_the_check_refuses_what_training_refuses_and_says_why(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    case = INPUTS[name]
    at = tmp_path / "set"
    at.mkdir()
    case.make(at)
    code = main(["data", "check", str(at), *case.options])
    out, err = capsys.readouterr()
    assert code == case.code, out + err
    for words in case.said:
        assert words in out + err
    assert len((out + err).splitlines()) < 60
    if code == 2 or "training refuses this set" in out:
        with pytest.raises(RedenseError):
            _train(case.task, str(at), case.options)
    else:
        _train(case.task, str(at), case.options)


def test_a_program_gets_the_faults_by_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    many_broken_files_are_ten_examples(tmp_path)
    make.write(tmp_path / "dog" / "e.png")
    assert main(["data", "check", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(fault["cause"], fault["count"], len(fault["names"])) for fault in found["faults"]] == [
        ("is no image of a known format (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, PGM)", 30, 30),
        ("is empty", 1, 1),
    ]
    assert "31 of 51 images cannot be used" in found["refused"]


def test_pictures_and_recordings_in_one_folder_need_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make.classes(tmp_path / "set")
    talk(tmp_path / "set")
    assert main(["data", "check", str(tmp_path / "set")]) == 2
    assert "--task classification or --task speech" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "set"), "--task", "speech"]) == 0
    assert "train: 8 clips" in capsys.readouterr().out


def test_there_are_forty_broken_inputs():
    assert len(INPUTS) >= 40
