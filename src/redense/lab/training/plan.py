"""The plan of a recipe: its phases in optimizer steps, and what is done around each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redense.errors import RecipeError, ScheduleError
from redense.lab.recipe.recipe import Recipe
from redense.lab.recipe.sections import DenseRecipe, SparseRecipe
from redense.methods.base import TECHNIQUES, Method
from redense.phase import Decay, Phase
from redense.schedule import Schedule

from .pretrained import start_digest

TECHNIQUES.add_home("redense.lab.arms.rivals")  # each has its arm and its card beside it


@dataclass(frozen=True)
class PlannedPhase:
    """A phase of a run, and what is changed around it.

    Args:
        phase: the phase as the core knows it; its learning rate is a factor of the recipe's optimizer's.
        method: name of a technique that the phase is trained with, see `redense.methods`.
        options: the technique's settings, plain data.
        allocation: how the phase's one sparsity is shared over the layers when it begins; ``uniform``: each the same.
        given: sha256 of the weights that stand in place of the phase, which is then not trained.
        begins: what tells the weights that the phase begins with, and how it tunes them; it is trained.
        tunes: optimizer steps in which it tunes them, where that is not the whole phase; then all layers learn alike.
        changes: settings of the recipe that are others in this phase alone, section -> setting -> value.
        after: the phase that this one begins from, by its place in the flow; None: the one before it. So a flow
            branches.
        joins: phases whose ends the technique makes one network of, by their place in the flow or by their key in the
            store; the phase itself is not trained.
    """

    phase: Phase
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    allocation: str = "uniform"
    given: str | None = None
    begins: str | None = None
    tunes: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    after: int | None = None
    joins: tuple[int | str, ...] | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps that are trained."""
        return 0 if self.given or self.joins is not None else self.phase.steps

    @property
    def loss_with(self) -> list[str]:
        """Names of what gives it another training loss than the recipe's: a technique, changed settings."""
        changed = [f"{section}.{name}" for section, settings in self.changes.items() for name in settings]
        names = [name for name in changed if name not in _AFTER_THE_LOSS]
        if self.method and TECHNIQUES.get_named(self.method).loss is not Method.loss:
            names.insert(0, self.method)
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that determines the phase."""
        data: dict[str, Any] = {"phase": self.phase.to_dict(), "method": self.method, "options": dict(self.options)}
        for name, unsaid in _UNSAID.items():
            value = getattr(self, name)
            if value != unsaid:
                data[name] = list(value) if name == "joins" else value
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlannedPhase:
        """Return the phase that `to_dict` gave."""
        joins = data.get("joins")
        own = {"phase": Phase.from_dict(data["phase"]), "joins": None if joins is None else tuple(joins)}
        return cls(**{**data, **own})


_AFTER_THE_LOSS = {"training.optimizer", "training.clip_norm", "training.clip_value"}

# Values that a phase does not say: its key is then the one that it had before there was such a setting.
_UNSAID = {
    "allocation": "uniform",
    "given": None,
    "begins": None,
    "tunes": None,
    "changes": {},
    "after": None,
    "joins": None,
}


def plan(recipe: Recipe, steps_per_epoch: int) -> tuple[PlannedPhase, ...]:
    """Return the phases that a recipe describes: dense, sparse, dense, and its further cycles.

    Where it starts from trained weights, they stand in place of the first dense phase, or that phase tunes them.

    Raises:
        RecipeError: the phases do not fit together.
        StateError: the weights to start from cannot be read.
    """
    phases = schedule(recipe, steps_per_epoch).phases
    return planned(recipe, phases, first=phases[0])


def planned(
    recipe: Recipe, phases: Sequence[Phase | PlannedPhase], *, first: Phase, allocation: str | None = None
) -> tuple[PlannedPhase, ...]:
    """Return phases with what a recipe says beside the schedule: the weights to start from, and the allocation.

    Args:
        recipe: says it.
        phases: in order; one that is planned already keeps what it has.
        first: the recipe's own first phase, which is the one that given weights can stand for; where they are tuned,
            any dense phase can be begun from them, and tunes them for as long as that one.
        allocation: instead of the recipe's.

    Raises:
        RecipeError: the recipe starts from given weights, and the phases begin with another phase than ``first``; or
            it tunes them, and the phases begin with a sparse one.
        StateError: the weights to start from cannot be read.
    """
    shared = recipe.prune.allocation if allocation is None else allocation
    out: list[PlannedPhase] = []
    for phase in phases:
        one = phase if isinstance(phase, PlannedPhase) else PlannedPhase(phase)
        if shared != "uniform" and isinstance(one.phase.sparsity, float) and one.phase.scope == "layer":
            one = replace(one, allocation=shared)
        out.append(one)
    if recipe.start and out:
        begun = out[0]
        if recipe.tune is None and begun != PlannedPhase(first):
            raise RecipeError(
                "it trains the first dense phase otherwise than the recipe does, so that the recipe's `start` cannot "
                "stand for it: give a recipe without one, or --tune.backbone_lr 1, to train that phase from its weights"
            )
        if recipe.tune is not None and begun.phase.is_sparse:
            raise RecipeError(
                "it prunes in its first phase, and the recipe's `start` is tuned in a dense one: give no `start`"
            )
        digest = start_digest(recipe.start)
        if recipe.tune is None:
            out[0] = replace(begun, given=digest)
        else:  # how it is tuned determines the phase, too
            part = recipe.tune.backbone_lr  # of a phase that is also those after the first, only as long as that one
            tunes = first.steps if part < 1 and begun.phase.steps > first.steps else None
            out[0] = replace(begun, begins=f"{digest} {part:g}", tunes=tunes)
    return tuple(out)


def schedule(recipe: Recipe, steps_per_epoch: int) -> Schedule:
    """Return the DSD schedule of a recipe, learning rates as factors of the optimizer's.

    Without a learning rate of its own the sparse phase takes the optimizer's, and the re-dense one a tenth of it;
    in later cycles each takes a tenth of the cycle's before.

    Raises:
        RecipeError: the phases do not fit together.
    """
    base = recipe.training.optimizer.lr
    cycles = [(recipe.sparse, recipe.redense), *((cycle.sparse, cycle.redense) for cycle in recipe.cycles)]

    def common(section: DenseRecipe, name: str, factor: float) -> dict[str, Any]:
        return {
            "steps": max(1, round(section.epochs * steps_per_epoch)),
            "lr": factor if section.lr is None else section.lr / base,
            "decay": Decay(**(section.decay or recipe.training.decay).model_dump()),
            "name": name,
        }

    phases = [Phase(**common(recipe.dense, "dense", 1.0))]
    sparse_lr, redense_lr = 1.0, 0.1
    for number, (sparse, redense) in enumerate(cycles, start=1):
        suffix = f"-{number}" if len(cycles) > 1 else ""
        phases.append(_sparse(sparse, common(sparse, f"sparse{suffix}", sparse_lr)))
        phases.append(Phase(**common(redense, f"redense{suffix}", redense_lr)))
        sparse_lr, redense_lr = phases[-2].lr * 0.1, phases[-1].lr * 0.1
    return Schedule(tuple(phases))


def _sparse(section: SparseRecipe, common: dict[str, Any]) -> Phase:
    sparsity = None if section.pattern else section.sparsity
    return Phase(**common, sparsity=sparsity, criterion=section.criterion, scope=section.scope, pattern=section.pattern)


def check_flow(phases: Sequence[PlannedPhase], label: str) -> None:
    """Raise if the phases of a flow have no place for each other, or are no plain data.

    Raises:
        ScheduleError: there is no phase, or one begins from, or joins, one that is not before it.
        RecipeError: a setting of a technique, or of the recipe, is no plain data: it would have no key in the store.
    """
    if not phases:
        raise ScheduleError(f"{label} has no phase")
    for index, one in enumerate(phases):
        parts = (one.after, *(one.joins or ()))
        if any(isinstance(part, int) and not 0 <= part < index for part in parts):
            raise ScheduleError(
                f"{label}: phase '{one.phase.name}' begins from, or joins, a phase that is not before it"
            )
        for name, value in (*one.options.items(), *one.changes.items()):
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise RecipeError(
                    f"{label}: '{name}' of phase '{one.phase.name}' is no plain number, text, list or mapping: {error}"
                ) from None
