"""The results of a comparison on their way to loggers: a run for each arm and seed, and one of the whole.

What is shared in the store is shown in each run that has it: `restart` and `dsd` have one dense phase. The columns that
a logger's own table then has (``arm``, ``seed``, ``test_error``) are those that `redense judge` reads.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense._version import __version__
from redense.errors import RedenseError, command
from redense.files.writing import write_text
from redense.lab.folder import read_json

from .base import LoggedRun, flat
from .sending import FILE, Senders, place_of, values_of

if TYPE_CHECKING:
    from redense.lab.comparison.comparison import Cell
    from redense.lab.comparison.grid import Grid

log = logging.getLogger(__name__)

_FOLDER = "logs"  # of what loggers write into the folder of a comparison
_WHOLE = "comparison"


def log_comparison(folder: Path, grid: Grid, result: Mapping[str, Any], page: Path) -> None:
    """Log what a comparison has trained since it was logged last, and its figures and page anew.

    Its results are written by now: a logger that fails is a warning that says so.

    Args:
        folder: of the comparison.
        grid: its cells, trained.
        result: what `redense.lab.comparison.results.write_results` returned.
        page: its report.
    """
    recipe = grid.comparison.recipe
    if not recipe.log:
        return
    path = folder / FILE
    kept: dict[str, Any] = read_json(path) if path.exists() else {}
    try:
        for cell in grid.cells:
            name = f"{cell.label} seed {cell.seed}"
            if kept.get(name, {}).get("key") == cell.keys[-1] or grid.store.failure(cell.keys):
                continue
            with Senders(recipe.log, _run(folder, name, recipe.name, settings_of(grid, cell))) as senders:
                for place, values in numbers_of(grid, cell):
                    senders.send(values, place)
            kept[name] = {"key": cell.keys[-1], "ids": senders.identities}
            write_text(path, json.dumps(kept) + "\n")
        settings = {"arms": ", ".join(grid.comparison.arms), "redense": __version__}
        seeds = len(grid.comparison.seeds)  # the step: what was logged of fewer stays
        run = _run(folder, _WHOLE, recipe.name, settings, step=seeds - 1 if _WHOLE in kept else 0)
        with Senders(recipe.log, run, kept.get(_WHOLE, {}).get("ids")) as senders:
            senders.send(summary_of(result), (seeds, 2))
            senders.attach(page)
        kept[_WHOLE] = {"ids": senders.identities}
        write_text(path, json.dumps(kept) + "\n")
    except RedenseError as error:
        again = command("redense", "compare", "--resume", folder)
        log.warning("%s; the results are written, and logged with: %s", error, again)


def _run(folder: Path, name: str, project: str, settings: Mapping[str, Any], *, step: int = 0) -> LoggedRun:
    place = folder / _FOLDER / re.sub(r"[^\w.=-]+", "-", name)
    place.mkdir(parents=True, exist_ok=True)
    group = folder.resolve().name
    return LoggedRun(name if name != _WHOLE else group, project, place, settings, group=group, step=step)


def settings_of(grid: Grid, cell: Cell) -> dict[str, Any]:
    """Return what describes the run of a cell: its recipe, arm and seed."""
    recipe = cell.flow.recipe.model_dump(mode="json", exclude={"log"})
    facts = {"arm": cell.label, "steps": sum(phase.steps for phase in cell.flow.phases)}
    return {**flat(recipe), **facts, "data_fingerprint": grid.task.fingerprint, "redense": __version__}


def numbers_of(grid: Grid, cell: Cell) -> Iterator[tuple[tuple[int, int], dict[str, float]]]:
    """Give the numbers of a cell, from the store: those of each phase in order, then the figures of its network."""
    place = (0, 0)
    for key in cell.keys:
        for event in grid.store.records(key):
            if event["kind"] in ("step", "epoch"):
                place = place_of(event)
                yield place, values_of(event)
    facts = grid.store.facts(cell.keys[-1])
    yield (
        (place[0], 2),
        {f"{split}_{name}": value for split in ("validation", "test") for name, value in facts[split].items()},
    )


def summary_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean of each arm and the ends of its interval, in the figure that decides."""
    found: dict[str, float] = {}
    for row in result["rows"]:
        named: Sequence[tuple[str, Any]] = [("mean", row["mean"])]
        if row["interval"]:
            named = [*named, ("low", row["interval"][0]), ("high", row["interval"][1])]
        found |= {f"{row['arm']}/test_{result['metric']['name']}_{what}": v for what, v in named if v is not None}
    return found
