"""Optimizers after whose steps a removed weight is zero without being masked, and what must be so for that.

Where gradient, states and weight are zero, the update rules here give zero: they treat each weight by itself. So the
pass over all weights after each step can be left out, as long as the gradient is the one that redense has masked and
nothing but the optimizer has written the weight.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_pre_hooks  # pyright: ignore[reportPrivateUsage]

from redense.holding.optimizers import hooks_of

# These classes and no class made from them, for a subclass may do anything.
_ELEMENTWISE = frozenset[type[Optimizer]](
    {
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
    }
)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_LOOKED = 8  # steps
_LEAST_EPS = 1e-30  # smaller ones may be 0 in these dtypes, and 0 / 0 is no zero


def leaves_zeros(optimizer: Optimizer) -> bool:
    """Whether a step of an optimizer leaves a weight of 0 at 0 where its gradient and its states are 0.

    It is so by the update rules of the classes that are known here, in the dtypes that `has_room` names, with settings
    that divide by no zero and change no sign. A hook of somebody else may write weights around the step, so that none
    must be there.
    """
    return (
        type(optimizer) in _ELEMENTWISE
        and all(_is_plain(group) for group in optimizer.param_groups)
        and not _global_optimizer_pre_hooks
        and all(hasattr(hook, "controller") for hook in hooks_of(optimizer))
    )


def has_room(tensor: Tensor) -> bool:
    """Whether the smallest divisor of an optimizer is above 0 in a tensor's dtype: 1e-8 is 0 in half precision."""
    return tensor.dtype in _DTYPES


def _is_plain(group: Mapping[str, Any]) -> bool:
    lr, decay = group["lr"], group.get("weight_decay", 0)
    known = float(lr) if not isinstance(lr, Tensor) or lr.device.type == "cpu" else None  # a device is not waited for
    return (
        not group.get("differentiable")
        and (not group.get("capturable") or bool(group.get("fused")))  # which divides by the rate, and that may be 0
        and group.get("eps", 1) >= _LEAST_EPS
        and (known is None or math.isfinite(known))
        and (not decay or (isinstance(lr, (int, float)) and lr * decay < 1))
    )


class Trust:
    """The weights that an optimizer is trusted to leave at zero, and those all of whose masked places are looked at.

    All of a weight is looked at before the next step when something that PyTorch counts has written it, and when it was
    trusted for `_LOOKED` steps: a write that is not counted (through ``.data``, by a kernel of somebody's own) shows
    then, if the places that are looked at before each step do not show it.

    A weight whose states have been written since the last step, or replaced, is not trusted for a step: what they hold
    may move it. Of a state, too, only what PyTorch counts is noticed then.
    """

    def __init__(self) -> None:
        self.zero: set[str] = set()  # names of weights that nothing has written since the last step, nor their states
        self.restated: set[str] = set()  # names of weights whose states somebody has written since the last step
        self._states: dict[str, list[int]] = {}
        self._noted: dict[str, tuple[int, int]] = {}
        self._left: set[str] = set()  # not masked since all of them was looked at
        self._steps = 0

    def begin(self, optimizer: Optimizer, weights: Mapping[str, Tensor], whole: Mapping[str, nn.Parameter]) -> set[str]:
        """Begin a step; return the names of the weights to be looked at in all places.

        Args:
            optimizer: that steps.
            weights: this rank's parts of those that are held, by name.
            whole: the parameters by name, and others.
        """
        now = _states_of(optimizer, weights, whole)
        self.restated = {name for name in now.keys() & self._states.keys() if now[name] != self._states[name]}
        same = {name for name, weight in weights.items() if self._noted.get(name) == _of(weight)}
        trusted = leaves_zeros(optimizer)
        self.zero = {name for name in same - self.restated if has_room(weights[name])} if trusted else set()
        looked_at = self._noted.keys() & weights.keys() - same
        if self._steps >= _LOOKED:
            looked_at |= self._left
            self._left, self._steps = set(), 0
        return looked_at

    def rename(self, now: Mapping[str, str]) -> None:
        """Call weights by other names: old -> new."""
        self._states = {now.get(name, name): state for name, state in self._states.items()}
        self._noted = {now.get(name, name): noted for name, noted in self._noted.items()}
        self._left = {now.get(name, name) for name in self._left}

    def narrow(self, weights: Mapping[str, Tensor]) -> None:
        """Take away what has been written since `begin`: a closure was called."""
        self.zero = {name for name in self.zero if self._noted.get(name) == _of(weights[name])}

    def end(
        self,
        optimizer: Optimizer,
        left: Collection[str],
        weights: Mapping[str, Tensor],
        whole: Mapping[str, nn.Parameter],
    ) -> None:
        """Note weights and states as they are after a step; weights that are `left` were not masked."""
        self._states = _states_of(optimizer, weights, whole)
        self._left.update(left)
        self._steps += bool(left)
        self._noted = {name: _of(weight) for name, weight in weights.items()}


def _states_of(optimizer: Optimizer, names: Iterable[str], whole: Mapping[str, nn.Parameter]) -> dict[str, list[int]]:
    """Return what changes when a state of a weight is written or replaced, of the optimizers that are known here."""
    if type(optimizer) not in _ELEMENTWISE:
        return {}  # weights are masked after each step, whatever is in the states
    of_each = cast("Mapping[Tensor, Mapping[str, Any]]", optimizer.state)  # a defaultdict would grow by []
    return {
        name: [
            number
            for state in of_each.get(whole[name], {}).values()
            if isinstance(state, Tensor)
            for number in (id(state), state._version)
        ]
        for name in names
    }


def _of(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor._version
