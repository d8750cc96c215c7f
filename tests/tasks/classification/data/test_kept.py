"""Large pictures are decoded at a fraction of their size and kept; their pixels do not tell whether they were."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor

from redense.cli import main
from redense.errors import StateError
from redense.files.locks import locked
from redense.lab.recipe.recipe import build_recipe
from redense.lab.tasks import make_task
from redense.tasks import catalog
from redense.tasks.caches import PICTURES
from redense.tasks.catalog import Source, cache_dir
from redense.tasks.classification.classifier import open_picture
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data import room, transforms
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.pixels import decode
from redense.tasks.classification.data.sets import ImageSet
from redense.tasks.classification.task import Classification

LARGE = ((200, 150), (160, 240))
MakeFolder = Callable[..., Path]


@pytest.fixture
def large(make_folder: MakeFolder) -> Path:
    splits = {"train": {"cat": 6, "dog": 6}, "val": {"cat": 2, "dog": 2}}
    return make_folder(splits, sizes=LARGE, suffixes=("jpg", "png"))


def read(source: Path, **how: object) -> list[Tensor]:
    """Return what the network sees of the training split in one epoch, and of the test split."""
    task = Classification(ImageData.model_validate({"source": str(source), "size": 8} | how), ImageModel())
    parts = task.examples("train"), task.examples("test")
    parts[0].begin_epoch(3)
    return [part.__getitems__(list(range(len(part))))[0] for part in parts]


def kept() -> list[Path]:
    return [path for path in PICTURES.folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("augment", ["none", "scale-aspect"])
def test_the_second_reading_has_the_bits_of_the_first_and_of_one_without_a_cache(large: Path, augment: str):
    alone = read(large, augment=augment, cache_gb=0)
    assert not kept()
    first = read(large, augment=augment)
    assert kept()
    before = {path: path.stat().st_mtime_ns for path in kept()}
    second = read(large, augment=augment)
    assert {path: path.stat().st_mtime_ns for path in kept()} == before
    for one, two, three in zip(alone, first, second, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_the_second_reading_decodes_no_large_picture(large: Path, monkeypatch: pytest.MonkeyPatch):
    read(large, augment="scale-aspect")
    monkeypatch.setattr("redense.tasks.classification.data.sets.decode", lambda *_, **__: pytest.fail("decoded"))
    read(large, augment="scale-aspect")


def test_a_picture_that_is_not_much_larger_than_the_network_is_decoded_whole_and_not_kept(make_folder: MakeFolder):
    folder = make_folder({"train": {"a": 4, "b": 4}, "val": {"a": 1, "b": 1}}, sizes=((35, 35),))
    for augment in ("none", "scale-aspect"):
        splits = load_images(ImageData(source=str(folder), size=32, resize=32, augment=augment))
        assert isinstance(splits.test, ImageSet)
        path = sorted((folder / "val").glob("*/*"))[0]
        usual = transforms.evaluation_transform(ImageData(size=32, resize=32))(Image.open(path).convert("RGB"))
        assert torch.equal(splits.test.images[0], usual)
    assert not kept()


def test_a_large_test_picture_is_close_to_the_one_that_is_decoded_whole_and_a_png_is_the_same(
    tmp_path: Path, picture: Callable[..., Image.Image]
):
    config = ImageData(size=16, resize=18)
    prepared = transforms.evaluation(config)
    for name, most in (("a.jpg", 0.5), ("a.png", 0.0)):
        path = tmp_path / name
        picture(1, (800, 608)).save(path, quality=95)
        content = path.read_bytes()
        whole = transforms.evaluation_transform(config)(decode(content))
        part = transforms.evaluation_transform(config)(decode(content, least=prepared.least))
        assert float((whole.float() - part.float()).abs().mean()) <= most
        assert torch.equal(part, transforms.evaluation_transform(config)(open_picture(path, least=prepared.least)))


@pytest.mark.parametrize(
    ("size", "least", "becomes"),
    [
        ((4000, 3000), 512, (1000, 750)),
        ((4000, 3000), 0, (4000, 3000)),
        ((1024, 1023), 512, (1024, 1023)),  # the shorter side is not twice as long
        ((1024, 1024), 512, (512, 512)),
        ((511, 400), 100, (511, 400)),  # small both ways: quick to decode whole
        ((512, 400), 100, (128, 100)),
        ((160, 1600), 10, (20, 200)),  # no fraction is smaller than an eighth
        ((161, 1607), 10, (20, 200)),  # what is left over of a column is cut off
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_fraction_that_leaves_enough(
    tmp_path: Path, size: tuple[int, int], least: int, becomes: tuple[int, int]
):
    Image.new("L", size).save(tmp_path / "a.jpg")
    assert decode((tmp_path / "a.jpg").read_bytes(), grey=True, least=least).size == becomes


def test_a_damaged_picture_of_the_cache_is_decoded_anew_and_said(large: Path, caplog: pytest.LogCaptureFixture):
    good = read(large, augment="scale-aspect")
    for number, path in enumerate(kept()):
        data = bytearray(path.read_bytes())
        data[[40, 20, -1][number % 3]] ^= 1  # pixels, the checksum, the last byte
        path.write_bytes(data[: number % 2 * len(data) or 10] if number % 4 == 3 else data)
    again = read(large, augment="scale-aspect")
    assert all(torch.equal(one, two) for one, two in zip(good, again, strict=True))
    assert "is damaged: the picture is decoded anew" in caplog.text


def test_a_picture_that_was_changed_is_decoded_anew(large: Path, picture: Callable[..., Image.Image]):
    before = read(large)
    path = next((large / "val" / "cat").iterdir())
    picture(99, (200, 150)).save(path)
    os.utime(path, (1, 1))
    assert not torch.equal(before[1], read(large)[1])


def test_without_room_nothing_is_kept_and_a_note_says_why(large: Path):
    splits = load_images(ImageData(source=str(large), size=8, augment="scale-aspect", cache_gb=1e-6))
    assert "decoded pictures are not kept" in splits.notes[-1]
    assert "data.cache_gb is 1e-06" in splits.notes[-1]
    assert not kept()


@pytest.mark.parametrize(("total", "free"), [(10**12, 5 * 10**9), (10**10, 5 * 10**8 + 1000), (10**12, 0)])
def test_a_disk_that_is_nearly_full_is_left_to_others(
    total: int, free: int, large: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: SimpleNamespace(total=total, free=free))
    splits = load_images(ImageData(source=str(large), size=8, augment="scale-aspect"))
    assert "the disk has 0.0 MB to spare" in splits.notes[-1]
    assert not kept()


def test_a_disk_that_does_not_tell_its_room_is_taken_to_have_it(large: Path, monkeypatch: pytest.MonkeyPatch):
    def refuses(place: Path) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(room.shutil, "disk_usage", refuses)
    read(large, augment="scale-aspect")
    assert kept()


def test_the_verb_fills_shows_and_clears(large: Path, capsys: pytest.CaptureFixture[str]):
    settings = ["--data.size", "8", "--data.augment", "scale-aspect", "--data.workers", "2"]
    assert main(["data", "cache", str(large), *settings]) == 0
    assert "16 pictures are kept" in capsys.readouterr().out
    before = set(kept())
    read(large, augment="scale-aspect", normalize="imagenet")
    assert set(kept()) == before
    assert main(["data", "cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["pictures"] == sum(path.stat().st_size for path in before)
    assert main(["data", "cache", "--clear", "pictures"]) == 0
    assert not kept()
    assert "pictures:" in capsys.readouterr().out
    assert main(["data", "cache", "--clear", "pictures", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cleared"] == {"pictures": 0}
    assert main(["data", "cache", "--clear", "picture"]) == 2
    assert "did you mean 'pictures'" in capsys.readouterr().err
    assert main(["data", "cache", str(large)]) == 2
    assert "--data.size 224" in capsys.readouterr().err
    assert main(["data", "cache", str(large), *settings, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["kept"], len(kept())) == (str(large), 16, 16)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["cache", "FOLDER", "--full"], "--full is for redense data check and get"),
        (["cache", "FOLDER", "--task", "speech"], "a cache is filled with pictures of classes, got --task speech"),
        (["list", "--label", "x"], "--label is for redense data check and cache"),
        (["check", "FOLDER", "--clear", "all"], "--clear is for redense data cache"),
        (["cache", "--data.size", "64"], "--data.size is of a set that the cache is filled with: name the set"),
        (["cache", "--clear", "all", "--label", "x"], "--label is of a set that the cache is filled with"),
        (["cache", "--clear", ""], "argument --clear: its value is empty"),
    ],
)
def test_an_option_that_an_action_does_not_take_is_refused(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["data", *(str(tmp_path) if option == "FOLDER" else option for option in options)]) == 2
    assert complaint in capsys.readouterr().err


def test_settings_beside_the_name_of_a_set_that_was_fetched_are_checked(
    large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(catalog.SOURCES, "mine", Source("mine", "pictures", "", ()))
    monkeypatch.setattr(catalog, "check", lambda source: large)
    assert main(["data", "check", "mine"]) == 0
    assert capsys.readouterr().out == f"mine is whole: {large}\n"
    assert main(["data", "check", "mine", "--data.size", "8"]) == 0
    assert "12 images of 2 classes" in capsys.readouterr().out
    assert main(["data", "check", "mine", "--data.size", "5"]) == 2
    assert "data.size" in capsys.readouterr().err


def test_caches_are_not_cleared_while_another_process_trains_from_them(large: Path, capsys: pytest.CaptureFixture[str]):
    nothing = {"epochs": 1}
    phases = {"dense": nothing, "sparse": nothing | {"sparsity": 0.5}, "redense": nothing}
    data = {"source": str(large), "size": 8, "augment": "scale-aspect"}
    task = make_task(build_recipe({"name": "x", "task": "classification", "data": data, **phases}))
    with pytest.raises(StateError, match="another process is training"), locked(cache_dir(), "with it"):
        pass
    assert main(["data", "cache", "--clear", "all"]) == 0  # one's own process does one thing after another
    with pytest.raises(StateError), locked(cache_dir()):
        pass
    del task
    gc.collect()
    with locked(cache_dir(), shared=True):  # as a training elsewhere has it
        capsys.readouterr()
        assert main(["data", "cache", "--clear", "pictures"]) == 2
        assert "another process is training with what is kept in" in capsys.readouterr().err
        again = make_task(build_recipe({"name": "x", "task": "classification", "data": data, **phases}))
        assert len(again.examples("train")) == 11
    del again
    gc.collect()
    assert main(["data", "cache", "--clear", "pictures"]) == 0
