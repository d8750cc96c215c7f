"""Arrays of NumPy: each is what its name says, or is refused or named; nothing is trained on in another's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense.errors import DataError
from redense.tasks.classification.data.layouts.npz import read_npz


def written(folder: Path, **arrays: Any) -> Path:
    """Write arrays; a number stands for so many images, or labels, of which no two files have the same."""
    made: dict[str, Any] = {
        name: (np.full((value, 4, 4), value, np.uint8) if "x" in name or "image" in name else np.arange(value) % 2)
        if isinstance(value, int)
        else value
        for name, value in arrays.items()
    }
    np.savez(folder / "a.npz", **made)
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": 6, "y_train": 6, "x_extra": 4, "y_extra": 4}, "x_train is for training, and x_extra for no split"),
        ({"x_train": 6, "y_train": 6, "train_images": 4}, "x_train and train_images are both the images of train"),
        ({"x_train": 6, "y_train": 6, "y_train_coarse": 6}, "y_train and y_train_coarse are both the labels of train"),
        ({"x": 6, "y": 6, "x_holdout": 4, "y_holdout": 4}, "x and x_holdout are both images of no split"),
        ({"x": 2, "y": np.array([b"caf\xe9", b"x"])}, r"y has the label b'caf\\xe9', which is no text in UTF-8"),
        ({"x": 2, "y": np.array([0, -1])}, "y has the label '-1', expected a class for every image"),
    ],
)
def test_arrays_that_could_be_one_thing_or_have_no_class_are_refused_by_name(
    arrays: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(DataError, match=message):
        read_npz(written(tmp_path, **arrays))


def test_arrays_that_are_not_used_are_named(tmp_path: Path):
    names = np.array(["cat", "dog"])
    sets, notes = read_npz(written(tmp_path, x_train=6, y_train=6, x_val=4, x_test=2, y_test=2, label_names=names))
    assert {split: len(part) for split, part in sets.items()} == {"train": 6, "test": 2}
    assert notes == [f"{tmp_path / 'a.npz'}: not used: x_val, label_names"]


def test_a_file_with_images_of_no_split_and_a_test_split_keeps_both(tmp_path: Path):
    sets, notes = read_npz(written(tmp_path, x=6, y=6, x_test=2, y_test=2))
    assert {split: len(part) for split, part in sets.items()} == {"all": 6, "test": 2}
    assert not notes


def test_a_class_may_be_a_number_of_any_length(tmp_path: Path):
    sets, _ = read_npz(written(tmp_path, x=4, y=np.array(["7", "9" * 5000] * 2)))
    assert sets["all"].classes == ("7", "9" * 5000)


def test_a_class_that_is_called_none_is_a_class(tmp_path: Path):
    sets, _ = read_npz(written(tmp_path, x=4, y=np.array(["none", "crack"] * 2)))
    assert sets["all"].classes == ("crack", "none")


def test_fractions_go_from_0_to_1_in_all_splits_or_in_none(tmp_path: Path):
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    labels = np.arange(4) % 2
    over = x * np.float32(1.0000001)  # as resizing leaves it
    assert over.max() > 1
    sets, _ = read_npz(written(tmp_path, x_train=x, y_train=labels, x_test=over, y_test=labels))
    assert np.array_equal(sets["train"].images, sets["test"].images)
    assert int(sets["test"].images.max()) == 255
    with pytest.raises(DataError, match="x_test has numbers up to 1 and others up to 255, expected 0 to 255 in all"):
        read_npz(written(tmp_path, x_train=255 * x, y_train=labels, x_test=x, y_test=labels))
    sets, _ = read_npz(written(tmp_path, x_train=255 * x, y_train=labels, x_test=0 * x, y_test=labels))
    assert int(sets["train"].images.max()) == 255
    with pytest.raises(DataError, match=r"its images have numbers up to 1\.3, expected 0 to 255, or 0 to 1"):
        read_npz(written(tmp_path, x=1.3 * x, y=labels))
