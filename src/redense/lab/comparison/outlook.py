"""The outlook of a comparison: its rows, their cost, how much of it is to be trained, and how much is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .comparison import Cell
from .grid import Grid
from .results import gradients_of


def outlook(grid: Grid) -> dict[str, Any]:
    """Return what a grid is going to train, as plain data: ``rows``, and over all of them ``steps`` and ``left``.

    A row has ``arm``; ``note`` on its budget; ``phases``, ``steps`` and ``gradients`` of one seed; and ``left``: the
    optimizer steps that are to be trained for it in all seeds. A phase that several rows share is the first one's;
    one that diverged, or comes after one that did, is not trained.
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
        row["left"] += round(sum((1 - done) * steps for steps, done in _phases(grid, cell, counted)))
    return {
        "rows": list(rows.values()),
        "steps": sum(counted.values()),
        "left": sum(row["left"] for row in rows.values()),
    }


def trained(grid: Grid) -> tuple[float, int]:
    """Return the optimizer steps that are done and that there are, each shared phase counted once."""
    counted: dict[str, int] = {}
    done = sum(steps * share for cell in grid.cells for steps, share in _phases(grid, cell, counted))
    return done, sum(counted.values())


def _phases(grid: Grid, cell: Cell, counted: dict[str, int]) -> Iterator[tuple[int, float]]:
    """Give the steps of each phase that is not counted yet, and the part of them that needs no training any more."""
    for index, (key, planned) in enumerate(zip(cell.keys, cell.flow.phases, strict=True), start=1):
        if key not in counted:
            counted[key] = planned.steps
            done = grid.store.done(key)
            yield planned.steps, 1.0 if done < 1 and grid.store.failure(cell.keys[:index]) else done
