"""The command line: a module a group of verbs, a function a verb.

Heavy imports stay inside the verbs, so that help and mistakes are quick. To add a verb, write its function, add it in
its module's ``register``, and for a new module name that below.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence

from redense._version import __version__
from redense.errors import RedenseError, nearest
from redense.lab.ranks.launch import check_launch, launched
from redense.lab.ranks.signals import StoppedBySignal, raising
from redense.optional.extras import missing_extra
from redense.plugins import load_plugins

from . import doctor, report, run, sensitivity
from .comparisons import compare, judge, search
from .completion import SHELLS, completion_of
from .data import recipes
from .terminal.printing import alone, complain, flush_or_hush, prepare, say
from .trained import caption, predict, transcribe, zoo
from .verbs import Parser, Verb, Verbs

# Help lists the verbs in this order.
_MODULES = (
    run,
    compare,
    search,
    judge,
    report,
    sensitivity,
    predict,
    caption,
    transcribe,
    recipes,
    zoo,
    doctor,
)


_FIVE = (
    ("train a recipe and read its report", "redense run quickstart"),
    ("ask whether it was the mask that helped", "redense compare quickstart --seeds 5"),
    ("compare any training of your own", "redense compare --command dsd='python train.py --seed {seed}' ..."),
    ("judge a table of results", "redense judge results.csv"),
    ("hand a trained network on", "redense export runs/NAME model"),
)
"""What one does with redense, and the command: the text of `redense` without a verb."""
_BUSY = 0.7  # processes that have run in the last minute


def build() -> tuple[Parser, Verbs]:
    """Return the parser of the command line, and the table of its verbs."""
    parser = Parser(
        prog="redense",
        description="Dense-sparse-dense training: a more accurate network of the same size and speed.",
        epilog="Start with: redense run quickstart",
    )
    parser.add_argument("--version", action="version", version=f"redense {__version__}")
    parser.add_argument(
        "--print-completion", choices=SHELLS, metavar="SHELL", help="print what completes commands in bash, zsh or tcsh"
    )
    verbs = Verbs(parser)
    for module in _MODULES:
        module.register(verbs)
    return parser, verbs


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Verbs]:
    """Return what arguments ask for, with the recipe's settings as ``settings``; nothing is done yet.

    Raises:
        RedenseError: no such verb, or an option is wrong.
    """
    parser, verbs = build()
    name, own, settings = arguments[0] if arguments else "", list(arguments), list[str]()
    if name in verbs.with_settings:
        own, settings = verbs.parsers[name].part(own[1:])
        own = [name, *own]
    if name and not name.startswith("-") and name not in verbs.functions:
        raise RedenseError(f"unknown command '{name}'{nearest(name, verbs.functions)} (see redense --help)")
    options = parser.parse_args(own)
    options.settings = settings
    return options, verbs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 data is broken, 2 a mistake, 128 + a signal's number."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepare()
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(raising())
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    try:
        options, verbs = parse(arguments)
        if options.print_completion:
            say(completion_of(build()[0], options.print_completion))
            return 0
        if not options.verb:
            _print_five()
            return 0
        verb = verbs.functions[options.verb]
        if options.verb != "compare" or not (options.command or options.resume):  # which may start others' programs
            _let_threads_sleep()
        with alone() if getattr(options, "json", False) else contextlib.nullcontext():
            load_plugins()
            try:
                code = _do_as_a_rank(verb, options) if launched() else verb(options)
            except ModuleNotFoundError as error:
                raise missing_extra(error, f"redense {options.verb}") or error from None
        flush_or_hush()
        return code
    except RedenseError as error:
        return _end(str(error))
    except StoppedBySignal as stop:
        return _end(f"stopped by {stop}", 128 + stop.number)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except OSError as error:  # a full disk, a folder without permission
        return _end(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except MemoryError:
        return _end("there is not enough memory for this: give less at once, or a smaller network")


def _let_threads_sleep() -> None:
    """Have PyTorch's threads sleep soon when they wait for each other, where other programs are busy here.

    By default they spin: each step then takes several times as long (docs/performance.md). GNU's OpenMP reads the
    variable when PyTorch is imported; processes that are started from here inherit it. What the user has set stands.
    """
    if (
        "torch" in sys.modules
        or not hasattr(os, "getloadavg")
        or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ)
    ):
        return
    if os.getloadavg()[0] > _BUSY:
        os.environ["GOMP_SPINCOUNT"] = "20000"  # rounds of a loop


def _print_five() -> None:
    say(
        "redense: dense-sparse-dense training for a more accurate network of the same size, and whether it has helped\n"
    )
    width = max(len(what) for what, _ in _FIVE)
    for what, command in _FIVE:
        say(f"  {what:<{width}}  {command}")
    say("\nall commands: redense --help    what works on this machine: redense doctor")


def _do_as_a_rank(verb: Verb, options: argparse.Namespace) -> int:
    from redense.lab.ranks.ranks import leave, noticing_lost_ranks

    with noticing_lost_ranks():
        code = verb(options)
        leave()
    return code


def _end(why: str, code: int = 2) -> int:
    """Say why the work ends, and return the exit code; of several ranks, the first that knows speaks."""
    with contextlib.suppress(RedenseError):  # the environment does not say which rank this is, and ``why`` does
        if launched():
            from redense.lab.ranks.ranks import speaks_first

            check_launch()
            if not speaks_first():
                return code
    complain(why)
    return code
