"""Verbs of comparisons: compare, arms, store."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import answer, say
from redense.cli.verbs import Signals, Verbs, first_given, join_ranks, refuse_arm
from redense.errors import RedenseError, command
from redense.files.visible import counted

from . import commands

_MOST_JOBS = 1000
_PLACE = ("--data", "--data.source")


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    compare = verbs.add(
        "compare",
        "train arms beside each other, on one budget and over several seeds, and say what is gained",
        _compare,
        settings=True,
        epilog="Settings of the recipe can be given as for run: --data PATH --dense.epochs 20. "
        "Everything trained is kept in the store, so that nothing is trained twice.",
    )
    compare.add_argument("recipe", nargs="?", help="a name of `redense recipes`, or a YAML file of your own")
    compare.add_argument(
        "--arms", action="once", metavar="A,B", help="see `redense arms` (default: dsd,restart,llr,longer)"
    )
    compare.add_argument("--seeds", metavar="N", help="how many, or a list: 3,7,11; 3, is 3 alone (default: 5)")
    compare.add_argument(
        "--sweep",
        action="once",
        metavar="KEY=A,B",
        help="settings of the sparse phase: sparsity=0.2,0.3,0.5; the controls' rates are tried as often",
    )
    compare.add_argument(
        "--looks", type=int, metavar="N", help="how often it will be looked at, if seeds are to be added"
    )
    compare.add_argument(
        "--margin", type=float, metavar="X", help="differences within it are nothing: say what is equal"
    )
    compare.add_argument("--diagnose", action="store_true", help="measure the paper's hypotheses for dsd and restart")
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="how many at once (default: the cores that it may use; of commands, 1)"
    )
    compare.add_argument(
        "--backend",
        choices=("loky", "ray"),
        default="loky",
        help="this machine, or a Ray cluster (default: loky)",
    )
    compare.add_argument("--cpus-per-job", type=float, metavar="N", help="what Ray reserves for each job (default: 1)")
    compare.add_argument("--gpus-per-job", type=float, metavar="N", help="may be a part: 0.5 (default: 0)")
    compare.add_argument("--store", type=Path, metavar="DIR", help="where phases are kept (default: runs/store)")
    compare.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison")
    compare.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with a comparison that was stopped, or add --seeds or --arms to it; --data: where its data is now",
    )

    compare.add_argument(
        "--dry-run",
        action="store_true",
        default=None,
        help="say what would be trained and in how many steps, and train nothing",
    )

    commands.add_options(compare)
    compare.add_argument("--json", action="store_true", help="print JSON; progress goes to the error output")

    arms = verbs.add("arms", "list what can be compared", _arms)
    arms.add_argument("--json", action="store_true", help="print JSON")

    store = verbs.add("store", "show how much the phase store holds, or clear it", _store)
    store.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    store.add_argument("--store", type=Path, metavar="DIR", help="(default: runs/store)")
    store.add_argument("--json", action="store_true", help="print JSON")


def _compare(options: argparse.Namespace) -> int:
    if commands.is_of_commands(options):
        return commands.compare_commands(options)
    from redense.lab.loggers.base import check_loggers
    from redense.lab.recipe.recipe import load_recipe

    if options.resume and (
        first_given(options, ("recipe", "out", "sweep", "looks", "margin"))
        or any(own.startswith("--") and own.partition("=")[0] not in _PLACE for own in options.settings)
    ):
        raise RedenseError(
            "--resume goes on with the comparison's own recipe and settings: give none beside it, only --seeds and "
            "--arms to add some, and --data where its data has moved"
        )
    if not options.resume and not options.recipe:
        raise RedenseError(
            "which recipe? try: redense compare quickstart --seeds 3, or any program with --command (see --help)"
        )
    ranks = join_ranks()
    if ranks.many and options.dry_run:
        raise RedenseError("--dry-run is for one process: without torchrun it says as much")
    if ranks.many and (options.backend != "loky" or (options.jobs or 1) > 1):
        raise RedenseError("under torchrun all ranks train one phase after another: give neither --jobs nor --backend")
    if options.jobs is not None and not 1 <= options.jobs <= _MOST_JOBS:
        raise RedenseError(f"--jobs must be 1 to {_MOST_JOBS:,}, got {options.jobs}")
    resources = _resources(options)
    if any(setting.partition("=")[0] == "--seed" for setting in options.settings):
        raise RedenseError("a comparison has several seeds: give --seeds 5, or --seeds 3,7,11")
    recipe = None if options.resume else load_recipe(options.recipe, options.settings)
    if recipe:
        refuse_arm(recipe, "a comparison names its arms with --arms")
    check_loggers((recipe.log if recipe else None) or ())
    from redense.lab.environment import note_on_ranks, usable_cores

    jobs = options.jobs or usable_cores()
    if options.backend == "ray":  # before there is a folder
        from redense.lab.comparison.ray_cluster import join_cluster

        join_cluster(jobs, resources)

    from redense.cli.terminal.grid_progress import GridProgress, comparison_table
    from redense.cli.terminal.screen import SafeConsole
    from redense.files.locks import locked
    from redense.lab.comparison.comparison import (
        LEFT,
        Comparison,
        discard_comparison,
        new_comparison,
        parse_sweep,
        read_comparison,
        store_kept,
    )
    from redense.lab.comparison.extension import extended, moved, plan_looks, write_extended, write_moved
    from redense.lab.comparison.grid import Grid
    from redense.lab.folder import check_new, restarted_folder
    from redense.lab.judging.results import tried, tried_sentence
    from redense.lab.judging.verdicts import check_looks, check_margin
    from redense.lab.pairs.defaults import held
    from redense.lab.pairs.plan import seed_list
    from redense.lab.store import PhaseStore, default_store, store_of
    from redense.lab.training.engine import StoppedError

    console = SafeConsole(quiet=not ranks.is_main, stderr=options.json)
    if recipe is None:
        folder: Path = options.resume
        kept = Comparison.from_dict(ranks.main(lambda: read_comparison(folder).to_dict()))
        before = moved(kept, options.settings)
        check_loggers(before.recipe.log or ())
        comparison = extended(before, seed_list(options.seeds) if options.seeds else None, _names(options.arms))
        _check_diagnosis(options, comparison.arms)
        if options.dry_run:
            return _look_ahead(options, console, comparison, before)
    else:
        listed = _default_arms(recipe, console) if options.arms is None else options.arms
        names = _names(listed) or ()
        seeds = seed_list("5" if options.seeds is None else options.seeds)
        _check_diagnosis(options, names)
        sweep = parse_sweep(options.sweep)
        comparison = before = kept = Comparison(recipe, names, seeds, sweep, tuned=bool(sweep), ranks=ranks.world)
        check_looks(1 if options.looks is None else options.looks)
        check_margin(options.margin)
        if options.dry_run:
            if options.out is not None:
                check_new(options.out, left=LEFT)
            return _look_ahead(options, console, comparison, before)

        def new() -> str:
            if (begun := restarted_folder(options.out)) is not None:
                return str(begun)
            made = new_comparison(comparison, options.out)
            plan_looks(made, options.looks, options.margin)
            return str(made)

        folder = Path(ranks.main(new))
    console.print(f"comparison: {folder}", soft_wrap=True)
    if comparison.ranks != ranks.world:
        console.print_titled("note", note_on_ranks(comparison.ranks, ranks.world), "yellow")
    go_on = command("redense", "compare", "--resume", folder, *(["--store", options.store] if options.store else []))
    with contextlib.ExitStack() as stack, ranks.held(lambda: locked(folder)):
        stack.enter_context(held())  # the threads of whoever calls this from Python
        try:
            began = ranks.main(lambda: store_kept(folder)) if options.resume else None
            root, other = store_of(options.store, began, default_store() or folder / "store")
            grid = Grid(comparison, PhaseStore(root or folder / "store"), folder, begun=before)
        except RedenseError:
            if not options.resume and ranks.is_main:
                discard_comparison(folder)
            raise
        if comparison != before:  # now that every arm can be trained: none can be taken away again
            ranks.main(lambda: write_extended(folder, before, comparison))
            joined = ", ".join(comparison.arms)
            console.print(
                f"added to its family, which is judged together: {joined}; {counted(len(comparison.seeds), 'seed')}"
            )
        elif before != kept:
            ranks.main(lambda: write_moved(folder, before))
        for note in [*filter(None, [other]), *grid.notes]:
            console.print_titled("note", note, "yellow")
        ranks.main(grid.write_plan)
        with Signals(grid.stop) as signals, GridProgress(console, grid, jobs) as progress:
            stack.enter_context(ranks.held(grid.store.used))
            try:
                if ranks.many:
                    trained = grid.run_over_ranks(tick=progress.tick)
                else:
                    trained = grid.run(jobs=jobs, backend=options.backend, resources=resources, tick=progress.tick)
            except StoppedError:
                return signals.stopped(go_on, ranks.gather(signals.received or 0))
            except KeyboardInterrupt:  # twice: at once, and what was saved before is what there is
                return signals.stopped(go_on)
        if not ranks.is_main:
            return 0
        result = _results(folder, grid, jobs, options.backend, resources)
        if options.diagnose:
            _diagnose(console, grid, folder)  # on rank 0 alone, as it is the only one left
        from redense.lab.loggers.compared import log_comparison
        from redense.report.comparisons.page import write_compare_report
        from redense.report.comparisons.reading import read_comparison as read_results
        from redense.report.comparisons.verdict import headline

        if options.json:
            answer({"folder": str(folder), **result})
        else:
            lines = ["", headline(read_results(folder)), "", comparison_table(result, folder), ""]
            lines += [result["control_sentence"], *result["conclusions"].values()]
            if told := tried_sentence(tried(result["rows"], result["metric"])):
                lines.append(told)
            if result["caution"]:
                lines += ["", result["caution"]]
            console.print(*lines, sep="\n", soft_wrap=not console.is_terminal)
        log_comparison(folder, grid, result, write_compare_report(folder))  # what was measured is on the screen by now
        if options.json:
            return 0
        how = (
            f"{counted(trained, 'phase')} trained" if trained else "nothing had to be trained, all came from the store"
        )
        console.print("", f"{how}; raw numbers, CSV and report: {folder}", sep="\n", soft_wrap=True)
        return 0


def _look_ahead(options: argparse.Namespace, console: Any, comparison: Any, before: Any) -> int:
    """Say what a comparison would train, of which nothing is begun."""
    import tempfile

    from redense.cli.terminal.grid_progress import outlook_table
    from redense.lab.comparison.comparison import cells, check_started, store_kept
    from redense.lab.comparison.grid import Grid
    from redense.lab.comparison.outlook import outlook
    from redense.lab.pairs.defaults import held
    from redense.lab.store import PhaseStore, default_store, store_of

    with tempfile.TemporaryDirectory() as place, held():
        own, began = (options.resume or Path(place)) / "store", store_kept(options.resume) if options.resume else None
        root, other = store_of(options.store, began, default_store() or own)
        grid = Grid(comparison, PhaseStore(root or own), Path(place))
        if options.resume:
            grid.cells = cells(comparison, grid.task, check_started(options.resume, before, grid.task))
        made, notes = outlook(grid), [*filter(None, [other]), *grid.notes]
    if options.json:
        return answer({"seeds": list(comparison.seeds), "notes": notes, **made})
    for note in notes:
        console.print_titled("note", note, "yellow")
    seeds = counted(len(comparison.seeds), "seed")
    console.print(
        outlook_table(made),
        "",
        f"steps and gradients are of one seed, what is to train of {seeds}; phases that rows share are the first one's",
        f"{made['left']:,} of {made['steps']:,} optimizer steps to train, the others are in the store",
        sep="\n",
        soft_wrap=not console.is_terminal,
    )
    return 0


def _names(listed: str | None) -> tuple[str, ...] | None:
    from redense.lab.arms import get_arms

    if listed is None:
        return None
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    if not names:
        raise RedenseError(f"--arms names no arm, got '{listed}' (see redense arms)")
    get_arms(names)
    return names


def _default_arms(recipe: Any, console: Any) -> str:
    """DSD and its three controls; where given weights stand for the dense phase, without the one that trains it."""
    if recipe.start is None or recipe.tune is not None:
        return "dsd,restart,llr,longer"
    console.print_titled("note", "without longer, which no given weights can stand for a part of", "yellow")
    return "dsd,restart,llr"


def _resources(options: argparse.Namespace) -> dict[str, float]:
    given = {"num_cpus": options.cpus_per_job, "num_gpus": options.gpus_per_job}
    resources = {name: value for name, value in given.items() if value is not None}
    if resources and options.backend != "ray":
        raise RedenseError("--cpus-per-job and --gpus-per-job are what Ray reserves: give --backend ray beside them")
    if any(value < 0 for value in resources.values()):
        raise RedenseError("--cpus-per-job and --gpus-per-job must not be negative")
    return resources


def _check_diagnosis(options: argparse.Namespace, arms: Sequence[str]) -> None:
    """Raise where there is nothing to diagnose.

    Raises:
        RedenseError: none of the arms that are diagnosed is compared.
    """
    from redense.lab.comparison.diagnosis import DIAGNOSED

    if options.diagnose and not set(DIAGNOSED).intersection(arms):
        raise RedenseError(f"--diagnose measures {' and '.join(DIAGNOSED)}, and --arms has neither")


def _diagnose(console: Any, grid: Any, folder: Path) -> None:
    from redense.cli.terminal.screen import bar
    from redense.files.checksums import note_sum
    from redense.files.writing import write_bytes
    from redense.lab.comparison.diagnosis import diagnose_grid
    from redense.lab.ranks.ranks import by_itself

    with bar("diagnosis", console) as show, by_itself():
        found = diagnose_grid(grid, progress=lambda done, total, what: show(done, total, f"diagnosis, {what}"))
    data = (json.dumps(found) + "\n").encode()
    note_sum(folder, "diagnosis.json", data)
    write_bytes(folder / "diagnosis.json", data)
    console.print(f"diagnosis: {folder / 'diagnosis.json'}", soft_wrap=True)


def _arms(options: argparse.Namespace) -> int:
    from redense.lab.arms import get_arms

    twins = "the steps and learning rates of any ARM with a mask, without it"
    listed = [(arm.name, arm.about, arm.source) for arm in get_arms()] + [("restart-ARM", twins, "our own control")]
    if options.json:
        return answer([{"name": name, "about": about, "source": source} for name, about, source in listed])
    for name, about, source in listed:
        say(f"{name:<17}{about}  ({source})")
    return 0


def _store(options: argparse.Namespace) -> int:
    from redense.lab.store import PhaseStore, default_store

    root = options.store or default_store()
    if root is None:
        raise RedenseError("REDENSE_STORE is 'none': there is no store")
    if options.store and not root.is_dir():
        raise RedenseError(
            f"there is no folder {root}: --store names one that runs and comparisons have kept phases in"
        )
    store = PhaseStore(root)
    phases, size = len(store.phases()), store.size()
    if options.action == "clear":
        store.clear()
    if options.json:
        return answer({"folder": str(store.root), "phases": phases, "bytes": size})
    say(f"{store.root}: {counted(phases, 'phase')}, {size / 1e6:.1f} MB")
    if options.action == "clear":
        say("cleared: what is needed again is trained again")
    return 0


def _results(folder: Path, grid: Any, jobs: int, backend: str, resources: dict[str, float]) -> dict[str, Any]:
    """Write the results; what turns out to be damaged in the store while they are gathered is made again, once."""
    from redense.errors import CheckpointError
    from redense.lab.comparison.results import write_results

    try:
        return write_results(folder, grid)
    except CheckpointError:
        if grid.ranks.many:
            raise
        grid.run(jobs=jobs, backend=backend, resources=resources)
        return write_results(folder, grid)
