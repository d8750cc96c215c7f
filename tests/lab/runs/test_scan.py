"""Scanning an engine's network: from a recipe, a run or a checkpoint; and what a sparse phase is given."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from redense import masks
from redense.errors import CheckpointError, RecipeError, SparsityError, StateError
from redense.files.checksums import drop_sums
from redense.lab.events import listening
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.runs.scan import (
    MEASURED,
    engine_of_file,
    engine_of_recipe,
    engine_of_run,
    read_scan,
    scan_engine,
    scan_folder,
    target_of,
    write_scan,
)
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine, StoppedError
from redense.lab.training.preparation import allocate_for

Tiny = Callable[..., Recipe]


@pytest.fixture
def engine(tiny: Tiny) -> Engine:
    return engine_of_recipe(tiny(), None)


def weights_of(engine: Engine) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_recipe_is_trained_up_to_its_first_sparse_phase_through_the_store(tiny: Tiny, tmp_path: Path):
    store, events = PhaseStore(tmp_path / "store"), list[dict[str, Any]]()
    with listening(events.append):
        first = engine_of_recipe(tiny(), store)
    assert first.phase_index == 1
    assert len(store.phases()) == 1
    assert not any(event.get("stored") for event in events)
    with listening(events.append):
        second = engine_of_recipe(tiny(), store)
    assert events[-1]["stored"]
    assert same(weights_of(first), weights_of(second))
    assert same(weights_of(first), weights_of(engine_of_recipe(tiny(), None)))


def test_a_run_takes_the_phase_that_a_scan_has_trained(tiny: Tiny, tmp_path: Path):
    store = PhaseStore(tmp_path / "store")
    engine = engine_of_recipe(tiny(), store)
    folder = new_run(tiny(), tmp_path / "run")
    events: list[dict[str, Any]] = []
    with listening(events.append):
        train_run(folder, store=store)
    assert [event.get("stored", False) for event in events if event["kind"] == "phase"] == [True, False, False]
    assert same(weights_of(engine), weights_of(engine_of_run(folder)))


def test_a_dense_phase_that_was_stopped_goes_on(tiny: Tiny, tmp_path: Path):
    store, asked = PhaseStore(tmp_path / "store"), 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    with pytest.raises(StoppedError):
        engine_of_recipe(tiny(), store, stop=stop)
    assert same(weights_of(engine_of_recipe(tiny(), store)), weights_of(engine_of_recipe(tiny(), None)))


def test_a_scan_changes_nothing_that_training_depends_on(engine: Engine):
    before, random = weights_of(engine), torch.get_rng_state()
    mode = engine.model.training
    optimizer = copy.deepcopy(engine.optimizer.state_dict())
    scan = scan_engine(engine)
    assert scan.note == ""
    assert same(before, weights_of(engine))
    assert torch.equal(random, torch.get_rng_state())
    assert engine.model.training == mode
    assert str(optimizer) == str(engine.optimizer.state_dict())
    assert scan.baseline == engine.evaluate("validation")["loss"]


def test_a_scan_follows_the_loss_or_the_metric(engine: Engine):
    result = engine.evaluate("validation")
    assert scan_engine(engine, sparsities=[0.5]).baseline == result["loss"]
    by_metric = scan_engine(engine, sparsities=[0.5], follow="metric")
    assert by_metric.baseline == result["error"]
    assert by_metric.lower_is_better


def test_a_plain_scan_gives_the_same_values(engine: Engine):
    plain = scan_engine(engine, plain=True)
    values = {(curve.name, s): value for curve in plain.curves for s, value in curve.points}
    assert len(values) == 10 * len(plain.curves)
    for curve in scan_engine(engine).curves:
        for sparsity, value in curve.points:
            assert values[curve.name, sparsity] == value


def shares(engine: Engine, overall: float, by: Any = "sensitivity") -> dict[str, float]:
    def loss(model: nn.Module) -> float:
        assert model is engine.model
        return engine.evaluate("validation")["loss"]

    return allocate_for(engine.model, loss, overall, by, include=engine.network.include, exclude=engine.network.exclude)


@pytest.mark.parametrize("by", ["sensitivity", "erk", "global", "uniform"])
def test_every_way_to_allocate_is_exact_and_gives_the_same_twice(by: Any, engine: Engine):
    chosen = shares(engine, 0.4, by)
    assert chosen == shares(engine, 0.4, by)
    parameters = engine.network.prunable()
    assert set(chosen) == set(parameters)
    removed = sum(
        int((~masks.select(parameters[name], s, absolute=True)).sum()) for name, s in chosen.items()
    )  # fmt: skip
    assert removed == pytest.approx(0.4 * sum(p.numel() for p in parameters.values()), abs=1)


def test_an_unknown_way_to_allocate_is_named(engine: Engine):
    with pytest.raises(SparsityError, match="by must be one of sensitivity, uniform, global, erk, got 'magic'"):
        shares(engine, 0.4, "magic")


@pytest.mark.parametrize(
    "kind", ["checkpoint", "nested pt", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("safetensors", "pt"))]
)
def test_weights_are_read_from_every_kind_of_file(kind: str, tiny: Tiny, tmp_path: Path):
    folder = new_run(tiny(), tmp_path / "run")
    train_run(folder)
    final = load_file(folder / "model.safetensors")
    path = folder / "checkpoints" / "2-redense.safetensors"
    if kind == "safetensors":
        path = folder / "model.safetensors"
    elif kind != "checkpoint":
        path = tmp_path / "model.pt"
        torch.save({"state_dict": final} if "nested" in kind else final, path)
    assert same(weights_of(engine_of_file(tiny(), path)), final)


def test_what_holds_no_weights_of_this_model_is_one_line(tiny: Tiny, tmp_path: Path):
    with pytest.raises(StateError, match="no such file"):
        engine_of_file(tiny(), tmp_path / "none.pt")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match="is of another network"):
        engine_of_file(tiny(), tmp_path / "other.safetensors")


def test_a_recipe_that_starts_from_given_weights_is_scanned_as_they_are(tiny: Tiny, tmp_path: Path):
    folder = new_run(tiny(), tmp_path / "run")
    train_run(folder)
    engine = engine_of_recipe(tiny(start=str(folder)), None)
    assert engine.phase_index == 1
    assert same(weights_of(engine), load_file(folder / "model.safetensors"))


def test_a_sparse_phase_can_be_given_the_shares_of_a_scan(tiny: Tiny, tmp_path: Path):
    recipe = tiny(prune={"allocation": "sensitivity"}, sparse={"sparsity": 0.5})
    folder = new_run(recipe, tmp_path / "run")
    result = train_run(folder)
    engine = engine_of_run(folder)
    chosen = shares(engine, 0.5)
    layers = {layer["name"]: layer["sparsity"][1] for layer in result["layers"] if layer["prunable"]}
    assert layers == pytest.approx(chosen, abs=1e-5)


def test_a_run_that_has_not_finished_its_dense_phase_is_named(tiny: Tiny, tmp_path: Path):
    folder = new_run(tiny(), tmp_path / "run")
    with pytest.raises(StateError, match="has not finished phase 'dense': go on with redense run --resume"):
        engine_of_run(folder)


def test_the_target_is_the_recipes_own(tiny: Tiny):
    assert target_of(tiny(sparse={"sparsity": 0.6})) == 0.6
    assert target_of(tiny(sparse={"sparsity": {"*": 0.6}})) == 0.3
    assert target_of(tiny(sparse={"sparsity": 0.0})) == 0.3


def test_a_scan_replaces_no_file_that_it_has_not_written(engine: Engine, tmp_path: Path):
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    for name in ("sensitivity.json", "sensitivity.html"):
        mine.mkdir(exist_ok=True)
        (mine / name).write_text("mine")
        with pytest.raises(StateError, match=f"{name} is there, and no scan has written it: name another folder"):
            scan_folder(engine.recipe, mine, None)
        (mine / name).unlink()
    (mine / "SHA256SUMS").write_text("mine\n")
    with pytest.raises(CheckpointError, match="SHA256SUMS is damaged: line 1 is no checksum"):
        scan_folder(engine.recipe, mine, None)
    assert scan_folder(engine.recipe, ours, None) == ours
    scan = scan_engine(engine, path=ours / MEASURED)
    write_scan(ours, engine, scan, scan.allocate(0.5), "loss", "tiny")
    assert scan_folder(engine.recipe, ours, None) == ours
    (ours / MEASURED).unlink()  # as a message advises
    assert scan_folder(engine.recipe, ours, None) == ours


def test_what_is_written_is_read_again(engine: Engine, tmp_path: Path):
    scan = scan_engine(engine)
    chosen = scan.allocate(0.5)
    write_scan(tmp_path, engine, scan, chosen, "loss", "tiny")
    again, allocated, data = read_scan(tmp_path)
    assert again == scan
    assert dict(allocated) == dict(chosen)
    assert allocated.predicted == chosen.predicted
    assert data["recipe"] == "tiny"
    assert data["validation_examples"] == len(engine.task.examples("validation"))
    (tmp_path / "sensitivity.json").write_text(json.dumps({"scan": 1}))
    with pytest.raises(CheckpointError, match="damaged"):
        read_scan(tmp_path)
    drop_sums(tmp_path, ["sensitivity.json"])
    with pytest.raises(StateError):
        read_scan(tmp_path)
