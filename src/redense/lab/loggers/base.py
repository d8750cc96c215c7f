"""Loggers by name, and what one has to have. No torch here: a recipe names loggers.

To add one, decorate a class that has the four methods of `Logger` with `register_logger`, in a plugin
(`redense.plugins`); ``log: [its name]`` in a recipe, or ``--log``, then sends the numbers of a run to it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from redense.errors import MissingExtraError, RecipeError, RedenseError, nearest
from redense.optional.extras import is_installed
from redense.plugins import Registry

T = TypeVar("T", bound="type[Logger]")

_HOMES = {"tensorboard": "local", "csv": "local", "wandb": "trackers", "mlflow": "trackers", "trackio": "trackers"}

LOGGERS: Registry[type[Logger]] = Registry("logger", RecipeError, ours=tuple(_HOMES))
"""Every logger by its name; those of redense are added when the module that has them is imported."""


class LoggerError(RedenseError, RuntimeError):
    """A logger cannot begin: it does not know who you are, or cannot reach its server."""


@dataclass(frozen=True)
class LoggedRun:
    """A run as a logger is told of it when it begins, or is resumed.

    Args:
        name: of the run: that of its folder, or ``dsd seed 3`` in a comparison.
        project: what belongs together: the name of the recipe.
        folder: where the logger may put files of its own.
        settings: the resolved recipe and facts about the run, by names such as ``training.optimizer.lr``.
        group: the comparison that the run is part of.
        identity: what `Logger.begin` returned before: the run is to be resumed there. None for a new one.
        step: the optimizer step after which the run is resumed; 0 for a new one.
    """

    name: str
    project: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    group: str | None = None
    identity: str | None = None
    step: int = 0


class Logger(Protocol):
    """Takes the numbers of one run."""

    def begin(self, run: LoggedRun) -> str | None:
        """Begin a run or resume it, and return what names it there; None where the folder is enough."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name, of an optimizer step of the run; steps never fall."""
        ...

    def attach(self, path: Path) -> None:
        """Take a file: the report page."""
        ...

    def close(self) -> None:
        """End, after everything was sent."""
        ...


def register_logger(name: str) -> Callable[[T], T]:
    """Return a decorator that adds a class with the methods of `Logger` under a name that is free.

    A class may have two attributes more: ``needs``, the package that it imports, so that a machine without it is told
    at the start; and ``rewinds``, true where `begin` forgets what was logged after ``run.step``, so that a resumed run
    logs those steps again. After `begin`, an instance may have ``skips``, true where `log` passes over the points that
    the resumed run already has: it is then sent all points from the first one, and lacks none that a kill lost.
    """

    def add(cls: T) -> T:
        LOGGERS.register(name, cls)
        return cls

    return add


def check_names(names: Sequence[str]) -> None:
    """Raise unless there is a logger of each name, once.

    Raises:
        RecipeError: there is none; the message names the nearest. Or it is named twice.
    """
    known = sorted({*_HOMES, *LOGGERS})
    for index, name in enumerate(names):
        if name in names[:index]:
            raise RecipeError(f"log: {name} is named twice, and would write over itself: name it once")
        if name not in known:
            raise RecipeError(f"log: no logger is called '{name}'{nearest(name, known)} (known: {', '.join(known)})")


def find_logger(name: str) -> type[Logger]:
    """Return the logger of a name.

    Raises:
        RecipeError: there is none.
        MissingExtraError: the package that it needs is not installed.
    """
    check_names([name])
    if name not in LOGGERS:
        importlib.import_module(f".{_HOMES[name]}", __package__)
    logger = LOGGERS[name]
    needs: str | None = getattr(logger, "needs", None)
    if needs and not is_installed(needs):
        raise MissingExtraError(f"log: {name} needs the package {needs}: pip install {needs}")
    return logger


def check_loggers(names: Sequence[str]) -> None:
    """Raise unless every logger can be used here, before anything is made for it.

    Raises:
        RecipeError: there is none of a name.
        MissingExtraError: a package is not installed.
    """
    for name in names:
        find_logger(name)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under names with dots; a list becomes text.

    >>> flat({"sparse": {"sparsity": 0.3, "pattern": [2, 4]}})
    {'sparse.sparsity': 0.3, 'sparse.pattern': '[2, 4]'}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            plain = value is None or isinstance(value, (str, bool, int, float))
            found[f"{prefix}{key}"] = value if plain else str(value)
    return found
