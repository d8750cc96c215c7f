"""`redense data check`: every file of a set is looked at, with the code that training reads it with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.cli.terminal.printing import say_json, say_line
from redense.errors import DataError, RecipeError, RedenseError
from redense.files.opening import at_home
from redense.tasks.faults import Checked, by_cause

if TYPE_CHECKING:
    from redense.tasks.registry import Registration


def task_with(name: str) -> str:
    """Return the task that has a set of this name beside files and what is fetched; empty if none has."""
    from redense.tasks.registry import tasks

    return next((task.name for task in tasks().values() if name in task.sets), "")


def check_content(options: argparse.Namespace, place: str) -> int:
    """Look at every file of a set that lies in ``place`` and print what is there; return the exit code.

    The exit code is 1 if training with the same settings refuses the set, or files of it are broken.
    """
    from redense.cli.terminal.screen import bar
    from redense.tasks.registry import tasks

    task = options.task or task_of(place)
    data = section_of(task, options, place)
    with bar(tasks()[task].looking) as show:
        found: Checked = tasks()[task].load("check")(data, options.full, show)
    if options.json:
        causes = [
            {"cause": kind[0].cause, "count": len(kind), "names": [f.name for f in kind]}
            for kind in by_cause(found.faults).values()
        ]
        said = {"path": place, "task": task, "refused": found.refusal or None, **found.facts, "faults": causes}
        say_json(said)
    else:
        for line in (*found.lines, _in_short(tasks()[task], found, options.full)):
            say_line(line)
    return int(bool(found.refusal) or found.broken)


def task_of(place: str) -> str:
    """Return the task that a folder or file is data for.

    Raises:
        DataError: it could be two things.
    """
    from redense.tasks import catalog
    from redense.tasks.registry import DEFAULT, tasks

    if own := task_with(place):
        return own
    if place in catalog.SOURCES:  # a set of classes may have sentences too
        found = _recognised(catalog.check(catalog.SOURCES[place]))
        return next((task.name for task in found if task.things != tasks()[DEFAULT].things), DEFAULT)
    path = at_home(place)
    if place.startswith("hub:") or not path.exists() or path.suffix.lower() == ".npz":
        return DEFAULT
    found = _recognised(path)
    things = {task.things: task.name for task in found}  # of one kind of things the more special task is the later one
    if len(things) > 1:
        meant = " or ".join(f"--task {name}" for name in things.values())
        raise DataError(f"{place} holds {' and '.join(things)}: say which are meant, {meant}")
    return next(iter(things.values()), DEFAULT)


def _recognised(path: Path) -> list[Registration]:
    """Return the tasks that a folder or file is data for."""
    from redense.tasks.registry import tasks

    return [task for task in tasks().values() if task.has("recognises") and task.load("recognises")(path)]


def section_of(task: str, options: argparse.Namespace, place: str) -> Any:
    """Return the data section of a recipe of the task with this source and the settings that were given."""
    from pydantic import ValidationError

    from redense.lab.recipe.recipe import overridden, recipe_type
    from redense.lab.recipe.settings import check_keys, one_line
    from redense.tasks.registry import tasks

    checked = [other.name for other in tasks().values() if other.has("check")]
    if task not in checked:
        raise RedenseError(f"--task must be one of {', '.join(checked)}, got {task}")
    plain: dict[str, Any] = {"task": task, "data": {"source": place}}
    if wrong := next(
        (item for item in options.settings if item.startswith("-") and not item.startswith("--data.")), None
    ):
        raise RedenseError(f"unrecognized arguments: {wrong} (see redense data --help)")
    overridden(plain, options.settings)
    if options.label is not None:
        plain["data"]["label"] = options.label
    check_keys(plain, recipe_type(task), f"data {options.action}")
    try:
        return tasks()[task].data.model_validate(plain["data"])
    except ValidationError as error:
        raise RecipeError(f"data.{one_line(error)}") from None


def _in_short(task: Registration, found: Checked, full: bool) -> str:
    what = task.things
    if found.refusal:
        if found.faults and "data.broken: skip" in found.refusal:
            return f"training refuses this set, or leaves these {what} out with data.broken: skip"
        return f"training refuses this set: {found.refusal}"
    if found.broken:
        return f"training leaves these {what} out, and refuses the set with data.broken: refuse"
    if found.faults:
        return f"training takes this set, without the {len(found.faults):,} that cannot be used"
    if full or task.listens:
        return "training takes this set"
    return "nothing is wrong as far as headers and ends of files show; --full decodes every image"
