"""Settings of a recipe that change for one phase of a flow: which may, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from redense.errors import RecipeError, nearest
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe, build_recipe
from redense.lab.recipe.sections import OptimizerRecipe
from redense.tasks.task import Task, Varies

_CHANGEABLE: Mapping[str, tuple[str, ...]] = {
    "training": ("label_smoothing", "optimizer", "clip_norm", "clip_value"),
    "data": ("augment", "flip", "crop"),
}


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe as it is for one phase; itself where that changes nothing.

    Raises:
        RecipeError: a setting cannot change for one phase, or its value is none that the recipe may have.
    """
    if not changes:
        return recipe
    plain = recipe.model_dump(mode="json")
    for section, values in changes.items():
        for key, value in values.items():
            if key not in _CHANGEABLE.get(section, ()):
                known = [f"{name}.{one}" for name, keys in _CHANGEABLE.items() for one in keys]
                raise RecipeError(
                    f"{section}.{key} cannot change for one phase{nearest(f'{section}.{key}', known)} "
                    f"(what can: {', '.join(known)})"
                )
            if key not in plain[section]:
                raise RecipeError(f"the task '{recipe.task}' has no {section}.{key} that could change for one phase")
            own = plain[section][key]
            plain[section][key] = {**own, **value} if isinstance(own, dict) and isinstance(value, Mapping) else value
    return build_recipe(plain, recipe.name)


def varied(task: Task, recipe: Recipe, own: Recipe) -> Task:
    """Return the task as a phase has it, on the same data.

    Raises:
        RecipeError: a setting changes that the task does not know.
    """
    same = recipe.data == own.data and recipe.training.label_smoothing == own.training.label_smoothing
    if same:
        return task
    if not isinstance(task, Varies):
        raise RecipeError(f"the task '{task.name}' has the same data and the same loss in all phases")
    return task.varied(own)


def set_optimizer_(optimizer: torch.optim.Optimizer, new: torch.optim.Optimizer, recipe: OptimizerRecipe) -> None:
    """Give the settings of a recipe to an optimizer that goes on with what it has gathered; the rate is set by step.

    ``new`` is what the recipe makes: it knows what a setting stands for, and 0 is a value like others.
    """
    names = ("weight_decay", *OPTIMIZERS[recipe.name].settings, *recipe.options)
    for group, made in zip(optimizer.param_groups, new.param_groups, strict=True):
        group.update({name: made[name] for name in names if name in group and name in made})
