"""What the quickstart pays for being kept: its log, its checkpoints, the store of phases, its result and its report.

    python benchmarks/overhead_quickstart.py [--check] [--set NAME=VALUE ...] [--rounds 3]

A round is `redense run quickstart` into a new folder with a new store, all of it, with a clock on the functions that
write. The ratio is their share of the run, training included. The bar is that of processor time, which other programs
disturb least: at most 3 %. The share of the time on the clock, which has the waiting for the disk in it (every file is
synced), is stored and shown beside it; it is the disk's more than ours.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from common import Bar, finish, parser, ratio, table

AT_MOST_SHARE = 0.03
WHOLE, ALL = "the run", "log, checkpoints, store, result and report"

Seconds = tuple[float, float]  # processor time, time on the clock


def now() -> Seconds:
    return time.process_time(), time.perf_counter()


class Clock:
    """Adds up the time that is spent in functions, by what they are for; one inside another counts as the outer one."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._inside = False

    def watching(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with the clock on it."""
        self.spent.setdefault(what, [0.0, 0.0])

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside, began = True, now()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                for index, (end, start) in enumerate(zip(now(), began, strict=True)):
                    self.spent[what][index] += end - start

        return timed


@contextmanager
def clocked() -> Iterator[Clock]:
    """Put a clock on everything that `redense run` writes, and that it reads for no other reason."""
    from redense.lab.runs import result, run
    from redense.lab.runs.log import Recorder
    from redense.lab.store import PhaseStore
    from redense.report.runs import page

    clock = Clock()
    watched: list[tuple[str, Any, str]] = [
        ("log", Recorder, "begin"),
        ("log", Recorder, "__call__"),
        ("checkpoints", run, "save"),
        ("store", PhaseStore, "has"),
        ("store", PhaseStore, "put"),
        ("result", result, "_moments"),
        ("result", result, "_write_result"),
        ("report", page, "write_report"),
    ]
    with ExitStack() as blocks:
        for what, owner, name in watched:
            blocks.enter_context(mock.patch.object(owner, name, clock.watching(what, getattr(owner, name))))
        yield clock


def once(settings: list[str]) -> dict[str, Seconds]:
    """Run the quickstart; return what its parts took, and the whole."""
    from redense.lab.recipe.recipe import load_recipe
    from redense.lab.runs.run import new_run, train_run
    from redense.lab.store import PhaseStore
    from redense.report.runs import page

    recipe = load_recipe("quickstart", [f"--{setting}" for setting in settings])
    with tempfile.TemporaryDirectory() as name, clocked() as clock:
        began = now()
        folder = new_run(recipe, Path(name) / "run")
        train_run(folder, store=PhaseStore(Path(name) / "store"))
        page.write_report(folder)
        whole = [end - start for end, start in zip(now(), began, strict=True)]
    parts = {what: (spent[0], spent[1]) for what, spent in clock.spent.items()}
    together = sum(cpu for cpu, _ in parts.values()), sum(wall for _, wall in parts.values())
    return {**parts, ALL: together, WHOLE: (whole[0], whole[1])}


def main(arguments: list[str] | None = None) -> int:
    """Run, add up, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the recipe: dense.epochs=1")
    given = options.parse_args(arguments)

    rounds = [once(given.set) for _ in range(given.rounds)]
    cpu = {what: [taken[what][0] for taken in rounds] for what in rounds[0]}
    wall = {what: [taken[what][1] for taken in rounds] for what in rounds[0]}
    shares = [ratio(cpu, what, WHOLE) for what in cpu if what != WHOLE]
    notes = {item.of: f"{item.median:.2%}" for item in shares}
    table("redense run quickstart: processor time", cpu, (WHOLE,), notes)
    on_clock = ratio(wall, ALL, WHOLE)
    print(f"on the clock, with every sync of the disk: {on_clock.median:.2%}")
    return finish(
        "overhead_quickstart",
        given,
        settings={"set": given.set, "timed": "processor time"},
        seconds={"run": cpu, "on the clock": wall},
        ratios=shares,
        bars=[Bar(ratio(cpu, ALL, WHOLE), at_most=AT_MOST_SHARE)],
        facts={"share_on_the_clock": on_clock.median},
    )


if __name__ == "__main__":
    sys.exit(main())
