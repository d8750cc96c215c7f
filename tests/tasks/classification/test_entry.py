"""What a plan is told of a set without the set, and whether it is true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks import catalog
from redense.tasks.classification.config import ExpectedData, ImageData, ImageModel
from redense.tasks.classification.data.splits import split_off
from redense.tasks.classification.entry import expected_data
from redense.tasks.classification.task import Classification

IMAGENET = {"train": 1_281_167, "classes": 1000, "channels": 3}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, (9000, 10, (1, 28, 28))),
        ({"source": "fashion-mnist"}, (54_000, 10, (1, 28, 28))),
        ({"source": "debian", "validation": 0.5, "limit": 10}, (10, 10, (1, 28, 28))),
        ({"size": 64}, (9000, 10, (1, 64, 64))),
        ({"source": "emoji", "size": 64}, (4531, 10, (3, 64, 64))),
        ({"source": "emoji"}, None),
        ({"source": "hub:uoft-cs/cifar10"}, (45_000, 10, (3, 32, 32))),
        ({"source": "hub:uoft-cs/cifar100", "label": "coarse_label"}, (45_000, 20, (3, 32, 32))),
        ({"source": "/no/such/imagenet", "size": 224, "expected": IMAGENET}, (1_153_050, 1000, (3, 224, 224))),
        ({"source": "/no/such/imagenet", "expected": IMAGENET}, None),
        ({"source": "/no/such/folder", "size": 224}, None),
    ],
)
def test_a_plan_is_told_examples_classes_and_shape(how: dict[str, Any], expected: object):
    assert expected_data(ImageData.model_validate(how)) == expected


@given(count=st.integers(20, 300), validation=st.floats(0.01, 0.9), limit=st.none() | st.integers(1, 30))
def test_the_number_of_examples_is_that_of_the_split(count: int, validation: float, limit: int | None):
    labels = torch.arange(count) % 2
    expected = ExpectedData(train=count, classes=2)
    told = expected_data(ImageData(source="x", size=8, validation=validation, limit=limit, expected=expected))
    kept = len(split_off(labels, validation, 0)[0])
    assert told == (min(kept, limit or kept), 2, (3, 8, 8))


def test_what_is_told_of_a_folder_is_what_is_loaded(make_folder: Callable[..., Path]):
    folder = make_folder({"train": {"a": 13, "b": 9, "c": 5}, "val": {"a": 2}})
    data = ImageData.model_validate(
        {"source": str(folder), "size": 16, "validation": 0.3, "expected": {"train": 27, "classes": 3}}
    )
    task = Classification(data, ImageModel())
    assert expected_data(data) == (len(task.examples("train")), len(task.classes), task.shape)


@pytest.mark.slow
def test_what_is_told_of_emoji_is_what_is_fetched():
    catalog.get(catalog.find("emoji"))
    data = ImageData(source="emoji", size=64, resize=64)
    task = Classification(data, ImageModel())
    assert expected_data(data) == (len(task.examples("train")), len(task.classes), task.shape)
    assert not task.notes
