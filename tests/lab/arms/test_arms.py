"""Controls with an arm's own steps and rates, equal tuning, budgets that are told, and the paper's scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redense.errors import RecipeError, RedenseError
from redense.lab.arms import ARMS, Setting, arm, get_arms
from redense.lab.comparison.comparison import Comparison, cells
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine
from redense.lab.training.plan import PlannedPhase
from redense.masks import unpack

Tiny = Callable[..., Recipe]


def test_every_arm_with_a_mask_has_a_control_with_its_steps_and_rates(tiny: Tiny, some_arms: Any):
    comparison = replace(some_arms.grid.comparison, arms=tuple(f"restart-{a.name}" for a in get_arms() if a.masked))
    controls = {cell.label: cell for cell in cells(comparison, some_arms.grid.task) if cell.seed == 0}
    assert len(controls) > 10
    arms = replace(comparison, arms=tuple(arm.name for arm in get_arms() if arm.masked or arm.name == "restart"))
    own = {cell.label: cell for cell in cells(arms, some_arms.grid.task) if cell.seed == 0}
    for label, cell in controls.items():
        if label == "baseline":
            continue
        phases = own[label.removeprefix("restart-")].flow.phases
        assert [(p.steps, p.phase.lr, p.phase.decay) for p in cell.flow.phases] == [
            (p.steps, p.phase.lr, p.phase.decay) for p in phases
        ]
        assert not any(p.phase.is_sparse or p.changes or p.allocation != "uniform" for p in cell.flow.phases)
        assert not any(p.method and p.joins is None for p in cell.flow.phases)
    # An arm whose phases are those of `dsd` has `restart` for its control, to the key.
    assert controls["restart-dsd"].keys[-1] == controls["restart-random"].keys[-1] == own["restart"].keys[-1]
    for name in ("dsd-iter", "acdc", "early", "surgery"):
        assert controls[f"restart-{name}"].keys[-1] != own["restart"].keys[-1]


def test_an_arm_without_a_mask_has_no_control_and_an_arm_may_not_take_the_name_of_one():
    with pytest.raises(RecipeError, match="'llr' has no mask, so that there is no control 'restart-llr' of it"):
        get_arms(["restart-llr"])
    with pytest.raises(RecipeError, match=r"unknown arm 'restart-acdx'; did you mean 'restart-acdc'\?"):
        get_arms(["restart-acdx"])
    with pytest.raises(RecipeError, match="'restart-mine' is the name of the control of 'mine'"):
        arm("restart-mine", "mine")(lambda setting: setting.flow(setting.dsd))


def test_another_budget_than_that_of_dsd_is_told(tiny: Tiny):
    setting = Setting(tiny(), 11, (0,), lambda seed: "dense")
    assert get_arms(["longer"])[0].make(setting).note == ""
    assert get_arms(["sam"])[0].make(setting).note.endswith("31 gradients where dsd takes 33")
    short = arm("short-for-a-test", "half of dsd")(lambda setting: setting.flow(setting.dsd.phases[:1]))
    try:
        assert short(setting).note == ""
        assert get_arms(["short-for-a-test"])[0].make(setting).note == "11 gradients where dsd takes 33"
    finally:
        del ARMS["short-for-a-test"]


def test_scratch_is_a_new_network_under_the_mask_of_the_trained_one(tiny: Tiny, some_arms: Any):
    cell = next(cell for cell in some_arms.grid.cells if (cell.label, cell.seed) == ("scratch", 0))
    dsd = next(cell for cell in some_arms.grid.cells if (cell.label, cell.seed) == ("dsd", 0))
    store = some_arms.grid.store
    own, theirs = (store.state(one.keys[1])["masks"] for one in (cell, dsd))
    assert all(torch.equal(own[name]["bits"], item["bits"]) for name, item in theirs.items())  # of the same weights
    still = replace(cell.flow.phases[1], phase=replace(cell.flow.phases[1].phase, lr=0.0, steps=1))
    engine = Engine(some_arms.grid.task, tiny(seed=0), (cell.flow.phases[0], still))
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.restore(store.state(cell.keys[0]))
    trained = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.train()
    masks = {name: unpack(item["bits"], item["shape"]) for name, item in engine.snapshot()["masks"].items()}
    for name, value in engine.model.named_parameters():
        kept = value[masks[name]] if name in masks else value
        for other in (before, trained):  # neither those it was trained from nor those it was trained to
            theirs = other[name][masks[name]] if name in masks else other[name]
            assert not torch.equal(kept, theirs)
        if name in masks:
            assert not value[~masks[name]].any()


def test_a_sweep_tries_as_many_settings_of_every_control(tiny: Tiny, some_arms: Any):
    arms, task = ("dsd", "restart", "llr", "longer", "restart-acdc", "swa"), some_arms.grid.task
    comparison = Comparison(tiny(), arms, (0,), {"sparsity": [0.2, 0.3, 0.5]}, tuned=True)
    rows = {cell.label: cell.flow.phases for cell in cells(comparison, task)}
    assert list(rows)[:4] == ["baseline", *(f"dsd sparsity={value}" for value in (0.2, 0.3, 0.5))]
    assert list(rows)[4:7] == ["restart", "restart rate=0.5", "restart rate=0.25"]
    assert list(rows)[7:10] == ["llr", "llr lr=0.3", "llr lr=0.03"]
    assert Counter(label.split(" ")[0] for label in list(rows)[1:]) == {
        "dsd": 3,
        "restart": 3,
        "llr": 3,
        "longer": 3,
        "restart-acdc": 3,
        "swa": 1,
    }
    for name, first in (("restart", 1), ("restart-acdc", 1), ("longer", 0)):
        usual, half = rows[name], rows[f"{name} rate=0.5"]
        assert [p.phase.lr for p in half] == [
            p.phase.lr * (0.5 if index >= first else 1) for index, p in enumerate(usual)
        ]
        assert [p.steps for p in half] == [p.steps for p in usual]
    assert [rows[name][1].phase.lr for name in ("llr", "llr lr=0.3", "llr lr=0.03")] == [0.1, 0.3, 0.03]
    assert Comparison.from_dict(comparison.to_dict()) == comparison
    shares = [number / 20 for number in range(1, 12)]
    with pytest.raises(RecipeError, match="--sweep has 11 settings, and restart has 8 to be tried"):
        cells(replace(comparison, sweep={"sparsity": shares}), task)


def test_a_comparison_that_an_older_redense_began_goes_on_without_tuned_controls(tiny: Tiny, some_arms: Any):
    plain = Comparison(tiny(), ("dsd", "restart"), (0,), {"sparsity": [0.2, 0.3]}).to_dict()
    assert "tuned" not in plain
    labels = [cell.label for cell in cells(Comparison.from_dict(plain), some_arms.grid.task)]
    assert labels == ["baseline", "dsd sparsity=0.2", "dsd sparsity=0.3", "restart"]


def test_an_arm_that_returns_no_flow_is_named(tiny: Tiny):
    try:
        declare: Any = arm("no-flow", "a schedule, and no flow")
        declare(lambda setting: setting.dsd)
        with pytest.raises(RecipeError, match=r"arm 'no-flow' must return setting.flow\(schedule\), got a Schedule"):
            ARMS["no-flow"].make(Setting(tiny(), 11, (0,), str))
    finally:
        ARMS.pop("no-flow", None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s.after_dense("swa", {"start": np.float32(0.3)}), "'start' of phase 'restart' is no plain number"),
        (
            lambda s: s.after_dense(changes={"training": {"clip_norm": Path("x")}}),
            "'training' of phase 'restart' is no",
        ),
        (lambda s: s.flow([PlannedPhase(p, after=1) for p in s.dsd.phases]), "phase 'dense' begins from, or joins, a"),
        (lambda s: s.flow([PlannedPhase(p, joins=(-1,)) for p in s.dsd.phases]), "begins from, or joins, a phase that"),
        (lambda s: s.flow([]), "has no phase"),
    ],
)
def test_a_flow_that_cannot_be_is_refused_by_the_name_of_its_arm(make: Any, said: str, tiny: Tiny):
    arm("impossible", "cannot be", source="these tests")(make)
    try:
        with pytest.raises(RedenseError, match=f"^arm 'impossible'(:| ).*{said}"):
            ARMS["impossible"].make(Setting(tiny(), 11, (0, 1), str))
    finally:
        del ARMS["impossible"]
