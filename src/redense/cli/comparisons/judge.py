"""Verb of anybody's results: judge. It needs numpy and scipy alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import say
from redense.cli.verbs import Verbs, first_given
from redense.errors import RedenseError, command

_STDIN = "-"
_OF_A_PLAN = ("sd", "effect", "arms", "power")
_OF_A_TABLE = ("metric", "lower_is_better", "baseline", "control", "margin")


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    judge = verbs.add(
        "judge",
        "judge a table of results that any program made: arm, seed and a figure in each row",
        _judge,
        epilog="The table is CSV, JSON lines, a comparison's folder, or - for standard input; several are one family. "
        "An arm is a gain if it is better than the baseline and than the strongest control without a mask.",
    )
    judge.add_argument("table", nargs="*", metavar="TABLE", help="columns arm, seed, a figure; split and steps if any")
    judge.add_argument("--metric", metavar="NAME", help="the column of the figures (default: the only one)")
    side = judge.add_mutually_exclusive_group()
    side.add_argument("--lower-is-better", action="store_true", default=None, help="of the figures")
    side.add_argument("--higher-is-better", action="store_false", dest="lower_is_better", default=None, help="of them")
    judge.add_argument("--baseline", metavar="NAME", help="the arm to compare with (default: baseline, or dense)")
    judge.add_argument(
        "--control", metavar="NAME", action="append",
        help="an arm without a mask; may be repeated (default: restart, llr and longer)",
    )  # fmt: skip
    judge.add_argument("--margin", type=float, metavar="X", help="differences within it are nothing: say what is equal")
    judge.add_argument("--looks", type=int, metavar="N", help="how often it will be looked at in all (default: 1)")
    judge.add_argument(
        "--changed-code", action="store_true", help="code that differs between folders makes the same numbers"
    )
    judge.add_argument("--plan", action="store_true", help="no table: how many seeds does a difference take?")
    judge.add_argument("--sd", type=float, metavar="S", help="of a plan: standard deviation of paired differences")
    judge.add_argument("--effect", type=float, metavar="D", help="of a plan: the true difference")
    judge.add_argument("--arms", type=int, metavar="K", help="of a plan: arms beside the baseline, one the control")
    judge.add_argument("--power", type=float, metavar="P", help="of a plan: how often it is to be shown (default: 0.8)")
    judge.add_argument("--out", type=Path, metavar="DIR", help="write the page of it, the numbers, Markdown and LaTeX")
    form = judge.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    form.add_argument("--latex", action="store_true", help="print the table for a paper")


def _judge(options: argparse.Namespace) -> int:
    told = _plan(options) if options.plan else _verdicts(options)
    if options.plan and (options.markdown or options.latex or options.out):
        raise RedenseError("--out, --markdown and --latex are of a table: a plan is printed as text or with --json")
    page = _write(told, options) if options.out else None
    say(_form(told, options))
    if page and not (options.json or options.markdown or options.latex):
        say(f"\n{page}; figures for a paper: {command('redense', 'report', options.out, '--figures', 'paper')}")
    return 0


def _write(told: Any, options: argparse.Namespace) -> Path:
    from redense.report.judged import write_judgement

    if options.out.exists() and not (options.out.is_dir() and not any(options.out.iterdir())):
        raise RedenseError(f"--out '{options.out}' is there already: name a folder that is not")
    name = " and ".join("standard input" if t == _STDIN else Path(t).stem or str(t) for t in options.table)
    return write_judgement(told, options.out, name)


def _form(told: Any, options: argparse.Namespace) -> Any:
    if options.json:
        return json.dumps(told.to_dict(), indent=2, allow_nan=False)
    if options.markdown or options.latex:
        from redense.report.judged import to_latex, to_markdown

        return (to_markdown if options.markdown else to_latex)(told).rstrip("\n")
    return told


def _verdicts(options: argparse.Namespace) -> Any:
    if foreign := first_given(options, _OF_A_PLAN):
        raise RedenseError(f"--{foreign} is of a plan: give --plan beside it, and no table")
    if not options.table:
        raise RedenseError("which table? try: redense judge results.csv, or redense judge --plan (see --help)")
    from redense.lab.judging.judge import judge

    if options.table.count(_STDIN) > 1:
        raise RedenseError("standard input can be read once: give - once")
    if _STDIN in options.table and sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise RedenseError("standard input is closed: pipe a table into redense judge -, or name a file")
    return judge(
        [sys.stdin.buffer if table == _STDIN else table for table in options.table],
        metric=options.metric,
        lower_is_better=options.lower_is_better,
        baseline=options.baseline,
        controls=options.control,
        margin=options.margin,
        looks=1 if options.looks is None else options.looks,
        changed_code=options.changed_code,
    )


def _plan(options: argparse.Namespace) -> Any:
    foreign = first_given(options, _OF_A_TABLE)
    if options.table or foreign or options.changed_code:
        what = "a table" if options.table else f"--{foreign or 'changed-code'}"
        raise RedenseError(f"--plan is made before there is a table: {what} is not of it")
    if missing := next((name for name in ("sd", "effect", "arms") if getattr(options, name) is None), None):
        raise RedenseError(f"--plan needs --{missing}: redense judge --plan --sd 0.4 --effect 0.5 --arms 3")
    from redense.lab.judging.planning import plan
    from redense.lab.judging.power import POWER

    wanted = POWER if options.power is None else options.power
    looks = 1 if options.looks is None else options.looks
    return plan(sd=options.sd, effect=options.effect, arms=options.arms, wanted=wanted, looks=looks)
