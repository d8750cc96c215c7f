"""Evaluating a trained network on data that lies elsewhere: its own, moved, or other data of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from redense.errors import DataError, RecipeError, RedenseError, StateError
from redense.lab.recipe.recipe import Recipe, build_recipe, read_run_recipe
from redense.lab.tasks import fingerprints_of, make_task
from redense.tasks.metrics import Metric
from redense.tasks.registry import task_named
from redense.tasks.task import OtherData, Split, Task

from .resume import trained_on
from .run import engine_of


@dataclass(frozen=True)
class Evaluated:
    """The figures of a network on data, and what data that was."""

    metrics: Mapping[str, float]
    metric: Metric
    split: str
    examples: int
    notes: list[str]


def evaluate_elsewhere(folder: Path, source: str, split: str | None = None) -> Evaluated:
    """Return what the final model of a run, or of its export, gives on data that lies in ``source``.

    If it is the run's own data, it is divided as then. Other images need the run's classes by name; where they have no
    test split, all of them are evaluated. So are other recordings, which are read with the run's alphabet.

    Args:
        folder: of the run or export.
        source: a folder, or whatever else a recipe's ``data.source`` takes.
        split: ``validation``, ``test``, or for other images and recordings ``all``.

    Raises:
        DataError: the data is broken, or has other classes.
        StateError: the run is not finished, or its data cannot be other data.
    """
    recipe, data, _ = data_elsewhere(folder, source, split)
    engine, task, split = engine_of(folder, recipe, data.task), data.task, data.split
    return Evaluated(
        engine.evaluate(split), task.metric, data.called or split, len(task.examples(split)), list(data.notes)
    )


def data_elsewhere(folder: Path, source: str, split: str | None = None) -> tuple[Recipe, OtherData, bool]:
    """Return the recipe of a run with data that lies in ``source``, that data, and whether it is the run's own.

    Raises:
        DataError: the data is broken, or has other classes.
        StateError: the run is not finished, or its data cannot be other data.
    """
    recipe = _with_source(read_run_recipe(folder), source)
    fingerprint = trained_on(folder)
    task: Task | None = None
    refusal: DataError | None = None
    try:
        task = make_task(recipe)
    except DataError as error:
        refusal = error
    if task is not None and fingerprint in fingerprints_of(task):
        if split == "all":
            raise RedenseError(f"{source} is the run's own data, and it was trained on most of it: give --split test")
        own = OtherData(task, cast("Split", split or "test"), (f"{source} is the data of the run",))
        return recipe, own, True
    registered = task_named(recipe.task)
    if registered.has("other"):
        return recipe, registered.load("other")(folder, recipe.data, recipe.model, split), False
    knows = "" if task is None else f": a network of {recipe.task} knows its own alone"
    raise refusal or StateError(f"{source} is not the data of {folder}{knows}")


def _with_source(recipe: Recipe, source: str) -> Recipe:
    """Return the recipe for other data; how it is trained does not matter any more, and may not stop it."""
    if not source:
        raise RecipeError("--data is empty, which would be the folder at hand: name the data, or leave it out")
    plain = recipe.model_dump(mode="json")
    plain["data"] |= {"source": source}
    if "expected" in plain["data"]:
        plain["data"]["expected"] = None
    plain["training"] |= {"batch_size": 1, "accumulate": 1}
    return build_recipe(plain | {"start": None, "tune": None}, "recipe", to_train=False)
