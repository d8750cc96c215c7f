"""Simulated annealing's jump: a random step of the weights, as large as what pruning would have removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from redense import masks
from redense.pruning import derive_seed

from .base import Context, Method, technique


def jump_(parameters: Mapping[str, Tensor], *, sparsity: float = 0.3, scale: float = 1.0, seed: int = 0) -> None:
    """Add to every weight matrix a random vector of norm scale * ||part that pruning would remove||, in place.

    The control for "any perturbation of this size would do".

    Args:
        parameters: by name, as `redense.prunable` gives them.
        sparsity: that pruning would have.
        scale: of the jump.
        seed: of the random vectors, each of which depends on the name too.
    """
    with torch.no_grad():
        for name, weight in parameters.items():
            kept = masks.select(weight, sparsity, name=name, absolute=True)
            removed = weight.masked_fill(kept, 0.0).norm()
            generator = torch.Generator().manual_seed(derive_seed(seed, name))
            step = torch.randn(weight.shape, generator=generator).to(weight)
            weight.add_(step * (scale * removed / step.norm().clamp_min(1e-12)))


@technique("jump")
class Jump(Method):
    """Makes the jump of `jump_`, then trains dense. Options: its ``sparsity`` and ``scale``, which an arm lets fall."""

    defaults: Mapping[str, Any] = {"sparsity": 0.3, "scale": 1.0}

    @override
    def begin(self, run: Context) -> None:
        jump_(run.prunable, **self.options, seed=self.seed)
