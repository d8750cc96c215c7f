"""Batch normalisation switched (Ioffe and Szegedy, ICML 2015): on where the network has none, off where it has."""

from __future__ import annotations

from dataclasses import replace

from redense.errors import RecipeError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.variants import restarted


@arm(
    "batchnorm",
    "the control with batch normalisation; without it, where the network has some",
    source=Paper(
        "Ioffe and Szegedy 2015",
        "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, ICML 2015",
        "https://arxiv.org/abs/1502.03167",
    ),
    card=Card(
        "`restart` of a network with batch normalisation after every layer but the last (`cnn`, `mlp`), or without "
        "any, where the recipe's network has some: `model.batch_norm`, the other way round. In every phase, so that "
        "its dense phase is its own. Another network at the end, which takes part in no verdict.",
        f"{BUDGET}; `model.batch_norm`",
        "To see whether a gain is one that normalisation would have given as well.",
    ),
)
def batchnorm(setting: Setting) -> Flow:
    """The network with its normalisation switched."""
    normalises = getattr(setting.recipe.model, "normalises", None)
    if normalises is None:
        raise RecipeError(f"the networks of the task '{setting.recipe.task}' have no batch normalisation to switch")
    recipe = setting.changed(model={"batch_norm": not normalises})
    how = "without" if normalises else "with"
    note = f"{how} batch normalisation in every phase"
    return replace(setting.flow(restarted(setting.dsd), recipe=recipe, note=note), bound=True)
