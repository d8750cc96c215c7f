"""Keys of phases, and the code that a run is trained by, cover the values that the user's code reads."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redense.files.code.values import values_in
from redense.lab.keys import code_used, phase_keys
from redense.lab.recipe.recipe import Recipe, build_recipe, recipe_type
from redense.lab.training.plan import PlannedPhase, plan
from redense.phase import Phase

NAME = "read_for_keys"
SOURCE = """
import os
import redense, torch
from pydantic import BaseModel
from redense.lab.recipe.optimizers import optimizer
from redense.lab.recipe.recipe import register_task
from redense.methods.base import Method, technique
from redense.tasks.classification.models import network
class Options:
    __slots__ = "value"
CRITERION, NETWORK, OPTIMIZER, TECHNIQUE = Options(), Options(), Options(), Options()
CRITERION.value = NETWORK.value = OPTIMIZER.value = TECHNIQUE.value = 0
SMOOTH = float(os.environ.get("SMOOTH_FOR_KEYS", "0"))
@redense.criterion("mine")
def scores(parameter, seed):
    return CRITERION.value * parameter
@network("mine")
def build(config, shape, classes):
    return torch.nn.Linear(1, 1 + NETWORK.value)
@optimizer("mine")
def make_optimizer(parameters, recipe):
    return torch.optim.SGD(parameters, lr=recipe.lr, weight_decay=OPTIMIZER.value)
@technique("mine")
class Mine(Method):
    def finish(self, run):
        return TECHNIQUE.value
@technique("named")
class Named(Method):
    def finish(self, run):
        return told(run)
def told(run):
    return run.phase.name
class Settings(BaseModel):
    name: str = "x"
register_task("mine", Settings, Settings, entry=__name__)
def make(settings):
    return SMOOTH
"""
LEAST: dict[str, Any] = {name: {"epochs": 1} for name in ("dense", "sparse", "redense")}
CHANGED = {"criterion": [1, 2], "network": [0, 1, 2], "optimizer": [0, 1, 2], "technique": [2], "task": [0, 1, 2]}
Tiny = Callable[..., Recipe]


@pytest.fixture(name="mine")
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{NAME}.py").write_text(SOURCE)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)
    recipe_type.cache_clear()


@pytest.mark.parametrize("what", CHANGED)
def test_a_value_that_the_users_code_reads_is_in_the_keys_of_the_phases_that_it_trains(
    what: str, mine: Any, tiny: Tiny
):
    recipe = tiny(
        sparse={"criterion": "mine"}, model={"name": "mine"}, training={"optimizer": {"name": "mine", "lr": 0.1}}
    )
    recipe = build_recipe({**LEAST, "task": "mine"}) if what == "task" else recipe
    phases = [*plan(recipe, 11)[:2], PlannedPhase(Phase(11), "mine")]
    before, used = phase_keys(recipe, "data", phases), code_used(recipe)
    assert phase_keys(recipe, "data", phases) == before
    if what == "task":
        mine.SMOOTH = 1.0
    else:
        getattr(mine, what.upper()).value = 1
    now = phase_keys(recipe, "data", phases)
    assert [place for place in range(3) if now[place] != before[place]] == CHANGED[what]
    changed = [name for name, code in code_used(recipe).items() if code != used[name]]
    names = {"network": "function 'build'", "task": "task 'mine'"}
    expected = [names.get(what, f"{what} 'mine'") + " (values that its code reads)"]
    assert changed == (expected if what != "technique" else [])  # of a phase that the recipe has not got


def test_a_search_notes_no_values_where_there_are_none_as_it_did_before(mine: Any):
    del mine.make  # nothing reads
    recipe = build_recipe({**LEAST, "task": "mine"})
    assert values_in(NAME) == []
    assert list(code_used(recipe, values=False)) == ["task 'mine' (its code, or what that holds)"]
    assert code_used(recipe)["task 'mine' (values that its code reads)"] == "none"


@pytest.mark.parametrize(("technique", "counts"), [(None, False), ("sam", False), ("mine", False), ("named", True)])
def test_the_name_of_a_phase_counts_where_a_technique_of_the_users_may_read_it(
    technique: str | None, counts: bool, mine: Any, tiny: Tiny
):
    keys = [phase_keys(tiny(), "data", [PlannedPhase(Phase(11, name=name), technique)]) for name in ("warm", "cold")]
    assert (keys[0] != keys[1]) == counts
