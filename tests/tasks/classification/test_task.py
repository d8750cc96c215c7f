"""Image classification: the networks, the batches, the loss and the figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import redense
from redense.errors import RecipeError
from redense.lab.recipe.recipe import Recipe
from redense.tasks.classification.config import ImageModel
from redense.tasks.classification.data.sets import ImageSet
from redense.tasks.classification.examples import ImageExamples
from redense.tasks.classification.models import build
from redense.tasks.classification.task import Classification
from redense.tasks.task import Examples

Tiny = Callable[..., Recipe]


@pytest.fixture
def task(tiny: Tiny) -> Classification:
    return make(tiny())


def raw(examples: Examples) -> ImageSet:
    """The images of a split that is in memory, as they are."""
    assert isinstance(examples, ImageExamples)
    return examples.images


def make(recipe: Recipe) -> Classification:
    return Classification(recipe.data, recipe.model, label_smoothing=recipe.training.label_smoothing)


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 9, 13)])
def test_a_cnn_halves_the_image_at_each_convolution(shape: tuple[int, int, int]):
    model = build(ImageModel(name="cnn", widths=(4, 6, 8), dropout=0.5), shape, 5)
    features = 8 * (shape[1] // 8) * (shape[2] // 8)
    assert model.get_submodule("fc").in_features == features
    assert model(torch.zeros(2, *shape)).shape == (2, 5)
    assert [n for n, _ in model.named_parameters() if n.endswith("weight")] == [
        *("conv1.weight", "conv2.weight", "conv3.weight", "fc.weight")
    ]


def test_an_mlp_has_a_layer_for_each_width_and_one_more():
    model = build(ImageModel(name="mlp", widths=(7, 5), dropout=0.1), (3, 2, 2), 3)
    assert [tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")] == [(7, 12), (5, 7), (3, 5)]
    assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 3)


@pytest.mark.parametrize(("name", "layers"), [("cnn", 1), ("mlp", 2)])
def test_dropout_is_that_of_the_recipe_and_off_in_evaluation(name: Any, layers: int):
    model = build(ImageModel(name=name, widths=(16, 16), dropout=0.5), (1, 8, 8), 4)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5] * layers
    images = torch.randn(2, 1, 8, 8)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_the_first_convolution_is_not_pruned_and_the_others_are():
    model = build(ImageModel(widths=(4, 4)), (1, 8, 8), 4)
    assert set(redense.prunable(model)) == {"conv2.weight", "fc.weight"}


def test_images_that_are_too_small_are_an_error_that_names_the_widths():
    for shape in ((1, 7, 28), (1, 28, 7)):
        with pytest.raises(RecipeError, match=r"model.widths has 3 convolutions.* pixels: give fewer widths"):
            build(ImageModel(widths=(4, 4, 4)), shape, 4)
    assert build(ImageModel(widths=(4, 4, 4)), (1, 8, 8), 4)(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    assert build(ImageModel(name="mlp", widths=(4, 4, 4)), (1, 1, 1), 4)(torch.zeros(1, 1, 1, 1)).shape == (1, 4)


def test_a_seed_determines_the_network(task: Classification):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in task.build_model().parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# --- batches --------------------------------------------------------------------------------------------------------


def test_training_images_have_mean_zero_and_deviation_one_and_the_others_the_same_scale(task: Classification):
    train, test = task.examples("train"), task.examples("test")
    images = train.__getitems__(range(len(train)))[0]
    assert (images.dtype, images.shape) == (torch.float32, (360, 1, 8, 8))
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-5)
    pixels = raw(train).images.float()
    expected = (raw(test).images.float() - pixels.mean()) / pixels.std()
    torch.testing.assert_close(test.__getitems__(range(len(test)))[0], expected)


def test_a_batch_is_that_of_its_indices_in_their_order(task: Classification):
    train = task.examples("train")
    images, labels = train.__getitems__([7, 3, 300])
    for row, index in enumerate((7, 3, 300)):
        one, label = train.__getitems__([index])
        assert torch.equal(images[row], one[0])
        assert labels[row] == label[0] == raw(train).labels[index]


def test_a_constant_channel_is_no_division_by_zero(task: Classification):
    images = ImageExamples(raw(task.examples("train")), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    assert torch.isfinite(images.__getitems__([0])[0]).all()


def augmented(task: Classification, indices: list[int], seed: int = 5, **how: Any) -> tuple[Tensor, Tensor]:
    source = raw(task.examples("train"))
    examples = ImageExamples(source, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), **how)
    examples.begin_epoch(seed)
    return examples.__getitems__(indices)[0], source.images[indices].float()


def test_about_half_of_the_images_are_mirrored_and_none_is_changed_otherwise(task: Classification):
    images, original = augmented(task, list(range(360)), flip=True)
    same = (images == original).flatten(1).all(1)
    mirrored = (images == original.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 130 < int(mirrored.sum()) < 230


def test_a_crop_is_a_shifted_window_of_the_padded_image_and_every_shift_occurs(task: Classification):
    images, original = augmented(task, list(range(360)), crop=2)
    padded = F.pad(original, (2, 2, 2, 2))
    shifts = set[tuple[int, int]]()
    for image, source in zip(images, padded, strict=True):
        found = {(y, x) for y in range(5) for x in range(5) if torch.equal(image, source[:, y : y + 8, x : x + 8])}
        assert found
        shifts |= found
    assert len(shifts) == 25


def test_augmentation_depends_on_the_epoch_and_the_indices_alone(task: Classification):
    how: dict[str, Any] = {"flip": True, "crop": 2}
    first = augmented(task, list(range(32)), **how)[0]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert torch.equal(augmented(task, list(range(32)), **how)[0], first)
    assert torch.equal(torch.get_rng_state(), state)  # the model's random numbers do not notice
    assert not torch.equal(augmented(task, list(range(32)), seed=6, **how)[0], first)


def test_augmentation_is_for_training_alone_and_leaves_the_split_as_it_is(tiny: Tiny):
    plain, other = make(tiny()), make(tiny(data={"flip": True, "crop": 2}))
    before = raw(other.examples("train")).images.clone()
    for split in ("validation", "test"):
        parts = [task.examples(split).__getitems__([0, 1, 2])[0] for task in (plain, other)]
        assert torch.equal(*parts)
    assert not torch.equal(*(task.examples("train").__getitems__([0, 1, 2])[0] for task in (plain, other)))
    assert torch.equal(raw(other.examples("train")).images, before)


def test_the_splits_are_disjoint_and_the_fingerprint_is_of_the_data_alone(tiny: Tiny):
    a, b = make(tiny()), make(tiny(seed=4, model={"widths": [5]}, data={"flip": True}))
    assert [len(a.examples(split)) for split in ("train", "validation", "test")] == [360, 40, 100]
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != make(tiny(data={"validation": 0.2})).fingerprint


# --- loss and figures -----------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Answers with these logits."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def test_the_loss_is_the_mean_cross_entropy_with_smoothing(tiny: Tiny):
    logits, labels = [[2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], torch.tensor([0, 2])
    logs = torch.tensor(logits).log_softmax(1)
    for smoothing in (0.0, 0.1):
        task = make(tiny(training={"label_smoothing": smoothing}))
        target = F.one_hot(labels, 4) * (1 - smoothing) + smoothing / 4
        expected = float(-(target * logs).sum(1).mean())
        assert float(task.loss(Fixed(logits), (torch.zeros(2), labels))) == pytest.approx(expected, rel=1e-6)


def test_the_outcome_is_loss_rank_answer_and_label_of_each_image(task: Classification):
    logits = [[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 5.0]]
    outcome = task.outcome(Fixed(logits), (torch.zeros(4), torch.tensor([0, 1, 3, 3])))
    assert outcome["rank"].tolist() == [0, 1, 3, 0]
    assert outcome["answer"].tolist() == [0, 0, 0, 3]
    assert outcome["label"].tolist() == [0, 1, 3, 3]
    expected = -torch.tensor(logits).log_softmax(1)[range(4), [0, 1, 3, 3]]
    torch.testing.assert_close(outcome["loss"], expected)
    assert task.metrics(outcome) == {"loss": pytest.approx(float(expected.mean())), "error": 50.0}


def test_a_network_that_always_says_the_same_is_right_by_no_luck(task: Classification):
    outcome = task.outcome(Fixed([[0.0] * 4] * 4), (torch.zeros(4), torch.arange(4)))
    assert task.metrics(outcome)["error"] == 100.0


def test_a_network_whose_answers_are_not_numbers_is_not_right(task: Classification):
    outcome = task.outcome(Fixed([[math.nan] * 4] * 2), (torch.zeros(2), torch.tensor([0, 1])))
    assert task.metrics(outcome)["error"] == 100.0


def test_the_loss_in_the_figures_is_without_smoothing(tiny: Tiny):
    logits, batch = [[2.0, 0.0, 0.0, 0.0]], (torch.zeros(1), torch.tensor([0]))
    outcomes = [make(tiny(training={"label_smoothing": s})).outcome(Fixed(logits), batch) for s in (0.0, 0.3)]
    assert torch.equal(outcomes[0]["loss"], outcomes[1]["loss"])


def test_top5_is_given_where_there_are_more_than_five_classes(task: Classification):
    outcome = {"loss": torch.ones(4), "rank": torch.tensor([0, 4, 5, 9]), "answer": torch.zeros(4)}
    assert "top5_error" not in task.metrics(outcome)
    task.classes = tuple("abcdef")
    assert task.metrics(outcome) == {"loss": 1.0, "error": 75.0, "top5_error": 50.0}


def test_the_error_of_a_percentage_is_exact(task: Classification):
    rank = torch.zeros(10_000, dtype=torch.int64)
    rank[:1234] = 1
    assert task.metrics({"loss": torch.zeros(10_000), "rank": rank})["error"] == 12.34
