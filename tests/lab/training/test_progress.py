"""The same bits whatever interrupts a training: snapshots, requests to stop, and what the process did before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from redense.errors import StateError
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.batches import Batches
from redense.lab.training.engine import Engine, StoppedError

from ...trainings import Tiny, same_tree
from .results import Result, finish, make_task, undisturbed

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

        save = lambda state: save_tree(path, state)  # noqa: E731  # a formula of one line
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
    # The first and last steps of every phase, before and after an epoch's end, and some of the others.
    ends = (1, 11, 12, 22, 23, 33)
    for step, path in [(step, path) for step, path in paths if step in ends or not step % 8]:
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


FURTHER = (
    *("sgd without momentum", "adamw", "rmsprop", "cnn", "cnn, channels last, adam", "saliency", "global"),
    *("per layer", "fractions", "clip", "step decay", "random", "pattern", "adam", "cnn, channels last"),
    "bf16",
)
"""They have the states of another one of the variants: asked by the slow tests."""


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else []) for name in VARIANTS]
)
def test_stopping_again_and_again_changes_no_bit(variant: str, tiny: Tiny, tmp_path: Path):
    recipe = tiny(**VARIANTS[variant])
    expected = straight(recipe)
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=5)
    assert stops >= 4
    assert result.same_as(expected)


@pytest.mark.parametrize("every", [pytest.param(every, marks=pytest.mark.slow) for every in (1, 5, 13)] + [11])
def test_stopping_now_and_then_changes_no_bit(every: int, tiny: Tiny, tmp_path: Path):
    recipe = tiny(training={"accumulate": 2, "batch_size": 16, "keep": "best"}, data={"crop": 1})
    result, stops = interrupted(recipe, tmp_path / "last.safetensors", every=every)
    assert stops >= 1
    assert result.same_as(undisturbed(recipe))


@pytest.mark.parametrize(
    "criterion", ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("magnitude", "saliency"))]
)
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


@pytest.mark.parametrize("variant", ["flip and crop", "random", pytest.param("cnn", marks=pytest.mark.slow)])
def test_the_comparison_of_these_tests_sees_another_seed(variant: str, tiny: Tiny):
    expected = straight(tiny(**VARIANTS[variant]))
    assert undisturbed(tiny(**VARIANTS[variant])).same_as(expected)
    assert not undisturbed(tiny(**VARIANTS[variant], seed=1)).same_as(expected)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else [])
        for name in VARIANTS
        if name not in ("plain", "bf16")
    ],
)
def test_every_variant_of_these_tests_makes_a_difference(variant: str, tiny: Tiny):
    assert not same_tree(straight(tiny(**VARIANTS[variant])).weights, straight(tiny()).weights)


def test_two_epochs_of_the_same_batches_are_augmented_otherwise(tiny: Tiny):
    recipe, seen = tiny(data={"flip": True, "crop": 2}), list[Tensor]()
    task = make_task(recipe)
    engine = Engine(task, recipe)
    for seed in (1, 2, 1):
        task.examples("train").begin_epoch(seed)
        batches = engine.prepared.feed.load(task.examples("train"), Batches(360, 32, limit=1))
        seen.append(next(batches)[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_what_the_process_drew_before_changes_no_bit(tiny: Tiny):
    expected = undisturbed(tiny())
    torch.rand(17)
    torch.manual_seed(99)
    assert undisturbed(tiny()).same_as(expected)


def stopped(recipe: Recipe, step: int) -> tuple[Engine, list[dict[str, Any]]]:
    """An engine that was asked to stop at a step, and what it saved."""
    saved: list[dict[str, Any]] = []
    engine = Engine(make_task(recipe), recipe, stop=lambda: engine.step >= step, save=saved.append)
    with pytest.raises(StoppedError):
        engine.train()
    return engine, saved


def test_a_request_to_stop_is_heard_after_the_step_at_hand_and_saves_it(tiny: Tiny):
    engine, saved = stopped(tiny(), 5)
    assert engine.step == 5
    assert len(saved) == 1
    assert saved[0]["position"]["step"] == 5
    assert same_tree(saved[0]["model"], dict(engine.model.state_dict()))


def test_a_request_to_stop_at_the_last_step_of_a_phase_is_heard_too(tiny: Tiny):
    recipe = tiny()
    engine, saved = stopped(recipe, 11)
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
