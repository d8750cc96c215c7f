"""Low rank by SVD (Denton et al., NIPS 2014): W ~ U_t S_t V_t^T, from n k weights to t (n + k)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError

from .base import Method


class LowRankLinear(nn.Module):
    """A linear layer of rank t in two factors: (..., in) -> (..., t) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both factors."""
        return self.up(self.down(x))


class LowRank(Method):
    """Replaces fully-connected layers by their truncated SVD, then trains on (fine-tuning).

    A layer is replaced only where that saves weights. Options: ``energy``, the part of the squared singular values
    that is kept; or ``rank``, the same for all; ``ranks`` per layer wins over both.
    """

    name = "lowrank"
    defaults: Mapping[str, Any] = {"energy": 0.9, "rank": None, "ranks": None}

    @override
    def reshape(self, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        energy = self.options["energy"]
        if not 0 < energy <= 1:
            raise ScheduleError(f"energy of the low rank must be in (0, 1], got {energy}")
        ranks: dict[str, int] = made if made is not None else self._ranks(model)
        for path, rank in ranks.items():
            parent_path, _, attribute = path.rpartition(".")
            parent = model.get_submodule(parent_path)
            linear = getattr(parent, attribute)
            setattr(parent, attribute, _factorise(linear, rank))
        return model, ranks or None

    def _ranks(self, model: nn.Module) -> dict[str, int]:
        ranks: dict[str, int] = {}
        for path, module in model.named_modules():
            if type(module) is not nn.Linear:
                continue
            outputs, inputs = module.weight.shape
            rank = (self.options["ranks"] or {}).get(path) or self.options["rank"] or self._rank(module.weight)
            if rank * (inputs + outputs) < inputs * outputs:
                ranks[path] = int(rank)
        return ranks

    def _rank(self, weight: Tensor) -> int:
        squares = torch.linalg.svdvals(weight.detach().float()).square()
        share = squares.cumsum(0) / squares.sum()
        return int((share < self.options["energy"]).sum()) + 1


def _factorise(linear: nn.Linear, rank: int) -> LowRankLinear:
    outputs, inputs = linear.weight.shape
    factors = LowRankLinear(inputs, outputs, rank, bias=linear.bias is not None).to(linear.weight)
    u, s, v = torch.linalg.svd(linear.weight.detach().float(), full_matrices=False)
    with torch.no_grad():
        root = s[:rank].sqrt()
        factors.down.weight.copy_(root[:, None] * v[:rank])
        factors.up.weight.copy_(u[:, :rank] * root)
        if linear.bias is not None:
            factors.up.bias.copy_(linear.bias)
    return factors
