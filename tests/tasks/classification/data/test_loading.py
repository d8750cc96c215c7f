"""The shipped sample, and sources by name: what is read, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redense.errors import DataError
from redense.tasks import catalog
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.layouts.idx import FASHION_MNIST_CLASSES, IDX_NAMES, SAMPLE
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.sets import ImageSet, Splits


@pytest.fixture(scope="module")
def sample() -> Splits:
    return load_splits(None)


# The shipped sample


def test_the_sample_has_9000_training_1000_validation_and_10000_test_images(sample: Splits):
    for part, per_class in ((sample.train, 900), (sample.validation, 100), (sample.test, 1000)):
        assert part.images.shape == (10 * per_class, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert torch.bincount(part.labels).tolist() == [per_class] * 10
        assert part.classes == FASHION_MNIST_CLASSES


def test_no_training_image_of_the_sample_is_in_its_validation_split(sample: Splits):
    train = {image.numpy().tobytes() for image in sample.train.images}
    shared = sum(image.numpy().tobytes() in train for image in sample.validation.images)
    assert shared == 0


def test_the_test_files_of_the_sample_are_the_original_ones():
    for file in catalog.find("fashion-mnist").files[2:]:
        assert hashlib.sha256((SAMPLE / file.name).read_bytes()).hexdigest() == file.sha256


def test_the_readme_of_the_sample_has_the_licence_and_the_checksums():
    text = (SAMPLE / "README.md").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text
    for name in IDX_NAMES:
        digest = hashlib.sha256((SAMPLE / f"{name}.gz").read_bytes()).hexdigest()
        assert f"{digest}  {name}.gz" in text


def test_the_sample_and_its_split_are_the_same_as_ever(sample: Splits):
    # If this fails, every earlier result was measured on other data: say so in the changelog.
    assert sample.fingerprint == "4ddbc8277ed2da4724f547e9cf7150a39de6cf9924c19425e0a25013cd13a884"
    assert load_splits("sample").fingerprint == sample.fingerprint


def test_another_split_seed_changes_the_fingerprint_and_not_the_test_split(sample: Splits):
    other = load_splits("sample", seed=1)
    assert other.fingerprint != sample.fingerprint
    assert torch.equal(other.test.images, sample.test.images)


@pytest.mark.slow
def test_the_sample_is_made_from_the_full_set_byte_for_byte(tmp_path: Path):
    sys.path.insert(0, str(Path(__file__).parents[4] / "tools"))
    try:
        import make_fashion_mnist_sample as tool  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    full = catalog.get(catalog.find("fashion-mnist"))
    tool.main(["--out", str(tmp_path / "sample")])
    read = {path.name: path.read_bytes() for path in (tmp_path / "sample").iterdir()}
    assert read == {path.name: path.read_bytes() for path in SAMPLE.iterdir()}

    splits = load_splits("debian")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [54_000, 6_000, 10_000]
    assert torch.bincount(splits.validation.labels).tolist() == [600] * 10
    assert splits.fingerprint == load_splits("fashion-mnist").fingerprint == load_splits(str(full)).fingerprint


def test_the_shipped_sample_as_a_plain_folder_is_the_same_set(sample: Splits, tmp_path: Path):
    for name in IDX_NAMES:
        (tmp_path / name).write_bytes(gzip.decompress((SAMPLE / f"{name}.gz").read_bytes()))
    splits = load_splits(str(tmp_path))
    assert splits.fingerprint == sample.fingerprint
    assert splits.train.classes == FASHION_MNIST_CLASSES


@pytest.mark.parametrize("name", ["fashion-mnist", "debian"])
def test_a_source_that_is_not_there_says_how_to_get_it(name: str):
    with pytest.raises(DataError, match="redense data get fashion-mnist"):
        load_splits(name)


def test_a_source_that_is_nothing_names_what_could_be_meant(tmp_path: Path):
    with pytest.raises(DataError, match=r"no data at 'sampel'.*hub:OWNER/NAME; did you mean 'sample'"):
        load_splits("sampel")
    with pytest.raises(DataError, match=r"neither idx files.*parquet files.*nor images in folders"):
        load_splits(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="no data at"):
        load_splits(str(tmp_path / "file"))


@pytest.mark.parametrize("layout", ["idx files", "arrays in a.npz", "class folders in train/, test/"])
def test_a_label_that_chooses_nothing_is_refused(layout: str, tmp_path: Path, make_folder: Callable[..., Path]):
    source = "sample"
    if "npz" in layout:
        source = str(tmp_path / "a.npz")
        np.savez(source, x=np.zeros((4, 4, 4), np.uint8), y=np.arange(4) % 2)
    if "class" in layout:
        source = str(make_folder({"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}}))
    said = re.escape(f"{source}: data.label 'breed' chooses nothing in {layout}: remove it")
    with pytest.raises(DataError, match=said):
        load_images(ImageData(source=source, label="breed", size=8))


# Pictures in files, of which no byte of the name, the size and the date tells them apart


def sessions(root: Path, picture: Callable[..., Any]) -> list[Path]:
    """Write two sets whose pictures have the same names, sizes in bytes and dates."""
    folders = [root / "one" / "set", root / "two" / "set"]
    for number, folder in enumerate(folders):
        for index in range(16):
            path = folder / "ab"[index % 2] / f"{index:02}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(16 * number + index, (40, 40)).save(path)
            os.utime(path, (1e9, 1e9))
    return folders


@pytest.mark.parametrize("small", [True, False])
def test_other_pictures_of_the_same_names_and_sizes_are_other_data(
    small: bool, tmp_path: Path, picture: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    if not small:
        monkeypatch.setattr("redense.tasks.classification.data.transforms.IN_MEMORY", 100)
    one, two = sessions(tmp_path, picture)
    first, second = (load_images(ImageData(source=str(folder), size=8)) for folder in (one, two))
    assert first.fingerprint != second.fingerprint
    assert first.known_as == second.known_as  # an older redense took them for the same, and its runs go on
    one.rename(tmp_path / "before")
    two.rename(one)
    moved = load_images(ImageData(source=str(one), size=8))
    assert moved.fingerprint == second.fingerprint
    path = one / "a" / "00.bmp"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    assert load_images(ImageData(source=str(one), size=8)).fingerprint != second.fingerprint


def test_the_cache_of_pictures_gives_no_folder_the_pixels_of_another(tmp_path: Path, picture: Callable[..., Any]):
    one, two = sessions(tmp_path, picture)

    def read(source: Path, **how: Any) -> list[torch.Tensor]:
        parts = load_images(ImageData(source=str(source), size=8, **how)).by_name().values()
        return [part.images for part in parts if isinstance(part, ImageSet)]

    alone = read(two, cache_gb=0)
    read(one)
    assert any((tmp_path / "cache" / "pictures").rglob("*"))
    assert all(map(torch.equal, read(two), alone))
    read(one)
    one.rename(tmp_path / "before")
    two.rename(one)
    assert all(map(torch.equal, read(one), alone))
