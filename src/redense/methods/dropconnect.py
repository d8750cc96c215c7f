"""DropConnect (Wan et al., ICML 2013): random weights are dropped in training, anew for every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from redense.errors import ParameterError, ScheduleError
from redense.layers.names import unwrap, walk
from redense.masks.sharding import is_sharded
from redense.schedules.numeric import as_float

from .base import Context, Method, Problem, technique


def drop_connect(model: nn.Module, rate: float = 0.5) -> Callable[..., Any]:
    """Return what calls a model with random weights of its fully-connected layers at zero, for one batch.

    Every weight stays with probability 1 - rate, scaled by 1 / (1 - rate). The model itself is not changed: it is
    called with other values for these weights, and gradients reach its own. Layers that share a weight each drop
    weights of their own; an embedding that shares it drops none.

    Args:
        model: with fully-connected layers; where DDP or Fabric wraps it, what they made of it, so that ranks share
            gradients.
        rate: the part that is dropped, in [0, 1).

    Raises:
        ScheduleError: the rate is not in [0, 1).
        ParameterError: there is no fully-connected layer, or the weight of one is sharded or computed from others.

    >>> import torch
    >>> model = nn.Linear(4, 2)
    >>> drop_connect(model, rate=0.5)(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    called = _called(model)
    weights = {name: F.dropout(weight, rate) for name, weight in _weights(called, rate).items()}

    def dropped(*inputs: Any, **more: Any) -> Any:
        return functional_call(called, weights, inputs, more, tie_weights=False)

    return dropped


def _called(model: nn.Module) -> nn.Module:
    """Return what is called with other weights: with the wrappers around the model that share its gradients (DDP)."""
    unwrap(model)  # which says what is no module
    inside = {"OptimizedModule": "_orig_mod", "DataParallel": "module"}
    while type(model).__name__ in inside:
        model = model.get_submodule(inside[type(model).__name__])
    return model


def _weights(model: nn.Module, rate: float) -> dict[str, Tensor]:
    """Return the weights of the fully-connected layers, by name; refuse what `drop_connect` does."""
    number = as_float(rate)
    if number is None or not 0 <= number < 1:
        raise ScheduleError(f"rate of drop_connect must be in [0, 1), the part that is dropped; got {rate!r}")
    found: dict[str, Tensor] = {}
    for path, module in walk(model):
        if isinstance(module, nn.Linear):
            name = f"{path}.weight" if path else "weight"
            weight = dict(module.named_parameters(recurse=False)).get("weight")
            if weight is None or is_sharded(weight):
                how = "is computed from other parameters" if weight is None else "is sharded"
                raise ParameterError(f"drop_connect cannot drop weights of '{name}', which {how}")
            found[name] = weight
    if not found:
        raise ParameterError("drop_connect drops weights of fully-connected layers (nn.Linear), and the model has none")
    return found


@technique("dropconnect")
class DropConnect(Method):
    """Trains every weight of the fully-connected layers with probability 1 - rate, scaled by 1 / (1 - rate).

    The model itself is not changed: it is called with other values for these weights, so that nothing is left when
    the phase is over. Options: ``rate``.
    """

    defaults: Mapping[str, Any] = {"rate": 0.5}

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        _weights(unwrap(model), self.options["rate"])

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        return run.loss(cast("nn.Module", drop_connect(model, self.options["rate"])), batch)
