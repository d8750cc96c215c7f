"""`redense run` and the phase store: nothing is trained twice, and what is taken from the store is as if trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from redense.lab.events import listening
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine, StoppedError

from ...trainings import timeless

Tiny = Callable[..., Recipe]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(phase, step in it) where each training began."""
    begun: list[tuple[int, int]] = []
    train = Engine.train

    def watch(engine: Engine) -> None:
        begun.append((engine.phase_index, engine.position_in_phase))
        train(engine)

    monkeypatch.setattr(Engine, "train", watch)
    return begun


@pytest.fixture
def store(tmp_path: Path) -> PhaseStore:
    return PhaseStore(tmp_path / "store")


def all_of(folder: Path) -> dict[str, Any]:
    """What a run has found, but for the clock."""
    outcome = load_file(folder / "outcome.safetensors")
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "phases": [path.read_bytes() for path in sorted((folder / "checkpoints").glob("[0-9]*"))],
        "metrics": timeless([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]),
        "result": timeless(json.loads((folder / "result.json").read_text())),
        "outcome": {name: values.tolist() for name, values in outcome.items()},
    }


def run(recipe: Recipe, folder: Path, store: PhaseStore | None, **options: Any) -> Path:
    train_run(new_run(recipe, folder), store=store, **options)
    return folder


def test_a_second_run_trains_nothing_and_is_the_same(
    tiny: Tiny, tmp_path: Path, store: PhaseStore, trained: list[tuple[int, int]]
):
    recipe, before, events = tiny(training={"keep": "best"}), list[dict[str, Any]](), list[dict[str, Any]]()
    with listening(before.append):
        first = run(recipe, tmp_path / "first", store)
    assert trained == [(0, 0), (1, 0), (2, 0)]
    with listening(events.append):
        second = run(recipe, tmp_path / "second", store)
    assert len(trained) == 3
    kept = [[(e["phase"], e["epoch"]) for e in told if e["kind"] == "kept"] for told in (before, events)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3
    assert [event["stored"] for event in events if event["kind"] == "phase"] == [True] * 3
    assert all_of(second) == all_of(first)
    seconds = [json.loads((folder / "result.json").read_text())["seconds"] for folder in (first, second)]
    assert seconds[0] == seconds[1]  # what it took to train is known, too
    plain = run(recipe, tmp_path / "plain", None)
    assert len(trained) == 6
    assert all_of(plain) == all_of(first)


def test_the_control_takes_the_dense_phase_of_the_run(
    tiny: Tiny, tmp_path: Path, store: PhaseStore, trained: list[tuple[int, int]]
):
    run(tiny(), tmp_path / "dsd", store)
    trained.clear()
    control = run(tiny(sparse={"sparsity": 0.0}), tmp_path / "control", store)
    assert trained == [(1, 0), (2, 0)]
    assert all_of(control) == all_of(run(tiny(sparse={"sparsity": 0.0}), tmp_path / "plain", None))


def test_a_comparison_and_a_run_share_their_phases(
    tiny: Tiny, tmp_path: Path, compared: Callable[..., Any], trained: list[tuple[int, int]]
):
    assert torch.get_num_threads() == 1  # else their keys differ: other threads give other last digits
    found = compared("dsd", seeds=(3,))
    trained.clear()
    folder = run(tiny(seed=3), tmp_path / "run", found.grid.store)
    assert trained == []
    last = json.loads((folder / "result.json").read_text())["phases"][-1]
    assert last["test"] == found.row("dsd")["seeds"][0]["test"]
    assert all_of(folder) == all_of(run(tiny(seed=3), tmp_path / "plain", None))


@pytest.mark.parametrize("step", [*(pytest.param(step, marks=pytest.mark.slow) for step in (1, 33)), 11, 17])
def test_a_run_that_was_stopped_goes_on_from_its_own_checkpoint_and_from_the_store(
    step: int, tiny: Tiny, tmp_path: Path, store: PhaseStore, trained: list[tuple[int, int]]
):
    asked = iter(range(1000))
    with pytest.raises(StoppedError):
        run(tiny(), tmp_path / "stopped", store, stop=lambda: next(asked) >= step - 1)
    assert len(store.phases()) == max(0, (step - 1) // 11)
    other = run(tiny(), tmp_path / "other", store)
    trained.clear()
    train_run(tmp_path / "stopped", store=store)
    assert len(trained) == 1  # the phase that it was in; the others are in the store by now
    assert trained[0][1] > 0
    assert all_of(tmp_path / "stopped") == all_of(other)


def test_what_was_logged_while_a_stored_phase_was_taken_is_logged_once(
    tiny: Tiny, tmp_path: Path, store: PhaseStore, monkeypatch: pytest.MonkeyPatch
):
    """Killed after the events were written and before the checkpoint was."""
    first = run(tiny(), tmp_path / "first", store)
    restore, calls = Engine.restore, 0

    def die(engine: Engine, snapshot: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        restore(engine, snapshot)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "restore", die)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), tmp_path / "second", store)
    train_run(tmp_path / "second", store=store)
    assert all_of(tmp_path / "second") == all_of(first)
