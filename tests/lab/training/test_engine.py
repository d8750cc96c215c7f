"""What the engine trains: the same as a loop written out by hand, and what it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import redense
from redense.errors import DataError, ParameterError
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine, TrainingError
from redense.pruning import derive_seed
from redense.tasks.classification.data.loading import load_splits

from ...trainings import Tiny, same_tree
from .results import finish, make_task, undisturbed

# --- what training does ---------------------------------------------------------------------------------------------


def by_hand(recipe: Recipe, folder: Path) -> tuple[dict[str, Tensor], list[float]]:
    """D -> S -> D in plain PyTorch and `redense.sparse`, as someone with a loop of their own would write it."""
    splits, training = load_splits(str(folder)), recipe.training
    pixels = splits.train.images.float()
    mean, std = pixels.mean(), pixels.std()
    images, labels = (pixels - mean) / std, splits.train.labels
    torch.manual_seed(derive_seed(recipe.seed, "model"))
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc1", nn.Linear(64, 8))
    model.add_module("relu1", nn.ReLU())
    model.add_module("dropout1", nn.Dropout(0.2))
    model.add_module("fc2", nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    losses: list[float] = []
    for index, (epochs, rate) in enumerate(((2, 0.1), (1, 0.1), (1, 0.1 * 0.1))):
        torch.manual_seed(derive_seed(recipe.seed, index, "phase"))
        sparse = redense.sparse(model, optimizer, recipe.sparse.sparsity) if index == 1 else contextlib.nullcontext()
        with sparse:
            step = 0
            for epoch in range(epochs):
                seed = derive_seed(recipe.seed, index, epoch, "order")
                order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
                total = 0.0
                for batch in order[: 11 * training.batch_size].split(training.batch_size):
                    for group in optimizer.param_groups:
                        group["lr"] = rate * (1 + math.cos(math.pi * step / (11 * epochs))) / 2
                    loss = F.cross_entropy(model(images[batch]), labels[batch])
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    total += loss.item()
                    step += 1
                losses.append(total / 11)
    return dict(model.state_dict()), losses


def test_training_is_that_of_a_plain_loop_bit_for_bit(tiny: Tiny, image_folder: Path):
    recipe = tiny(dense={"epochs": 2}, training={"optimizer": {"weight_decay": 1e-3}})
    weights, losses = by_hand(recipe, image_folder)
    result = undisturbed(recipe)
    assert [event["train_loss"] for event in result.events if event["kind"] == "epoch"] == losses
    assert same_tree(result.weights, weights)


def test_a_sparse_phase_of_sparsity_zero_is_a_dense_phase_bit_for_bit(tiny: Tiny):
    recipe = tiny(sparse={"sparsity": 0.0})
    engine = Engine(make_task(recipe), recipe)
    phases = list(engine.plan)
    assert phases[1].phase.is_sparse
    phases[1] = dataclasses.replace(phases[1], phase=dataclasses.replace(phases[1].phase, sparsity=None))
    assert not phases[1].phase.is_sparse
    assert undisturbed(recipe, phases=phases).same_as(undisturbed(recipe))
    assert not undisturbed(tiny(), phases=phases).same_as(undisturbed(tiny()))


@pytest.mark.parametrize("keep", ["last", "best"])
def test_masked_weights_are_zero_at_every_step_of_the_sparse_phase_and_at_no_other(keep: str, tiny: Tiny):
    recipe = tiny(training={"keep": keep, "optimizer": {"weight_decay": 1e-3}}, sparse={"epochs": 2})
    zeros: dict[int, list[dict[str, Tensor]]] = {0: [], 1: [], 2: []}

    def look() -> bool:
        weights = {name: engine.model.get_parameter(name) for name in ("fc1.weight", "fc2.weight")}
        zeros[engine.phase_index].append({name: weight.detach() == 0 for name, weight in weights.items()})
        return False

    events: list[dict[str, Any]] = []
    engine = Engine(make_task(recipe), recipe, stop=look, emit=events.append)
    for index in range(3):
        engine.train()
        counts = {name: int((engine.model.get_parameter(name) == 0).sum()) for name in ("fc1.weight", "fc2.weight")}
        pruned, none = {"fc1.weight": 154, "fc2.weight": 10}, dict.fromkeys(counts, 0)
        kept = [event["epoch"] for event in events if event["kind"] == "kept"]
        assert len(kept) == (index + 1 if keep == "best" else 0)
        as_it_began = index == 2 and kept[2:] == [0]  # with what the sparse phase left
        assert counts == (pruned if index == 1 or as_it_began else none)
    assert len(zeros[1]) >= 22
    assert all(same_tree(seen, zeros[1][0]) for seen in zeros[1])
    assert {name: int(mask.sum()) for name, mask in zeros[1][0].items()} == {"fc1.weight": 154, "fc2.weight": 10}
    assert not any(bool(mask.any()) for phase in (0, 2) for seen in zeros[phase] for mask in seen.values())


def test_the_weights_that_the_sparse_phase_prunes_are_the_smallest(tiny: Tiny):
    recipe = tiny()
    engine = Engine(make_task(recipe), recipe)
    engine.train()
    before = engine.model.get_parameter("fc1.weight").detach().abs().clone()
    engine.train()
    pruned = engine.model.get_parameter("fc1.weight").detach() == 0
    assert int(pruned.sum()) == round(0.3 * pruned.numel())
    assert before[pruned].max() <= before[~pruned].min()


def test_every_part_of_the_training_split_is_seen_once_an_epoch(tiny: Tiny):
    recipe = tiny(training={"batch_size": 30}, dense={"epochs": 2}, sparse={"epochs": 2}, redense={"epochs": 2})
    task, seen, epochs = make_task(recipe), list[int](), list[int]()
    examples = task.examples("train")
    original = examples.__getitems__

    class Spy:
        def __len__(self) -> int:
            return len(examples)

        def begin_epoch(self, seed: int) -> None:
            epochs.append(seed)

        def __getitems__(self, indices: Any) -> Any:
            seen.extend(indices)
            return original(indices)

    task._splits["train"] = Spy()  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    finish(Engine(task, recipe), [])
    assert len(seen) == 3 * 2 * 360
    for first in range(0, len(seen), 360):
        assert sorted(seen[first : first + 360]) == list(range(360))
    assert len({tuple(seen[first : first + 360]) for first in range(0, len(seen), 360)}) == 6
    assert len(epochs) == len(set(epochs)) == 6  # or every epoch would be augmented alike


def test_what_a_sparse_phase_pruned_stays_pruned_in_a_sparser_one_right_after(tiny: Tiny):
    recipe, zeros = tiny(sparse={"criterion": "random"}), list[Tensor]()
    phases = list(Engine(make_task(recipe), recipe).plan)
    phases[2] = dataclasses.replace(phases[1], phase=dataclasses.replace(phases[1].phase, sparsity=0.6, name="sparser"))
    engine = Engine(make_task(recipe), recipe, phases)
    for _ in phases:
        engine.train()
        zeros.append(engine.model.get_parameter("fc1.weight").detach() == 0)
    assert [int(mask.sum()) for mask in zeros] == [0, 154, 307]
    assert bool(zeros[2][zeros[1]].all())


def test_the_learning_rate_of_every_step_is_that_of_the_schedule(tiny: Tiny):
    recipe = tiny(dense={"epochs": 4}, sparse={"epochs": 4, "lr": 0.05}, redense={"epochs": 4})
    events: list[dict[str, Any]] = []
    undisturbed_engine = Engine(make_task(recipe), recipe, emit=events.append)
    finish(undisturbed_engine, events)
    steps = [event for event in events if event["kind"] == "step"]
    assert len(steps) == 6
    for event in steps:
        base, step = (0.1, 0.05, 0.01)[event["phase_index"]], event["step"] - 44 * event["phase_index"] - 1
        assert event["lr"] == pytest.approx(base * (1 + math.cos(math.pi * step / 44)) / 2, rel=1e-9)


def test_accumulated_batches_train_as_one_large_batch(tiny: Tiny):
    no_dropout: dict[str, Any] = {"model": {"dropout": 0.0}}
    large = undisturbed(tiny(**no_dropout, training={"batch_size": 36}))
    small = undisturbed(tiny(**no_dropout, training={"batch_size": 12, "accumulate": 3}))
    for name, weight in large.weights.items():
        torch.testing.assert_close(small.weights[name], weight, rtol=1e-4, atol=1e-5)
    losses = [[e["train_loss"] for e in r.events if e["kind"] == "epoch"] for r in (large, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_evaluation_changes_nothing_and_is_that_of_the_whole_split(tiny: Tiny):
    recipe = tiny()
    engine = Engine(make_task(recipe), recipe)
    engine.train()
    before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    found = engine.evaluate("test")
    assert engine.evaluate("test") == found
    assert same_tree(dict(engine.model.state_dict()), before)
    examples = engine.task.examples("test")
    images, labels = examples.__getitems__(range(len(examples)))
    engine.model.eval()
    wrong = int((engine.model(images).argmax(1) != labels).sum())
    assert found["error"] == pytest.approx(100 * wrong / 100)


def test_bf16_is_used_and_weights_stay_fp32(tiny: Tiny):
    half, full = undisturbed(tiny(training={"precision": "bf16"})), undisturbed(tiny())
    assert all(weight.dtype == torch.float32 for weight in half.weights.values())
    assert not same_tree(half.weights, full.weights)
    for name, weight in full.weights.items():
        torch.testing.assert_close(half.weights[name], weight, rtol=0.3, atol=0.1)


def test_precision_of_one_run_does_not_leak_into_the_next(tiny: Tiny):
    expected = undisturbed(tiny())
    undisturbed(tiny(training={"precision": "bf16", "accumulate": 2}))
    assert undisturbed(tiny()).same_as(expected)


@pytest.mark.parametrize("batch_size", [32, 360])
@pytest.mark.parametrize("phase", ["dense", "sparse", "redense"])
def test_a_loss_that_is_not_finite_stops_training_and_names_the_phase(phase: str, batch_size: int, tiny: Tiny):
    recipe = tiny(**{phase: {"lr": 1e30, "epochs": 2}}, training={"batch_size": batch_size})
    engine = Engine(make_task(recipe), recipe)
    with pytest.raises(TrainingError, match=rf"became (nan|inf) in phase '{phase}' .*learning rate") as caught:
        finish(engine, [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("phase", ["dense", "redense"])
def test_a_last_step_that_breaks_the_network_is_noticed(phase: str, tiny: Tiny):
    recipe = tiny(**{phase: {"lr": 1e38}}, training={"batch_size": 360})  # one step: its own loss is still finite
    with pytest.raises(TrainingError, match=f"in phase '{phase}'"):
        undisturbed(recipe)


@pytest.mark.parametrize("own", [{"lr": 1e300}, {"name": "adam", "lr": 1e38}, {"weight_decay": 1e300}])
def test_a_rate_that_no_weight_can_hold_is_named(own: dict[str, Any], tiny: Tiny):
    recipe = tiny(training={"optimizer": own})
    with pytest.raises(TrainingError, match=r"learning rate 1e\+|weight decay 1e\+300 is more than a weight can hold"):
        Engine(make_task(recipe), recipe).train()


def test_a_state_whose_loss_is_not_finite_is_never_saved(tiny: Tiny):
    recipe, saved = tiny(dense={"lr": 1e30, "epochs": 3}), list[bool]()

    def save(state: dict[str, Any]) -> None:
        saved.append(math.isfinite(state["position"]["loss"]))

    with pytest.raises(TrainingError):
        finish(Engine(make_task(recipe), recipe, save=save, save_seconds=0), [])
    assert all(saved)
    assert len(saved) < 11


# --- what cannot be trained is said before anything is ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"training": {"batch_size": 400}}, DataError, "360 examples.*lower training.batch_size"),
        ({"training": {"batch_size": 200, "accumulate": 2}}, DataError, "200 x 2"),
        ({"sparse": {"sparsity": {"fc9.weight": 0.5}}}, ParameterError, "'fc9.weight'.*did you mean 'fc"),
        ({"sparse": {"pattern": [2, 5]}}, redense.RedenseError, "5"),
        ({"prune": {"include": ["conv1.weight"]}}, ParameterError, "conv1.weight"),
        ({"prune": {"exclude": ["*"]}}, redense.RedenseError, "no prunable parameter"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_at_once(
    changes: dict[str, Any], kind: type[Exception], said: str, tiny: Tiny
):
    recipe = tiny(**changes)
    with pytest.raises(kind, match=said) as caught:
        Engine(make_task(recipe), recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("criterion", ["magnitude", "random", "saliency"])
def test_every_criterion_that_a_recipe_can_name_trains(criterion: str, tiny: Tiny):
    sparsities = [
        e["sparsity"] for e in undisturbed(tiny(sparse={"criterion": criterion})).events if e["kind"] == "epoch"
    ]
    assert sparsities == [0.0, round(164 / 544, 6), 0.0]
