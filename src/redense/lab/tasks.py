"""The tasks of recipes: made with their data, described without it, or sketched on random examples.

A new task of ours is a package of `redense.tasks` with a module ``entry``, which has these three functions; it is named
in `redense.lab.recipe.recipe` (its sections) and in `redense.tasks.metrics` (its figure). One of yours is a module
anywhere with these functions, which calls `redense.lab.recipe.recipe.register_task`; `redense.plugins` says how it is
loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, cast

from redense.tasks.task import Facts, Settings, Task

from .recipe.recipe import Recipe, entry_of

_CLASSES_SHOWN = 10


class _Entry(Protocol):
    """What the module ``entry`` of a task has."""

    def make(self, settings: Settings) -> Task: ...
    def facts(self, settings: Settings) -> Facts: ...
    def sketch(self, settings: Settings, facts: Facts, examples: int) -> Task: ...


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe, its data loaded.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    return _entry(recipe).make(recipe)


def data_of(recipe: Recipe, task: Task) -> dict[str, Any]:
    """Return what a run was trained on, as plain data: its source, the examples of each split, its classes.

    ``text`` says it in a line; ``classes`` is there where the task has some.
    """
    source = getattr(recipe.data, "source", None)
    counts = {split: len(task.examples(split)) for split in ("train", "validation", "test")}
    classes = list(getattr(task, "classes", ()))
    said = f"{counts['train']:,} training, {counts['validation']:,} validation and {counts['test']:,} test examples"
    if classes:
        shown = ", ".join(classes[:_CLASSES_SHOWN]) + (", ..." if len(classes) > _CLASSES_SHOWN else "")
        said += f" of {len(classes):,} classes: {shown}"
    place = (
        " + ".join(source) if isinstance(source, tuple) else str(source or getattr(task, "own_data", "its own data"))
    )
    plain = {"source": place, "text": f"{place}: {said}", "counts": counts, "fingerprint": task.fingerprint}
    return plain | ({"classes": classes} if classes else {})


def facts_of(recipe: Recipe) -> Facts:
    """Return what a recipe's data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    return _entry(recipe).facts(recipe)


def sketch_task(recipe: Recipe, facts: Facts, examples: int) -> Task:
    """Return the task on so many random examples of the real shape."""
    return _entry(recipe).sketch(recipe, facts, examples)


def _entry(recipe: Recipe) -> _Entry:
    return cast("_Entry", import_module(entry_of(recipe.task)))
