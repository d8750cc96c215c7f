"""Verbs of one run: run, evaluate, export."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redense.errors import RedenseError, resuming
from redense.files.opening import at_home
from redense.files.visible import counted

from .terminal.printing import answer, say, say_line
from .verbs import Signals, Verbs, join_ranks


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    run = verbs.add(
        "run",
        "train a recipe: dense, sparse, dense; or as an arm of redense compare, such as longer",
        _run,
        settings=True,
        epilog="Every setting of a recipe can be given: --sparse.sparsity 0.5 --dense.epochs 20 --seed 3 --data PATH. "
        "`redense run RECIPE --print-config` shows them all. --arm longer trains the network of that arm of "
        "`redense compare`, with one thread as it does (see `redense arms`).",
    )
    run.add_argument("recipe", nargs="?", help="a name of `redense recipes`, or a YAML file of your own")
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/RECIPE-seedN-TIME)")
    run.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run that was stopped or killed")
    run.add_argument("--store", type=Path, metavar="DIR", help="where trained phases are kept (default: runs/store)")
    run.add_argument("--no-store", action="store_true", help="train everything anew, and keep only the run folder")
    run.add_argument("--print-config", action="store_true", help="show the resolved recipe and train nothing")
    run.add_argument("--quiet", action="store_true", help="no progress, only the result")
    run.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to the error output")

    evaluate = verbs.add("evaluate", "evaluate the final model of a run", _evaluate)
    evaluate.add_argument("run", help="a run folder, its export, or a name of the zoo")
    evaluate.add_argument(
        "--data",
        metavar="PATH",
        help="where the data lies now, or other images of the same classes, other recordings",
    )
    evaluate.add_argument(
        "--split",
        choices=("validation", "test", "all"),
        help="of the data (default: test); all: of other images or recordings, whatever split they are in",
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    export = verbs.add("export", "write the model of a run as safetensors with a model card, or publish it", _export)
    export.add_argument("run", type=Path, help="a run folder")
    export.add_argument("out", help="a new folder, or hub:OWNER/NAME to publish on the Hugging Face Hub")
    export.add_argument(
        "--format",
        choices=("safetensors", "onnx", "torch-export"),
        default="safetensors",
        help="onnx, torch-export: the network too, as graphs of any batch size and length, compared with it "
        "(default: safetensors, the weights)",
    )
    export.add_argument(
        "--data",
        metavar="PATH",
        help="what graphs are compared on, if it is not where the recipe says: the run's data, or other of its kind",
    )
    export.add_argument("--json", action="store_true", help="print JSON")
    export.add_argument("--private", action="store_true", help="hub: for you and your organisation alone")


def _run(options: argparse.Namespace) -> int:
    from redense.lab.headings import heading_of
    from redense.lab.loggers.base import check_loggers
    from redense.lab.recipe.recipe import build_recipe, load_recipe, read_run_recipe

    ranks = join_ranks()
    if options.no_store and options.store:
        raise RedenseError("--no-store keeps nothing in a store: give no --store beside it")
    if options.resume:
        if options.recipe or options.settings or options.out:
            raise RedenseError("--resume goes on with the run's own recipe: give no recipe, setting or --out beside it")
        recipe = build_recipe(ranks.main(lambda: read_run_recipe(options.resume, whole=False).model_dump(mode="json")))
    elif not options.recipe:
        raise RedenseError("which recipe? try: redense run quickstart (see redense recipes)")
    else:
        recipe = load_recipe(options.recipe, options.settings)
    if recipe.arm:
        from redense.lab.arms.of_recipe import about

        about(recipe.arm)  # no folder is made for one that there is not
    if options.print_config:
        if ranks.is_main and options.json:
            return answer(recipe.to_dict())
        say(recipe.to_yaml() if ranks.is_main else "", end="")
        return 0
    check_loggers(recipe.log or ())

    from .terminal.screen import SafeConsole

    console = SafeConsole(quiet=not ranks.is_main, stderr=options.json)
    with console.status("loading PyTorch and data") if console.is_terminal else contextlib.nullcontext():
        from redense.lab.events import listening
        from redense.lab.folder import restarted_folder
        from redense.lab.judging.single import run_verdict
        from redense.lab.runs.resume import store_again
        from redense.lab.runs.run import discard_unstarted, has_checkpoint, new_run, train_run
        from redense.lab.store import PhaseStore, default_store
        from redense.lab.training.engine import StoppedError, TrainingError
        from redense.report.runs.page import write_report
        from redense.tasks.metrics import shown_name

        from .terminal.progress import RunProgress, result_table

        root, other = "" if options.no_store else str(options.store or default_store() or ""), ""
        if options.resume and not options.no_store:
            root, other = ranks.main(lambda: store_again(options.resume, options.store, default_store()))
        store = PhaseStore(Path(root)) if root else None

        def new() -> str:
            kept = str(Path(root).resolve()) if root else ""
            return str(restarted_folder(options.out) or new_run(recipe, options.out, store=kept))

        folder: Path = options.resume or Path(ranks.main(new))
    if not options.quiet:
        heading = heading_of(recipe.name, recipe.about)
        about_it = recipe.about or recipe.task
        whole = f"arm {recipe.arm} of the recipe: {about_it}" if recipe.arm else about_it
        console.print_titled(heading, f"{whole}; seed {recipe.seed}")
        console.print(f"run folder: {folder}", soft_wrap=True)
        if other:
            console.print_titled("note", other, "yellow")
    go_on, unwritten = resuming(folder), list[RedenseError]()

    def report(folder: Path) -> Path | None:
        try:
            return write_report(folder)
        except RedenseError as error:  # said behind the result
            unwritten.append(error)
            return None

    with Signals() as signals:
        try:
            shown = RunProgress(SafeConsole(quiet=True) if options.quiet else console)
            with shown, listening(shown):
                result = train_run(folder, stop=lambda: signals.received is not None, store=store, report=report)
            if not ranks.is_main:
                return 0
        except StoppedError:
            return signals.stopped(go_on, ranks.gather(signals.received or 0))
        except KeyboardInterrupt:  # twice: at once, and what was saved before is what there is
            return signals.stopped(go_on)
        except RedenseError as error:
            if not options.resume and ranks.is_main:
                discard_unstarted(folder)
            if not ranks.is_main or options.resume or not has_checkpoint(folder) or "--resume" in str(error):
                raise
            where = f"in {folder}" if isinstance(error, TrainingError) else f"and goes on with: {go_on}"
            raise RedenseError(f"{error}; what was trained before is kept {where}") from error
    if options.json:
        answer({"folder": str(folder), "report": None if unwritten else str(folder / "report.html"), **result})
        return _complained(unwritten)
    console.print("", result_table(result), "", sep="\n")
    for note in result["notes"]:
        if note not in shown.notes:  # as of a phase that diverged
            console.print_titled("note", note, "yellow")
    said = run_verdict(result, recipe.model_dump(mode="json"), shown_name(result["metric"]["name"]))
    console.print(said, "", sep="\n", soft_wrap=not console.is_terminal)
    for what, name in (("report", "report.html"), ("model", "model.safetensors"), ("everything", "")):
        if what != "report" or not unwritten:
            console.print(f"{what:<11}{folder / name}", soft_wrap=True)
    return _complained(unwritten)


def _complained(unwritten: Sequence[RedenseError]) -> int:
    """Return the exit code of a run that is finished, whose page may not be written.

    Raises:
        RedenseError: it is not.
    """
    if unwritten:
        raise unwritten[0]
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from redense.lab.runs.elsewhere import evaluate_elsewhere
    from redense.lab.runs.run import load_model
    from redense.lab.runs.trained import find_trained
    from redense.tasks.metrics import shown_name

    folder = find_trained(options.run)
    if options.data is None:
        split = options.split or "test"
        if split == "all":
            raise RedenseError("--split all is for other data: the run was trained on most of its own (--data PATH)")
        engine = load_model(folder)
        metrics, metric = engine.evaluate(split), engine.task.metric
        examples, notes = len(engine.task.examples(split)), list[str]()
    else:
        found = evaluate_elsewhere(folder, options.data, options.split)
        metrics, metric, split, examples, notes = found.metrics, found.metric, found.split, found.examples, found.notes
    if options.json:
        of_data = {} if options.data is None else {"examples": examples, "notes": notes}
        return answer({"run": str(options.run), "split": split, **metrics, **of_data})
    for note in notes:
        say_line(f"note: {note}")
    say(f"{split} split, {counted(examples, 'example')}")
    for name, value in metrics.items():
        unit = f" {metric.unit}" if name.partition(" ")[0].endswith(metric.name) else ""  # "wer 92": of one test set
        say(f"  {shown_name(name):<12}{value:.4f}{unit.rstrip()}")
    return 0


def _export(options: argparse.Namespace) -> int:
    graphs: list[Any] = []

    def tell(graph: Any) -> None:
        graphs.append(graph)
        if not options.json:
            say(graph)

    if options.out.startswith("hub:"):
        from redense.lab.runs.hub import publish_run

        address = publish_run(
            options.run, options.out, private=options.private, form=options.format, data=options.data, tell=tell
        )
        if options.json:
            return answer({"address": address, "graphs": list(map(vars, graphs))})
        say(address)
        return 0
    if options.private:
        raise RedenseError(f"--private is for the Hub: give hub:OWNER/NAME in place of {options.out}")
    from redense.lab.runs.export import export_run

    out = export_run(options.run, at_home(options.out), options.format, data=options.data, tell=tell)
    files = {path: path.stat().st_size for path in sorted(path for path in out.rglob("*") if path.is_file())}
    if options.json:
        listed = [{"path": str(path), "bytes": size} for path, size in files.items()]
        return answer({"folder": str(out), "files": listed, "graphs": list(map(vars, graphs))})
    for path, size in files.items():
        say_line(f"{path}  {size:,} bytes")
    return 0
