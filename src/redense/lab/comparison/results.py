"""`redense compare`: what a finished grid says, in raw numbers, tests and words.

``compare.json`` has every raw number and what follows from them; equal bits make equal files. ``compare.csv`` has a row
for each arm and seed. ``costs.json`` has the seconds, which are of this machine and this day. ``evidence.json`` is what
the networks of the first seed did with the test examples, as the task tells it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from redense.criteria import WITH_GRADIENTS
from redense.files.checksums import add_sums, drop_sums
from redense.files.writing import write_text
from redense.lab.arms import get_arms
from redense.lab.judging import statistics
from redense.lab.judging.examples import pooled
from redense.lab.judging.results import decide_rows, described, mean_of, tried
from redense.lab.judging.verdicts import plain_interval
from redense.lab.pairs.results import csv_of
from redense.lab.runs.result import write_evidence
from redense.lab.store import PhaseStore
from redense.lab.training.engine import steps_per_epoch
from redense.lab.training.preparation import SALIENCY_STEPS
from redense.methods.base import make_method
from redense.tasks.metrics import shown_name
from redense.tasks.task import Task

from .comparison import BASELINE, CONTROL, Cell
from .extension import Looks, read_looks
from .grid import Grid

_WRITTEN = ("compare.json", "compare.csv", "costs.json", "curves.json", "evidence.json")


def write_results(folder: Path, grid: Grid) -> dict[str, Any]:
    """Write ``compare.json``, ``compare.csv`` and ``costs.json``, and return the first."""
    result = gather(grid, read_looks(folder, grid.comparison))
    drop_sums(folder, _WRITTEN)
    write_text(folder / "compare.json", json.dumps(result, indent=2) + "\n")
    write_text(folder / "costs.json", json.dumps(seconds(grid), indent=2) + "\n")
    write_text(folder / "compare.csv", csv_of(result))
    write_text(folder / "curves.json", json.dumps(_curves(grid)) + "\n")
    write_evidence(folder, grid.task, _outcomes(grid))
    add_sums(folder, [path for path in (folder / name for name in _WRITTEN) if path.is_file()])
    return result


def gather(grid: Grid, looks: Looks | None = None) -> dict[str, Any]:
    """Return every raw number of a finished grid and what they say, as plain data."""
    judged = (looks or Looks()).judged
    store, metric, recipe = grid.store, grid.task.metric, grid.comparison.recipe
    rows = _rows(grid)
    for label, other in _same(list(rows.values()), store):
        rows[label]["same"] = other
    said = described(decide_rows(list(rows.values()), vars(metric), name=shown_name(metric.name), **judged))
    settings = tried(list(rows.values()), vars(metric))
    for item in said["comparisons"]:
        item["mcnemar"], item["examples"] = _mcnemar(rows[item["arm"]], rows[item["against"]], store)
    return {
        "recipe": recipe.name,
        "task": recipe.task,
        "metric": vars(metric),
        "seeds": list(grid.comparison.seeds),
        "data": grid.task.fingerprint,
        "test_examples": len(grid.task.examples("test")),
        **({"notes": grid.notes} if grid.notes else {}),
        "trials": {one.arm: one.settings for one in settings.values()},
        "rows": list(rows.values()),
        "judged": judged,
        **said,
    }


def _rows(grid: Grid) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    about = {arm.name: arm for arm in get_arms(grid.comparison.arms)}
    for cell in grid.cells:
        failed = grid.store.failure(cell.keys)
        facts = {"failed": failed} if failed else grid.store.facts(cell.keys[-1])
        arm = about.get(cell.label.split(" ")[0])
        row = rows.setdefault(
            cell.label,
            {
                "arm": cell.label,
                "of": cell.label.split(" ")[0],  # the arm that a sweep makes several rows of
                "about": arm.about if arm else "the dense phase alone: fewer steps than the others",
                "source": arm.source if arm else "",
                "note": cell.flow.note,
                "steps": sum(planned.steps for planned in cell.flow.phases),
                "gradients": gradients_of(cell, grid.task),
                **({"bound": True} if cell.flow.bound else {}),
                "phases": [planned.to_dict() for planned in cell.flow.phases],
                "seeds": [],
            },
        )
        row["seeds"].append({"seed": cell.seed, "key": cell.keys[-1], **facts})
    for row in rows.values():
        row.update(mean_of([seed["test"][grid.task.metric.name] for seed in row["seeds"] if "test" in seed]))
    return rows


def _same(rows: Sequence[Mapping[str, Any]], store: PhaseStore) -> Iterator[tuple[str, str]]:
    """Give the rows that have trained the networks of one before them in every seed, and that one.

    Networks with other answers are others; only where these are the same are the weights looked at.
    """
    first = {row["arm"]: store.outcome(row["seeds"][0]["key"], "test") for row in rows if "test" in row["seeds"][0]}
    for number, row in enumerate(rows):
        for before in rows[:number]:
            alike = _are_equal(first.get(row["arm"]), first.get(before["arm"]))
            pairs = zip(row["seeds"], before["seeds"], strict=True)
            if alike and all(_is_same(mine, its, store) for mine, its in pairs):
                yield row["arm"], before["arm"]
                break


def _is_same(mine: Mapping[str, Any], its: Mapping[str, Any], store: PhaseStore) -> bool:
    if "test" not in mine or "test" not in its:
        return False
    return mine["key"] == its["key"] or _are_equal(*(store.weights(seed["key"]) for seed in (mine, its)))


def _are_equal(one: Mapping[str, torch.Tensor] | None, other: Mapping[str, torch.Tensor] | None) -> bool:
    if one is None or other is None or one.keys() != other.keys():
        return False
    return all(torch.equal(value, other[name]) for name, value in one.items())


def _mcnemar(
    row: Mapping[str, Any], other: Mapping[str, Any], store: PhaseStore
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return McNemar's test of each seed, and what all seeds together say about the examples."""
    found: list[dict[str, Any]] = []
    answers: list[list[NDArray[np.bool_]]] = []
    for mine, its in zip(row["seeds"], other["seeds"], strict=True):
        outcomes = [store.outcome(seed["key"], "test") for seed in (mine, its) if "test" in seed]
        wrongs = [w.numpy() for outcome in outcomes if outcome is not None and (w := wrong(outcome)) is not None]
        if len(wrongs) == 2:
            result = statistics.mcnemar(wrongs[0], wrongs[1])
            found.append({"seed": mine["seed"], "fixed": result.fixed, "broken": result.broken, "p": result.p})
            answers.append(wrongs)
    if not answers:
        return found, None
    both = pooled(*(np.stack([pair[side] for pair in answers]) for side in (0, 1)))
    return found, {**vars(both), "interval": plain_interval(both.interval)}


def _curves(grid: Grid) -> dict[str, list[dict[str, Any]]]:
    """Return every arm's epochs: arm -> one list of points a seed."""
    metric, curves = grid.task.metric.name, dict[str, list[dict[str, Any]]]()
    for cell in grid.cells:
        points = [
            {
                "step": record["step"],
                "phase": planned.phase.name,
                "validation": record["validation"][metric],
                "train_loss": record["train_loss"],
                "lr": record["lr"],
                "sparsity": record["sparsity"],
            }
            for planned, key in zip(cell.flow.phases, cell.keys, strict=True)
            for record in grid.store.records(key)
            if record["kind"] == "epoch"
        ]
        curves.setdefault(cell.label, []).append({"seed": cell.seed, "points": points})
    return curves


def _outcomes(grid: Grid) -> dict[str, dict[str, torch.Tensor]]:
    """Return what the networks of the first seed answered: the baseline's first, that of the first arm asked for last.

    The control is that arm only where there is no other.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for cell in grid.cells:
        if cell.seed == grid.comparison.seeds[0] and not grid.store.failure(cell.keys):
            outcome = grid.store.outcome(cell.keys[-1], "test")
            if outcome is not None:
                found[cell.label] = outcome
    if BASELINE not in found:
        return {}
    judged = next((label for label in found if label not in (BASELINE, CONTROL)), CONTROL)
    if judged in found:
        found[judged] = found.pop(judged)
    return found


def gradients_of(cell: Cell, task: Task) -> int:
    """Return the number of gradients of a batch that an arm takes; some criteria take some before the first step."""
    recipe, steps = cell.flow.recipe, 0
    for planned in cell.flow.phases:
        steps += round(planned.steps * make_method(planned.method, planned.options, 0).gradient_evaluations)
        if planned.phase.criterion in WITH_GRADIENTS:
            steps += min(steps_per_epoch(task, recipe), SALIENCY_STEPS)
    return steps * recipe.training.accumulate


def seconds(grid: Grid) -> dict[str, float]:
    """Return the seconds of training that each arm took, mean over seeds; shared phases counted in each."""
    out: dict[str, list[float]] = {}
    for cell in grid.cells:
        spent = sum(r["seconds"] for key in cell.keys for r in grid.store.records(key) if r["kind"] == "epoch")
        out.setdefault(cell.label, []).append(spent)
    return {label: round(sum(spent) / len(spent), 1) for label, spent in out.items()}


def wrong(outcome: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Return which test examples a network got wrong, (n,) bool; None where a task has no right and wrong."""
    return outcome["rank"] > 0 if "rank" in outcome else None
