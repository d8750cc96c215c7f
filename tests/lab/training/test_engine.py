"""The engine: the same bits whatever interrupts it, and the same as a loop written out by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import redense
from redense.errors import DataError, ParameterError, StateError
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.batches import Batches
from redense.lab.training.engine import Engine, StoppedError, TrainingError
from redense.pruning import derive_seed
from redense.tasks.classification.data import load_splits
from redense.tasks.classification.task import Classification

Tiny = Callable[..., Recipe]


@dataclasses.dataclass
class Result:
    """All that a training ends with, but how long it took."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    events: list[dict[str, Any]]
    outcome: dict[str, Tensor]

    def same_as(self, other: Result) -> bool:
        return same_tree(vars(self), vars(other))


def same_tree(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_tree, a, b))
    return a == b


def make_task(recipe: Recipe) -> Classification:
    return Classification(recipe.data, recipe.model, label_smoothing=recipe.training.label_smoothing)


def measured(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What goes into metrics.jsonl, but for the clock."""
    kept = [event for event in events if event["kind"] in ("step", "epoch")]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in kept]


def finish(engine: Engine, events: list[dict[str, Any]]) -> Result:
    while engine.phase_index < len(engine.plan):
        engine.train()
    weights = {name: tensor.detach().clone() for name, tensor in engine.model.state_dict().items()}
    return Result(weights, engine.optimizer.state_dict(), measured(events), engine.outcome("test"))


def undisturbed(recipe: Recipe, **options: Any) -> Result:
    events: list[dict[str, Any]] = []
    return finish(Engine(make_task(recipe), recipe, emit=events.append, **options), events)


_STRAIGHT: dict[str, Result] = {}


def straight(recipe: Recipe) -> Result:
    """The same, trained once for all the tests that compare with it."""
    key = recipe.to_yaml()
    if key not in _STRAIGHT:
        _STRAIGHT[key] = undisturbed(recipe)
    return _STRAIGHT[key]


def interrupted(recipe: Recipe, path: Path, *, every: int = 1, **options: Any) -> tuple[Result, int]:
    """Train, and after ``every`` step stop, save, and go on in a new engine; return how often that was, too."""
    events: list[dict[str, Any]] = []
    task, stops = make_task(recipe), 0
    while True:
        torch.manual_seed(stops)  # whatever the process did before must not matter
        began = 0

        def stop() -> bool:
            return engine.step - began >= every  # noqa: B023  # asked only in this turn of the loop

        save = lambda state: save_tree(path, state)  # noqa: E731
        engine = Engine(task, recipe, emit=events.append, stop=stop, save=save, **options)
        if path.exists():
            engine.restore(load_tree(path))
        began = engine.step
        try:
            return finish(engine, events), stops
        except StoppedError:
            stops += 1


# --- stopping and going on ------------------------------------------------------------------------------------------


def test_going_on_from_a_snapshot_of_any_step_ends_with_the_same_bits(tiny: Tiny, tmp_path: Path):
    recipe = tiny(training={"optimizer": {"weight_decay": 1e-3, "nesterov": True}})
    task, paths = make_task(recipe), list[tuple[int, Path]]()

    def keep(state: dict[str, Any]) -> None:
        paths.append((engine.step, tmp_path / f"{len(paths)}.safetensors"))
        save_tree(paths[-1][1], state)

    events: list[dict[str, Any]] = []
    engine = Engine(task, recipe, emit=events.append, save=keep, save_seconds=0)
    expected = finish(engine, events)
    assert sorted({step for step, _ in paths}) == list(range(1, 34))
    assert expected.same_as(undisturbed(recipe))  # saving changes nothing
    for step, path in paths:
        torch.manual_seed(step)
        later: list[dict[str, Any]] = []
        resumed = Engine(task, recipe, emit=later.append)
        resumed.restore(load_tree(path))
        assert resumed.step == step
        result = finish(resumed, later)
        result.events = [event for event in expected.events if event["step"] <= step] + result.events
        # The epoch event of a snapshot inside the last step of an epoch comes after it.
        assert result.same_as(expected), step


CNN = {"model": {"name": "cnn", "widths": [4, 6], "dropout": 0.3}}
CYCLE = {"sparse": {"epochs": 0.5, "sparsity": 0.2}, "redense": {"epochs": 0.5}}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sgd without momentum": {"training": {"optimizer": {"momentum": 0.0}}},
    "adam": {"training": {"optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 0.01}}},
    "adamw": {"training": {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}}},
    "rmsprop": {"training": {"optimizer": {"name": "rmsprop", "lr": 0.003, "momentum": 0.9}}},
    "keep best": {"training": {"keep": "best"}, "dense": {"epochs": 3}, "sparse": {"epochs": 2}},
    "accumulate": {"training": {"accumulate": 3, "batch_size": 10}},
    "clip": {"training": {"clip_norm": 0.5, "clip_value": 0.1, "label_smoothing": 0.1}},
    "flip and crop": {"data": {"flip": True, "crop": 2}},
    "bf16": {"training": {"precision": "bf16"}},
    "cnn": CNN,
    "cnn, channels last": {**CNN, "training": {"channels_last": True, "optimizer": {"weight_decay": 1e-3}}},
    "cnn, channels last, adam": {**CNN, "training": {"channels_last": True, "optimizer": {"name": "adam", "lr": 0.01}}},
    "random": {"sparse": {"criterion": "random"}},
    "saliency": {"sparse": {"criterion": "saliency"}},
    "global": {"sparse": {"scope": "global", "sparsity": 0.6}},
    "pattern": {"sparse": {"pattern": [2, 4]}},
    "per layer": {"sparse": {"sparsity": {"fc1.weight": 0.5}}},
    "cycles": {"cycles": [CYCLE, CYCLE]},
    "fractions": {"dense": {"epochs": 0.6}, "sparse": {"epochs": 1.4}, "redense": {"epochs": 0.01}},
    "step decay": {"training": {"decay": {"kind": "step"}}, "sparse": {"decay": {"kind": "polynomial", "power": 0.5}}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopping_again_and_again_changes_no_bit(variant: str, tiny: Tiny, tmp_path: Path):
    recipe = tiny(**VARIANTS[variant])
    expected = straight(recipe)
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=5)
    assert stops >= 4
    assert result.same_as(expected)


@pytest.mark.parametrize("every", [1, 5, 11, 13])
def test_stopping_now_and_then_changes_no_bit(every: int, tiny: Tiny, tmp_path: Path):
    recipe = tiny(training={"accumulate": 2, "batch_size": 16, "keep": "best"}, data={"crop": 1})
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=every)
    assert stops >= 1
    assert result.same_as(undisturbed(recipe))


@pytest.mark.parametrize("criterion", ["magnitude", "random", "saliency"])
def test_a_sparse_phase_after_a_sparse_one_can_be_stopped_too(criterion: str, tiny: Tiny, tmp_path: Path):
    # The masks of the second depend on those of the first; on resume neither may be selected again.
    recipe = tiny(sparse={"criterion": criterion})
    phases = list(Engine(make_task(recipe), recipe).plan)
    phases[2] = dataclasses.replace(phases[1], phase=dataclasses.replace(phases[1].phase, sparsity=0.6, name="sparser"))
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=4, phases=phases)
    assert stops >= 6
    assert result.same_as(undisturbed(recipe, phases=phases))


@pytest.mark.slow
def test_worker_processes_change_no_bit(tiny: Tiny, tmp_path: Path):
    changes: dict[str, Any] = {"flip": True, "crop": 2}
    expected = undisturbed(tiny(data=changes))
    recipe = tiny(data={**changes, "workers": 2})
    assert undisturbed(recipe).same_as(expected)
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=4)
    assert stops >= 6
    assert result.same_as(expected)


@pytest.mark.parametrize("variant", ["flip and crop", "random", "cnn"])
def test_the_comparison_of_these_tests_sees_another_seed(variant: str, tiny: Tiny):
    expected = straight(tiny(**VARIANTS[variant]))
    assert undisturbed(tiny(**VARIANTS[variant])).same_as(expected)
    assert not undisturbed(tiny(**VARIANTS[variant], seed=1)).same_as(expected)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("plain", "bf16")])
def test_every_variant_of_these_tests_makes_a_difference(variant: str, tiny: Tiny):
    assert not same_tree(straight(tiny(**VARIANTS[variant])).weights, straight(tiny()).weights)


def test_two_epochs_of_the_same_batches_are_augmented_otherwise(tiny: Tiny):
    recipe, seen = tiny(data={"flip": True, "crop": 2}), list[Tensor]()
    task = make_task(recipe)
    engine = Engine(task, recipe)
    for seed in (1, 2, 1):
        task.examples("train").begin_epoch(seed)
        batches = engine._feed.load(task.examples("train"), Batches(360, 32, limit=1))  # pyright: ignore[reportPrivateUsage]
        seen.append(next(batches)[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_what_the_process_drew_before_changes_no_bit(tiny: Tiny):
    expected = undisturbed(tiny())
    torch.rand(17)
    torch.manual_seed(99)
    assert undisturbed(tiny()).same_as(expected)


def test_a_request_to_stop_is_heard_after_the_step_at_hand_and_saves_it(tiny: Tiny):
    recipe, saved = tiny(), list[dict[str, Any]]()
    engine = Engine(make_task(recipe), recipe, stop=lambda: engine.step >= 5, save=saved.append)
    with pytest.raises(StoppedError):
        engine.train()
    assert engine.step == 5
    assert len(saved) == 1
    assert saved[0]["position"]["step"] == 5
    assert same_tree(saved[0]["model"], dict(engine.model.state_dict()))


def test_a_request_to_stop_at_the_last_step_of_a_phase_is_heard_too(tiny: Tiny):
    recipe, saved = tiny(), list[dict[str, Any]]()
    engine = Engine(make_task(recipe), recipe, stop=lambda: engine.step >= 11, save=saved.append)
    with pytest.raises(StoppedError):
        engine.train()
    assert engine.step == 11
    again = Engine(make_task(recipe), recipe)
    again.restore(saved[-1])
    again.train()
    assert (again.phase_index, again.step) == (1, 11)


def test_a_snapshot_of_another_model_is_refused(tiny: Tiny):
    recipe, other = tiny(), tiny(model={"widths": [9]})
    snapshot = Engine(make_task(recipe), recipe).snapshot()
    with pytest.raises(StateError, match="of another model") as caught:
        Engine(make_task(other), other).restore(snapshot)
    assert "\n" not in str(caught.value)


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
