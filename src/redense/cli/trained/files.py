"""The common part of verbs that use a trained network: its run, and the files that it is to look at."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import complain
from redense.errors import DataError, RedenseError

_BATCH = 8  # pictures of a camera are large while they are open
_EXPECTED = {"caption": ", expected one of captioning", "transcribe": ", and no speech recognition"}


def recipe_for(verb: str, folder: Path, named: object) -> Any:
    """Return the recipe of a run that is for a verb, or raise; ``named`` is the run in errors."""
    from redense.lab.recipe.recipe import read_run_recipe
    from redense.tasks.registry import task_named

    recipe = read_run_recipe(folder)
    if (other := task_named(recipe.task).verb) != verb:
        expected = _EXPECTED.get(verb) or (f": use redense {other}" if other else "")
        raise RedenseError(f"{named} is a run of {recipe.task}{expected}")
    return recipe


def files_of(paths: list[Path], endings: Collection[str], what: str) -> Iterator[tuple[Path, str]]:
    """Yield the files, those of a folder sorted, each with what is wrong with it so far, or nothing.

    Hidden files and folders are passed over. What a folder has beside files of the right endings is said.

    Args:
        paths: files and folders.
        endings: of the files in folders.
        what: is looked for, in the plural.
    """
    from redense.tasks.folders import endings_said, walk

    for path in paths:
        try:
            found = walk(path, endings) if stat.S_ISDIR(path.stat().st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            yield path, "is missing"
            continue
        except OSError as error:  # a name that is too long, a folder that nobody may look into
            where = "" if error.filename in (None, path, str(path)) else f": {os.fsdecode(error.filename)}"
            yield path, f"cannot be read ({error.strerror}{where})"
            continue
        if found is None:  # a file; whoever opens it says what else it is
            yield path, ""
            continue
        inside = [Path(os.fsdecode(name)) for name, _ in found.files]
        if found.others:
            complain(f"{path}: passed over for their endings: {endings_said(found.others)}", before="note: ")
        yield from ((other, "") for other in inside)
        if not inside:
            yield path, f"is a folder without {what}"


def answered_pictures(
    paths: list[Path], answers: Callable[[list[Any]], Iterable[Any]], **how: Any
) -> Iterator[tuple[Path, Any]]:
    """Yield each picture, opened as ``how`` says, with its answer, or as text with what is wrong with it."""
    from redense.tasks.classification.classifier import open_picture
    from redense.tasks.classification.data.layouts.folder import SUFFIXES

    def opened(path: Path, fault: str) -> Any:
        if fault:
            return fault
        try:
            return open_picture(path, **how)
        except DataError as error:
            return str(error).removeprefix(f"{path} ")

    images = files_of(paths, SUFFIXES, "images")
    while batch := [(path, opened(path, fault)) for path, fault in itertools.islice(images, _BATCH)]:
        pictures = [picture for _, picture in batch if not isinstance(picture, str)]
        found = iter(answers(pictures) if pictures else ())
        for path, picture in batch:
            yield path, picture if isinstance(picture, str) else next(found)
