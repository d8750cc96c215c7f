"""Holding masks: what has to be done around an optimizer step so that masked weights and their states stay zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import masks as masking
from .errors import OptimizerError
from .phase import Phase


class Masked:
    """The masks in force on some parameters, and what has to be done around an optimizer step to hold them."""

    def __init__(
        self,
        phase: Phase,
        parameters: Mapping[str, nn.Parameter],
        masks: Mapping[str, Tensor],
        optimizers: Sequence[Optimizer],
        seed: int,
    ) -> None:
        self.phase = phase
        self.parameters = dict(parameters)
        self.masks = {name: masking.like(mask, self.parameters[name]) for name, mask in masks.items()}
        self.optimizers = list(optimizers)
        self.seed = seed
        self.steps = 0
        # Dynamic network surgery alone keeps the weights under the mask.
        self.full: dict[str, Tensor] = {}
        self.thresholds: dict[str, float] = {}
        if phase.surgery:
            self.full = {name: self.parameters[name].detach().clone() for name in self.masks}
            self.thresholds = {n: phase.surgery.threshold(w, self.masks[n]) for n, w in self.full.items()}

    def begin(self, *, resumed: bool = False) -> None:
        """Put the masks in force; nothing of a resumed optimizer's state is lost."""
        for optimizer in self.optimizers:  # what cannot be masked is found before anything is
            for name in self._names(optimizer):
                list(state_of(optimizer, name, self.parameters[name]))
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=not self.phase.surgery)
            if not resumed:
                _forget_curvature(optimizer)

    def release(self) -> None:
        """Leave every masked weight at zero and without velocity."""
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=True)
            _forget_curvature(optimizer)

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """Return the arguments that ``optimizer.step`` shall have instead, or None."""
        self._restore(optimizer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            return None
        # An optimizer that evaluates the loss itself (LBFGS) must see the masked weights and only their gradients.
        masked = self._masked_closure(optimizer, closure)
        return (
            (args[:1], {**kwargs, "closure": masked}) if "closure" in kwargs else ((args[0], masked, *args[2:]), kwargs)
        )

    def after_step(self, optimizer: Optimizer, *, skipped: bool = False) -> None:
        """Mask what the step has moved; a skipped step moved nothing."""
        surgery = self.phase.surgery
        if surgery:
            self._save(optimizer)
            if not skipped and self.steps < self.phase.steps and surgery.due(self.steps, self.seed):
                for name in self._names(optimizer):
                    mask = surgery.revise(self.full[name], self.masks[name], self.thresholds[name])
                    self.masks[name].copy_(mask)
        self._mask(optimizer, with_state=not surgery)
        if not skipped and optimizer is self.optimizers[-1]:
            self.steps += 1

    def _masked_closure(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def masked() -> Any:
            self._save(optimizer)
            self._mask(optimizer, with_state=False)
            loss = closure()
            if not self.phase.surgery:
                for name in self._names(optimizer):
                    grad = self.parameters[name].grad
                    if grad is not None and not grad.is_sparse:
                        masking.apply_(self.masks[name], grad)
            self._restore(optimizer)
            return loss

        return masked

    def _mask(self, optimizer: Optimizer, *, with_state: bool) -> None:
        for name in self._names(optimizer):
            parameter = self.parameters[name]
            mask = self.masks[name]
            if mask.stride() != parameter.stride() or mask.device != parameter.device:  # moved or re-laid out since
                mask = self.masks[name] = masking.like(mask, parameter)
            state = state_of(optimizer, name, parameter) if with_state else ()
            masking.apply_(mask, parameter.detach(), *state)

    def _save(self, optimizer: Optimizer) -> None:
        if self.full:
            for name in self._names(optimizer):
                self.full[name].copy_(self.parameters[name].detach())

    def _restore(self, optimizer: Optimizer) -> None:
        if self.full:
            with torch.no_grad():
                for name in self._names(optimizer):
                    self.parameters[name].copy_(self.full[name])

    def _names(self, optimizer: Optimizer) -> Iterator[str]:
        mine = held(optimizer)
        return (name for name in self.masks if id(self.parameters[name]) in mine)


# --- optimizers -----------------------------------------------------------------------------------------------------


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return the torch optimizer under the wrappers of Accelerate and others."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise OptimizerError(f"an optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def held(optimizer: Optimizer) -> set[int]:
    """Return the ids of the parameters that the optimizer updates."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def state_of(optimizer: Optimizer, name: str, parameter: nn.Parameter) -> Iterator[Tensor]:
    """Give every floating-point state tensor of the parameter's shape."""
    # .get, for the state of a fresh optimizer is a defaultdict that would grow by being read
    for key, value in optimizer.state.get(parameter, {}).items():
        for tensor in cast("list[Any]", value) if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(tensor, Tensor) or tensor.shape != parameter.shape or not tensor.dim():
                continue
            if tensor.is_floating_point():
                yield tensor
            elif tensor.dtype in (torch.uint8, torch.int8):
                raise OptimizerError(
                    f"{type(optimizer).__name__} keeps a quantised state '{key}' for '{name}', in which 0 is not zero: "
                    "use the optimizer's 32-bit form for the prunable parameters"
                )


def _forget_curvature(optimizer: Optimizer) -> None:
    # LBFGS keeps flat vectors over all parameters: they describe the loss with the other weights.
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()


def was_skipped(optimizer: Optimizer) -> bool:
    """Whether the step that has just been called changed nothing, for a GradScaler had found an infinity."""
    # For fused optimizers GradScaler calls step() also when it found an infinity, and lets the kernel skip.
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())
