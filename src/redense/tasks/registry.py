"""The tasks that there are: each is one registration, and no other file of redense names it.

A task of ours is a package of `redense.tasks`, whose ``__init__`` calls `register` and imports no torch. One of yours
calls `redense.lab.recipe.recipe.register_task`, or `register` with all that it has. What is given as ``module:name`` is
loaded when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from redense.errors import RecipeError
from redense.plugins import Registry

from .metrics import Metric

DEFAULT = "classification"
"""The task of a recipe that names none, and of data that could be of several."""


@dataclass(frozen=True)
class Registration:
    """All that recipes, the engine, the command line and the report know of a task.

    Args:
        name: what ``task`` of a recipe says.
        data: the recipe's section ``data``; every setting has a default.
        model: the recipe's section ``model``, likewise.
        entry: the module that has ``make``, ``facts`` and ``sketch``, see `redense.lab.tasks`.
        metric: the figure that networks are judged by, where it is known before the task is made.
        things: what a user calls its examples.
        looking: what `redense data check` says that it does.
        listens: a check always reads its files whole.
        sets: what ``data.source`` may say beside files and the sets that are fetched by their names.
        recognises: ``module:name`` of a function (path) -> whether a folder or file is data for it.
        check: ``module:name`` of a function (data, full, show) -> `redense.tasks.faults.Checked`.
        opens: ``module:name`` of a function (folder, data, model) -> a trained network to be used.
        alone: ``module:name`` of a function (folder, data, model) -> `redense.tasks.graphs.Standalone`: the graphs of a
            trained network where its data is not.
        companions: ``module:name`` of a function (folder, data) -> the files of others that a trained network needs,
            each by its name in an export. The section ``data`` then has a method ``within(folder)`` that returns the
            settings which find them there.
        verb: the command that uses a trained network.
        sample: a file that a trained network is given, and what it answers, for the card of a model.
        tag: what the Hugging Face Hub calls the task.
        other: ``module:name`` of a function (folder, data, model, split) -> `OtherData`, where a network can be
            evaluated on data that it was not trained for.
        evidence: ``module:name`` of the schema of what it writes into ``evidence.json``, a subclass of
            `redense.tasks.evidence.Evidence`.
        report: ``module:name`` of a function (evidence, `redense.report.kit.document.About`) -> the sections of a page
            that show it.
    """

    name: str
    data: type[BaseModel]
    model: type[BaseModel]
    entry: str
    metric: Metric | None = None
    things: str = "examples"
    looking: str = "looking at every example"
    listens: bool = False
    sets: tuple[str, ...] = ()
    recognises: str = ""
    check: str = ""
    opens: str = ""
    alone: str = ""
    companions: str = ""
    verb: str = ""
    sample: tuple[str, str] | None = None
    tag: str = ""
    other: str = ""
    evidence: str = ""
    report: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is one of redense's own."""
        return self.entry.startswith(f"{__package__}.")

    def has(self, field: str) -> bool:
        """Whether a field that is given as ``module:name`` is."""
        return bool(getattr(self, field))

    def load(self, field: str) -> Any:
        """Return what a field names, its module imported.

        Raises:
            RecipeError: the task has none.
        """
        module, _, name = str(getattr(self, field)).partition(":")
        if not module:
            raise RecipeError(f"the task {self.name} has no '{field}'")
        return getattr(importlib.import_module(module), name)


_TASKS: Registry[Registration] = Registry("task", RecipeError)


def register(task: Registration) -> Registration:
    """Add a task and return it; the same module may register it again.

    Raises:
        RecipeError: the name is taken by another module, or no recipe could give it.
    """
    if not task.entry.startswith(f"{__package__}."):
        _import_ours()
    return _TASKS.register(task.name, task, maker=task.entry)


def tasks() -> Mapping[str, Registration]:
    """Return every task by its name: those of redense first, then those that were added."""
    _import_ours()
    return dict(sorted(_TASKS.items(), key=_rank))


def task_named(name: str) -> Registration:
    """Return the task of a name.

    Raises:
        RecipeError: there is none.
    """
    found = tasks().get(name)
    if found is None:
        raise RecipeError(f"task must be one of {', '.join(tasks())}, got {name!r}")
    return found


def _rank(item: tuple[str, Registration]) -> tuple[bool, bool, str]:
    name, task = item
    added = not task.is_ours
    return added, name != DEFAULT, "" if added else name  # those that were added: in their order


@cache
def _import_ours() -> None:
    home = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(home.__path__):
        if module.ispkg:
            importlib.import_module(f"{__package__}.{module.name}")
