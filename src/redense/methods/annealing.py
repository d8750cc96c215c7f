"""Simulated annealing's jump: a random step of the weights, as large as what pruning would have removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from redense import masks
from redense.pruning import derive_seed

from .base import Method


class Jump(Method):
    """Adds to every prunable weight a random vector of norm scale * ||pruned part||, then trains dense.

    The control for "any perturbation of this size would do". Options: ``sparsity`` that pruning would have, ``scale``
    which an arm lets fall from one phase to the next.
    """

    name = "jump"
    defaults: Mapping[str, Any] = {"sparsity": 0.3, "scale": 1.0}

    @override
    def begin(self, model: nn.Module, prunable: Mapping[str, nn.Parameter]) -> None:
        with torch.no_grad():
            for name, weight in prunable.items():
                kept = masks.select(weight, self.options["sparsity"], name=name, absolute=True)
                removed = weight.masked_fill(kept, 0.0).norm()
                seed = derive_seed(self.seed, name)
                step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight)
                weight.add_(step * (self.options["scale"] * removed / step.norm().clamp_min(1e-12)))
