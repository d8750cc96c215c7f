"""Evidence: what classifiers did class by class and example by example, counted once and lost nowhere."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from redense.lab.recipe.recipe import Recipe
from redense.tasks.classification.data.png import thumbnail
from redense.tasks.classification.data.sets import ImageSet
from redense.tasks.classification.evidence import confusion, evidence, flips, per_class, probability
from redense.tasks.classification.task import Classification
from redense.tasks.task import ShowsEvidence

Outcome = dict[str, Tensor]


def outcome_of(logits: Tensor, label: Tensor) -> Outcome:
    """What `Classification.outcome` gives for these logits."""
    true = logits.gather(1, label.unsqueeze(1))
    loss = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    return {"label": label, "answer": logits.argmax(1), "rank": (~(logits < true)).sum(1) - 1, "loss": loss}


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, Outcome, Outcome]:
    """Two networks' outcomes over the same examples, with ties, and with classes that have no example."""
    classes, count = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    random = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    label = torch.randint(draw(st.integers(1, classes)), (count,), generator=random)
    levels = draw(st.integers(1, 6))  # few levels: many ties
    one, other = (torch.randint(levels, (count, classes), generator=random).float() for _ in range(2))
    return classes, outcome_of(one, label), outcome_of(other, label)


@given(networks())
def test_every_example_is_fixed_broken_or_as_it_was(given: tuple[int, Outcome, Outcome]):
    _, before, after = given
    fixed, broken = (set(which.tolist()) for which in flips(before, after))
    same = {i for i, (a, b) in enumerate(zip(before["rank"], after["rank"], strict=True)) if (a > 0) == (b > 0)}
    assert not fixed & broken
    assert fixed | broken | same == set(range(len(before["rank"])))
    assert len(fixed) + len(broken) + len(same) == len(before["rank"])
    errors = [int((outcome["rank"] > 0).sum()) for outcome in (before, after)]
    assert errors[0] - errors[1] == len(fixed) - len(broken)


@given(networks())
def test_confusions_are_all_examples_and_their_rows_the_classes(given: tuple[int, Outcome, Outcome]):
    classes, outcome, _ = given
    cells = confusion(outcome["label"], outcome["answer"], classes)
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    for row, column, count in cells:
        assert count > 0
        matrix[row, column] += count
    assert int(matrix.sum()) == len(outcome["label"])
    assert torch.equal(matrix.sum(1), torch.bincount(outcome["label"], minlength=classes))
    assert torch.equal(matrix.sum(0), torch.bincount(outcome["answer"], minlength=classes))
    assert len({(row, column) for row, column, _ in cells}) == len(cells)


@given(networks())
def test_figures_of_the_classes_come_to_those_of_the_whole_split(given: tuple[int, Outcome, Outcome]):
    classes, outcome, _ = given
    rows = per_class(outcome, classes)
    count = len(outcome["label"])
    assert sum(row["examples"] for row in rows) == count
    assert sum(row["wrong"] for row in rows) == int((outcome["rank"] > 0).sum())
    if classes > 5:
        assert sum(row["top5_wrong"] for row in rows) == int((outcome["rank"] >= 5).sum())
    else:
        assert all("top5_wrong" not in row for row in rows)
    total = sum(row["loss"] * row["examples"] for row in rows if row["loss"] is not None)
    assert total / count == pytest.approx(float(outcome["loss"].double().mean()), abs=1e-5)
    assert [row["loss"] is None for row in rows] == [row["examples"] == 0 for row in rows]


@given(networks())
def test_evidence_counts_as_its_parts_do_and_survives_json(given: tuple[int, Outcome, Outcome]):
    classes, before, after = given
    names = [f"class {index}" for index in range(classes)]
    found = evidence({"dense": before, "redense": after}, names, None, most=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    fixed, broken = flips(before, after)
    assert (found["fixed"]["total"], found["broken"]["total"]) == (len(fixed), len(broken))
    assert [one["index"] for one in found["fixed"]["shown"]] == fixed[:3].tolist()
    assert sum(row["fixed"] for row in found["classes"]) == len(fixed)
    assert sum(row["broken"] for row in found["classes"]) == len(broken)
    for place, outcome in enumerate((before, after)):
        wrong = int((outcome["rank"] > 0).sum())
        off = sum(count for row, column, count in found["confusion"][place] if row != column)
        assert off + found["ties"][place] == wrong


def test_the_most_confident_changes_come_first_and_equal_ones_by_index():
    label = torch.zeros(6, dtype=torch.int64)
    right, wrong = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    before = {
        "label": label,
        "rank": wrong,
        "answer": wrong,
        "loss": -torch.tensor([0.4, 0.1, 0.4, 0.3, 0.1, 0.2]).log(),
    }
    after = {
        "label": label,
        "rank": right,
        "answer": right,
        "loss": -torch.tensor([0.6, 0.9, 0.6, 0.9, 0.9, 0.9]).log(),
    }
    assert flips(before, after)[0].tolist() == [1, 4, 5, 3, 0, 2]
    assert flips(after, before)[1].tolist() == [1, 4, 5, 3, 0, 2]
    assert flips(before, after)[1].tolist() == []


def test_a_loss_that_is_no_number_is_no_confidence_and_no_mean():
    label = torch.tensor([0, 0, 1])
    outcome = {
        "label": label,
        "rank": torch.tensor([1, 1, 0]),
        "answer": label,
        "loss": torch.tensor([math.nan, 1, 0.0]),
    }
    assert probability(outcome).tolist() == pytest.approx([0.0, math.exp(-1), 1.0])
    assert [row["loss"] for row in per_class(outcome, 2)] == [None, 0.0]
    json.dumps(evidence({"a": outcome, "b": outcome}, ["x", "y"], None), allow_nan=False)


def test_answers_that_were_kept_without_what_was_right_give_the_reason():
    outcome = {"rank": torch.tensor([0]), "answer": torch.tensor([0]), "loss": torch.tensor([0.1])}
    found = evidence({"dense": outcome, "redense": outcome}, ["x"], None)
    assert found["kind"] == "classification"
    assert "was not kept" in found["missing"]


# --- of real images -------------------------------------------------------------------------------------------------


@pytest.fixture
def task(tiny: Callable[..., Recipe]) -> Classification:
    recipe = tiny()
    return Classification(recipe.data, recipe.model)


def decoded(data: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(data))


def test_the_task_shows_the_images_that_changed(task: Classification):
    assert isinstance(task, ShowsEvidence)
    images = task.examples("test").images
    assert isinstance(images, ImageSet)
    label = images.labels
    before = outcome_of(torch.nn.functional.one_hot((label + 1) % 4, 4).float(), label)
    after = outcome_of(torch.nn.functional.one_hot(label, 4).float(), label)
    found = task.evidence({"dense": before, "redense": after})
    assert [row["name"] for row in found["classes"]] == list(task.classes)
    assert (found["fixed"]["total"], found["broken"]["total"]) == (100, 0)
    assert len(found["fixed"]["shown"]) == 24
    for one in found["fixed"]["shown"]:
        picture = decoded(base64.b64decode(one["picture"]))
        pixels = torch.tensor(list(picture.tobytes()), dtype=torch.uint8).view(8, 8)
        assert torch.equal(pixels, images.images[one["index"]][0])
        assert (one["label"], one["answers"]) == (
            int(label[one["index"]]),
            [int((label[one["index"]] + 1) % 4), int(label[one["index"]])],
        )


def test_the_outcome_says_which_class_was_right(task: Classification):
    model = task.build_model().eval()
    batch = task.examples("test").__getitems__([3, 1, 2])
    assert torch.equal(task.outcome(model, batch)["label"], batch[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_png_of_the_same_pixels(channels: int):
    image = torch.randint(256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = decoded(thumbnail(image))
    assert picture.size == (7, 5)
    assert picture.mode == ("L" if channels == 1 else "RGB")
    assert torch.equal(
        torch.tensor(list(picture.tobytes()), dtype=torch.uint8).view(5, 7, channels), image.permute(1, 2, 0)
    )


def test_a_large_picture_is_made_smaller_and_keeps_its_shape():
    image = torch.full((3, 200, 400), 77, dtype=torch.uint8)
    picture = decoded(thumbnail(image))
    assert picture.size == (96, 48)
    assert set(picture.tobytes()) == {77}
    assert decoded(thumbnail(torch.zeros(1, 1000, 1, dtype=torch.uint8))).size == (1, 96)
