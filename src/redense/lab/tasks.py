"""The tasks of recipes: made with their data, described without it, or sketched on random examples.

Each task is one registration, see `redense.tasks.registry`, and names the module that has these three functions. One of
yours is a module anywhere which calls `redense.lab.recipe.recipe.register_task`; `redense.plugins` says how it is
loaded. It may have two more: ``libraries(settings)``, the names of packages beside torch whose version may change the
numbers, and ``parts(settings)``, functions and classes of plugins that take part.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from redense.tasks.caches import used, used_by
from redense.tasks.task import Facts, Settings, Task

from .headings import with_a_name
from .recipe.recipe import Recipe, build_recipe, entry_of

_CLASSES_SHOWN = 10
_OF_TASK = ("task", "data", "model", "training")  # what our own tasks are made from, see `Settings`


class _Entry(Protocol):
    """The interface of a task's module ``entry``."""

    def make(self, settings: Settings) -> Task: ...
    def facts(self, settings: Settings) -> Facts: ...
    def sketch(self, settings: Settings, facts: Facts, examples: int) -> Task: ...


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe, its data loaded.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    with used():
        task = _entry(recipe).make(recipe)
        used_by(task)
    return task


def shared_task(recipe: Recipe) -> Task:
    """Return the task of a recipe as `make_task` does; runs that differ in their phases or seeds have it together.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    return _shared(recipe.model_dump_json(include=set(_OF_TASK) if _is_ours(recipe) else None))


def forget_tasks() -> None:
    """Make the next task anew: the data of one that this process has made may be other data by now."""
    _shared.cache_clear()


@functools.lru_cache(maxsize=2)
def _shared(recipe: str) -> Task:
    plain = json.loads(recipe)
    nothing = {"epochs": 1}
    return make_task(build_recipe({"dense": nothing, "sparse": nothing, "redense": nothing, **plain}))


def libraries_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the packages beside torch whose version may change the numbers of a recipe; the task's entry says it."""
    return _said(recipe, "libraries")


def parts_of(recipe: Recipe) -> tuple[object, ...]:
    """Return what plugins have brought that a recipe's network or data is made with; the task's entry says it."""
    return _said(recipe, "parts")


def data_of(recipe: Recipe, task: Task) -> dict[str, Any]:
    """Return what a run was trained on, as plain data: its source, the examples of each split, its classes.

    ``text`` says it in a line, and what the examples are where the task's ``things`` do; ``classes`` is there where
    the task has some.
    """
    source = with_a_name(getattr(recipe.data, "source", None))
    counts = {split: len(task.examples(split)) for split in ("train", "validation", "test")}
    classes = list(getattr(task, "classes", ()))
    things: Mapping[str, str] = getattr(task, "things", {})
    names = ("training", "validation", "test")
    first, second, last = (
        f"{count:,} {name} {things.get(split, '')}".rstrip()
        for name, (split, count) in zip(names, counts.items(), strict=True)
    )
    said = f"{first}, {second} and {last}" + ("" if things else " examples")
    if classes:
        shown = ", ".join(classes[:_CLASSES_SHOWN]) + (", ..." if len(classes) > _CLASSES_SHOWN else "")
        said += f" of {len(classes):,} classes: {shown}"
    place = (
        " + ".join(source) if isinstance(source, tuple) else str(source or getattr(task, "own_data", "its own data"))
    )
    plain = {"source": place, "text": f"{place}: {said}", "counts": counts, "fingerprint": task.fingerprint}
    return plain | ({"classes": classes} if classes else {})


def fingerprints_of(task: Task) -> tuple[str, ...]:
    """Return the fingerprint of a task's data, and the others that folders of older versions know it by."""
    return (task.fingerprint, *getattr(task, "known_as", ()))


def facts_of(recipe: Recipe) -> Facts:
    """Return what a recipe's data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    return _entry(recipe).facts(recipe)


def sketch_task(recipe: Recipe, facts: Facts, examples: int) -> Task:
    """Return the task on so many random examples of the real shape."""
    return _entry(recipe).sketch(recipe, facts, examples)


def _said(recipe: Recipe, what: str) -> tuple[Any, ...]:
    said = getattr(_entry(recipe), what, None)
    return tuple(said(recipe)) if said else ()


def _entry(recipe: Recipe) -> _Entry:
    return cast("_Entry", import_module(entry_of(recipe.task)))


def _is_ours(recipe: Recipe) -> bool:
    return entry_of(recipe.task).startswith(f"{__name__.partition('.')[0]}.tasks.")
