"""The outlook of a comparison: its rows, their cost, and how much of it is to be trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redense.lab.training.plan import PlannedPhase

from .comparison import Cell
from .grid import Grid
from .results import gradients_of


def outlook(grid: Grid) -> dict[str, Any]:
    """Return what a grid is going to train, as plain data: ``rows``, and over all of them ``steps`` and ``left``.

    A row has ``arm``; ``note`` on its budget; ``phases``, ``steps`` and ``gradients`` of one seed; and ``left``: the
    optimizer steps that are to be trained for it in all seeds. A phase that several rows share is the first one's.
    """
    rows: dict[str, dict[str, Any]] = {}
    counted: dict[str, int] = {}
    for cell in grid.cells:
        planned = cell.flow.phases
        row = rows.setdefault(
            cell.label,
            {
                "arm": cell.label,
                "note": cell.flow.note,
                "phases": [one.phase.name for one in planned],
                "steps": sum(one.steps for one in planned),
                "gradients": gradients_of(cell, grid.task),
                "left": 0,
            },
        )
        row["left"] += round(sum((1 - grid.store.done(key)) * one.steps for key, one in _new(cell, counted)))
    return {
        "rows": list(rows.values()),
        "steps": sum(counted.values()),
        "left": sum(row["left"] for row in rows.values()),
    }


def _new(cell: Cell, counted: dict[str, int]) -> Iterable[tuple[str, PlannedPhase]]:
    for key, planned in zip(cell.keys, cell.flow.phases, strict=True):
        if key not in counted:
            counted[key] = planned.steps
            yield key, planned
