"""The verb of scans: sensitivity."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from redense.errors import RedenseError, command

from .terminal.printing import answer, complain, say
from .verbs import Signals, Verbs, refuse_arm, refuse_log

if TYPE_CHECKING:
    from .terminal.screen import SafeConsole


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    scan = verbs.add(
        "sensitivity",
        "measure what pruning each layer alone costs, and share out a sparsity over the layers",
        _sensitivity,
        settings=True,
        epilog="A recipe's dense phase is trained first, or taken from the store. Settings of the recipe can be given "
        "as for run. Measurements are kept: the same command goes on where it was stopped.",
    )
    scan.add_argument("recipe", nargs="?", help="a recipe's name or YAML file, or a run folder")
    scan.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights to scan: safetensors or .pt")
    scan.add_argument("--out", type=Path, metavar="DIR", help="folder of the scan (default: in the run, or in runs/)")
    scan.add_argument("--store", type=Path, metavar="DIR", help="where trained phases are kept (default: runs/store)")
    scan.add_argument("--overall", metavar="S", help="measure only what decides this overall sparsity, such as 0.4")
    scan.add_argument("--max-drop", metavar="D", help="the highest sparsities whose drops sum up to no more than this")
    scan.add_argument(
        "--sparsities", metavar="A,B", help="the grid (default: 0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,0.95)"
    )
    scan.add_argument("--follow", choices=("loss", "metric"), default="loss", help="what is measured (default: loss)")
    scan.add_argument("--json", action="store_true", help="print JSON; progress goes to the error output")
    scan.add_argument("--plain", action="store_true", help="measure the whole grid, and compute every layer each time")


def _sensitivity(options: argparse.Namespace) -> int:
    from redense.lab.recipe.recipe import load_recipe, read_run_recipe

    if not options.recipe:
        raise RedenseError("which recipe or run folder? try: redense sensitivity quickstart")
    if options.overall is not None and options.max_drop is not None:
        raise RedenseError("give one target: --overall 0.4, or --max-drop 0.5")
    overall, max_drop = _number("--overall", options.overall), _number("--max-drop", options.max_drop)
    if overall is not None and not 0 <= overall < 1:
        raise RedenseError(f"--overall must be in [0, 1), got {overall:g}: it is the fraction removed")
    listed = [_number("--sparsities", part) or 0.0 for part in (options.sparsities or "").split(",") if part.strip()]
    if options.sparsities is not None and not listed:
        raise RedenseError("--sparsities names none: give some, such as 0.3,0.5,0.7")
    run = Path(options.recipe) if (Path(options.recipe) / "recipe.yaml").is_file() else None
    if run and options.settings:
        raise RedenseError(f"a run has its own recipe: give no settings beside a run folder, got {options.settings[0]}")
    recipe = read_run_recipe(run) if run else load_recipe(options.recipe, options.settings)
    refuse_log(options.settings, "a scan")
    if not run:
        refuse_arm(recipe, "a scan trains the recipe's dense phase")

    from redense.lab.events import listening
    from redense.lab.runs.scan import (
        MEASURED,
        engine_of_file,
        engine_of_recipe,
        engine_of_run,
        scan_engine,
        scan_folder,
        target_of,
        write_scan,
    )
    from redense.lab.store import PhaseStore, default_store
    from redense.lab.training.engine import StoppedError
    from redense.scans.sensitivity import SPARSITIES

    from .terminal.progress import RunProgress
    from .terminal.screen import SafeConsole

    console = SafeConsole(stderr=options.json)
    again = command("redense", *sys.argv[1:])
    with Signals() as signals:

        def stop() -> bool:
            return signals.received is not None

        try:
            if options.checkpoint:
                engine = engine_of_file(recipe, options.checkpoint)
            elif run:
                engine = engine_of_run(run)
            else:
                root = options.store or default_store()
                with RunProgress(console) as shown, listening(shown):
                    engine = engine_of_recipe(recipe, PhaseStore(root) if root else None, stop=stop)
            folder = scan_folder(recipe, options.out, run)
            with _scanning(console, stop, quiet=options.json) as progress:
                scan = scan_engine(
                    engine,
                    follow=options.follow,
                    sparsities=listed or SPARSITIES,
                    overall=overall,
                    plain=options.plain,
                    path=folder / MEASURED,
                    progress=progress,
                )
        except StoppedError:
            return signals.stopped(again)
    target = None if max_drop is not None else target_of(recipe) if overall is None else overall
    chosen = scan.allocate(target, max_drop=max_drop)
    write_scan(folder, engine, scan, chosen, options.follow, str(options.checkpoint or options.recipe))

    from redense.report.scans.page import write_sensitivity_page

    if options.json:
        measured = {"scan": scan.to_dict(), "allocation": chosen.to_dict()}
        answer({"folder": str(folder), "report": str(folder / "sensitivity.html"), **measured})
    else:
        what = "loss" if options.follow == "loss" else f"{engine.task.metric.name} in {engine.task.metric.unit}"
        say(
            f"\nvalidation {what} when one layer alone is pruned:\n\n{scan}\n\n"
            "what follows, for the least sum of drops:\n"
        )
        say(f"{chosen}\n\nfor a recipe:\n\n{chosen.to_yaml()}\n")
    page = write_sensitivity_page(folder)  # what was measured is on the screen by now
    if run and (run / "report.html").is_file():
        from redense.report.runs.page import write_report

        try:
            write_report(run)  # it shows the scan
        except RedenseError as error:  # the scan has its own page, and lies in a folder of its own
            complain(f"the page of the run does not show the scan: {error}")
    if not options.json:
        say(f"report: {page}")
    return 0


def _number(flag: str, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise RedenseError(f"{flag} must be a number such as 0.4, got '{text}'") from None


@contextlib.contextmanager
def _scanning(console: SafeConsole, stop: Callable[[], bool], *, quiet: bool) -> Iterator[Callable[..., None]]:
    """A bar on a terminal, a line a layer elsewhere; stops between two measurements when asked to."""
    from rich.progress import BarColumn, TimeElapsedColumn

    from redense.lab.training.engine import StoppedError

    from .terminal.screen import SafeColumn, bar

    columns = (SafeColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    said = ""
    with bar("scan", console, *columns, total=100) as show:

        def progress(done: int, total: int, what: str) -> None:
            nonlocal said
            if stop():
                raise StoppedError("stopped; what was measured is kept")
            show(done, total, what)
            layer = what.partition(" at ")[0]
            if not console.is_terminal and not quiet and layer not in (said, "done"):
                say(f"scanning {what}", flush=True)
                said = layer

        yield progress
