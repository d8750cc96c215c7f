"""`redense compare --command`: any program, in any language, compared over seeds."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import answer, complain, say
from redense.cli.verbs import Parser, Signals, first_given
from redense.errors import RedenseError, command

_OF_COMMANDS = (
    *("control", "baseline", "metric", "lower_is_better", "higher_is_better", "metric_regex", "timeout", "schedule"),
    *("submit", "retry_failed", "changed_code"),
)
_OF_RECIPES = ("recipe", "arms", "sweep", "store", "cpus_per_job", "gpus_per_job", "settings", "dry_run")


def add_options(compare: Parser) -> None:
    """Add what belongs to commands to the verb ``compare``."""
    own = compare
    own.add_argument(
        "--command",
        action="append",
        metavar="NAME='...'",
        help="a command that trains the arm NAME with {seed}; {out} is a folder for it; may be repeated. Its figure is "
        "the last line that is a JSON object, or {out}/metrics.json",
    )
    own.add_argument("--control", action="append", metavar="NAME", help="an arm without a mask; may be repeated")
    own.add_argument("--baseline", metavar="NAME", help="the arm to compare with (default: baseline, or dense)")
    own.add_argument("--metric", metavar="NAME", help="the figure that decides (default: the only one)")
    own.add_argument("--lower-is-better", action="store_true", default=None, help="of the figure of a command")
    own.add_argument("--higher-is-better", action="store_true", default=None, help="of the figure of a command")
    own.add_argument("--metric-regex", metavar="RE", help="finds the figure in what is printed: 'error: (\\S+)'")
    own.add_argument("--timeout", type=float, metavar="SECONDS", help="a command that takes longer has failed")
    own.add_argument("--schedule", type=Path, metavar="FILE", help="DSD's schedule as JSON, for {schedule} in commands")
    own.add_argument(
        "--submit", metavar="'... {command}'", help="run nothing: write the jobs of a queue, collect later"
    )
    own.add_argument("--retry-failed", action="store_true", default=None, help="run pairs again that have failed")
    own.add_argument(
        "--changed-code",
        action="store_true",
        default=None,
        help="go on though a script of a command has changed: it makes the same numbers",
    )


def is_of_commands(options: argparse.Namespace) -> bool:
    """Return whether a comparison is one of commands: by its options, or by the folder that it goes on with.

    Raises:
        RedenseError: options of commands are given without one, or the folder is of a function.
    """
    form = _form(options.resume) if options.resume else ""
    if form == "function":
        raise RedenseError(
            f"{options.resume} is of redense.compare in Python: call it again with out={str(options.resume)!r}"
        )
    if options.command or form == "command":
        return True
    if given := first_given(options, _OF_COMMANDS):
        raise RedenseError(f"--{given} is of a comparison of commands: give --command NAME='...' too")
    return False


def compare_commands(options: argparse.Namespace) -> int:
    """Run or collect a comparison of commands."""
    from dataclasses import replace

    from redense.lab.environment import environment
    from redense.lab.events import StoppedError
    from redense.lab.pairs.carrying import Carrier
    from redense.lab.pairs.keeping import kept
    from redense.lab.pairs.progress import ProgressLine
    from redense.lab.programs.commands import Commanding, write_schedules
    from redense.lab.programs.scripts import with_scripts

    if foreign := first_given(options, _OF_RECIPES):
        raise RedenseError(f"'{foreign}' is of a comparison of a recipe, and not of --command")
    if options.backend != "loky" or options.diagnose:
        raise RedenseError("commands run on this machine, or on a cluster with --submit: without --backend, --diagnose")
    if os.name != "posix":
        raise RedenseError("--command needs the process groups of Linux or macOS")
    plan = _plan(options)
    if (plan.how or {}).get("submit") and (here := first_given(options, ("timeout", "jobs"))):
        raise RedenseError(f"--{here} is of commands that run here: jobs of a queue have what --submit says to it")
    if options.timeout is not None:
        if not 0 < options.timeout < 1e9:
            raise RedenseError(f"--timeout must be a number of seconds above 0, got {options.timeout:g}")
        plan = replace(plan, how={**(plan.how or {}), "timeout": options.timeout})
    plan = with_scripts(plan, Path((plan.how or {}).get("cwd") or "."))
    carrier = Carrier(1 if options.jobs is None else options.jobs, "threading")
    carrier.join()
    folder, changed = options.resume or options.out, bool(options.changed_code)
    with kept(folder, plan, environment(of_programs=True), changed_code=changed) as held:
        if not options.json:
            say(f"comparison: {held.path}", flush=True)
        write_schedules(held)
        if template := (held.plan.how or {}).get("submit"):
            return _submit(held, template, options)
        progress = ProgressLine(len(held.plan.pairs), jobs=carrier.jobs)
        work = Commanding(held, carrier, progress)
        with Signals(work.stop, "stopping the commands") as signals:
            try:
                outcomes = work.run(retry_failed=bool(options.retry_failed))
            except StoppedError:
                return signals.stopped(command("redense", "compare", "--resume", held.path))
            finally:
                progress.end()
        return _finish(held, outcomes, as_json=options.json)


def _plan(options: argparse.Namespace) -> Any:
    """Return the plan of the comparison: as typed, or the folder's, with what is added."""
    from dataclasses import replace

    from redense.lab.pairs.keeping import read_plan
    from redense.lab.pairs.plan import make_plan, seed_list, seeds_of
    from redense.lab.pairs.printed import checked_expression
    from redense.lab.programs.commands import arms_of_commands
    from redense.lab.programs.submission import checked_template
    from redense.schedule import Schedule

    listed = seed_list(options.seeds) if options.seeds else None
    if options.resume and not options.command:
        own = [name for name in _OF_COMMANDS if name not in ("timeout", "retry_failed", "changed_code")]
        if given := first_given(options, (*own, "looks", "margin", "out")):
            raise RedenseError(f"--resume goes on with the comparison's own settings: give no --{given}")
        before, _ = read_plan(options.resume)
        return replace(before, seeds=seeds_of(listed) if listed else before.seeds)
    if options.lower_is_better and options.higher_is_better:
        raise RedenseError("--lower-is-better and --higher-is-better say the opposite: give one of them")
    if options.resume and options.out:
        raise RedenseError("--resume and --out are one folder: give one of them")
    if options.resume and not listed:  # five more would have their price
        listed = read_plan(options.resume)[0].seeds
    schedule = Schedule.from_file(options.schedule) if options.schedule else None
    arms = arms_of_commands(options.command, schedule)
    if schedule is not None and all(arm.schedule is None for arm in arms):
        raise RedenseError("--schedule has no effect: no command has {schedule}, and no arm is made of it by its name")
    return make_plan(
        arms,
        form="command",
        name="commands",
        seeds=listed or 5,
        baseline=options.baseline,
        controls=options.control,
        metric=options.metric,
        lower_is_better=options.lower_is_better or (False if options.higher_is_better else None),
        looks=1 if options.looks is None else options.looks,
        margin=options.margin,
        settings={"metric_regex": checked_expression(options.metric_regex)},
        how={"cwd": str(Path.cwd()), "submit": checked_template(options.submit), "timeout": None},
    )


def _submit(held: Any, template: str, options: argparse.Namespace) -> int:
    from redense.lab.programs.submission import AGAIN, begun, collect, write_scripts

    outcomes = collect(held, retry_failed=bool(options.retry_failed))
    left = len(held.plan.pairs) - len(outcomes)
    if not left:
        return _finish(held, outcomes, as_json=options.json)
    running = len(begun(held, outcomes))
    path, rest = write_scripts(held, outcomes, template), left - running
    send, again = command("sh", path), command("sh", held.path / AGAIN)
    if options.json:
        told = {"folder": str(held.path), "done": len(outcomes), "left": left, "begun": running}
        return answer({**told, "send": send if rest else "", "send_again": again if running else ""})
    done = f"{len(outcomes):,} of {len(held.plan.pairs):,} pairs are done"
    if running:
        done += f", {running:,} {'has' if running == 1 else 'have'} begun and not ended (running, or killed)"
    say(f"{done}; what sends the other {rest:,}: {send}" if rest else done)
    if running:
        killed = "it runs no more, what sends it" if running == 1 else "none of them runs any more, what sends them"
        say(f"where {killed} again: {again}")
    say(f"collect them with: {command('redense', 'compare', '--resume', held.path)}")
    return 0


def _finish(held: Any, outcomes: Any, *, as_json: bool) -> int:
    from redense.lab.pairs.results import write_results
    from redense.report.compared import judgement_of
    from redense.report.comparisons.page import write_compare_report

    results = write_results(held, outcomes)
    say(json.dumps({"folder": str(held.path), **results}) if as_json else judgement_of(results))
    for (arm, seed), outcome in outcomes.items():
        if outcome.failed:
            complain(f"{arm}, seed {seed} failed: {outcome.failed}")
    page = write_compare_report(held.path)  # what was measured is on the screen by now
    if not as_json:
        say(f"\nraw numbers, CSV and report: {page}")
    return 0


def _form(folder: Path) -> str:
    from redense.files.json_text import read_json

    try:
        found = read_json(folder / "comparison.json")
    except (OSError, ValueError):
        return ""
    return str(found.get("form") or "") if isinstance(found, dict) else ""
