"""Techniques: each trains through the engine, can be interrupted anywhere, and leaves nothing but its weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from redense.errors import ScheduleError, StateError
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine, StoppedError
from redense.methods.base import Context, Method, make_method

from ..trainings import Tiny, same_tree
from .cases import CASES, Case, engine_of, train_all, weights_of

SAVED = ("gce", "mixup", "shrink", "dropconnect, cnn", "lowrank under a mask")
"""They change what an interrupted phase must save; the other questions they are asked by the slow tests."""
FURTHER = (
    *("none", "ema", "swa under a mask", "distill, itself", "distill, ensemble", "distill, bf16", "lowrank, rank"),
    *("release, fresh", "momentum, adam", "sam", "sam, adam", "depth", "distill, accumulate"),
)
"""Techniques that another one of the cases has, too, or that are dear: asked by the slow tests."""
each = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=[pytest.mark.slow] if name in FURTHER else []) for name, case in CASES.items()],
)
each_method = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if name in (*FURTHER, *SAVED) else [])
        for name, case in CASES.items()
        if case.method
    ],
)


def ending(engine: Engine, events: list[dict[str, Any]]) -> dict[str, Any]:
    """All that a training ends with, but the clock."""
    measured = [{k: v for k, v in e.items() if k != "seconds"} for e in events if e["kind"] in ("step", "epoch")]
    state = engine.snapshot()
    return {"state": {k: state[k] for k in ("model", "optimizer", "masks", "reshaped")}, "events": measured}


def resumed(recipe: Recipe, case: Case, path: Path, events: list[dict[str, Any]], *, stop_at: int) -> Engine:
    """A new engine that goes on with what is saved."""
    torch.manual_seed(99)  # whatever the process did before must not matter
    save = lambda state: save_tree(path, state)  # noqa: E731  # a formula of one line
    engine = engine_of(recipe, case, emit=events.append, stop=lambda: engine.step >= stop_at, save=save)
    if path.exists():
        engine.restore(load_tree(path))
    return engine


# --- through the engine ---------------------------------------------------------------------------------------------


@each
def test_an_interrupted_phase_ends_with_the_same_bits(case: Case, tiny: Tiny, tmp_path: Path):
    recipe, path = tiny(**case.changes), tmp_path / "last.safetensors"
    expected: list[dict[str, Any]] = []
    straight = engine_of(recipe, case, emit=expected.append)
    train_all(straight)

    events: list[dict[str, Any]] = []
    # After the first step of the technique's phase, inside it, and after its last step but before its end.
    for at in (12, 18, 22):
        engine = resumed(recipe, case, path, events, stop_at=at)
        with pytest.raises(StoppedError):
            train_all(engine)
        assert engine.step == at
    engine = resumed(recipe, case, path, events, stop_at=1000)
    train_all(engine)
    assert same_tree(ending(engine, events), ending(straight, expected))


@each_method
def test_a_method_makes_a_difference_and_leaves_nothing_behind(case: Case, tiny: Tiny):
    recipe = tiny(**case.changes)
    plain, engine = engine_of(recipe, replace(case, method=None, options={})), engine_of(recipe, case)
    fresh = engine_of(recipe, case)
    train_all(plain)
    model = engine.model
    engine.train()
    before = weights_of(engine)
    engine.train()
    middle = weights_of(engine)
    train_all(engine)

    if case.reshapes:
        assert sum(w.numel() for w in middle.values()) < sum(w.numel() for w in before.values())
    else:
        assert engine.model is model
        assert list(weights_of(engine)) == list(weights_of(plain))
        assert any(
            not torch.equal(a, b) for a, b in zip(weights_of(engine).values(), weights_of(plain).values(), strict=True)
        )
        assert [type(m) for m in model.modules()] == [type(m) for m in fresh.model.modules()]
        assert [name for name, _ in model.named_buffers()] == [name for name, _ in fresh.model.named_buffers()]
    for module in engine.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not hasattr(module, "parametrizations")
    assert all(parameter.requires_grad for parameter in engine.model.parameters())
    assert all(torch.isfinite(weight).all() for weight in weights_of(engine).values())
    for group, clean in zip(engine.optimizer.param_groups, plain.optimizer.param_groups, strict=True):
        assert set(group) == set(clean)
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in clean.items() if k != "params"}
    states = [set(state) for state in engine.optimizer.state_dict()["state"].values()]
    expected = [set(state) for state in plain.optimizer.state_dict()["state"].values()]
    assert states
    assert all(state == expected[0] for state in states)
    assert not engine.optimizer._optimizer_step_post_hooks
    assert not engine.optimizer._optimizer_step_pre_hooks


@each_method
def test_a_step_takes_as_many_gradients_as_the_method_says(case: Case, tiny: Tiny):
    engine = engine_of(tiny(**case.changes), case)
    engine.train()
    counted = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += torch.is_grad_enabled()

    # On a layer that every technique keeps; a deep copy of the model has the hook too, but takes no gradient.
    kept = next(m for m in engine.model.modules() if isinstance(m, nn.ReLU | nn.BatchNorm2d))
    handle = kept.register_forward_hook(count)
    try:
        engine.train()
    finally:
        handle.remove()
    training = engine.recipe.training
    expected = make_method(case.method, case.options, 0).gradient_evaluations * training.accumulate
    # A technique of every so many steps begins with one.
    assert counted == math.ceil(engine.plan[1].phase.steps * expected)


@each_method
def test_evaluation_in_a_phase_is_that_of_the_plain_model(case: Case, tiny: Tiny):
    """What the technique does in training must not reach the figures."""
    events: list[dict[str, Any]] = []
    engine = engine_of(tiny(**case.changes), case, emit=events.append)
    engine.train()
    seen: list[dict[str, float]] = []
    own = engine.evaluate

    def evaluate(split: Any) -> dict[str, float]:
        seen.append(own(split))
        assert own(split) == seen[-1]  # nothing random
        return seen[-1]

    engine.evaluate = evaluate
    engine.train()
    if engine.recipe.training.keep == "best":
        del seen[0]  # of where the phase began
    assert [e["validation"] for e in events if e["kind"] == "epoch" and e["phase_index"] == 1] == seen


def test_an_unknown_method_or_option_is_refused_before_anything_is_trained(tiny: Tiny):
    with pytest.raises(ScheduleError, match=r"unknown technique 'distil'; did you mean 'distill'\?"):
        engine_of(tiny(), Case("distil"))
    with pytest.raises(ScheduleError, match=r"unknown option 'temprature' of method 'distill'; did you mean"):
        engine_of(tiny(), Case("distill", {"temprature": 2}))


def test_an_impossible_option_is_refused_before_the_first_phase(tiny: Tiny):
    with pytest.raises(ScheduleError, match="'value' or 'fresh', got 'zero'"):
        engine_of(tiny(), Case("release", {"start": "zero"}))


def test_a_teacher_that_is_in_no_store_is_named():
    method = make_method("distill", {"teachers": ["abc"]}, 0)
    with pytest.raises(StateError, match=r"phase abc is not in a store here.*redense compare"):
        method.begin(Context(nn.Linear(2, 2)))


@pytest.mark.parametrize(("value", "kind"), [({1}, "set"), ([np.float32(1)], "float32"), ({(1, 2): 3}, "tuple")])
def test_what_no_checkpoint_can_hold_is_refused_by_name_before_the_first_step(value: Any, kind: str, tiny: Tiny):
    class Odd(Method):
        name = "odd"
        kept_attributes = ("seen",)

        def begin(self, run: Context) -> None:
            self.seen = value

    engine = engine_of(tiny(), CASES["none"])
    engine.prepared.method = lambda index: Odd({}, 0)
    with pytest.raises(ScheduleError, match=f"technique 'odd' keeps a {kind} in 'seen', which no checkpoint can hold"):
        engine.train()
    assert engine.step == 0
