"""The command line: one function a verb. Heavy imports stay inside the verbs, so that help and mistakes are quick."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .errors import RedenseError, nearest

_RUN_FLAGS = {"--out": 1, "--resume": 1, "--print-config": 0, "--quiet": 0, "--help": 0, "-h": 0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 a mistake of the user's, 130 / 143 stopped."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = _parser()
    try:
        settings: list[str] = []
        if arguments[:1] == ["run"]:
            arguments, settings = _split_settings(arguments)
        if arguments and not arguments[0].startswith("-") and arguments[0] not in _VERBS:
            raise RedenseError(f"unknown command '{arguments[0]}'{nearest(arguments[0], _VERBS)} (see redense --help)")
        options = parser.parse_args(arguments)
        if not options.verb:
            parser.print_help()
            return 0
        options.settings = settings
        return _VERBS[options.verb](options)
    except RedenseError as error:
        print(f"redense: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("redense: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `redense recipes show NAME | head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    run.add_argument("--print-config", action="store_true", help="show the resolved recipe and train nothing")
    run.add_argument("--quiet", action="store_true", help="no progress, only the result")

    evaluate = verb("evaluate", "evaluate the final model of a run")
    evaluate.add_argument("run", type=Path, help="a run folder")
    evaluate.add_argument("--split", choices=("validation", "test"), default="test")
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    export = verb("export", "write the model of a run as safetensors with a model card")
    export.add_argument("run", type=Path, help="a run folder")
    export.add_argument("out", type=Path, help="a new folder")

    report = verb("report", "write the report page of a run again")
    report.add_argument("run", type=Path, help="a run folder, finished or not")
    report.add_argument("--open", action="store_true", help="open it in the browser")

    recipes = verb("recipes", "list the shipped recipes, show one, or copy one to change it")
    recipes.add_argument("action", nargs="?", choices=("list", "show", "copy"), default="list")
    recipes.add_argument("name", nargs="?")
    recipes.add_argument("to", nargs="?", type=Path, help="copy: the new file (default: NAME.yaml here)")

    data = verb("data", "list the data sets that redense can fetch, get one, or check one")
    data.add_argument("action", nargs="?", choices=("list", "get", "check"), default="list")
    data.add_argument("name", nargs="?")
    return parser


def _split_settings(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part the command's own options from the recipe's settings, which are any other --key value."""
    own, settings = arguments[:1], list[str]()
    items = iter(arguments[1:])
    for item in items:
        flag, equals, _ = item.partition("=")
        if not item.startswith("-") or flag in _RUN_FLAGS:
            own.append(item)
            if not equals and _RUN_FLAGS.get(flag):
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
        from .lab.plan import plan
        from .lab.progress import RunProgress, describe, result_table, verdict
        from .lab.run import new_run, train_run
        from .tasks.metrics import METRICS

        phases = plan(recipe)
        folder: Path = options.resume or new_run(recipe, options.out)
    if not options.quiet:
        flow = " -> ".join(describe(phase) for phase in phases)
        console.print(f"[bold]{recipe.name}[/]: {flow}; seed {recipe.seed}", soft_wrap=not console.is_terminal)
        console.print(f"run folder: {folder}", soft_wrap=True)
    shown = Console(quiet=True) if options.quiet else console
    with _Signals() as signals, RunProgress(shown, phases, METRICS[recipe.task]) as progress:
        try:
            result = train_run(folder, emit=progress, stop=lambda: signals.received is not None)
        except StoppedError:
            number = signals.received or signal.SIGINT
            name = signal.Signals(number).name
            print(f"redense: stopped by {name}; go on with: redense run --resume {folder}", file=sys.stderr)
            return 128 + number
    console.print("", result_table(result), "", sep="\n")
    console.print(verdict(result), "", sep="\n", soft_wrap=not console.is_terminal)
    for what, name in (("report", "report.html"), ("model", "model.safetensors"), ("everything", "")):
        console.print(f"{what:<11}{folder / name}", soft_wrap=True)
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
    from .lab.run import export_run

    out = export_run(options.run, options.out)
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def _report(options: argparse.Namespace) -> int:
    from .report.page import write_report

    if not (options.run / "recipe.yaml").is_file():
        raise RedenseError(f"{options.run} is no run folder: it has no recipe.yaml")
    path = write_report(options.run)
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
    return 0


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
    "recipes": _recipes,
    "data": _data,
}


class _Signals:
    """Remembers Ctrl-C and SIGTERM, so that training stops after the step at hand; a second Ctrl-C stops at once."""

    received: int | None = None

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
        print("\nstopping after this step; once more to stop at once", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
