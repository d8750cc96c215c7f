"""The outline of a recipe before training: its plan, its layers, and the time that it is likely to take.

The data need not be on the machine: a recipe that says what its data is (``data.expected``) is outlined and dry-run on
random examples of the real shape. The dry run trains the real network, a few steps of every phase, through the engine.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from redense.errors import DataError
from redense.lab.arms.of_recipe import run_flow
from redense.lab.environment import environment
from redense.lab.recipe.recipe import Recipe, build_recipe
from redense.lab.tasks import facts_of, sketch_task
from redense.lab.training.engine import Engine
from redense.lab.training.plan import PlannedPhase
from redense.lab.training.pretrained import to_be_fetched, tuned
from redense.lab.training.setup import prune_rules
from redense.parameters import Row, summary
from redense.pruning import per_parameter
from redense.tasks.task import Facts

_DRY_STEPS = 3  # optimizer steps of every phase
# Where there is no accelerator: a step of 256 large images takes minutes there, and one of 8 small ones says nothing.
_DRY_BATCH, _DRY_NUMBERS = 8, 1 << 20


@dataclass(frozen=True)
class Outline:
    """The plan of a recipe, and after a dry run what it measured.

    Args:
        recipe: whose plan it is.
        facts: of its data.
        steps_per_epoch: optimizer steps of an epoch.
        phases: in order.
        rows: every parameter, and whether it is pruned.
        measured: what `dry_run` found.
        notes: what is to be known of the data, and of the weights that it starts from.
    """

    recipe: Recipe
    facts: Facts
    steps_per_epoch: int
    phases: tuple[PlannedPhase, ...]
    rows: tuple[Row, ...]
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of weights of the network."""
        return sum(row.weights for row in self.rows)

    @property
    def prunable(self) -> int:
        """Number of weights that pruning chooses from."""
        return sum(row.weights for row in self.rows if row.prunable)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole flow."""
        return sum(planned.steps for planned in self.phases)

    @property
    def seconds(self) -> float | None:
        """Estimated time of training, in seconds; None before a dry run. Evaluation and loading are not in it."""
        if not self.measured:
            return None
        training = self.recipe.training
        return self.steps * training.batch_size * training.accumulate / self.measured["examples_per_second"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        facts, base = self.facts, self.recipe.training.optimizer.lr
        return {
            "recipe": self.recipe.name,
            "about": self.recipe.about,
            "task": self.recipe.task,
            "model": self.recipe.model.model_dump(mode="json"),
            "start": self.recipe.start,
            **({"arm": self.recipe.arm} if self.recipe.arm else {}),
            "data": {"train": facts.train, "text": facts.text, "looked_at": facts.looked_at, **facts.details},
            "notes": list(self.notes),
            "parameters": self.parameters,
            "prunable": self.prunable,
            "batch_size": self.recipe.training.batch_size * self.recipe.training.accumulate,
            "optimizer": self.recipe.training.optimizer.model_dump(mode="json"),
            "steps_per_epoch": self.steps_per_epoch,
            "steps": self.steps,
            "phases": [
                {
                    "name": planned.phase.name,
                    "kind": planned.phase.kind,
                    "steps": planned.steps,
                    "epochs": round(planned.steps / self.steps_per_epoch, 4),
                    "lr": float(f"{base * planned.phase.lr:.6g}"),
                    "decay": planned.phase.decay.kind,
                    "sparsity": self.sparsity(planned),
                    "allocation": planned.allocation,
                    **({"joins": len(planned.joins)} if planned.joins is not None else {}),
                    "pattern": list(planned.phase.pattern) if planned.phase.pattern else None,
                }
                for planned in self.phases
            ],
            "layers": [
                {"name": row.name, "shape": list(row.shape), "weights": row.weights, "prunable": row.prunable}
                | {"reason": row.reason, "sparsity": [self.of_layer(planned, row) for planned in self.phases]}
                for row in self.rows
            ],
            "estimated_seconds": self.seconds,
            "measured": dict(self.measured) or None,
        }

    def of_layer(self, planned: PlannedPhase, row: Row) -> float | None:
        """Return the sparsity of a layer in a phase; None where a scan or a common threshold will say it."""
        phase = planned.phase
        by_name = phase.sparsity if isinstance(phase.sparsity, Mapping) else {}
        if not (row.prunable or row.name in by_name) or not phase.is_sparse:
            return 0.0
        if phase.pattern:
            return 1 - phase.pattern[0] / phase.pattern[1]
        if phase.scope == "global" or planned.allocation != "uniform":
            return None
        names = [each.name for each in self.rows if each.prunable or each.name in by_name]
        return per_parameter(phase.sparsity, names).get(row.name, 0.0)

    def sparsity(self, planned: PlannedPhase) -> float:
        """Return the fraction of the prunable weights that a phase removes."""
        phase = planned.phase
        if not isinstance(phase.sparsity, float) or planned.allocation == "uniform":
            layers = [(row.weights, self.of_layer(planned, row)) for row in self.rows if row.prunable]
            if all(sparsity is not None for _, sparsity in layers):
                removed = sum(weights * (sparsity or 0.0) for weights, sparsity in layers)
                return round(removed / max(self.prunable, 1), 6)
        return float(phase.sparsity) if isinstance(phase.sparsity, float) else 0.0


def outline(recipe: Recipe) -> Outline:
    """Return the plan of a recipe; its data is read only where the recipe does not say what it is.

    Raises:
        DataError: the data is missing, and the recipe does not say what it would be.
        RecipeError: no such network, or something does not fit together.
    """
    facts, training = facts_of(recipe), recipe.training
    steps = facts.train // training.batch_size // training.accumulate
    if not steps:
        raise DataError(
            f"{facts.train} training examples are fewer than one optimizer step takes "
            f"({training.batch_size} x {training.accumulate}): lower training.batch_size"
        )
    task = sketch_task(recipe, facts, examples=1)
    # As with data that is not here, the plan does without weights: where the recipe tunes, they change nothing of it.
    missing = to_be_fetched(recipe.start) if recipe.tune else ""
    recipe, notes = (recipe, [missing]) if missing else tuned(recipe, task)
    flow = run_flow(recipe, steps)
    torch.manual_seed(recipe.seed)
    model = task.build_model()
    include, exclude = prune_rules(flow.recipe, task, model)
    rows = summary(model, include=include, exclude=exclude).rows
    told = [f"{recipe.arm}: {flow.note}"] if flow.note else []
    return Outline(flow.recipe, facts, steps, flow.phases, rows, notes=(*facts.notes, *notes, *told))


def dry_run(recipe: Recipe, *, steps: int = _DRY_STEPS, batch_size: int | None = None) -> Outline:
    """Train a few steps of every phase on random examples of the real shape; return the plan with an estimate.

    Args:
        recipe: what would be trained.
        steps: optimizer steps of every phase, at least 2; the first of each is not timed.
        batch_size: examples a step; nothing: the recipe's, on a CPU fewer of large examples.

    Raises:
        RecipeError: no such network, or something does not fit together.
        TrainingError: the loss is not finite.
    """
    planned = outline(recipe)
    accelerated = torch.accelerator.is_available()
    batch = batch_size or recipe.training.batch_size
    if batch_size is None and not accelerated:
        batch = min(batch, max(_DRY_BATCH, _DRY_NUMBERS // planned.facts.size))
    data = recipe.model_dump(mode="json")
    data["training"] |= {"batch_size": batch, "accumulate": 1, "keep": "last", "keep_by": "metric"}
    if "workers" in data["data"]:
        data["data"]["workers"] = 0  # random examples take none
    data["prune"]["allocation"] = "uniform"  # of random examples a scan says nothing
    for section in (data["dense"], data["sparse"], data["redense"]):
        section["epochs"] = 1
    for cycle in data["cycles"]:
        cycle["sparse"]["epochs"] = cycle["redense"]["epochs"] = 1
    data["start"] = data["tune"] = None  # a dry run is of the recipe's own phases, all of them
    data.pop("arm", None)
    small = build_recipe(data, recipe.name)
    task = sketch_task(small, planned.facts, examples=batch * steps)
    spent: list[tuple[int, float]] = []  # phase, time at the end of each step

    def note(event: Mapping[str, Any]) -> None:
        if event["kind"] == "step":
            spent.append((event["phase_index"], time.perf_counter()))

    engine = Engine(task, small, emit=note, log_steps=1)
    while engine.phase_index < len(engine.plan):
        engine.train()
    # Between two steps of one phase there is nothing but training; what is around a phase is paid once.
    seconds = [after - before for (i, before), (j, after) in itertools.pairwise(spent) if i == j]
    measured = {
        "examples_per_second": float(f"{batch / statistics.median(seconds):.4g}"),
        "batch_size": batch,
        "steps": steps * len(engine.plan),
        "hardware": _hardware(),
    }
    own = f"the time is that of the recipe's own dense and sparse steps: a step of {recipe.arm} may cost another"
    return replace(planned, measured=measured, notes=(*planned.notes, *([own] if recipe.arm else [])))


def _hardware() -> str:
    here = environment()
    accelerators = here["accelerators"]
    return accelerators[0] if accelerators else f"{here['threads']} of {here['cores']} cores, {here['processor']}"
