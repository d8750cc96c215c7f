"""The common part of all verbs: the parser that knows which options are its own, and the answer to Ctrl-C."""

from __future__ import annotations

import argparse
import re
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from redense.errors import RedenseError
from redense.files.opening import at_home
from redense.lab.ranks.launch import ALONE, Ranks, is_first, launched
from redense.lab.ranks.signals import stopping

from .terminal.printing import complain

if TYPE_CHECKING:
    from redense.lab.recipe.recipe import Recipe

Verb = Callable[[argparse.Namespace], int]

_NEGATIVE = re.compile(r"-(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|inf|nan)$", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors of redense, and that can leave the settings of a recipe alone."""

    def __init__(self, **options: Any) -> None:
        self._values: dict[str, int] = {}
        super().__init__(allow_abbrev=False, **options)
        self.register("action", "once", _Once)
        self._negative_number_matcher = _NEGATIVE  # argparse's own takes -1e-3 for an option
        for kind in (int, float):
            self.register("type", kind, _plain(kind))
        self.register("type", Path, at_home)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument, and note how many values it has."""
        action = super().add_argument(*names, **options)
        self._values |= dict.fromkeys(action.option_strings, 1 if action.nargs is None else 0)
        return action

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, instead of printing the usage."""
        raise RedenseError(f"{message} (see {self.prog} --help)")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Return the value of an option or argument; an empty one is refused, which passed for one not given."""
        if action.option_strings and not arg_string.strip():
            raise argparse.ArgumentError(action, "its value is empty, as of a variable of the shell that is not set")
        return super()._get_value(action, arg_string)

    def part(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Part this parser's own options from the recipe's settings, which are any other --key value."""
        own, settings = list[str](), list[str]()
        rest = arguments
        while rest:
            item, rest = rest[0], rest[1:]
            flag, equals, _ = item.partition("=")
            is_own = not item.startswith("-") or flag in self._values
            values = self._values.get(flag, 0) if is_own else int(not "".join(rest[:1]).startswith("--"))
            count = 0 if equals else values
            (own if is_own else settings).extend([item, *rest[:count]])
            rest = rest[count:]
        return own, settings


class _Once(argparse.Action):
    """Stores a list with commas; argparse's own action would let the last of two lists pass for both."""

    _stored: tuple[argparse.Namespace, Any] | None = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store a value, or refuse it where another was given before."""
        if self._stored and self._stored[0] is namespace and self._stored[1] != values:
            raise argparse.ArgumentError(self, "it is given twice: name all in one list, with commas")
        self._stored = namespace, values
        setattr(namespace, self.dest, values)


def _plain(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return what reads a number without the underscores of Python, which no other number of redense may have."""

    def read(text: str) -> Any:
        if "_" in text:
            raise ValueError(text)
        return kind(text)

    return read


class Verbs:
    """The table of verbs. A module of them has ``register(verbs)``, which adds each with `add`."""

    def __init__(self, parser: Parser) -> None:
        self._added = parser.add_subparsers(dest="verb", metavar="COMMAND", parser_class=Parser)
        self.parsers: dict[str, Parser] = {}
        self.functions: dict[str, Verb] = {}
        self.with_settings: set[str] = set()

    def add(self, name: str, about: str, do: Verb, *, settings: bool = False, epilog: str | None = None) -> Parser:
        """Add a verb and return its parser.

        With ``settings`` it takes the settings of a recipe too: any option that is not its own is one, and they are in
        ``options.settings`` as given.
        """
        self.parsers[name] = self._added.add_parser(name, help=about, description=about, epilog=epilog)
        self.functions[name] = do
        if settings:
            self.with_settings.add(name)
        return self.parsers[name]


def first_given(options: argparse.Namespace, names: Iterable[str]) -> str | None:
    """Return the first of some options that was given, as it is typed, without its dashes."""
    given = (name for name in names if getattr(options, name) not in (None, []))
    return next((name.replace("_", "-") for name in given), None)


def refuse_log(settings: Sequence[str], what: str) -> None:
    """Raise where settings name loggers for what does not log.

    Raises:
        RedenseError: they do.
    """
    if any(setting.partition("=")[0] == "--log" for setting in settings):
        raise RedenseError(f"--log is for run and compare: {what} logs nothing")


def refuse_arm(recipe: Recipe, what: str) -> None:
    """Raise where a recipe names the arm that a run of it is, for what trains arms or phases of its own.

    Raises:
        RedenseError: it does.
    """
    if recipe.arm is not None:
        raise RedenseError(f"the recipe's arm '{recipe.arm}' is for run, and {what}: take it out with --arm null")


def join_ranks() -> Ranks:
    """Return the ranks of the job that this process is of; no torch is imported where it is alone."""
    if not launched():
        return ALONE
    from redense.lab.ranks.ranks import join

    return join()


_ECHO = 5.0
"""Seconds in which one request may come twice: `timeout` and launchers signal a process, and its group too."""


class Signals:
    """Remembers what asks to stop, so that training does after the step at hand; a second Ctrl-C stops at once.

    Of several ranks one may have received it: ``stopped`` is told what all of them did.
    """

    received: int | None = None

    def __init__(self, stop: Callable[[], None] = lambda: None, doing: str = "stopping after this step") -> None:
        self._stop, self._doing = stop, doing

    def __enter__(self) -> Signals:
        """Begin to listen."""
        self._before = {number: signal.signal(number, self._remember) for number in stopping()}
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopped(self, command: str, received: Sequence[int] = ()) -> int:
        """Say what has stopped the work and how to go on with it; return the exit code.

        ``received``: what every rank has received, 0 for nothing.
        """
        number = self.received or next((other for other in received if other), signal.SIGINT)
        if is_first():
            complain(f"stopped by {signal.Signals(number).name}; go on with: {command}")
        return 128 + number

    def _remember(self, number: int, frame: object) -> None:
        if self.received is not None:
            echoed = launched() or number != signal.SIGINT  # at a keyboard each Ctrl-C is meant
            if echoed and time.monotonic() - self._since < _ECHO:
                return
            raise KeyboardInterrupt
        self.received, self._since = number, time.monotonic()
        self._stop()
        if is_first():
            complain(f"{self._doing}; once more to stop at once", before="\n")
