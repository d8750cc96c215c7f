"""Low rank by SVD (Denton et al., NIPS 2014): W ~ U_t S_t V_t^T, from n k weights to t (n + k)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ParameterError, ScheduleError, nearest
from redense.layers.names import unwrap, walk
from redense.masks import check_storage
from redense.masks.sharding import is_sharded
from redense.schedules.numeric import as_float, as_int

from .base import Context, Method, Problem, technique


class LowRankLinear(nn.Module):
    """A linear layer of rank t in two factors: (..., in) -> (..., t) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    @property
    def weight(self) -> Tensor:
        """The product of both factors, which PyTorch's transformer layers read in eval mode: (out, in)."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias, likewise."""
        return self.up.bias

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

    A layer is replaced only where that saves weights, and not where anything else shares its weight. The new layers
    have parameters of their own, frozen where the old ones were: make the optimizer afterwards, and train on.

    Args:
        model: a module that is no fully-connected layer itself.
        energy: the part of the squared singular values that is kept.
        rank: the same for all, instead.
        ranks: by layer; wins over both.

    Raises:
        ScheduleError: ``energy`` is not in (0, 1], or a rank is no whole number of at least 1.
        ParameterError: ``ranks`` names no fully-connected layer, or one whose weight something else shares; a weight is
            not finite, sharded or without values; or DDP is around the model.

    >>> model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 2))
    >>> factorise_(model, rank=4)
    {'0': 4}
    """
    unwrap(model)  # which says what is no module
    part, every, own = _checked(model, energy, rank, ranks)
    if any(map(is_sharded, model.parameters())):
        raise ParameterError("factorise_ needs whole weights, and those of this model are sharded: call it before that")
    if any(type(module).__name__ == "DistributedDataParallel" for module in model.modules()):
        raise ParameterError("factorise_ makes parameters that DDP around the model would not share: call it before")
    chosen: dict[str, int] = {}
    for path, module in _layers(model).items():
        outputs, inputs = module.weight.shape
        check_storage(f"{path}.weight", module.weight)
        if not bool(module.weight.isfinite().all()):
            raise ParameterError(f"'{path}.weight' has NaN or infinite weights, which have no low rank")
        number = own.get(path) or every or _rank(module.weight, part)
        if number * (inputs + outputs) < inputs * outputs:
            chosen[path] = number
    _replace(model, chosen)
    return chosen


def _checked(
    model: nn.Module, energy: object, rank: object, ranks: Mapping[str, int] | None
) -> tuple[float, int | None, dict[str, int]]:
    """Return the options of `factorise_` as numbers."""
    part = as_float(energy)
    if part is None or not 0 < part <= 1:
        raise ScheduleError(f"energy of the low rank must be in (0, 1], got {energy!r}")
    every = None if rank is None else _whole(rank)
    if ranks is not None and not isinstance(ranks, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ScheduleError(f"ranks maps names of layers to ranks, got {ranks!r}: rank= is one for all")
    own = {path: _whole(value) for path, value in (ranks or {}).items()}
    layers = _layers(model)
    for path in own:
        if path not in layers:
            raise ParameterError(
                f"ranks has '{path}', which is no fully-connected layer with a weight of its own{nearest(path, layers)}"
            )
    return part, every, own


def _layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the fully-connected layers below a module whose weight is in no other place, by path."""
    linear = {path: m for path, m in walk(model) if path and type(m) is nn.Linear}
    places = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return {path: m for path, m in linear.items() if places[id(m.weight)] == 1}


def _whole(rank: object) -> int:
    number = as_int(rank)
    if number is None or number < 1:
        raise ScheduleError(f"a rank must be a whole number of at least 1, got {rank!r}")
    return number


def _replace(model: nn.Module, ranks: Mapping[str, int]) -> None:
    for path, rank in ranks.items():
        parent_path, _, attribute = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        setattr(parent, attribute, _factors(getattr(parent, attribute), rank))


def _rank(weight: Tensor, energy: float) -> int:
    squares = torch.linalg.svdvals(_precise(weight)).square()
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
        _checked(model, **self.options)

    @override
    def reshape(self, run: Context, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        if made is None:
            return model, factorise_(model, **self.options) or None
        _replace(model, made)
        return model, made


def _factors(linear: nn.Linear, rank: int) -> LowRankLinear:
    outputs, inputs = linear.weight.shape
    factors = LowRankLinear(inputs, outputs, rank, bias=linear.bias is not None).to(linear.weight)
    u, s, v = torch.linalg.svd(_precise(linear.weight), full_matrices=False)
    with torch.no_grad():
        root = s[:rank].sqrt()
        factors.down.weight.copy_(root[:, None] * v[:rank])
        factors.up.weight.copy_(u[:, :rank] * root)
        if linear.bias is not None:
            factors.up.bias.copy_(linear.bias)
            factors.up.bias.requires_grad_(linear.bias.requires_grad)
    for half in (factors.down, factors.up):
        half.weight.requires_grad_(linear.weight.requires_grad)
    return factors.train(linear.training)


def _precise(weight: Tensor) -> Tensor:
    """Return a weight in float32, or in float64 if it is of that: there is no SVD in half precision."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
