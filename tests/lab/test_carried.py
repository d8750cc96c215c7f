"""A process of its own trains by the user's code as it is here, or refuses to train."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from redense import plugins
from redense.errors import PluginError, StateError
from redense.lab.carried import Carried, carried
from redense.lab.comparison.comparison import Comparison
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.jobs import Job, do
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe
from redense.lab.search.recipes import training_of
from redense.lab.store import PhaseStore
from redense.methods.base import TECHNIQUES
from redense.schedules.named_criteria import CRITERIA

TABLES: tuple[Any, ...] = (CRITERIA, TECHNIQUES, OPTIMIZERS)
NAME = "registers_for_carrying"
USED = {"criterion": ["signed"], "technique": ["noisy"], "optimizer": ["odd"]}
SOURCE = """
import redense, torch
from redense.lab.recipe.optimizers import optimizer
from redense.methods.base import Method, technique
DECAY, NOISE, TABLE = 0.0, 1, torch.ones(2)
class Options:
    depth = 1
def make(sign):
    @redense.criterion("signed")
    def signed(parameter, seed):
        return sign * parameter
make(1.0)
@optimizer("odd")
def odd(parameters, recipe):
    return torch.optim.SGD(parameters, lr=recipe.lr, weight_decay=DECAY)
@technique("noisy")
class Noisy(Method):
    def step(self, run, optimizer, again):
        return NOISE, TABLE, Options.depth
"""
Tiny = Callable[..., Recipe]


@pytest.fixture(name="here", autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"{NAME}.py").write_text(SOURCE)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)
    plugins._loaded_code.cache_clear()


def in_another(found: Carried | None) -> Any:
    """Take what is carried where modules are imported anew."""
    assert found is not None
    sys.modules.pop(NAME, None)
    for table in TABLES:
        for name in [name for name in table if plugins.makers_of({table.kind: [name]})]:
            del table[name]
    importlib.import_module(NAME)
    found.take()
    return sys.modules[NAME]


@pytest.mark.parametrize(("name", "value"), [("DECAY", 0.5), ("NOISE", 2), ("Options.depth", 3)])
def test_what_a_script_has_set_is_set_there_too(name: str, value: float, here: Any):
    *outer, last = name.split(".")
    setattr(getattr(here, outer[0]) if outer else here, last, value)
    there = in_another(carried(USED))
    assert there is not here
    assert getattr(there.Options if outer else there, last) == value


def test_it_is_set_once_for_what_trains_may_count(here: Any):
    found = carried(USED)
    there = in_another(found)
    there.NOISE += 1
    assert found is not None
    found.take()
    assert there.NOISE == 2


def test_what_cannot_be_carried_is_refused_in_a_line(here: Any):
    here.make(-1.0)
    with pytest.raises(PluginError, match=r"^the criterion 'signed' is other code .*imports it anew: give jobs=1, or"):
        in_another(carried(USED))
    vars(sys.modules[NAME])["TABLE"] = torch.zeros(2)
    with pytest.raises(PluginError, match=r"^the technique 'noisy' is other code in a process of its own"):
        in_another(carried(USED))
    found = carried(USED)
    (Path(str(here.__file__)).parent / f"{NAME}.py").write_text("")
    plugins._loaded_code.cache_clear()
    with pytest.raises(PluginError, match="was edited meanwhile"):
        in_another(found)


def test_our_own_things_need_nothing(tiny: Tiny):
    assert carried({"criterion": ["random"], "technique": ["sam"], "optimizer": ["adam"]}) is None
    assert training_of(tiny()).carried is None


def test_the_jobs_of_a_comparison_look_at_code_and_data(tiny: Tiny, tmp_path: Path, here: Any):
    here.make(-1.0)
    comparison = Comparison(tiny(sparse={"criterion": "signed"}), ("dsd",), (0,), {})
    (job,) = next(Grid(comparison, PhaseStore(tmp_path / "store"), tmp_path).jobs())
    assert job.carried is not None
    here.make(1.0)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(PluginError, match="the criterion 'signed' is other code"):
            pool.submit(do, replace(job, main=0)).result()
        with pytest.raises(StateError, match="a process of its own reads other data"):
            pool.submit(do, replace(job, carried=None, data="other")).result()


def test_a_search_in_a_process_of_its_own_has_what_a_script_has_set(tiny: Tiny, here: Any):
    here.DECAY = 0.5
    training = training_of(tiny(training={"optimizer": {"name": "odd", "lr": 0.1}}))
    assert in_another(training.carried).DECAY == 0.5
    OPTIMIZERS.pop("odd")
    there: dict[str, Any] = {"__name__": "__main__"}
    exec("def odd(parameters, recipe): ...", there)
    OPTIMIZERS.register("odd", replace(OPTIMIZERS["sgd"], make=there["odd"]), maker=there["odd"])
    with pytest.raises(PluginError, match="the optimizer 'odd' is registered by what you run"):
        _ = training.carried


def test_a_process_that_would_train_by_an_edited_plugin_trains_nothing():
    job = Job("", {}, (), (), 0, "", 0, 0.0, carried=Carried({}, {NAME: "of then"}, (), {}))
    with ThreadPoolExecutor(1) as pool, pytest.raises(PluginError, match=f"the plugin '{NAME}' was edited meanwhile"):
        pool.submit(do, job).result()
