"""Low rank by SVD (Denton et al., NIPS 2014): W ~ U_t S_t V_t^T, from n k weights to t (n + k)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError

from .base import Context, Method, Problem, technique


class LowRankLinear(nn.Module):
    """A linear layer of rank t in two factors: (..., in) -> (..., t) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both factors."""
        return self.up(self.down(x))


def factorise_(
    model: nn.Module,
    *,
    energy: float = 0.9,
    rank: int | None = None,
    ranks: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Replace fully-connected layers by their truncated SVD, in place; return the rank of each that was replaced.

    A layer is replaced only where that saves weights. The new layers have parameters of their own: make the optimizer
    afterwards, and train on.

    Args:
        model: a module that is no fully-connected layer itself.
        energy: the part of the squared singular values that is kept.
        rank: the same for all, instead.
        ranks: by layer; wins over both.

    Raises:
        ScheduleError: ``energy`` is not in (0, 1].

    >>> model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 2))
    >>> factorise_(model, rank=4)
    {'0': 4}
    """
    if not 0 < energy <= 1:
        raise ScheduleError(f"energy of the low rank must be in (0, 1], got {energy}")
    chosen: dict[str, int] = {}
    for path, module in model.named_modules():
        if type(module) is not nn.Linear or not path:
            continue
        outputs, inputs = module.weight.shape
        own = (ranks or {}).get(path) or rank or _rank(module.weight, energy)
        if own * (inputs + outputs) < inputs * outputs:
            chosen[path] = int(own)
    _replace(model, chosen)
    return chosen


def _replace(model: nn.Module, ranks: Mapping[str, int]) -> None:
    for path, rank in ranks.items():
        parent_path, _, attribute = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        setattr(parent, attribute, _factors(getattr(parent, attribute), rank))


def _rank(weight: Tensor, energy: float) -> int:
    squares = torch.linalg.svdvals(weight.detach().float()).square()
    share = squares.cumsum(0) / squares.sum()
    return int((share < energy).sum()) + 1


@technique("lowrank")
class LowRank(Method):
    """Replaces fully-connected layers by their truncated SVD, then trains on (fine-tuning).

    A layer is replaced only where that saves weights. Options: ``energy``, the part of the squared singular values
    that is kept; or ``rank``, the same for all; ``ranks`` per layer wins over both.
    """

    defaults: Mapping[str, Any] = {"energy": 0.9, "rank": None, "ranks": None}

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        if not any(type(module) is nn.Linear and path for path, module in model.named_modules()):
            raise ScheduleError("the network has no fully-connected layer whose rank could be cut")

    @override
    def reshape(self, run: Context, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        if made is None:
            return model, factorise_(model, **self.options) or None
        _replace(model, made)
        return model, made


def _factors(linear: nn.Linear, rank: int) -> LowRankLinear:
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
