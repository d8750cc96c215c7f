"""The plan of a recipe: its phases in order, with every learning rate, length and sparsity resolved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..errors import RecipeError
from ..phase import Decay, Phase, Sparsity
from .recipe import DecayRecipe, DenseRecipe, Recipe, SparseRecipe


@dataclass(frozen=True)
class PlannedPhase:
    """One phase of a run; ``lr`` is absolute, ``epochs`` may be a fraction."""

    name: str
    epochs: float
    lr: float
    decay: Decay
    sparsity: Sparsity | None = None
    criterion: str = "magnitude"
    scope: str = "layer"
    pattern: tuple[int, int] | None = None

    @property
    def is_sparse(self) -> bool:
        """Whether a mask holds."""
        return self.sparsity is not None or self.pattern is not None

    def steps(self, steps_per_epoch: int) -> int:
        """Return the length in optimizer steps."""
        return max(1, round(self.epochs * steps_per_epoch))

    def phase(self, steps_per_epoch: int) -> Phase:
        """Return the phase as the core knows it; its learning rate is left at factor 1, as ours is absolute."""
        steps = self.steps(steps_per_epoch)
        if not self.is_sparse:
            return Phase.dense(steps, decay=self.decay, name=self.name)
        return Phase(steps, self.sparsity, 1.0, self.decay, self.criterion, self.scope, self.pattern, None, self.name)  # pyright: ignore[reportArgumentType]


def plan(recipe: Recipe) -> tuple[PlannedPhase, ...]:
    """Return the phases of a recipe.

    Without a learning rate of its own the sparse phase takes the optimizer's, and the re-dense one a tenth of it;
    in later cycles each takes a tenth of the cycle's before.
    """
    base = recipe.training.optimizer.lr
    cycles = [(recipe.sparse, recipe.redense), *((cycle.sparse, cycle.redense) for cycle in recipe.cycles)]
    phases = [_dense("dense", recipe.dense, base, recipe)]
    sparse_lr, redense_lr = base, base * 0.1
    for number, (sparse, redense) in enumerate(cycles, start=1):
        suffix = f"-{number}" if len(cycles) > 1 else ""
        phases.append(_sparse(f"sparse{suffix}", sparse, sparse_lr, recipe))
        phases.append(_dense(f"redense{suffix}", redense, redense_lr, recipe))
        sparse_lr, redense_lr = phases[-2].lr * 0.1, phases[-1].lr * 0.1
    return tuple(phases)


def derive_seed(*parts: object) -> int:
    """Return a seed that depends on all the parts and on nothing else, in [0, 2**56)."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7], "big")


def _dense(name: str, phase: DenseRecipe, lr: float, recipe: Recipe) -> PlannedPhase:
    return PlannedPhase(name, phase.epochs, phase.lr or lr, _decay(phase.decay or recipe.training.decay))


def _sparse(name: str, phase: SparseRecipe, lr: float, recipe: Recipe) -> PlannedPhase:
    if phase.scope == "global" and isinstance(phase.sparsity, dict):
        raise RecipeError(f"{name}: scope 'global' needs one sparsity for all weights, not one per parameter")
    return PlannedPhase(
        name,
        phase.epochs,
        phase.lr or lr,
        _decay(phase.decay or recipe.training.decay),
        None if phase.pattern else phase.sparsity,
        phase.criterion,
        phase.scope,
        phase.pattern,
    )


def _decay(decay: DecayRecipe) -> Decay:
    return Decay(decay.kind, decay.floor, decay.power, decay.every, decay.factor)
