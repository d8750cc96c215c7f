"""Files that cannot be used: each is found, named and counted, refused or left out, and looked at but once."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from redense.errors import BrokenImageError, DataError, command
from redense.lab.training.batches import Batches, loader
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data import checking
from redense.tasks.classification.data.inspecting import check
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.pixels import decode, look
from redense.tasks.classification.task import Classification

MakeFolder = Callable[..., Path]


@pytest.fixture
def folder(make_folder: MakeFolder) -> Path:
    return make_folder({"train": {"cat": 10, "dog": 10}, "val": {"cat": 3, "dog": 3}})


def encoded(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def fault(content: bytes, *, full: bool = False) -> str:
    return look(io.BytesIO(content), len(content), full=full).fault


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_whole_file_has_no_fault_and_its_size_is_seen(kind: str):
    content = encoded(kind)
    for full in (False, True):
        seen = look(io.BytesIO(content), len(content), full=full)
        assert (seen.height, seen.width, seen.grey, seen.fault) == (48, 64, False, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@given(share=st.floats(0, 0.97))
def test_a_file_cut_anywhere_is_found_without_decoding_the_others(kind: str, share: float):
    content = encoded(kind)
    assert fault(content[: int(share * len(content))])


def test_something_behind_the_end_of_a_jpeg_is_no_fault():
    assert fault(encoded("JPEG") + b"camera notes") == ""
    assert fault(encoded("JPEG") + bytes(100_000)) == ""  # the end is not where it is looked for: decoded


def test_what_is_no_image_empty_deep_or_a_bomb_is_named(monkeypatch: pytest.MonkeyPatch):
    assert fault(b"") == "is empty"
    assert fault(b"<html>404</html>") == "is no image of a known format (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, PGM)"
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(stream, "TIFF")
    assert "mode F, numbers with a fraction: expected 8 bits a channel" in fault(stream.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert fault(encoded("PNG")) == "has 3,072 pixels, over Pillow's limit of 2,000"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert fault(encoded("PNG")) == "has 3,072 pixels, over Pillow's limit of 1,000"


def test_sixteen_bits_of_grey_keep_their_upper_eight():
    deep = np.array([[0, 255, 256], [32_768, 65_279, 65_535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(deep).save(stream, kind)
        assert fault(stream.getvalue(), full=True) == ""
        assert np.asarray(decode(stream.getvalue(), grey=True)).tolist() == [[0, 0, 1], [128, 254, 255]]
        assert np.asarray(decode(stream.getvalue())).shape == (2, 3, 3)
    stream = io.BytesIO()
    Image.fromarray(np.array([[-5, 70_000]], np.int32)).save(stream, "TIFF")
    assert "numbers from -5 to 70,000, expected 16 bits of grey" in fault(stream.getvalue(), full=True)


@pytest.mark.parametrize(("top", "faint"), [(255, 8), (4095, 8), (4096, 0), (65_535, 0)])
@pytest.mark.parametrize("size", [None, 16])
def test_pictures_of_sixteen_bits_that_become_black_are_noted(top: int, faint: int, size: int | None, tmp_path: Path):
    random = np.random.default_rng(0)
    for index in range(40):
        numbers = random.integers(0, 60_000, (8, 8), dtype=np.uint16)
        numbers[0, 0] = 60_000
        if index < 8:
            numbers = random.integers(0, top, (8, 8), dtype=np.uint16)
            numbers[0, 0] = top
        path = tmp_path / "set" / "ab"[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers).save(path)
    config = ImageData(source=str(tmp_path / "set"), size=size)
    notes = [note for note in load_images(config).notes if "4,096" in note]
    assert [note for note in check(config, False).facts["notes"] if "4,096" in note] == notes
    assert len(notes) == bool(faint)
    assert all(f"of 40 images {faint} are of 16 bits or more of grey" in note and "a/00.png" in note for note in notes)


def test_damage_inside_a_file_is_found_by_the_full_check_alone():
    content = bytearray(encoded("PNG"))
    content[200:260] = bytes(60)
    assert fault(bytes(content)) == ""
    assert fault(bytes(content), full=True)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("RGBA", 255), ("LA", 255), ("PA", 255), ("L", 0), ("RGB", 0), ("P", 0), ("1", 0), ("CMYK", None)],
)
def test_every_mode_becomes_rgb_and_what_is_transparent_is_white(mode: str, expected: int | None):
    stream = io.BytesIO()
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    image.save(stream, "TIFF")
    for grey, wanted in ((False, "RGB"), (True, "L")):
        flat = decode(stream.getvalue(), grey=grey)
        assert flat.mode == wanted
        if expected is not None:
            assert flat.getextrema() == (((expected, expected),) * 3 if wanted == "RGB" else (expected, expected))


def test_a_transparent_colour_of_a_palette_is_white():
    stream = io.BytesIO()
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30] * 256)
    image.save(stream, "PNG", transparency=0)
    assert decode(stream.getvalue()).getextrema() == ((255, 255),) * 3


def spoil(folder: Path) -> None:
    (folder / "train/cat/000.jpg").write_bytes((folder / "train/cat/000.jpg").read_bytes()[:-300])
    (folder / "train/dog/001.png").write_bytes(b"")
    (folder / "val/dog/001.png").write_text("not an image")


def test_broken_files_are_refused_by_name_with_their_count_and_the_ways_out(folder: Path):
    spoil(folder)
    with pytest.raises(DataError) as caught:
        load_images(ImageData(source=str(folder), size=16))
    said = str(caught.value)
    assert "\n" not in said
    assert "3 of 26 images cannot be used" in said
    for name in ("train/cat/000.jpg is truncated", "train/dog/001.png is empty", "val/dog/001.png is no image"):
        assert name in said
    assert f"redense data check {folder}" in said
    assert "data.broken: skip" in said


def test_broken_files_are_left_out_counted_and_noted(folder: Path):
    spoil(folder)
    task = Classification(ImageData(source=str(folder), size=16, broken="skip"), ImageModel())
    assert [len(task.examples(split)) for split in ("train", "validation", "test")] == [16, 2, 5]
    (note,) = task.notes
    assert "3 of 26 images were left out: train/cat/000.jpg is truncated; train/dog/001.png is empty" in note


def test_many_broken_files_are_five_names_and_a_number(folder: Path):
    for path in sorted((folder / "train/cat").iterdir())[:8]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"8 of 26 images cannot be used.*004.png is empty; and 3 more"):
        load_images(ImageData(source=str(folder), size=16))


def test_a_class_that_train_lacks_and_one_without_images_are_label_faults(folder: Path):
    (folder / "val" / "cat").rename(folder / "val" / "kat")
    (folder / "train" / "owl").mkdir()
    config = ImageData(source=str(folder), size=16)
    with pytest.raises(DataError, match=r"train/owl is an empty class folder; .*/kat has 3 images of a class that no"):
        load_images(config)
    splits = load_images(config.model_copy(update={"broken": "skip"}))
    assert splits.train.classes == ("cat", "dog")
    assert len(splits.test) == 3
    assert "3 of 26 images were left out" in splits.notes[0]


def test_images_in_no_class_folder_are_named(folder: Path):
    (folder / "train" / "stray.jpg").write_bytes((folder / "train/cat/000.jpg").read_bytes())
    with pytest.raises(DataError, match=r"1 image in train/ itself, in no class folder"):
        load_images(ImageData(source=str(folder), size=16))


def test_a_link_to_nothing_is_a_broken_file(folder: Path):
    (folder / "train/cat/gone.jpg").symlink_to(folder / "nowhere.jpg")
    with pytest.raises(DataError, match=r"1 of 27 .*train/cat/gone.jpg cannot be read \(No such file"):
        load_images(ImageData(source=str(folder), size=16))


def test_a_set_left_with_one_class_is_refused(folder: Path):
    for path in (folder / "train/cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="every training image is of class 'dog', expected at least two"):
        load_images(ImageData(source=str(folder), size=16, broken="skip"))


# What is known is kept


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    original = checking.look

    def count(stream: Any, length: int, *, full: bool = False) -> Any:
        counted.append(length)
        return original(stream, length, full=full)

    monkeypatch.setattr(checking, "look", count)
    return counted


def test_a_file_is_looked_at_once_and_again_only_when_it_changes(folder: Path, looks: list[int]):
    config = ImageData(source=str(folder), size=16)
    first = load_images(config)
    assert len(looks) == 26
    assert load_images(config).fingerprint == first.fingerprint
    assert len(looks) == 26
    (folder / "train/cat/000.jpg").write_bytes((folder / "train/cat/003.jpg").read_bytes())
    load_images(config)
    assert len(looks) == 27
    status = (folder / "train/cat/003.jpg").stat()
    os.utime(folder / "train/cat/003.jpg", ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # of the same size
    load_images(config)
    assert len(looks) == 28


def test_a_broken_file_is_remembered_as_broken_and_forgotten_when_it_is_mended(folder: Path, looks: list[int]):
    good = (folder / "train/cat/000.jpg").read_bytes()
    spoil(folder)
    config = ImageData(source=str(folder), size=16)
    for _ in range(2):
        with pytest.raises(DataError, match=r"train/cat/000\.jpg is truncated"):
            load_images(config)
    assert len(looks) == 26
    (folder / "train/cat/000.jpg").write_bytes(good)
    with pytest.raises(DataError, match="2 of 26") as caught:
        load_images(config)
    assert "000.jpg" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"no archive", None], ids=["empty", "garbage", "cut"])
def test_a_damaged_memory_is_no_harm(damage: bytes | None, folder: Path, tmp_path: Path, looks: list[int]):
    config = ImageData(source=str(folder), size=16)
    first = load_images(config)
    for path in (tmp_path / "cache" / "checked").iterdir():
        path.write_bytes(path.read_bytes()[:-50] if damage is None else damage)
    assert load_images(config).fingerprint == first.fingerprint
    assert len(looks) == 52


def test_a_cache_that_cannot_be_written_is_no_harm(folder: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    assert len(load_images(ImageData(source=str(folder), size=16)).train) == 18


def test_a_long_look_says_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    monkeypatch.setattr(checking, "_SAY_SECONDS", -1.0)
    with caplog.at_level(logging.WARNING):
        load_images(ImageData(source=str(folder), size=16))
    assert "train: looking at every image, once: 1 of 20" in caplog.text
    heard: list[tuple[int, int]] = []
    check(ImageData(source=str(folder)), True, lambda done, total: heard.append((done, total)))
    assert heard == [(20, 20), (6, 6)]


# What the quick check missed


@pytest.fixture
def hidden(make_folder: MakeFolder) -> Path:
    """A folder in which one PNG is damaged inside, and whole at both ends."""
    folder = make_folder({"train": {"cat": 10, "dog": 10}}, suffixes=("png",), sizes=((64, 64),))
    content = encoded("PNG")
    (folder / "train/dog/002.png").write_bytes(content[:200] + bytes(60) + content[260:])
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_fails_in_training_is_one_line_with_its_name_and_the_cure(hidden: Path, workers: int):
    hidden = hidden.rename(hidden.with_name("pic tures"))
    task = Classification(
        ImageData(source=str(hidden), size=16, augment="scale-aspect", normalize="imagenet"), ImageModel()
    )
    train = task.examples("train")
    with pytest.raises(BrokenImageError) as caught:
        for _ in loader(train, Batches(len(train), 4), workers=workers):
            pass
    said = str(caught.value)
    assert said.startswith(f"{hidden}: train/dog/002.png cannot be decoded (")
    assert "\n" not in said
    assert f"`{command('redense', 'data', 'check', hidden, '--full')}`" in said
    assert "data.broken: skip" in said


def test_what_a_full_check_of_an_older_redense_found_is_left_out_too(hidden: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as older:
        older.setattr(checking, "_VERSION", checking._DECODED)
        older.setattr(checking, "identity", checking.identity_before)
        assert check(ImageData(source=str(hidden)), True).faults
    splits = load_images(ImageData(source=str(hidden), size=16, broken="skip"))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 19


def test_what_the_full_check_finds_is_left_out_from_then_on(hidden: Path):
    config = ImageData(source=str(hidden), size=16, broken="skip")
    with pytest.raises(BrokenImageError, match=r"002\.png"):
        load_images(config)
    assert not check(ImageData(source=str(hidden)), False).faults
    found = check(ImageData(source=str(hidden)), True)
    assert list(found.facts["splits"]) == ["train"]
    assert [fault.name for fault in found.faults] == ["train/dog/002.png"]
    splits = load_images(config)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 19
    assert torch.bincount(splits.train.labels).tolist() == [8, 7]
    with pytest.raises(DataError, match=r"1 of 20 images cannot be used: train/dog/002.png cannot be decoded"):
        load_images(config.model_copy(update={"broken": "refuse"}))
