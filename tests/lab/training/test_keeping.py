"""`training.keep`: which epoch a phase ends with, what decides between equal ones, and that it is told."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from redense.errors import RecipeError, StateError
from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine, StoppedError
from redense.lab.training.plan import PlannedPhase
from redense.masks import unpack
from redense.phase import Phase

Tiny = Callable[..., Recipe]


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_best_keeps_the_epoch_with_the_best_validation(tiny: Tiny):
    recipe = tiny(training={"keep": "best", "optimizer": {"lr": 1.5}}, dense={"epochs": 6}, sparse={"epochs": 6})
    events: list[dict[str, Any]] = []
    engine = Engine(make_task(recipe), recipe, emit=events.append)
    differs = False
    for index in range(3):
        engine.train()
        told = [e for e in events if e["kind"] in ("epoch", "kept") and e["phase_index"] == index]
        errors, kept = [e["validation"]["error"] for e in told[:-1]], told[-1]
        assert engine.evaluate("validation")["error"] == kept["error"] <= min(errors)
        assert kept["epoch"] == 0 or errors[int(kept["epoch"]) - 1] == kept["error"]
        assert engine.kept == {"epoch": kept["epoch"], "of": len(errors), "error": kept["error"]}
        differs |= errors[-1] != kept["error"]
    assert differs  # otherwise `last` would pass this test too


def test_best_may_keep_where_a_phase_began(tiny: Tiny):
    """`restart` must not have to take a phase that ends worse than the checkpoint it began with."""
    recipe = tiny(training={"keep": "best"}, sparse={"lr": 40.0}, redense={"lr": 40.0})
    engine = Engine(make_task(recipe), recipe)
    engine.train()
    assert engine.kept is not None
    assert engine.kept["epoch"] == 1  # there is nothing before the first phase
    dense = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.train()
    assert engine.kept["epoch"] == 0
    masks = {name: unpack(item["bits"], item["shape"]) for name, item in engine.snapshot()["masks"].items()}
    for name, value in engine.model.state_dict().items():  # of a sparse phase that is the network just pruned
        assert torch.equal(value, dense[name] * masks[name] if name in masks else dense[name])
    pruned = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.train()
    assert engine.kept["epoch"] == 0
    assert_same(engine.model.state_dict(), pruned)


@pytest.mark.parametrize(
    ("figures", "by", "epoch"),
    [
        ([(5, 0.9), (5, 0.7), (5, 0.8)], "metric", 2),  # equal figures: the lower loss
        ([(5, 0.7), (5, 0.7), (6, 0.1)], "metric", 2),  # equal losses too: the later epoch
        ([(4, 0.9), (5, 0.1), (5, 0.1)], "metric", 1),
        ([(5, 0.9), (5, 0.8), (4, 2.0)], "metric", 3),
        ([(5, 0.9), (6, 0.8), (4, 2.0)], "loss", 2),  # whatever the figure says
        ([(5, 0.8), (6, 0.8), (7, 0.9)], "loss", 1),  # equal losses: the better figure
        ([(5, 0.8), (5, 0.8), (4, 0.9)], "loss", 2),  # both equal: the later epoch
    ],
)
def test_of_equal_epochs_best_keeps_the_other_figure_and_then_the_later(
    figures: list[tuple[float, float]], by: str, epoch: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
):
    recipe = tiny(training={"keep": "best", "keep_by": by}, dense={"epochs": 3})
    engine, told = Engine(make_task(recipe), recipe), iter(figures)
    monkeypatch.setattr(engine, "evaluate", lambda split: dict(zip(("error", "loss"), next(told), strict=True)))
    engine.train()
    assert engine.kept == {"epoch": epoch, "of": 3, "error": figures[epoch - 1][0]}


def test_a_phase_that_an_older_redense_began_to_choose_from_is_refused(tiny: Tiny):
    recipe = tiny(training={"keep": "best"}, dense={"epochs": 2})
    kept: list[dict[str, Any]] = []
    engine = Engine(make_task(recipe), recipe, save=kept.append, stop=lambda: engine.position_in_phase == 12)
    with pytest.raises(StoppedError):
        engine.train()
    del kept[-1]["position"]["best"]["loss"]
    with pytest.raises(StateError, match="begun by an older redense, whose `keep: best` chose by another rule"):
        Engine(make_task(recipe), recipe).restore(kept[-1])


def test_best_leaves_weights_and_momentum_of_that_epoch(tiny: Tiny):
    training: dict[str, Any] = {"optimizer": {"lr": 1.0}, "decay": {"kind": "constant"}}
    recipe = tiny(dense={"epochs": 6}, training={**training, "keep": "best"})
    best = Engine(make_task(recipe), recipe)
    best.train()
    assert best.kept is not None
    assert best.kept["epoch"] < 6
    recipe = tiny(dense={"epochs": best.kept["epoch"]}, training=training)
    last = Engine(make_task(recipe), recipe)
    last.train()
    assert last.kept is None
    assert_same(best.model.state_dict(), last.model.state_dict())
    momenta = [engine.optimizer.state_dict()["state"] for engine in (best, last)]
    for index, own in momenta[0].items():
        assert_same(own, momenta[1][index])


def test_best_of_run_ends_with_the_best_epoch_of_all_phases_and_trains_on_from_the_last(tiny: Tiny):
    changes: dict[str, Any] = {"dense": {"epochs": 3}, "sparse": {"lr": 4.0}, "redense": {"lr": 4.0}}
    recipe, events = tiny(**changes, training={"keep": "best-of-run"}), list[dict[str, Any]]()
    engine, plain = Engine(make_task(recipe), recipe, emit=events.append), Engine(make_task(recipe), tiny(**changes))
    for _ in range(3):
        engine.train()
        plain.train()
        assert_same(engine.model.state_dict(), plain.model.state_dict())  # each phase goes on as it would without
    told = [
        (e["validation"]["error"], e["validation"]["loss"], -i, e) for i, e in enumerate(events) if "validation" in e
    ]
    best = min(told, key=lambda one: one[:3])[3]
    assert best["phase"] == "dense"  # the others were harmed
    again = Engine(make_task(recipe), recipe)
    again.restore(engine.snapshot())
    again.end()
    assert again.kept == {"phase": "dense", "epoch": best["epoch"], "of": 3, "error": best["validation"]["error"]}
    assert again.evaluate("validation") == best["validation"]
    of_another = again.plan  # the phase was trained in a flow that calls it otherwise
    again.plan = tuple(replace(p, phase=replace(p.phase, name=f"{p.phase.name}-1")) for p in of_another)
    again.end()
    assert again.kept is not None
    assert again.kept["phase"] == "dense-1"


def test_best_of_run_is_the_best_of_all_branches_that_are_joined(tiny: Tiny):
    recipe, events = tiny(training={"keep": "best-of-run"}), list[dict[str, Any]]()
    dense, phase = PlannedPhase(Phase.dense(2)), Phase.dense(11)
    branches = [PlannedPhase(replace(phase, lr=lr, name=f"branch-{lr:g}"), after=0) for lr in (1.0, 0.01)]
    soup = PlannedPhase(Phase.dense(1, name="soup"), "soup", joins=(1, 2))
    engine = Engine(make_task(recipe), recipe, [dense, *branches, soup], emit=events.append)
    for _ in range(4):
        engine.train()
    engine.end()
    found = {e["phase"]: e["validation"] for e in events if "validation" in e}
    assert engine.kept is not None
    assert (
        engine.kept["phase"] == min(found, key=lambda name: (found[name]["error"], found[name]["loss"])) == "branch-1"
    )
    assert engine.evaluate("validation") == found["branch-1"]


def test_best_of_run_is_the_same_to_the_bit_when_it_was_interrupted(tiny: Tiny):
    recipe = tiny(training={"keep": "best-of-run", "optimizer": {"lr": 1.0}}, dense={"epochs": 3}, sparse={"epochs": 2})
    whole = Engine(make_task(recipe), recipe)
    for _ in range(3):
        whole.train()
    kept: list[dict[str, Any]] = []
    made = Engine(make_task(recipe), recipe)
    while made.phase_index < 3:
        asked = itertools.count()
        made = Engine(make_task(recipe), recipe, save=kept.append, stop=lambda asked=asked: next(asked) == 6)
        if kept:
            made.restore(kept[-1])
        if made.phase_index < 3:
            with contextlib.suppress(StoppedError):
                made.train()
    whole.end()
    made.end()
    assert made.kept == whole.kept
    assert_same(made.model.state_dict(), whole.model.state_dict())


def test_keep_by_needs_something_to_choose_from():
    with pytest.raises(RecipeError, match="keep_by loss chooses the best: it needs keep best or best-of-run"):
        load_recipe("quickstart", ["--training.keep_by", "loss"])
