"""Tables with a fault: none is passed over, halved or joined to another; the file and the line are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from redense.cli import main
from redense.tasks import catalog

from . import making as make

PAIR = ("cat", "dog")
CASES: dict[str, tuple[Callable[[Path], object], str, str, int]] = {}


def refused(task: str, message: str, code: int = 2) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def note(maker: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES[maker.__name__] = maker, task, message, code
        return maker

    return note


def captions(at: Path) -> Path:
    """Write a table of captions for each split, and return the test's."""
    for split in ("train", "val", "test"):
        make.pictures(at, (f"{split}{n}" for n in range(12)))
        rows = [(f"{split}{n}.png", "a red dog runs") for n in range(12)]
        make.rows(at / f"{split}.csv", [("file_name", "text"), *rows])
    return at / "test.csv"


def deepspeech(at: Path) -> Path:
    """Write a table of recordings for each split, and return the test's."""
    for split, count in (("train", 20), ("dev", 4), ("test", 4)):
        for n in range(count):
            make.wav(at / f"{split}{n}.wav")
        rows = [(f"{split}{n}.wav", 9, "one two") for n in range(count)]
        make.rows(at / f"{split}.csv", [("wav_filename", "wav_filesize", "transcript"), *rows])
    return at / "test.csv"


# --- what cannot be read ---


@refused("captioning", "test.csv is no table that can be read: .*; save it as text in UTF-8")
def a_test_of_captions_in_utf_16(at: Path) -> None:
    table = captions(at)
    make.write(table, table.read_text().encode("utf-16"))


@refused("captioning", "test/metadata.jsonl, line 1: not JSON lines")
def a_test_of_captions_whose_first_line_is_cut(at: Path) -> None:
    for split in ("train", "val", "test"):
        make.pictures(at / split, range(12))
        make.json_lines(at / split / "metadata.jsonl", make.captions(12))
    make.write(table := at / "test" / "metadata.jsonl", table.read_text()[1:])


@refused("", "captions.csv is no table that can be read")
def captions_in_utf_16(at: Path) -> None:
    make.pictures(at, range(12))
    make.write(at / "captions.csv", "file_name,text\n0.png,a dog\n".encode("utf-16"))


@refused("speech", "test.csv is no table that can be read: .*; save it as text in UTF-8")
def a_test_of_deepspeech_in_utf_16(at: Path) -> None:
    table = deepspeech(at)
    make.write(table, table.read_text().encode("utf-16"))


@refused("speech", "test.csv is no table that can be read: .*; save it as text in UTF-8")
def a_test_of_deepspeech_in_utf_16_without_a_mark(at: Path) -> None:
    table = deepspeech(at)
    make.write(table, table.read_text().encode("utf-16-le"))


@refused("speech", "metadata_test.csv is no table that can be read")
def a_test_of_ljspeech_in_utf_16(at: Path) -> None:
    for name, encoding in (("train", "utf-8"), ("test", "utf-16")):
        for n in range(12):
            make.wav(at / "wavs" / f"{name}{n}.wav")
        lines = "".join(f"{name}{n}|{('one', 'two', 'six')[n % 3]} two\n" for n in range(12))
        make.write(at / f"metadata_{name}.csv", lines.encode(encoding))


# --- other columns than the tables of the other splits have ---


@refused("captioning", "test.csv: its first row names no image with a text, as that of train.csv does")
def a_test_of_captions_of_other_columns(at: Path) -> None:
    table = captions(at)
    make.write(table, table.read_text().replace("text", "words", 1))


@refused("captioning", "test/metadata.csv: its first row names no image with a text")
def a_test_of_captions_of_other_columns_in_its_folder(at: Path) -> None:
    for split in ("train", "test"):
        make.pictures(at / split, range(12))
        rows = [(f"{n}.png", "a red dog runs") for n in range(12)]
        make.rows(at / split / "metadata.csv", [("file_name", "text" if split == "train" else "words"), *rows])


@refused("speech", "test.csv: its first row names no file of sound, as that of dev.csv does")
def a_test_of_deepspeech_of_other_columns(at: Path) -> None:
    table = deepspeech(at)
    make.write(table, table.read_text().replace("wav_filename", "recording", 1))


@refused("speech", "test.csv: its first row names no file of sound, as that of dev.csv does")
def a_test_of_deepspeech_without_rows(at: Path) -> None:
    make.write(deepspeech(at), "wav_filename,wav_filesize,transcript\n")


# --- quotation marks that are not closed, and cells beyond the last column ---


@refused("captioning", r"captions.txt, line 4: this row cannot be read")
def a_sentence_of_kaggles_flickr8k_whose_quotation_mark_is_not_closed(at: Path) -> None:
    make.pictures(at / "images", range(12))
    said = ["a dog", "a dog", '"a dog', "a dog, running", *["a dog"] * 8]
    make.write(at / "captions.txt", "image,caption\n" + "".join(f"{n}.png,{text}\n" for n, text in enumerate(said)))


@refused("captioning", "captions.txt, line 1: 'image, n, words', expected columns called image and caption")
def a_table_of_kaggles_flickr8k_of_unknown_columns(at: Path) -> None:
    make.pictures(at / "images", range(12))
    make.write(at / "captions.txt", "image,n,words\n0.png,1,a dog\n")


@refused("classification", r"labels.csv, line 4: this row cannot be read .*: a cell that begins with a quotation mark")
def a_class_whose_quotation_mark_is_not_closed(at: Path) -> None:
    make.pictures(at, range(12))
    said = ["cat", "dog", '"cat', "dog", *PAIR * 4]
    make.write(at / "labels.csv", "file,label\n" + "".join(f"{n}.png,{kind}\n" for n, kind in enumerate(said)))


@refused("speech", r"test.csv, line 2: 4 cells in 3 columns; a cell with ',' in it needs quotation marks")
def a_comma_in_a_transcript_that_is_not_the_last_column(at: Path) -> None:
    make.write(deepspeech(at), "wav_filename,transcript,wav_filesize\ntest0.wav,one, two,9\n")


# --- images that are missing, of whose name there is another in another folder ---


@refused("captioning", "test/1.png is missing", code=1)
def a_missing_picture_of_a_table_in_the_folder_of_its_split(at: Path) -> None:
    for split in ("train", "validation", "test"):
        make.pictures(at / split, (n for n in range(12) if n != 1 or split == "train"))
        make.json_lines(at / split / "metadata.jsonl", make.captions(12))


@refused("captioning", "4 cannot be used.*test/0.png is missing", code=1)
def captions_of_a_split_that_was_not_fetched(at: Path) -> None:
    make.pictures(at / "train", range(12))
    lines = make.captions(12) + make.captions(4)
    for n, line in enumerate(lines):
        line["file_name"] = f"{'train' if n < 12 else 'test'}/{line['file_name']}"
    make.json_lines(at / "metadata.jsonl", reversed(lines))


@refused("classification", "1.png in line 3 of test/metadata.csv is missing", code=1)
def a_missing_picture_of_a_class_in_the_folder_of_its_split(at: Path) -> None:
    for split, count in (("train", 40), ("test", 8)):
        make.pictures(at / split, (n for n in range(count) if n != 1 or split == "train"))
        rows = [(f"{n}.png", PAIR[n % 2]) for n in range(count)]
        make.rows(at / split / "metadata.csv", [("file_name", "label"), *rows])


@refused("classification", "1 cannot be used.*1.png in line 3 of test.csv is missing", code=1)
def a_missing_picture_of_a_table_that_is_called_after_its_split(at: Path) -> None:
    for split, numbers in (("train", range(40)), ("test", (40, 1, *range(41, 47)))):
        make.pictures(at / split, (n for n in numbers if n != 1 or split == "train"))
        make.rows(at / f"{split}.csv", [("file", "label"), *((f"{n}.png", PAIR[n % 2]) for n in numbers)])


@refused("classification", "8 cannot be used.*b/0.png in line 42 of labels.csv is missing", code=1)
def classes_of_a_folder_that_is_not_there(at: Path) -> None:
    make.pictures(at / "a", range(40))
    names = [f"a/{n}.png" for n in range(40)] + [f"b/{n}.png" for n in range(8)]
    make.rows(at / "labels.csv", [("file", "label"), *((name, PAIR[n % 2]) for n, name in enumerate(names))])


@refused("classification", "4 cannot be used.*x/0.png in line 2 of labels.csv is missing", code=1)
def two_folders_that_are_not_there_and_a_picture_that_either_could_mean(at: Path) -> None:
    make.pictures(at / "img", range(2))
    names = [f"{folder}/{n}.png" for folder in "xy" for n in range(2)]
    make.rows(at / "labels.csv", [("file", "label"), *((name, PAIR[n % 2]) for n, name in enumerate(names))])


# --- splits that contradict each other, or lack ---


def _with_splits(at: Path, *more: tuple[str, str, str]) -> None:
    make.pictures(at, range(12))
    rows = [(f"{n}.png", "a red dog", ("train", "val", "test")[n // 4]) for n in range(12)]
    make.rows(at / "captions.csv", [("file_name", "text", "split"), *rows, *more])


@refused("captioning", "captions.csv, line 14: 0.png is of test, and of train before")
def a_caption_of_the_test_about_a_picture_of_the_training(at: Path) -> None:
    _with_splits(at, ("0.png", "a zebra", "test"))


@refused("captioning", "captions.csv, line 14: no split, where other lines have one")
def a_caption_without_a_split(at: Path) -> None:
    make.pictures(at, [12])
    _with_splits(at, ("12.png", "a zebra", ""))


@refused("speech", "metadata.csv, line 5: no split, where other lines have one")
def a_clip_without_a_split(at: Path) -> None:
    split = [*["train"] * 3, "", "dev", "test"]
    for n in range(6):
        make.wav(at / f"{n}.wav")
    make.rows(at / "metadata.csv", [("file_name", "text", "split"), *((f"{n}.wav", "one", split[n]) for n in range(6))])


@refused("speech", "all.jsonl, line 2: no split, where other lines have one")
def a_line_of_a_list_without_a_split(at: Path) -> None:
    make.wav(at / "0.wav")
    line = {"audio": "0.wav", "text": "one"}
    make.json_lines(at / "all.jsonl", [{**line, "split": "test"}, line])


# --- what must hold of each ---


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_a_table_is_refused_in_a_line_that_names_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    maker, task, message, expected = CASES[name]
    (tmp_path / "set").mkdir()
    maker(tmp_path / "set")
    options = ["--task", task] if task else ["--data.threshold", "1"]  # which is a setting of captions
    code = main(["data", "check", str(tmp_path / "set"), *options])
    out, err = capsys.readouterr()
    assert code == expected, out + err
    assert re.search(message, out + err, re.DOTALL), out + err
    assert code == 1 or len(err.splitlines()) == 1
