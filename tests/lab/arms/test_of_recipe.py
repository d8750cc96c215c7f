"""A run of one arm: it is the comparison's cell of that arm and seed, to the bit, from the store or trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from redense.errors import RecipeError
from redense.lab.arms import ARMS, Setting
from redense.lab.arms.of_recipe import run_flow
from redense.lab.keys import phase_keys
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import load_model, new_run, train_run
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine, StoppedError

from ...trainings import Tiny, slow, stop_after
from ..which_arms import OTHER_ARMS, SOME_ARMS

REFUSED = ("ensemble", "distill", "svd", "batchnorm", "dropout")
"""Arms of several seeds, or of another network."""
STORED = ("baseline", "dsd", "longer", "scratch-own", "swa", "augment", "schedule-free", "dsd-soup")
"""Those that the quick tests take from the store of the comparison: one of each kind."""
TRAINED = ("longer", "dsd-soup", "schedule-free")
"""Those that the quick tests train once more, without a store: one phase, branches, another optimizer."""


def arm_of(tiny: Tiny, name: str, **changes: Any) -> Recipe:
    return tiny(arm=name, seed=1, log=[], **changes)


def run(recipe: Recipe, folder: Path, store: PhaseStore | None = None, **options: Any) -> Path:
    train_run(new_run(recipe, folder), store=store, **options)
    return folder


def check(folder: Path, compared: Any, name: str) -> None:
    """The run has the figures and the weights of the comparison's cell."""
    cell = next(cell for cell in compared.grid.cells if (cell.label, cell.seed) == (name, 1))
    facts = compared.row(name)["seeds"][1]
    phases = json.loads((folder / "result.json").read_text())["phases"]
    last = phases[-1]
    assert len({phase["name"] for phase in phases}) == len(phases)  # what is kept of each goes by its name
    assert last["test"] == facts["test"]
    assert last["validation"] == facts["validation"]
    model, state = load_file(folder / "model.safetensors"), compared.grid.store.state(cell.keys[-1])["model"]
    assert set(model) == set(state)
    assert all(torch.equal(model[key], state[key]) for key in state)


@pytest.mark.parametrize("name", [n if n in STORED else slow(n) for n in ("baseline", *SOME_ARMS) if n not in REFUSED])
def test_a_run_of_an_arm_is_the_cell_of_the_comparison_taken_from_the_store(
    name: str, some_arms: Any, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Engine, "train", lambda engine: pytest.fail(f"phase {engine.phase_index} was trained"))
    check(run(arm_of(tiny, name), tmp_path / "run", some_arms.grid.store), some_arms, name)


@pytest.mark.parametrize("name", [n if n in TRAINED else slow(n) for n in SOME_ARMS if n not in REFUSED])
def test_a_run_of_an_arm_without_a_store_trains_what_the_comparison_has(
    name: str, some_arms: Any, tiny: Tiny, tmp_path: Path
):
    check(run(arm_of(tiny, name), tmp_path / "run"), some_arms, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OTHER_ARMS if name not in REFUSED])
@pytest.mark.parametrize("stored", [False, True])
def test_every_other_arm_too(name: str, stored: bool, other_arms: Any, tiny: Tiny, tmp_path: Path):
    check(run(arm_of(tiny, name), tmp_path / "run", other_arms.grid.store if stored else None), other_arms, name)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
def test_an_arm_of_deep_networks_alone_too(stored: bool, compared: Any, tiny: Tiny, tmp_path: Path):
    deep = {"model": {"name": "resnet20", "widths": [4, 4, 4], "dropout": None}}
    found = compared("late-depth", changes=deep)
    store = found.grid.store if stored else None
    check(run(arm_of(tiny, "late-depth", **deep), tmp_path / "run", store), found, "late-depth")


def test_a_run_of_an_arm_has_the_one_thread_of_a_comparison_whatever_the_process_has(
    some_arms: Any, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Engine, "train", lambda engine: pytest.fail(f"phase {engine.phase_index} was trained"))
    torch.set_num_threads(2)
    try:
        folder = run(arm_of(tiny, "longer"), tmp_path / "run", some_arms.grid.store)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert json.loads((folder / "environment.json").read_text())["threads"] == 1
    assert json.loads((folder / "result.json").read_text())["notes"] == []


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_of_branches_that_is_killed_goes_on_to_the_same_bits(
    stored: bool, some_arms: Any, tiny: Tiny, tmp_path: Path
):
    """It is stopped in the second branch, and its checkpoint of the first one's end is damaged: it is trained again."""
    store, folder = PhaseStore(tmp_path / "store") if stored else None, tmp_path / "run"
    with pytest.raises(StoppedError):
        run(arm_of(tiny, "dsd-soup"), folder, store, stop=stop_after(19))
    ends = sorted((folder / "checkpoints").glob("[0-9]*"))
    assert [path.stem for path in ends] == ["0-dense", "1-sparse-1", "2-redense-1"]
    ends[-1].write_bytes(ends[-1].read_bytes()[:-7])
    train_run(folder, store=store)
    check(folder, some_arms, "dsd-soup")
    assert load_model(folder).evaluate("test") == some_arms.row("dsd-soup")["seeds"][1]["test"]


def test_a_value_of_a_sweep_is_that_of_its_label(tiny: Tiny):
    steps, rates = 11, [(None, 1.0), ("longer rate=0.5", 0.5), ("longer rate=2", 2.0)]
    for label, rate in rates:
        (phase,) = run_flow(tiny(arm=label or "longer"), steps).phases
        assert phase.phase.lr == rate
    sparse = run_flow(tiny(arm="dsd sparsity=0.5"), steps).phases[1].phase
    assert sparse.sparsity == 0.5
    assert run_flow(tiny(arm="dsd pattern=[2, 4]"), steps).phases[1].phase.pattern == (2, 4)
    assert run_flow(tiny(), steps).phases == run_flow(tiny(arm="dsd"), steps).phases


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("langer", r"unknown arm 'langer'; did you mean 'longer'\? \(see redense arms\)"),
        ("restart-longer", "'longer' has no mask"),
        ("ensemble", "arm 'ensemble' is made of the dense networks of several seeds, and a run has one seed"),
        ("distill", "arm 'distill' is made of the dense networks of several seeds"),
        ("svd", "arm 'svd' ends in a network with other layers than the recipe's"),
        ("batchnorm", "train the same with --arm restart --model.batch_norm true"),
        ("dropout", r"train the same with --arm restart --model.dropout 0\.0"),
        ("longer rate=3", "arm 'longer rate=3': 'longer' has no rate=3: it is tried at rate=1, 0.5"),
        ("dsd epochs=3", "arm 'dsd epochs=3': 'dsd' has no epochs=3"),
        ("dsd sparsity=2", r"arm 'dsd sparsity=2' \{'sparsity': 2\}: sparse\.sparsity.* less than 1"),
        ("baseline rate=2", "'baseline' has no rate=2"),
        ("dsd sparsity", "must be a name, or one with a value such as 'longer rate=0.5'"),
        ("acdc", "arm 'acdc': .* at least one step"),
    ],
)
def test_an_arm_that_a_run_cannot_have_is_refused_in_one_line(label: str, said: str, tiny: Tiny, tmp_path: Path):
    short = {"sparse": {"epochs": 0.1}} if label == "acdc" else {}
    with pytest.raises(RecipeError, match=said) as caught:
        run(tiny(arm=label, log=[], redense={"epochs": 0.1 if short else 1}, **short), tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "changes"), [("batchnorm", {"batch_norm": True}), ("dropout", {"dropout": 0.0})])
def test_the_settings_that_are_offered_in_its_place_train_the_same(name: str, changes: dict[str, Any], tiny: Tiny):
    own = ARMS[name].make(Setting(tiny(seed=1), 11, (0, 1), str))
    offered = run_flow(tiny(seed=1, arm="restart", model=changes), 11)
    assert phase_keys(offered.recipe, "data", offered.phases) == phase_keys(own.recipe, "data", own.phases)


def test_a_recipe_without_an_arm_says_nothing_of_it(tiny: Tiny):
    assert "arm" not in tiny().model_dump(mode="json")
    assert tiny().to_dict()["arm"] is None
    assert tiny(arm="longer").model_dump(mode="json")["arm"] == "longer"
