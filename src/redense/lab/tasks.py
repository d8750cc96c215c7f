"""The tasks of recipes: made with their data, described without it, or sketched on random examples.

A new task joins here, in `redense.lab.recipe` (its sections) and in `redense.tasks.metrics` (its figure).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..tasks.task import Task
from .recipe import Recipe

if TYPE_CHECKING:
    from ..tasks.classification.task import Classification


@dataclass(frozen=True)
class Facts:
    """What a plan has to know of a recipe's data.

    Args:
        train: training examples.
        shape: of one example; of an image: channels, height, width.
        classes: how many.
        looked_at: whether the data was read; else it is what the recipe says.
    """

    train: int
    shape: tuple[int, int, int]
    classes: int
    looked_at: bool

    def __str__(self) -> str:
        return f"{self.train:,} images of {' x '.join(map(str, self.shape))}, {self.classes:,} classes"


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe, its data loaded.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    return _classification(recipe)


def facts_of(recipe: Recipe) -> Facts:
    """Return what a recipe's data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    from ..tasks.classification.data import expected_data

    said = expected_data(recipe.data)
    if said:
        train, classes, shape = said
        return Facts(train, shape, classes, looked_at=False)
    task = _classification(recipe)
    return Facts(len(task.examples("train")), task.shape, len(task.classes), looked_at=True)


def sketch_task(recipe: Recipe, facts: Facts, examples: int) -> Task:
    """Return the task on so many random examples of the real shape."""
    from ..tasks.classification.sketch import SketchedClassification

    return SketchedClassification(
        recipe.data,
        recipe.model,
        shape=facts.shape,
        classes=facts.classes,
        examples=examples,
        label_smoothing=recipe.training.label_smoothing,
    )


def _classification(recipe: Recipe) -> Classification:
    from ..tasks.classification.task import Classification

    return Classification(recipe.data, recipe.model, label_smoothing=recipe.training.label_smoothing)
