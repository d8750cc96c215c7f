"""All that a training ends with, and engines that are interrupted."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine
from redense.tasks.classification.task import Classification

from ...trainings import same_tree


@dataclasses.dataclass
class Result:
    """All that a training ends with, but how long it took."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    events: list[dict[str, Any]]
    outcome: dict[str, Tensor]

    def same_as(self, other: Result) -> bool:
        return same_tree(vars(self), vars(other))


def make_task(recipe: Recipe) -> Classification:
    return Classification(recipe.data, recipe.model, label_smoothing=recipe.training.label_smoothing)


def measured(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What goes into metrics.jsonl, but for the clock."""
    kept = [event for event in events if event["kind"] in ("step", "epoch")]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in kept]


def finish(engine: Engine, events: list[dict[str, Any]]) -> Result:
    while engine.phase_index < len(engine.plan):
        engine.train()
    weights = {name: tensor.detach().clone() for name, tensor in engine.model.state_dict().items()}
    return Result(weights, engine.optimizer.state_dict(), measured(events), engine.outcome("test"))


def undisturbed(recipe: Recipe, **options: Any) -> Result:
    events: list[dict[str, Any]] = []
    return finish(Engine(make_task(recipe), recipe, emit=events.append, **options), events)
