"""Captioned images in Karpathy's layout: what is read, split, left out and refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redense.errors import DataError
from redense.tasks.captioning.data import load_captions


def rewrite(folder: Path, change) -> None:
    path = folder / "dataset.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_every_image_is_in_the_split_that_the_source_says(captioned, config):
    splits = load_captions(config(captioned(train=12, val=6, test=5)))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 6, 5]
    assert splits.train.tokens[0] == (("a", "red", "square"), ("it", "is", "red", "all", "of", "it"))
    assert splits.train.sentences[0] == ("A red square.", "It is red, all of it!")
    assert splits.train.images.name(splits.test.index[0]) == "test-0.png"


def test_words_that_the_source_has_cut_are_taken_as_they_are(captioned, config):
    folder = captioned()
    rewrite(folder, lambda data: data["images"][0]["sentences"].__setitem__(0, {"raw": "X", "tokens": ["x-y", "z"]}))
    rewrite(folder, lambda data: data["images"][0]["sentences"].__setitem__(1, {"raw": "Z", "tokens": ["z"]}))
    assert load_captions(config(folder)).train.tokens[0] == (("x-y", "z"), ("z",))


def test_cocos_folders_and_the_rest_of_its_validation_images(captioned, config):
    folder = captioned()

    def change(data):
        data["images"][0] |= {"split": "restval", "filepath": "val2014"}

    rewrite(folder, change)
    (folder / "images" / "val2014").mkdir()
    (folder / "images" / "train-0.png").rename(folder / "images" / "val2014" / "train-0.png")
    assert len(load_captions(config(folder)).train) == 12


def test_only_so_many_training_images_are_taken_and_always_the_same(captioned, config):
    folder = captioned()
    some = load_captions(config(folder, limit=5))
    assert (len(some.train), len(some.test)) == (5, 6)
    assert some.train.index == load_captions(config(folder, limit=5)).train.index
    assert set(load_captions(config(folder, limit=4)).train.index) < set(some.train.index)


def test_images_apart_from_the_sentences(captioned, config, tmp_path):
    folder = captioned()
    (folder / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="24 of 24 images cannot be used"):
        load_captions(config(folder))
    assert len(load_captions(config(folder, images=str(tmp_path / "elsewhere"))).train) == 12


def test_broken_images_are_named_and_refused_or_left_out(captioned, config):
    folder = captioned()
    (folder / "images/train-3.png").write_bytes(b"no image")
    (folder / "images/test-1.png").unlink()
    with pytest.raises(
        DataError, match=r"2 of 24 .* train-3\.png is no image of a known format \(JPEG.*PGM\); test-1\.png is missing"
    ):
        load_captions(config(folder))
    splits = load_captions(config(folder, broken="skip"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [11, 6, 5]
    assert "they are left out" in splits.notes[0]


def test_an_image_that_is_there_twice_is_refused_unless_both_are_for_training(captioned, config):
    folder = captioned()
    rewrite(folder, lambda data: data["images"].append(data["images"][0]))
    assert len(load_captions(config(folder)).train) == 13
    rewrite(folder, lambda data: data["images"].append(data["images"][-2]))  # the test would count it twice
    with pytest.raises(DataError, match=r"images: 'test-5\.png' is there twice, expected an image once"):
        load_captions(config(folder))
    rewrite(folder, lambda data: data["images"][-1].update(filename="./test-5.png"))  # also by another name
    with pytest.raises(DataError, match=r"test-5\.png' is there twice, expected an image once"):
        load_captions(config(folder))


def test_an_image_without_a_caption_is_left_out_and_counted(captioned, config):
    folder = captioned()
    rewrite(folder, lambda data: data["images"][0].update(sentences=[{"raw": " "}]))
    splits = load_captions(config(folder))
    assert len(splits.train) == 11
    assert splits.notes[0].endswith("1 image without a caption, left out")


def test_the_fingerprint_tells_other_words_other_images_and_other_splits(captioned, config):
    folder = captioned()
    first = load_captions(config(folder)).fingerprint
    assert load_captions(config(folder)).fingerprint == first
    rewrite(folder, lambda data: data["images"][0]["sentences"][0].update(raw="A redder square."))
    second = load_captions(config(folder)).fingerprint
    rewrite(folder, lambda data: data["images"][0].update(split="test"))
    third = load_captions(config(folder)).fingerprint
    picture = folder / "images/train-1.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    fourth = load_captions(config(folder))
    picture.write_bytes(picture.read_bytes()[:-1] + b"1")  # of the same size
    fifth = load_captions(config(folder))
    assert len({first, second, third, fourth.fingerprint, fifth.fingerprint}) == 5
    assert fourth.known_as == fifth.known_as


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not in Karpathy's layout"),
        ('{"images": [{"filename": "a.png"}]}', "not in Karpathy's layout"),
        ('{"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": 3}]}]}', "3 is no text"),
        ('{"images": [{"filename": "a.png", "split": "fold1", "sentences": []}]}', "split 'fold1', expected train"),
        ('{"images": [{"filename": "../a.png", "split": "train", "sentences": []}]}', "not in this folder"),
        ('{"images": [{"filename": "/etc/passwd", "split": "train", "sentences": []}]}', "not in this folder"),
        ('{"images": []}', "there are no images"),
    ],
    ids=["cut", "deep", "empty", "no split", "number", "split", "outside", "absolute", "none"],
)
def test_a_damaged_or_hostile_list_is_refused_in_one_line(tmp_path, config, text, words):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError) as refused:
        load_captions(config(tmp_path))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_such_place_is_explained(config, tmp_path):
    with pytest.raises(DataError, match="did you mean 'emoji'"):
        load_captions(config(Path("emojis")))
    with pytest.raises(DataError, match="no captions in a layout that redense knows"):
        load_captions(config(tmp_path))
    with pytest.raises(DataError, match="no folder at 'nowhere'"):
        load_captions(config(tmp_path, images="nowhere"))


def test_a_split_without_images_is_named(captioned, config):
    with pytest.raises(DataError, match="the validation split is empty"):
        load_captions(config(captioned(val=0)))


@pytest.mark.skipif(os.name == "nt", reason="file names are not bytes there")
def test_names_that_are_no_utf8_can_be_images(captioned, config):
    folder = captioned()
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "images/train-0.png").rename(folder / "images" / name)
    rewrite(folder, lambda data: data["images"][0].update(filename=name))
    assert len(load_captions(config(folder)).train) == 12


def test_a_picture_is_found_whose_name_another_system_has_written(captioned, config):
    folder = captioned()
    for path in folder.rglob("train-0.png"):
        path.rename(path.with_name("sen\u0303al.PNG"))
    rewrite(folder, lambda data: data["images"][0].__setitem__("filename", "se\u00f1al.png"))
    assert load_captions(config(folder)).train.images.name(0) == "sen\u0303al.PNG"


def test_a_picture_of_sixteen_bits_that_becomes_black_is_noted(captioned, config):
    folder = captioned()
    Image.fromarray(np.full((8, 8), 255, np.uint16)).save(folder / "images" / "train-0.png")
    (note,) = [note for note in load_captions(config(folder)).notes if "16 bits" in note]
    assert "1 is of 16 bits or more of grey" in note
    assert "such as train-0.png" in note
