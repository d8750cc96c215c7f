"""Captioned images in the layouts that they are distributed in; a damaged line is named, with its file and number."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from redense.errors import DataError
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.data import CaptionSplits, load_captions
from redense.tasks.captioning.data.loading import read_source
from redense.tasks.classification.data.pixels import decode

Config = Callable[..., CaptionData]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))


def draw(folder: Path, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (index % 256, 90, 20)).save(folder / name)


def names_of(splits: CaptionSplits) -> dict[str, list[str]]:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: [part.images.name(number) for number in part.index] for name, part in parts.items()}


# --- Flickr8k and Flickr30k -----------------------------------------------------------------------------------------


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    folder = tmp_path / "flickr8k"
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    draw(folder / "Flicker8k_Dataset", names)
    lines = [f"{name}#{number}\tTwo dogs ({number}) run , fast ." for name in names for number in range(2)]
    lines.append("a.jpg.1#0\tA sentence whose image was never there .")
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for name, members in {"train": "b.jpg\na.jpg\n", "dev": "c.jpg\n", "test": "d.jpg"}.items():
        (folder / f"Flickr_8k.{name}Images.txt").write_text(members)
    return folder


def test_flickr8k_has_its_three_lists_and_its_sentences(flickr8k: Path, config: Config):
    splits = load_captions(config(flickr8k))
    assert names_of(splits) == {"train": ["b.jpg", "a.jpg"], "validation": ["c.jpg"], "test": ["d.jpg"]}
    assert splits.train.tokens[0] == (("two", "dogs", "0", "run", "fast"), ("two", "dogs", "1", "run", "fast"))
    assert splits.notes[0] == f"{flickr8k}: 1 image with sentences in none of the three lists, left out"


def test_the_texts_of_flickr8k_may_lie_in_their_own_folder(flickr8k: Path, config: Config):
    (flickr8k / "Flickr8k_text").mkdir()
    for path in flickr8k.glob("*.txt"):
        path.rename(flickr8k / "Flickr8k_text" / path.name)
    assert names_of(load_captions(config(flickr8k)))["test"] == ["d.jpg"]


def test_missing_images_of_flickr8k_are_named_and_counted(flickr8k: Path, config: Config):
    (flickr8k / "Flicker8k_Dataset/a.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images cannot be used: a\.jpg is missing; repair them"):
        load_captions(config(flickr8k))
    splits = load_captions(config(flickr8k, broken="skip"))
    assert names_of(splits)["train"] == ["b.jpg"]
    assert any("a.jpg is missing; they are left out" in note for note in splits.notes)


def test_an_image_of_a_list_without_a_sentence_is_left_out_and_counted(flickr8k: Path, config: Config):
    draw(flickr8k / "Flicker8k_Dataset", ["mute.jpg"])
    (flickr8k / "Flickr_8k.devImages.txt").write_text("c.jpg\nmute.jpg\n")
    splits = load_captions(config(flickr8k))
    assert names_of(splits)["validation"] == ["c.jpg"]
    assert any("1 image without a caption, left out" in note for note in splits.notes)


def test_two_of_three_lists_are_not_enough(flickr8k: Path, config: Config):
    (flickr8k / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(DataError, match=r"Flickr_8k\.devImages\.txt are missing, expected all three lists, or none"):
        load_captions(config(flickr8k))


def test_an_image_in_two_lists_is_refused(flickr8k: Path, config: Config):
    (flickr8k / "Flickr_8k.testImages.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match=r"a\.jpg is in the list of train, too"):
        load_captions(config(flickr8k))


@pytest.mark.parametrize(
    ("file", "folder", "lines"),
    [
        ("results_20130124.token", "flickr30k-images", [f"{i}.jpg#{n}\tdogs run" for i in range(60) for n in (0, 1)]),
        (
            "results.csv",
            "flickr30k_images",
            ["image_name| comment_number| comment", *(f"{i}.jpg| {n}| dogs run" for i in range(60) for n in (0, 1))],
        ),
        (
            "captions.txt",
            "Images",
            ["image,caption", *(f'{i}.jpg,"dogs , run"' for i in range(60)), *(f"{i}.jpg,dogs run" for i in range(60))],
        ),
    ],
    ids=["flickr30k", "its csv", "kaggle's flickr8k"],
)
def test_where_there_are_no_lists_images_are_parted_by_the_hash_of_their_names(
    file: str, folder: str, lines: list[str], tmp_path: Path, config: Config
):
    draw(tmp_path / "set" / folder, [f"{i}.jpg" for i in range(60)])
    (tmp_path / "set" / file).write_text("\n".join(lines) + "\n")
    splits = load_captions(config(tmp_path / "set"))
    names = names_of(splits)
    assert sorted(name for own in names.values() for name in own) == sorted(f"{i}.jpg" for i in range(60))
    assert all(2 <= len(names[part]) <= 14 for part in ("validation", "test"))
    assert set(splits.train.tokens) == {(("dogs", "run"), ("dogs", "run"))}
    (tmp_path / "set" / file).write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    again = names_of(load_captions(config(tmp_path / "set")))
    assert {part: sorted(own) for part, own in again.items()} == {part: sorted(own) for part, own in names.items()}


def test_columns_of_captions_txt_are_read_by_their_names(tmp_path: Path, config: Config):
    draw(tmp_path / "set" / "images", ["a.jpg"])
    (tmp_path / "set/captions.txt").write_text("image,caption_number,caption\na.jpg,0,a dog, running\na.jpg,1,a cat\n")
    assert read_source(config(tmp_path / "set")).entries[0].sentences == ("a dog, running", "a cat")
    (tmp_path / "set/captions.txt").write_text('image,caption\na.jpg,"a dog\nruns"\n')  # one cell, two lines
    assert read_source(config(tmp_path / "set")).entries[0].sentences == ("a dog\nruns",)


def test_a_line_of_flickr30ks_csv_that_lacks_its_second_bar_is_read(tmp_path: Path, config: Config):
    draw(tmp_path / "set" / "images", ["a.jpg"])
    (tmp_path / "set/results.csv").write_text("image_name| comment_number| comment\na.jpg| 4   A dog runs .\n")
    assert read_source(config(tmp_path / "set")).entries[0].sentences == ("A dog runs .",)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Flickr8k.token.txt", "a.jpg#0\ta dog\na.jpg a dog\n", r"line 2: expected IMAGE#NUMBER, a tab and a sentence"),
        ("results.csv", "head\na.jpg a dog\n", r"line 2: expected IMAGE\| NUMBER\| SENTENCE, got 'a.jpg a dog'"),
        ("captions.txt", "image,caption\na.jpg\n", r"line 2: expected IMAGE,SENTENCE, got 'a\.jpg'"),
        ("captions.txt", "image,caption\n", "there are no sentences in it"),
        ("Flickr8k.token.txt", "/etc/passwd#0\ta dog\n", "is not in this folder"),
        ("Flickr8k.token.txt", "../a.jpg#0\ta dog\n", "is not in this folder"),
        ("Flickr8k.token.txt", b"a.jpg#0\t\xff\n", "not UTF-8"),
    ],
    ids=["token", "bars", "commas", "empty", "absolute", "parent", "bytes"],
)
def test_a_damaged_or_hostile_table_is_refused_in_one_line(file, text, message, tmp_path: Path, config: Config):
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        load_captions(config(tmp_path / "set"))
    assert "\n" not in str(caught.value)


def test_sentences_without_a_folder_of_images_say_where_they_are_looked_for(tmp_path: Path, config: Config):
    (tmp_path / "Flickr8k.token.txt").write_text("a.jpg#0\ta dog\n")
    with pytest.raises(
        DataError, match=r"no folder with images: expected one of Flicker8k_Dataset/.*, or data\.images"
    ):
        load_captions(config(tmp_path))


def test_a_folder_without_captions_names_the_layouts(tmp_path: Path, config: Config):
    with pytest.raises(DataError, match=r"no captions in a layout that redense knows: expected dataset\.json"):
        load_captions(config(tmp_path))


# --- COCO -----------------------------------------------------------------------------------------------------------


def coco(folder: Path, year: str = "2017", train: int = 6, val: int = 20) -> Path:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("val", val)):
        names = [f"{part}-{number:012}.jpg" for number in range(count)]
        draw(folder / f"{part}{year}", names)
        images = [{"id": 7 * number, "file_name": name} for number, name in enumerate(names)]
        said = [{"image_id": 7 * n, "id": i, "caption": f"A {part} dog.\n"} for n in range(count) for i in (0, 1)]
        (folder / "annotations" / f"captions_{part}{year}.json").write_text(
            json.dumps({"images": images, "annotations": said})
        )
    return folder


def test_cocos_validation_images_are_shared_between_validation_and_test(tmp_path: Path, config: Config):
    splits = load_captions(config(coco(tmp_path / "coco")))
    names = names_of(splits)
    assert all(name.startswith("train2017/train-") for name in names["train"])
    assert len(names["train"]) == 6
    assert len(names["validation"]) + len(names["test"]) == 20
    assert min(len(names["validation"]), len(names["test"])) > 3
    assert splits.train.tokens[0] == (("a", "train", "dog"), ("a", "train", "dog"))
    assert splits.notes[0].endswith(
        "COCO's test images have no captions: its validation images are shared out by the hash of their names, "
        f"{len(names['validation'])} to validation and {len(names['test'])} to the test"
    )


def test_of_several_years_of_coco_the_newest_is_taken_and_it_is_said(tmp_path: Path, config: Config):
    folder = coco(coco(tmp_path / "coco", "2014"), "2017")
    splits = load_captions(config(folder))
    assert names_of(splits)["train"][0].startswith("train2017/")
    assert "the annotations of 2014 are not used, those of 2017 are" in splits.notes[0]


def test_cocos_images_may_lie_elsewhere(tmp_path: Path, config: Config):
    folder = coco(tmp_path / "coco")
    (folder / "images").mkdir()
    for part in ("train2017", "val2017"):
        (folder / part).rename(folder / "images" / part)
    first = names_of(load_captions(config(folder)))
    (folder / "images").rename(tmp_path / "elsewhere")
    assert names_of(load_captions(config(folder, images=str(tmp_path / "elsewhere")))) == first


def test_coco_without_validation_images_is_parted_by_hash(tmp_path: Path, config: Config):
    folder = coco(tmp_path / "coco", train=40)
    (folder / "annotations/captions_val2017.json").unlink()
    names = names_of(load_captions(config(folder)))
    assert sum(map(len, names.values())) == 40
    assert names["validation"]
    assert names["test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not in COCO's layout"),
        ('{"images": [{"id": 1, "file_name": 5}], "annotations": []}', "5 is no text"),
        (
            '{"images": [], "annotations": [{"image_id": 1, "caption": "a dog"}]}',
            "annotation number 1 is about the image 1, which is not listed in images: remove it",
        ),
        (
            '{"images": [], "annotations": [{"id": 7, "image_id": 99999, "caption": "a dog"}]}',
            "the annotation 7 is about the image 99999, which is not listed in images: remove it",
        ),
        (
            '{"images": [{"id": 3, "file_name": "3.png"}, {"id": 3, "file_name": "5.png"}], "annotations": []}',
            "train2017/3.png and train2017/5.png both have the id 3",
        ),
        ('{"images": [{"id": 3.5, "file_name": "3.png"}], "annotations": []}', "3.5 is no whole number"),
        ('{"images": [], "annotations": []}', "there are no images in captions_train2017.json"),
    ],
    ids=["cut", "list", "number", "unknown image", "with an id", "an id twice", "half an id", "empty"],
)
def test_damaged_annotations_are_refused_in_one_line(text: str, message: str, tmp_path: Path, config: Config):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_train2017.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_captions(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_column_and_a_folder_of_images_that_would_be_passed_over_are_refused(
    flickr8k: Path, saved: Callable[..., Path], config: Config
):
    with pytest.raises(DataError, match=r"flickr8k has no columns to choose from: remove data\.text"):
        load_captions(config(flickr8k, text="caption"))
    with pytest.raises(DataError, match=r"saved has its images in its table: remove data\.images"):
        load_captions(config(saved(train={"caption": ["a dog"] * 40}), images=str(flickr8k)))


# --- Hugging Face ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save a set to disk: ``saved(train={"caption": [...]}, test={...})``, with as many images as rows."""
    datasets = pytest.importorskip("datasets")

    def make(**parts: dict[str, list[Any]]) -> Path:
        tables = {}
        for part, columns in parts.items():
            count = len(next(iter(columns.values())))
            images = [Image.new("RGB", (4, 4), (number, 90, len(part))) for number in range(count)]
            table = datasets.Dataset.from_dict({"image": images, **columns})
            tables[part] = table.cast_column("image", datasets.Image())
        datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"

    return make


def test_a_set_with_a_text_column_and_its_own_splits_is_read(saved: Callable[..., Path], config: Config):
    part = {"caption": [f"A dog {number} ." for number in range(3)], "number": [1, 2, 3]}
    splits = load_captions(config(saved(train=part, validation=part, test=part)))
    assert names_of(splits)["validation"] == [f"validation: image {number}" for number in range(3)]
    assert splits.test.tokens[2] == (("a", "dog", "2"),)
    read = [splits.train.images.read(number) for number in range(9)]
    assert len(set(read)) == 9  # each row its own image, in every table


@pytest.mark.parametrize("parts", [("train",), ("train", "validation", "test")])
def test_rows_of_one_picture_are_one_image_with_all_its_sentences(parts: Sequence[str], tmp_path: Path, config: Config):
    datasets = pytest.importorskip("datasets")
    tables = {}
    for part in parts:
        images = [Image.new("RGB", (4, 4), (row // 2, 90, len(part))) for row in range(100)]
        table = datasets.Dataset.from_dict({"image": images, "text": [f"a dog {row}" for row in range(100)]})
        tables[part] = table.cast_column("image", datasets.Image())
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
    splits = load_captions(config(tmp_path / "saved"))
    found = [part for split in (splits.train, splits.validation, splits.test) for part in split.sentences]
    assert [len(sentences) for sentences in found] == [2] * 50 * len(parts)
    assert ("a dog 0", "a dog 1") in found
    assert splits.train.images.read(1) != splits.train.images.read(0)
    assert f"{50 * len(parts)} rows of a picture that another row has" in splits.notes[0]
    assert not any("flatter" in note for note in splits.notes)


def test_a_table_of_pandas_has_its_images_as_bytes(tmp_path: Path, config: Config):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [bitmap(0, row, False) for row in range(40)]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": images, "text": ["a dog"] * 40}), tmp_path / "set" / "data.parquet")
    splits = load_captions(config(tmp_path / "set"))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 40


def test_what_was_seen_of_a_table_is_not_taken_for_another_in_its_place(tmp_path: Path, config: Config):
    datasets = pytest.importorskip("datasets")
    for broken in (True, False):
        tables = {}
        for number, part in enumerate(("train", "validation", "test")):
            images = [{"bytes": bitmap(number, row, broken), "path": None} for row in range(3)]
            table = datasets.Dataset.from_dict({"image": images, "text": ["a dog"] * 3})
            tables[part] = table.cast_column("image", datasets.Image())
        place = tmp_path / "saved"
        shutil.rmtree(place, ignore_errors=True)
        datasets.DatasetDict(tables).save_to_disk(place)
        if broken:
            with pytest.raises(DataError, match="9 of 9 images cannot be used"):
                load_captions(config(place))
    assert len(load_captions(config(place)).train) == 3


def bitmap(part: int, row: int, broken: bool) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (part, row, 90)).save(file, "bmp")
    return file.getvalue().replace(b"BM", b"no" if broken else b"BM", 1)


def test_lists_of_sentences_and_numbered_columns_are_several_references(saved: Callable[..., Path], config: Config):
    rows = {"captions": [["a dog", "an animal"]] * 40}
    assert load_captions(config(saved(train=rows))).train.sentences[0] == ("a dog", "an animal")


def test_numbered_columns_are_taken_together(saved: Callable[..., Path], config: Config):
    rows = {"caption_0": ["a dog"] * 40, "caption_1": ["an animal"] * 40, "filename": ["x"] * 40}
    assert load_captions(config(saved(train=rows))).train.sentences[0] == ("a dog", "an animal")


def test_a_column_is_chosen_by_name_and_several_with_commas(saved: Callable[..., Path], config: Config):
    folder = saved(train={"en": ["a dog"] * 40, "de": ["ein Hund"] * 40})
    with pytest.raises(DataError, match=r"'en', 'de' could all be it: choose with data\.text"):
        load_captions(config(folder))
    assert load_captions(config(folder, text="de")).train.sentences[0] == ("ein Hund",)
    assert load_captions(config(folder, text="en, de")).train.sentences[0] == ("a dog", "ein Hund")
    with pytest.raises(DataError, match=r"'dee' is no column; did you mean 'de'\?"):
        load_captions(config(folder, text="dee"))
    with pytest.raises(DataError, match=r"'image' is no column of text"):
        load_captions(config(folder, text="image"))


@pytest.mark.parametrize("column", ["split", "Split", "subset"])
def test_a_column_split_is_that_of_a_set_of_one_table(column: str, saved: Callable[..., Path], config: Config):
    rows = {"caption": ["a dog"] * 4, column: ["train", "val", "test", "restval" if column == "split" else "train"]}
    names = names_of(load_captions(config(saved(test=rows))))
    assert {part: len(own) for part, own in names.items()} == {"train": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["train", "val", "test", None], "row 4 names no split, where others do"),
        (["train", "val", "test", "kept"], "'kept' in the column 'split', expected train, validation or test"),
    ],
)
def test_a_column_split_that_cannot_be_used_is_refused(
    said: list[str | None], message: str, saved: Callable[..., Path], config: Config
):
    with pytest.raises(DataError, match=message):
        load_captions(config(saved(train={"caption": ["a dog"] * 4, "split": said})))


def test_tables_of_other_splits_are_said_and_rows_of_another_are_refused(saved: Callable[..., Path], config: Config):
    part = {"caption": ["a dog"] * 3}
    splits = load_captions(config(saved(train=part, restval=part, validation=part, test=part)))
    said = "the split 'restval' is called neither train nor validation nor test: 3 rows not used"
    assert said in splits.notes[0]
    wrong = part | {"split": ["test"] * 3}
    with pytest.raises(DataError, match="the files of train have rows whose column 'split' says test"):
        load_captions(config(saved(train=wrong, validation=part, test=part)))


def test_a_missing_test_is_half_of_validation_and_a_missing_validation_part_of_training(
    saved: Callable[..., Path], config: Config, tmp_path: Path
):
    rows = {"caption": ["a dog"] * 40}
    splits = load_captions(config(saved(train=rows, validation=rows)))
    names = names_of(splits)
    assert len(names["train"]) == 40
    assert min(len(names["validation"]), len(names["test"])) > 10
    assert "there is no test split" in splits.notes[0]
    splits = load_captions(config(saved(train=rows, test=rows)))
    names = names_of(splits)
    assert len(names["test"]) == 40
    assert len(names["train"]) + len(names["validation"]) == 40
    assert 0 < len(names["validation"]) < 12
    assert "there is no validation split" in splits.notes[0]


def test_a_folder_with_a_metadata_table_is_read(tmp_path: Path, config: Config):
    pytest.importorskip("datasets")
    draw(tmp_path / "mine", [f"{number}.png" for number in range(40)])
    lines = [json.dumps({"file_name": f"{number}.png", "text": f"picture {number}"}) for number in range(40)]
    (tmp_path / "mine/metadata.jsonl").write_text("\n".join(lines) + "\n")
    splits = load_captions(config(tmp_path / "mine"))
    assert sum(map(len, names_of(splits).values())) == 40
    for number, ((_, which),) in zip(splits.train.index, splits.train.tokens, strict=True):
        assert decode(splits.train.images.read(number)).getpixel((0, 0)) == (int(which), 90, 20)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [1] * 4}, "expected a column of sentences, but there is none"),
        ({"caption": [None] * 4, "label": [1] * 4}, "expected a column of sentences, but there is none"),
    ],
    ids=["none", "null"],
)
def test_a_set_without_sentences_is_refused_in_one_line(columns, message, saved, config: Config):
    with pytest.raises(DataError, match=message) as caught:
        load_captions(config(saved(train=columns)))
    assert "\n" not in str(caught.value)


def test_two_tables_that_say_the_same_are_refused(tmp_path: Path, config: Config):
    draw(tmp_path / "set", [f"{number}.png" for number in range(40)])
    lines = [f"{number}.png,a dog" for number in range(40)]
    for name in ("captions.csv", "metadata.csv"):
        (tmp_path / "set" / name).write_text("\n".join(["file_name,text", *lines]) + "\n")
    with pytest.raises(DataError, match=r"captions\.csv and metadata\.csv both say 'a dog' of 0\.png: remove one of"):
        load_captions(config(tmp_path / "set"))
    (tmp_path / "set/metadata.csv").write_text("\n".join(["file_name,text", *lines]).replace("dog", "pet"))
    assert set(load_captions(config(tmp_path / "set")).train.sentences) == {("a dog", "a pet")}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("val", "test"), "all of its images are of test or validation: give it a train split"),
        (("train", "es_test"), r"es_test\.csv: is it of the test split\?"),
        (("test",), "all of its images are of test: give it a train split"),
        (("train", "val", "test", "captions"), "captions.csv, line 2: no split, where test.csv has one"),
    ],
)
def test_tables_of_splits_of_which_some_images_would_change_sides_are_refused(
    names: Sequence[str], message: str, tmp_path: Path, config: Config
):
    for table in names:
        draw(tmp_path, [f"{table}{number}.png" for number in range(9)])
        rows = [f"{table}{number}.png,a dog {number}\n" for number in range(9)]
        (tmp_path / f"{table}.csv").write_text("".join(["file_name,text\n", *rows]))
    with pytest.raises(DataError, match=message):
        load_captions(config(tmp_path))


def test_a_column_split_divides_a_table_that_is_called_train(tmp_path: Path, config: Config):
    lines = [f"{number}.png,a dog,{'train' if number % 3 else 'val'}" for number in range(9)]
    draw(tmp_path / "set", [f"{number}.png" for number in range(12)])
    (tmp_path / "set/train.csv").write_text("\n".join(["file_name,text,split", *lines]))
    (tmp_path / "set/test.csv").write_text("file_name,text\n9.png,a cat\n10.png,a cat\n11.png,a cat\n")
    names = names_of(load_captions(config(tmp_path / "set")))
    assert names["validation"] == ["0.png", "3.png", "6.png"]
    assert (len(names["train"]), len(names["test"])) == (6, 3)


def test_the_images_of_a_table_may_lie_elsewhere(tmp_path: Path, config: Config):
    draw(tmp_path / "images", [f"{number}.png" for number in range(40)])
    (tmp_path / "set").mkdir()
    lines = [f"{number}.png,a dog" for number in range(40)]
    (tmp_path / "set/captions.csv").write_text("\n".join(["file_name,text", *lines]) + "\n")
    splits = load_captions(config(tmp_path / "set", images=str(tmp_path / "images")))
    assert sum(map(len, names_of(splits).values())) == 40
