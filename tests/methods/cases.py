"""A technique in the middle phase of a short training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine, steps_per_epoch
from redense.lab.training.plan import PlannedPhase, plan, schedule
from redense.phase import Phase
from redense.tasks.classification.task import Classification
from redense.variants import restarted

from ..lab.training.results import make_task


@dataclass(frozen=True)
class Case:
    """A technique in the middle phase of three."""

    method: str | None
    options: dict[str, Any] = field(default_factory=dict)
    sparse: bool = False
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def reshapes(self) -> bool:
        return self.method == "lowrank"


CASES = {
    "none": Case(None),
    "swa": Case("average", {"kind": "swa", "every": 2, "start": 0.5, "steps": 11}),
    "ema": Case("average", {"kind": "ema", "decay": 0.8}),
    "swa under a mask": Case("average", {"kind": "swa", "every": 3}, sparse=True),
    "distill, itself": Case("distill", {"temperature": 3.0, "mix": 0.7}),
    "distill, ensemble": Case("distill", {"teachers": ["one", "two"]}),
    "distill under a mask, keep best": Case("distill", sparse=True, changes={"training": {"keep": "best"}}),
    "dropconnect": Case("dropconnect", {"rate": 0.3}),
    "jump": Case("jump", {"sparsity": 0.5, "scale": 0.7}),
    "lowrank, energy": Case("lowrank", {"energy": 0.7}),
    "lowrank, rank": Case("lowrank", {"rank": 2}),
    "lowrank under a mask": Case("lowrank", {"ranks": {"fc1": 3}}, sparse=True),
    "release, value": Case("release", {"start": "value"}, sparse=True),
    "release, fresh": Case("release", {"start": "fresh"}, sparse=True),
    "momentum": Case("momentum", sparse=True),
    "momentum, adam": Case("momentum", sparse=True, changes={"training": {"optimizer": {"name": "adam", "lr": 0.01}}}),
    "sam": Case("sam", {"rho": 0.1}),
    "sam now and then": Case("sam", {"every": 4}),
    "born again": Case("born-again"),
    "depth": Case(
        "depth", {"rate": 0.5}, changes={"model": {"name": "resnet20", "widths": [4, 4, 4], "dropout": None}}
    ),
    "dropout": Case("dropout", {"first": 0.9}),
    "forget": Case("forget"),
    "gce": Case("gce", {"q": 0.5}),
    "latest": Case("latest", {"every": 3, "last": 2}),
    "mixup": Case("mixup", {"alpha": 1.0}),
    "shrink": Case("shrink"),
    "sam, adam": Case("sam", changes={"training": {"optimizer": {"name": "adam", "lr": 0.01}}}),
    "distill, accumulate": Case("distill", changes={"training": {"batch_size": 16, "accumulate": 2}}),
    "distill, bf16": Case("distill", changes={"training": {"precision": "bf16"}}),
    "dropconnect, cnn": Case("dropconnect", changes={"model": {"name": "cnn", "widths": [4, 6]}}),
}


def engine_of(recipe: Recipe, case: Case, **hooks: Any) -> Engine:
    task = make_task(recipe)
    first, second, last = plan(recipe, steps_per_epoch(task, recipe))
    middle = second.phase if case.sparse else restarted_middle(recipe, task)
    phases = (first, PlannedPhase(middle, case.method, case.options), last)
    teachers: dict[str, dict[str, Tensor]] = {}

    def resolve(key: str) -> dict[str, Tensor]:
        if not teachers:
            for seed, name in enumerate(("one", "two")):
                torch.manual_seed(seed)
                teachers[name] = task.build_model().state_dict()
        return teachers[key]

    return Engine(task, recipe, phases, resolve=resolve, **hooks)


def restarted_middle(recipe: Recipe, task: Classification) -> Phase:
    return restarted(schedule(recipe, steps_per_epoch(task, recipe))).phases[1]


def train_all(engine: Engine) -> None:
    while engine.phase_index < len(engine.plan):
        engine.train()


def weights_of(engine: Engine) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in engine.model.state_dict().items()}


class Pairs:
    """A task of inputs and classes."""

    name = "pairs"

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def inputs(self, batch: Any) -> Tensor:
        return batch[0]

    def targets(self, batch: Any) -> Tensor:
        return batch[1]

    def replaced(self, batch: Any, inputs: Tensor, targets: Tensor | None = None) -> Any:
        return inputs, batch[1] if targets is None else targets


def named(linear: nn.Linear) -> nn.Module:
    model = nn.Sequential()
    model.add_module("fc", linear)
    return model
