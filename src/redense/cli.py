"""The command line: one function a verb. Heavy imports stay inside the verbs, so that help and mistakes are quick."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import RedenseError, nearest

# The options of the verbs that take settings of a recipe, and how many values each has; any other --key is a setting.
_HELP = {"--help": 0, "-h": 0}
_FLAGS = {
    "run": {"--out": 1, "--resume": 1, "--store": 1, "--no-store": 0, "--print-config": 0, "--quiet": 0, **_HELP},
    "compare": {
        "--diagnose": 0,
        **dict.fromkeys(("--arms", "--seeds", "--sweep", "--jobs", "--backend", "--store", "--out", "--resume"), 1),
        **_HELP,
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 data is broken, 2 a mistake, 130 / 143 stopped."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = _parser()
    try:
        settings: list[str] = []
        if arguments and arguments[0] in _FLAGS:
            arguments, settings = _split_settings(arguments, _FLAGS[arguments[0]])
        if arguments and not arguments[0].startswith("-") and arguments[0] not in _VERBS:
            raise RedenseError(f"unknown command '{arguments[0]}'{nearest(arguments[0], _VERBS)} (see redense --help)")
        options = parser.parse_args(arguments)
        if not options.verb:
            parser.print_help()
            return 0
        options.settings = settings
        code = _VERBS[options.verb](options)
        sys.stdout.flush()
        return code
    except RedenseError as error:
        print(f"redense: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("redense: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `redense recipes show NAME | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141
    except OSError as error:  # a full disk, a folder without permission
        print(f"redense: {error}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RedenseError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="redense",
        allow_abbrev=False,
        description="Dense-sparse-dense training: a more accurate network of the same size and speed.",
        epilog="Start with: redense run quickstart",
    )
    parser.add_argument("--version", action="version", version=f"redense {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND")

    def verb(name: str, help_text: str, **options: Any) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=help_text, description=help_text, allow_abbrev=False, **options)

    run = verb(
        "run",
        "train a recipe: dense, sparse, dense",
        epilog="Every setting of a recipe can be given: --sparse.sparsity 0.5 --dense.epochs 20 --seed 3 --data PATH. "
        "`redense run RECIPE --print-config` shows them all.",
    )
    run.add_argument("recipe", nargs="?", help="a name of `redense recipes`, or a YAML file of your own")
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-seedN-TIME)")
    run.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run that was stopped or killed")
    run.add_argument("--store", type=Path, metavar="DIR", help="where trained phases are kept (default: runs/store)")
    run.add_argument("--no-store", action="store_true", help="train everything anew, and keep only the run folder")
    run.add_argument("--print-config", action="store_true", help="show the resolved recipe and train nothing")
    run.add_argument("--quiet", action="store_true", help="no progress, only the result")

    compare = verb(
        "compare",
        "train arms beside each other, on one budget and over several seeds, and say what is gained",
        epilog="Settings of the recipe can be given as for run: --data PATH --dense.epochs 20. "
        "Everything trained is kept in the store, so that nothing is trained twice.",
    )
    compare.add_argument("recipe", nargs="?", help="a name of `redense recipes`, or a YAML file of your own")
    compare.add_argument("--arms", metavar="A,B", help="see `redense arms` (default: dsd,restart,llr)")
    compare.add_argument("--seeds", metavar="N", help="how many, or a list: 3,7,11 (default: 5)")
    compare.add_argument("--sweep", metavar="KEY=A,B", help="settings of the sparse phase: sparsity=0.2,0.3,0.5")
    compare.add_argument("--diagnose", action="store_true", help="measure the paper's hypotheses for dsd and restart")
    compare.add_argument("--jobs", type=int, metavar="N", help="processes, one thread each (default: the cores)")
    compare.add_argument("--backend", choices=("loky", "ray"), default="loky", help="joblib's, to carry the jobs")
    compare.add_argument("--store", type=Path, metavar="DIR", help="where phases are kept (default: runs/store)")
    compare.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison")
    compare.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with a comparison that was stopped or killed"
    )

    verb("arms", "list what can be compared")

    store = verb("store", "show how much the phase store holds, or clear it")
    store.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    store.add_argument("--store", type=Path, metavar="DIR", help="(default: runs/store)")

    evaluate = verb("evaluate", "evaluate the final model of a run")
    evaluate.add_argument("run", type=Path, help="a run folder")
    evaluate.add_argument("--split", choices=("validation", "test"), default="test")
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    export = verb("export", "write the model of a run as safetensors with a model card")
    export.add_argument("run", type=Path, help="a run folder")
    export.add_argument("out", type=Path, help="a new folder")

    report = verb("report", "write the report page of a run or a comparison again")
    report.add_argument("run", type=Path, help="a run folder, finished or not")
    report.add_argument("--open", action="store_true", help="open it in the browser")

    recipes = verb("recipes", "list the shipped recipes, show one, or copy one to change it")
    recipes.add_argument("action", nargs="?", choices=("list", "show", "copy"), default="list")
    recipes.add_argument("name", nargs="?")
    recipes.add_argument("to", nargs="?", type=Path, help="copy: the new file (default: NAME.yaml here)")

    data = verb("data", "list the data sets that redense can fetch, get one, or check one, also a folder of yours")
    data.add_argument("action", nargs="?", choices=("list", "get", "check"), default="list")
    data.add_argument("name", nargs="?", help="one of the list; check: also a folder, or hub:OWNER/NAME")
    data.add_argument("--full", action="store_true", help="check: decode every image, and remember what is broken")
    data.add_argument("--label", metavar="COLUMN", help="check: the column of the classes, if there are several")
    return parser


def _split_settings(arguments: list[str], flags: dict[str, int]) -> tuple[list[str], list[str]]:
    """Part the command's own options from the recipe's settings, which are any other --key value."""
    own, settings = arguments[:1], list[str]()
    items = iter(arguments[1:])
    for item in items:
        flag, equals, _ = item.partition("=")
        if not item.startswith("-") or flag in flags:
            own.append(item)
            if not equals and flags.get(flag):
                own.extend(value for value in [next(items, None)] if value is not None)
            continue
        settings.append(item)
        if not equals:
            settings.extend(value for value in [next(items, None)] if value is not None)
    return own, settings


# --- verbs ----------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from .lab.recipe import load_recipe, read_run_recipe

    if options.resume:
        if options.recipe or options.settings or options.out:
            raise RedenseError("--resume goes on with the run's own recipe: give no recipe, setting or --out beside it")
        recipe = read_run_recipe(options.resume)
    elif not options.recipe:
        raise RedenseError("which recipe? try: redense run quickstart (see redense recipes)")
    else:
        recipe = load_recipe(options.recipe, options.settings)
    if options.print_config:
        print(recipe.to_yaml(), end="")
        return 0

    from rich.console import Console

    console = Console(highlight=False)
    with console.status("loading PyTorch and data") if console.is_terminal else contextlib.nullcontext():
        from .lab.engine import StoppedError
        from .lab.progress import RunProgress, result_table, verdict
        from .lab.run import discard_unstarted, new_run, train_run
        from .lab.store import PhaseStore, default_store

        root = None if options.no_store else options.store or default_store()
        store = PhaseStore(root) if root else None

        folder: Path = options.resume or new_run(recipe, options.out)
    if not options.quiet:
        console.print(f"[bold]{recipe.name}[/]: {recipe.about or recipe.task}; seed {recipe.seed}", soft_wrap=True)
        console.print(f"run folder: {folder}", soft_wrap=True)
    with _Signals() as signals, RunProgress(Console(quiet=True) if options.quiet else console) as progress:
        try:
            result = train_run(folder, emit=progress, stop=lambda: signals.received is not None, store=store)
        except StoppedError:
            number = signals.received or signal.SIGINT
            name = signal.Signals(number).name
            print(
                f"redense: stopped by {name}; go on with: redense run --resume {shlex.quote(str(folder))}",
                file=sys.stderr,
            )
            return 128 + number
        except RedenseError:
            if not options.resume:
                discard_unstarted(folder)
            raise
    from .report.page import write_report

    write_report(folder)
    console.print("", result_table(result), "", sep="\n")
    console.print(verdict(result), "", sep="\n", soft_wrap=not console.is_terminal)
    for what, name in (("report", "report.html"), ("model", "model.safetensors"), ("everything", "")):
        console.print(f"{what:<11}{folder / name}", soft_wrap=True)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from .lab.recipe import load_recipe

    own = (options.recipe, options.settings, options.out, options.arms, options.seeds, options.sweep)
    if options.resume and any(value not in (None, []) for value in own):
        raise RedenseError("--resume goes on with the comparison's own recipe, arms and seeds: give none beside it")
    if not options.resume and not options.recipe:
        raise RedenseError("which recipe? try: redense compare quickstart --arms dsd,restart,llr --seeds 3")
    if options.jobs is not None and options.jobs < 1:
        raise RedenseError(f"--jobs must be at least 1, got {options.jobs}")
    if any(setting.partition("=")[0] == "--seed" for setting in options.settings):
        raise RedenseError("a comparison has several seeds: give --seeds 5, or --seeds 3,7,11")
    recipe = None if options.resume else load_recipe(options.recipe, options.settings)

    from rich.console import Console

    from .lab.arms import get_arms
    from .lab.compare import write_results
    from .lab.engine import StoppedError
    from .lab.grid import (
        Comparison,
        Grid,
        discard_comparison,
        new_comparison,
        parse_sweep,
        read_comparison,
        seed_list,
    )
    from .lab.grid_progress import GridProgress, comparison_table
    from .lab.store import PhaseStore, default_store

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has room for the whole table
    if recipe is None:
        folder: Path = options.resume
        comparison = read_comparison(folder)
    else:
        listed = "dsd,restart,llr" if options.arms is None else options.arms
        names = tuple(name.strip() for name in listed.split(",") if name.strip())
        if not names:
            raise RedenseError(f"--arms names no arm, got '{listed}' (see redense arms)")
        get_arms(names)
        seeds = seed_list("5" if options.seeds is None else options.seeds)
        comparison = Comparison(recipe, names, seeds, parse_sweep(options.sweep))
        folder = new_comparison(comparison, options.out)
    console.print(f"comparison: {folder}", soft_wrap=True)
    try:
        grid = Grid(comparison, PhaseStore(options.store or default_store() or folder / "store"), folder)
    except RedenseError:
        if not options.resume:
            discard_comparison(folder)
        raise
    jobs = options.jobs or os.cpu_count() or 1
    with _Signals(grid.stop) as signals, GridProgress(console, grid, jobs) as progress:
        try:
            trained = grid.run(jobs=jobs, backend=options.backend, tick=progress.tick)
        except StoppedError:
            number = signals.received or signal.SIGINT
            name = signal.Signals(number).name
            words = ["redense", "compare", "--resume", folder, *(["--store", options.store] if options.store else [])]
            again = shlex.join(map(str, words))
            print(f"redense: stopped by {name}; go on with: {again}", file=sys.stderr)
            return 128 + number
    result = write_results(folder, grid)
    if options.diagnose:
        _diagnose(console, grid, folder)
    from .report.compare_page import write_compare_report

    write_compare_report(folder)
    console.print("", comparison_table(result, folder), "", sep="\n")
    for said in result["conclusions"].values():
        console.print(said, soft_wrap=not console.is_terminal)
    if result["caution"]:
        console.print("", result["caution"], sep="\n", soft_wrap=not console.is_terminal)
    how = f"{trained} phases trained" if trained else "nothing had to be trained, all came from the store"
    console.print("", f"{how}; raw numbers, CSV and report: {folder}", sep="\n", soft_wrap=True)
    return 0


def _diagnose(console: Any, grid: Any, folder: Path) -> None:
    from rich.progress import Progress

    from .lab.checkpoint import write_text
    from .lab.diagnose_arms import diagnose_grid

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("diagnosis", total=None)

        def show(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=f"diagnosis, {what}")

        found = diagnose_grid(grid, progress=show)
    write_text(folder / "diagnosis.json", json.dumps(found) + "\n")
    console.print(f"diagnosis: {folder / 'diagnosis.json'}", soft_wrap=True)


def _arms(options: argparse.Namespace) -> int:
    from .lab.arms import get_arms

    for arm in get_arms():
        print(f"{arm.name:<15}{arm.about}  ({arm.source})")
    return 0


def _store(options: argparse.Namespace) -> int:
    from .lab.store import PhaseStore, default_store

    root = options.store or default_store()
    if root is None:
        raise RedenseError("REDENSE_STORE is 'none': there is no store")
    store = PhaseStore(root)
    print(f"{store.root}: {len(store.phases())} phases, {store.size() / 1e6:.1f} MB")
    if options.action == "clear":
        store.clear()
        print("cleared: what is needed again is trained again")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from .lab.run import load_model

    engine = load_model(options.run)
    metrics = engine.evaluate(options.split)
    if options.json:
        print(json.dumps({"run": str(options.run), "split": options.split, **metrics}))
        return 0
    examples = len(engine.task.examples(options.split))
    main_metric = engine.task.metric
    print(f"{options.split} split, {examples:,} examples")
    for name, value in metrics.items():
        unit = f" {main_metric.unit}" if name.endswith(main_metric.name) else ""
        print(f"  {name:<12}{value:.4f}{unit}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from .lab.export import export_run

    out = export_run(options.run, options.out)
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def _report(options: argparse.Namespace) -> int:
    from .report.compare_page import write_compare_report
    from .report.page import write_report

    if (options.run / "compare.json").is_file():
        path = write_compare_report(options.run)
    elif (options.run / "recipe.yaml").is_file():
        path = write_report(options.run)
    else:
        raise RedenseError(f"{options.run} is no run and no comparison: it has no recipe.yaml and no compare.json")
    print(path)
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from .lab.recipe import load_recipe, recipe_names, recipe_text

    if options.action == "list":
        for name in recipe_names():
            print(f"{name:<24}{load_recipe(name).about}")
        return 0
    if not options.name:
        raise RedenseError(f"which recipe? redense recipes {options.action} NAME (known: {', '.join(recipe_names())})")
    text = recipe_text(options.name)
    if options.action == "show":
        print(text, end="")
        return 0
    target: Path = options.to or Path(options.name.rpartition("/")[2]).with_suffix(".yaml")
    if target.exists():
        raise RedenseError(f"{target} exists: name another file")
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RedenseError(f"cannot write {target}: {error.strerror}") from None
    print(f"{target}: change it, then run it with: redense run {target}")
    return 0


def _data(options: argparse.Namespace) -> int:
    from .tasks import catalog

    if options.action == "list":
        for source in catalog.SOURCES.values():
            print(f"{source.name:<20}{catalog.status(source):<9}{source.megabytes:>5} MB  {source.description}")
        print(f"kept in {catalog.cache_dir()}")
        return 0
    if not options.name:
        raise RedenseError(f"which data set? redense data {options.action} NAME (known: {', '.join(catalog.SOURCES)})")
    if options.action == "check" and (options.name.startswith("hub:") or Path(options.name).expanduser().is_dir()):
        return _check_images(options)
    source = catalog.find(options.name)
    if options.action == "get":
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task(source.name, total=1.0)
            path = catalog.get(source, lambda what, part: progress.update(bar, description=what, completed=part))
    else:
        path = catalog.check(source)
    print(f"{source.name} is whole: {path}")
    return _check_images(options) if options.full else 0


def _check_images(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from .tasks.classification.data.inspecting import describe, inspect_images

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("looking at every image", total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        splits = inspect_images(options.name, full=options.full, label=options.label, on_checked=show)
    for split in splits:
        print(*describe(split), sep="\n")
    broken = any(split.faults for split in splits)
    if broken:
        print("training refuses this set, or leaves these images out with data.broken: skip")
    elif not options.full:
        print("nothing is wrong as far as headers and ends of files show; --full decodes every image")
    return int(broken)


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "compare": _compare,
    "arms": _arms,
    "store": _store,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
    "recipes": _recipes,
    "data": _data,
}


class _Signals:
    """Remembers Ctrl-C and SIGTERM, so that training stops after the step at hand; a second Ctrl-C stops at once."""

    received: int | None = None

    def __init__(self, stop: Callable[[], None] = lambda: None) -> None:
        self._stop = stop

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        self._stop()
        print("\nstopping after this step; once more to stop at once", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
