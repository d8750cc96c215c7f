"""DropConnect (Wan et al., ICML 2013): random weights are dropped in training, anew for every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from redense.errors import ScheduleError
from redense.layers.names import unwrap

from .base import Context, Method, Problem, technique


def drop_connect(model: nn.Module, rate: float = 0.5) -> Callable[..., Any]:
    """Return what calls a model with random weights of its fully-connected layers at zero, for one batch.

    Every weight stays with probability 1 - rate, scaled by 1 / (1 - rate). The model itself is not changed: it is
    called with other values for these weights, and gradients reach its own.

    >>> import torch
    >>> model = nn.Linear(4, 2)
    >>> drop_connect(model, rate=0.5)(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    inner = unwrap(model)
    weights = {
        f"{path}.weight" if path else "weight": F.dropout(module.weight, rate)
        for path, module in inner.named_modules()
        if isinstance(module, nn.Linear)
    }

    def dropped(*inputs: Any, **more: Any) -> Any:
        return functional_call(inner, weights, inputs, more)

    return dropped


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
        if not any(isinstance(module, nn.Linear) for module in model.modules()):
            raise ScheduleError("the network has no fully-connected layer whose weights could be dropped")

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        return run.loss(cast("nn.Module", drop_connect(model, self.options["rate"])), batch)
