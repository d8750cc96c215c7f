"""The optimizer's state kept under the mask: what a loop does that multiplies the weights by the mask and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from .base import Context, Method, technique


@technique("momentum")
class KeptMomentum(Method):
    """A sparse phase in which pruned weights are zero but their momentum is not, so that they move when released.

    An ablation: DSD itself masks the gradients, so that no momentum builds up, and clears the state at the release (the
    paper leaves it open). Here the gradients of removed weights take part. The state after each step is set aside
    before the mask reaches it, and put back before the next step and at the end of the phase. With
    ``training.keep: best`` it is the state of the last step.
    """

    keeps_gradients = True
    kept_attributes = ("kept",)

    @override
    def begin(self, run: Context) -> None:
        self.parameters = dict(run.prunable)
        self.kept: dict[str, dict[str, Tensor]] = {}

    @override
    def step(self, run: Context, optimizer: Optimizer, again: Callable[[], object]) -> None:
        own = run.optimizer or optimizer
        self._put_back(own)
        handle = own.register_step_post_hook(self._set_aside)
        # Before the hook that masks, which was there first; PyTorch has no other way to say so.
        own._optimizer_step_post_hooks.move_to_end(handle.id, last=False)  # pyright: ignore[reportAttributeAccessIssue]  # an OrderedDict
        try:
            optimizer.step()
        finally:
            handle.remove()

    @override
    def finish(self, run: Context) -> None:
        if run.optimizer is not None:
            self._put_back(run.optimizer)

    @override
    def load_state_dict(self, state: Mapping[str, Any], run: Context) -> None:
        super().load_state_dict(state, run)
        named = dict(run.model.named_parameters())
        self.parameters = {name: named[name] for name in state["kept"]}

    def _set_aside(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for name, parameter in self.parameters.items():
            state = optimizer.state.get(parameter, {})
            self.kept[name] = {
                key: value.detach().clone()
                for key, value in state.items()
                if isinstance(value, Tensor) and value.shape == parameter.shape
            }

    def _put_back(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            for name, tensors in self.kept.items():
                state = optimizer.state[self.parameters[name]]
                for key, value in tensors.items():
                    state[key].copy_(value)
