"""The shipped sample, and sources by name: what is read, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from redense.errors import DataError
from redense.tasks import catalog
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.layouts.idx import FASHION_MNIST_CLASSES, IDX_NAMES, SAMPLE
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.sets import Splits


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
