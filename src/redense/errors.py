"""Errors, one class per cause. Every message says what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
import itertools
import shlex
import unicodedata
from collections.abc import Iterable

LONGEST = 200
"""Characters of a name that others are compared with: that takes the square of its length."""


class RedenseError(Exception):
    """Base of every error that redense raises on purpose; the command line prints it as one line and exits with 2."""


class SparsityError(RedenseError, ValueError):
    """A sparsity, or a mapping of sparsities, that means nothing."""


class ScoreError(RedenseError, ValueError):
    """Scores that cannot be ordered: NaN, infinite, of the wrong shape, or without the gradients they need."""


class ParameterError(RedenseError, ValueError):
    """A parameter that does not exist, cannot be pruned, or has no storage."""


class ScheduleError(RedenseError, ValueError):
    """An impossible schedule or phase."""


class OptimizerError(RedenseError, ValueError):
    """An optimizer that does not fit the model, or whose state redense cannot keep right."""


class StateError(RedenseError, RuntimeError):
    """A call in the wrong state, or a saved state that does not fit."""


class RecipeError(RedenseError, ValueError):
    """A recipe, or an override of one, that is not valid."""


class PluginError(RedenseError, ImportError):
    """Code of the user's own that cannot be loaded."""


class DataError(RedenseError, ValueError):
    """Data that is missing, broken, or not what the task needs."""


class BrokenImageError(DataError, RuntimeError):
    """An image that could not be decoded when its turn came."""

    def __init__(self, message: str) -> None:
        # A loader's worker hands over its whole traceback as the message; the last line of it is ours.
        super().__init__(message.rstrip().rpartition("\n")[2].removeprefix(f"{__name__}.{type(self).__name__}: "))


class CheckpointError(RedenseError, RuntimeError):
    """A checkpoint that is missing, damaged, or not written by redense."""


class MissingExtraError(RedenseError, ImportError):
    """An optional package is needed; the message has the pip command."""


class BrowserError(RedenseError, RuntimeError):
    """A browser that is missing, does not start, or cannot draw a page."""


class AddressError(RedenseError, RuntimeError):
    """An address of this machine that nothing can be served at."""


class LeftDenseWarning(UserWarning):
    """Much of a model stays dense because no rule covers it; filter it like any other warning."""


def command(*words: object) -> str:
    """Return a command that can be pasted into a shell, whatever is in the names.

    >>> command("redense", "run", "--resume", "runs/my first")
    "redense run --resume 'runs/my first'"
    """
    return shlex.join(map(str, words))


def resuming(folder: object) -> str:
    """Return the command that goes on with a run."""
    return command("redense", "run", "--resume", folder)


def nearest(name: str, known: Iterable[str]) -> str:
    r"""Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string.

    A letter of another alphabet, which looks like one of ours, is named.

    >>> nearest("sparisty", ["sparsity", "steps"])
    "; did you mean 'sparsity'?"
    >>> print(nearest("se\u0435d", ["seed"]).encode("ascii", "backslashreplace").decode())
    ; did you mean 'seed'? ('\u0435' is U+0435, CYRILLIC SMALL LETTER IE)
    """
    close = closest(name, known)
    if not close:
        return ""
    other = next((c for c in name if not c.isascii() and c not in close), "")
    said = f" ({other!r} is U+{ord(other):04X}, {unicodedata.name(other, 'which has no name')})" if other else ""
    return f"; did you mean '{close}'?{said}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another, if one is; of long names none, and of many the first are tried.

    Both may come from a stranger's file.
    """
    if len(name) > LONGEST:
        return None
    tried = [other for other in itertools.islice(known, 5000) if len(other) <= LONGEST]
    return next(iter(difflib.get_close_matches(name, tried, n=1, cutoff=0.6)), None)
