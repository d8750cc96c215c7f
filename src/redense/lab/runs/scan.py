"""Sensitivity of an engine's network: what `redense sensitivity` does.

A scan's folder holds:

    measured.json       every measurement as it comes: the same command goes on from there
    sensitivity.json    the scan, the allocation, where and how it was made
    sensitivity.html    something to look at, written by the command line
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from redense.errors import StateError, resuming
from redense.files.checksums import check_sums, note_sum, read_sums
from redense.files.writing import write_bytes
from redense.lab.arms.of_recipe import run_flow
from redense.lab.checkpoint import load_tree
from redense.lab.environment import environment
from redense.lab.events import tell
from redense.lab.flow import Flow
from redense.lab.folder import read_json
from redense.lab.keys import phase_keys
from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.lab.store import PhaseStore
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine, steps_per_epoch
from redense.lab.training.pretrained import load_start_
from redense.scans.allocation import Allocation
from redense.scans.result import Scan
from redense.scans.sensitivity import SPARSITIES, sensitivity

from .result import describe_plan
from .resume import check_unchanged, phase_path

Follow = Literal["loss", "metric"]
MEASURED = "measured.json"
_SCAN = "sensitivity.json"


def scan_engine(
    engine: Engine,
    *,
    follow: Follow = "loss",
    sparsities: Sequence[float] = SPARSITIES,
    overall: float | None = None,
    plain: bool = False,
    path: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Scan:
    """Scan the engine's network on its validation split.

    The scan follows the loss unless told to follow the task's metric: an error rate moves in steps of one example and
    stays still while the network grows less sure. From 50 % on, shares by it were worse (`allocate_sparsity.py` in
    benchmarks/).

    Args:
        engine: holds the network; its random numbers, weights and modes are afterwards what they were.
        follow: what is measured.
        sparsities: the grid.
        overall: measure only what decides this target, see `redense.sensitivity`.
        plain: measure the whole grid, and compute every layer each time.
        path: JSON file that measurements are kept in.
        progress: called with points done, points of the whole grid, and what comes next.

    Raises:
        RedenseError: as `redense.sensitivity`.
    """
    metric = engine.task.metric
    name = "loss" if follow == "loss" else metric.name
    return sensitivity(
        engine.model,
        lambda model: engine.evaluate("validation")[name],
        sparsities,
        overall=overall,
        include=engine.network.include,
        exclude=engine.network.exclude,
        lower_is_better=follow == "loss" or metric.lower_is_better,
        grid="full" if plain else "adaptive",
        reuse=not plain,
        path=path,
        progress=progress,
    )


# --- the trained network --------------------------------------------------------------------------------------------


def first_sparse(engine: Engine) -> int:
    """Return the index of the phase that prunes first: a scan is of the network that it would prune."""
    return next((index for index, planned in enumerate(engine.plan) if planned.phase.is_sparse), len(engine.plan))


def engine_of_run(folder: Path) -> Engine:
    """Return an engine with the network of a run as it was when the first sparse phase began.

    Raises:
        StateError: the run has not got that far, or its recipe or data changed since.
        CheckpointError: its checkpoint is damaged.
    """
    recipe = read_run_recipe(folder)
    task = make_task(recipe)
    check_unchanged(folder, recipe, task)
    flow = run_flow(recipe, steps_per_epoch(task, recipe))
    engine = Engine(task, flow.recipe, flow.phases)
    index = first_sparse(engine)
    if index:
        before = engine.plan[index - 1]
        path = phase_path(folder, index - 1, before)
        if not path.is_file():
            raise StateError(
                f"{folder} has not finished phase '{before.phase.name}': go on with {resuming(folder)}, then scan it"
            )
        engine.restore(load_tree(path))
    return engine


def engine_of_recipe(
    recipe: Recipe,
    store: PhaseStore | None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Engine:
    """Return an engine with the network that the recipe's first sparse phase would prune.

    The dense phase before it is taken from the store, or trained and kept there; a recipe that starts from given
    weights has none.

    Raises:
        StoppedError: ``stop`` said so; the state is in the store.
        TrainingError: the loss is no longer finite.
    """
    task = make_task(recipe)
    engine = Engine(task, recipe, stop=stop)
    flow = Flow(engine, store, phase_keys(recipe, task.fingerprint, engine.plan), emit=tell)
    index = first_sparse(engine)
    notes = list(getattr(task, "notes", ()))
    tell({"kind": "plan", "phases": describe_plan(engine)[:index], "metric": vars(task.metric), "notes": notes})
    while engine.phase_index < index:
        flow.advance()
    return engine


def engine_of_file(recipe: Recipe, path: Path) -> Engine:
    """Return an engine whose network has the weights of a file or a run folder, see `redense.lab.training.pretrained`.

    Raises:
        RecipeError: they are of another network.
        StateError: they cannot be read.
    """
    task = make_task(recipe)
    engine = Engine(task, recipe)
    load_start_(engine.model, str(path), getattr(task, "pretrained", None))
    return engine


# --- the folder -----------------------------------------------------------------------------------------------------


def scan_folder(recipe: Recipe, out: Path | None, run: Path | None) -> Path:
    """Make the folder of a scan: ``out``, or one in the run that is scanned, or one named after recipe and seed.

    Raises:
        StateError: it cannot be made, or a file lies in it that the scan would write and no scan has written.
        CheckpointError: its list of checksums is damaged, or is none.
    """
    folder = out or (
        run / "sensitivity" if run else Path("runs") / f"{recipe.name.replace('/', '-')}-seed{recipe.seed}-scan"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder {folder}: {error.strerror}") from None
    # Measurements are written first, and are checked where they are read; somebody may have removed them since.
    begun = (folder / MEASURED).exists() or _SCAN in read_sums(folder)
    for name in () if begun else (_SCAN, "sensitivity.html"):
        if os.path.lexists(folder / name):
            raise StateError(f"{folder / name} is there, and no scan has written it: name another folder")
    return folder


def target_of(recipe: Recipe) -> float:
    """Return the overall sparsity that a recipe asks for; the paper's 30 % for one with a sparsity of each layer."""
    sparsity = recipe.sparse.sparsity
    return sparsity if isinstance(sparsity, float) and sparsity > 0 else 0.3


def write_scan(folder: Path, engine: Engine, scan: Scan, chosen: Allocation, follow: Follow, source: str) -> None:
    """Write ``sensitivity.json``."""
    metric = engine.task.metric
    data = {
        "recipe": engine.recipe.name,
        "about": engine.recipe.about,
        "seed": engine.recipe.seed,
        "source": source,
        "follows": "loss" if follow == "loss" else metric.name,
        "unit": "" if follow == "loss" else metric.unit,
        "validation_examples": len(engine.task.examples("validation")),
        "scan": scan.to_dict(),
        "allocation": {
            "sparsities": chosen.to_dict(),
            "overall": chosen.overall,
            "predicted": _finite(chosen.predicted),
            "beside": {name: dict(sparsities) for name, sparsities in chosen.beside.items()},
            "predictions": {name: _finite(value) for name, value in chosen.predictions.items()},
        },
        "environment": environment(),
    }
    written = (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
    note_sum(folder, _SCAN, written)
    write_bytes(folder / _SCAN, written)


def read_scan(folder: Path) -> tuple[Scan, Allocation, dict[str, Any]]:
    """Return what `write_scan` wrote: the scan, the allocation, and all of it as plain data.

    Raises:
        StateError: it is not there, or damaged.
        CheckpointError: it does not match its checksum.
    """
    check_sums(folder, _SCAN)
    data = read_json(folder / _SCAN)
    try:
        scan, kept = Scan.from_dict(data["scan"]), data["allocation"]
        predictions = {name: _infinite(value) for name, value in kept["predictions"].items()}
        chosen = Allocation(
            "sensitivity", kept["sparsities"], scan.weights, _infinite(kept["predicted"]), kept["beside"], predictions
        )
    except (ArithmeticError, KeyError, TypeError, ValueError, AttributeError):
        raise StateError(f"{folder / _SCAN} is damaged: scan again") from None
    return scan, chosen, data


def _finite(value: float | None) -> float | None:
    return value if value is not None and value < float("inf") else None


def _infinite(value: float | None) -> float:
    return float("inf") if value is None else value
