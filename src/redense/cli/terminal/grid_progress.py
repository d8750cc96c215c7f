"""Progress of a comparison: a live table of arms and seeds, and the result."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from redense.errors import CheckpointError
from redense.files.json_text import read_json
from redense.files.visible import counted
from redense.lab.comparison.comparison import Cell
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.outlook import trained
from redense.lab.judging.results import Tried, tried
from redense.lab.pairs.progress import duration, pause_after
from redense.report.kit.quantities import decimals_that_show
from redense.tasks.metrics import shown_name

from .screen import plain_table

_LOOK = 5.0  # seconds from one look at the store to the next, where there is no terminal


class GridProgress:
    """Shows a grid while it trains: on a terminal a live table, elsewhere a line now and then."""

    def __init__(self, console: Console, grid: Grid, jobs: int) -> None:
        self._console, self._grid = console, grid
        if grid.ranks.many:
            self._how = f"{grid.ranks.world} ranks train each phase"
        else:
            self._how = f"{jobs} job{'s' if jobs > 1 else ''} of one thread"
        self._began = self._said = time.monotonic()
        self._done_before, self._total = trained(grid)
        self._tested: set[str] = set()
        self._testing: tuple[float, int] | None = None  # since when, and how many networks were left to test then
        self._ended, self._one = threading.Event(), threading.Lock()
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=1, transient=True)

    def __enter__(self) -> GridProgress:
        seeds = counted(len(self._grid.comparison.seeds), "seed")
        arms = len({cell.label for cell in self._grid.cells})
        left = self._total - self._done_before
        self._console.print(
            f"{arms} rows x {seeds}; {left:,.0f} of {self._total:,} optimizer steps to train, the others are in "
            f"the store; {self._how}",
            soft_wrap=True,
        )
        if self._console.is_terminal:
            self._live.start()
        elif self._grid.ranks.is_main:
            threading.Thread(target=self._watch, name="progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._console.is_terminal:
            self._live.stop()

    def _watch(self) -> None:
        """Say it also while one phase trains, which may take days."""
        while not self._ended.wait(_LOOK):
            with contextlib.suppress(CheckpointError, OSError):  # which the grid finds out
                self.tick()

    def tick(self) -> None:
        """Say how far it is, if nothing was said for a while."""
        if self._console.is_terminal:
            return
        with self._one:
            now = time.monotonic()
            if now - self._said >= pause_after(now - self._began) and not self._ended.is_set():
                self._said = now
                self._console.print(self._line(), soft_wrap=True)

    def _line(self) -> str:
        done, total = trained(self._grid)
        spent = time.monotonic() - self._began
        if done >= total:
            return f"all {total:,} steps are trained; {self._tests()}, {duration(spent)} so far"
        fresh = done - self._done_before
        left = f", {duration(spent / fresh * (total - done))} left" if fresh > 0 else ""
        return f"{done / total:.0%} of {total:,} steps, {duration(spent)} so far{left}"

    def _tests(self) -> str:
        """Say how many of the networks have seen the test split, and how long the others may take."""
        store, ends = self._grid.store, {cell.keys[-1] for cell in self._grid.cells}
        ended = {key for key in ends if store.has(key)}  # the others diverged
        self._tested |= {key for key in ended - self._tested if store.is_measured(key)}
        now, left = time.monotonic(), len(ended - self._tested)
        since, first = self._testing = self._testing or (now, left)
        until = f", {duration((now - since) / (first - left) * left)} left" if first > left > 0 else ""
        return f"{len(ended) - left} of {counted(len(ended), 'network')} tested{until}"

    def _table(self) -> Group:
        table = plain_table("arm", *(f"seed {seed}" for seed in self._grid.comparison.seeds))
        rows: dict[str, list[Cell]] = {}
        for cell in self._grid.cells:
            rows.setdefault(cell.label, []).append(cell)
        for label, cells in rows.items():
            table.add_row(label, *(self._cell(cell) for cell in cells))
        return Group(table, Text(self._line()))

    def _cell(self, cell: Cell) -> str:
        store, metric = self._grid.store, self._grid.task.metric
        steps = [planned.steps for planned in cell.flow.phases]
        done = float(store.has(cell.keys[-1]))  # of given weights, which take no steps
        if total := sum(steps):
            done = sum(store.done(key) * count for key, count in zip(cell.keys, steps, strict=True)) / total
        if done < 1:
            return f"{done:.0%}" if done else "-"
        try:
            last = [record for record in store.records(cell.keys[-1]) if record["kind"] == "epoch"][-1:]
        except CheckpointError:  # which the grid finds out, and trains again
            return "damaged"
        return f"{last[0]['validation'][metric.name]:.2f} {metric.unit}".rstrip() if last else "done"


def outlook_table(outlook: dict[str, Any]) -> Table:
    """Return the table of what a comparison would train."""
    table = plain_table("arm", "steps", "gradients", "to train", last="phases")
    for row in outlook["rows"]:
        numbers = (f"{row[name]:,}" for name in ("steps", "gradients", "left"))
        note = f" ({row['note']})" if row["note"] else ""
        table.add_row(row["arm"], *numbers, f"{', '.join(row['phases'])}{note}")
    return table


def comparison_table(result: dict[str, Any], folder: Path) -> Table:
    """Return the table that ends a comparison."""
    name, unit = result["metric"]["name"], result["metric"]["unit"]
    points = "points" if unit in ("%", "") else unit
    others = ["baseline", *result["control"]]
    figure = f"test {shown_name(name)} ({unit})" if unit else f"test {shown_name(name)}"
    differences = [f"vs {other} ({points})" for other in others]
    settings = tried(result["rows"], result["metric"])
    swept = any(one.settings > 1 for one in settings.values())
    costly = ("steps", "gradients", "weights", "non-zero", "seconds", *(["settings"] if swept else []))
    table = plain_table("arm", figure, *differences, *costly, no_wrap=True)
    costs = read_json(folder / "costs.json")
    shown = (item["difference"] for item in result["comparisons"] if item["verdict"] in ("better", "worse"))
    places = decimals_that_show(2, [row["mean"] for row in result["rows"]], shown)
    against = {(item["arm"], item["against"]): item for item in result["comparisons"]}
    for row in result["rows"]:
        label = row["arm"]
        alive = [seed for seed in row["seeds"] if "test" in seed]
        table.add_row(
            label,
            _with_interval(row["mean"], row["interval"], places) if row["mean"] is not None else "diverged",
            *(_difference(against.get((label, other)), places) for other in others),
            f"{row['steps']:,}",
            f"{row['gradients']:,}",
            _mean(alive, "parameters"),
            _mean(alive, "nonzeros"),
            f"{costs.get(label, 0):,.0f}",
            *([_settings(settings[label])] if swept else []),
        )
    return table


def _settings(one: Tried) -> str:
    return f"best of {one.settings}" if one.best and one.settings > 1 else str(one.settings)


def _mean(seeds: list[dict[str, Any]], name: str) -> str:
    return f"{sum(seed[name] for seed in seeds) / len(seeds):,.0f}" if seeds else ""


def _with_interval(mean: float, interval: list[float] | None, places: int, *, sign: str = "") -> str:
    half = f" ± {(interval[1] - interval[0]) / 2:.{places}f}" if interval else ""
    return f"{mean:{sign}z.{places}f}{half}"


def _difference(item: dict[str, Any] | None, places: int) -> str:
    if item is None:
        return ""
    mark = f" {item['verdict']}" if item["verdict"] in ("better", "worse", "equivalent") else ""
    return f"{_with_interval(item['difference'], item['interval'], places, sign='+')}{mark}"
