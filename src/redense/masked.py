"""The masks in force: what is done around an optimizer step so that masked weights and their states stay zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import masks as masking
from .errors import ParameterError
from .optimizers import forget_curvature, held, state_of
from .phase import Phase
from .sharding import cut, is_sharded, largest_over, like, local
from .surgery import Surgery


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
        self.masks = {name: like(mask, self.parameters[name]) for name, mask in masks.items()}
        self.optimizers = list(optimizers)
        self.seed = seed
        self.steps = 0
        # Dynamic network surgery alone keeps the weights under the mask.
        self.full: dict[str, Tensor] = {}
        self.thresholds: dict[str, float] = {}
        if phase.surgery:
            self.full = {name: self.parameters[name].detach().clone() for name in self.masks}
            self.thresholds = {n: _threshold(phase.surgery, n, w, self.masks[n]) for n, w in self.full.items()}

    def begin(self, *, resumed: bool = False) -> None:
        """Put the masks in force; nothing of a resumed optimizer's state is lost."""
        for optimizer in self.optimizers:  # what cannot be masked is found before anything is
            for name in self._names(optimizer):
                list(state_of(optimizer, name, self.parameters[name]))
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=not self.phase.surgery)
            if not resumed:
                forget_curvature(optimizer)

    def release(self) -> None:
        """Leave every masked weight at zero and without velocity."""
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=True)
            forget_curvature(optimizer)

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
                    mask = local(self.masks[name])
                    mask.copy_(surgery.revise(local(self.full[name]), mask, self.thresholds[name]))
        self._mask(optimizer, with_state=not surgery)
        if not skipped and optimizer is self.optimizers[-1]:
            self.steps += 1

    def lost(self) -> bool:
        """Whether a masked parameter is no longer what the optimizers update: the model was sharded since."""
        mine = set[int]().union(*(held(optimizer) for optimizer in self.optimizers))
        return any(id(parameter) not in mine for parameter in self.parameters.values())

    def follow(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Go on with other parameters of the same names and shapes; the masks are cut as they are."""
        self.parameters = {name: parameters[name] for name in self.parameters}
        self.masks = {name: like(mask, self.parameters[name]) for name, mask in self.masks.items()}
        self.full = {name: cut(full, self.parameters[name]) for name, full in self.full.items()}

    def _masked_closure(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def masked() -> Any:
            self._save(optimizer)
            self._mask(optimizer, with_state=False)
            loss = closure()
            if not self.phase.surgery:
                gradients = ((local(self.masks[name]), self.parameters[name].grad) for name in self._names(optimizer))
                masking.apply_all_((mask, [local(g)]) for mask, g in gradients if g is not None and not g.is_sparse)
            self._restore(optimizer)
            return loss

        return masked

    def _mask(self, optimizer: Optimizer, *, with_state: bool) -> None:
        masking.apply_all_(self._masked(optimizer, with_state=with_state))

    def _masked(self, optimizer: Optimizer, *, with_state: bool) -> Iterator[tuple[Tensor, list[Tensor]]]:
        for name in self._names(optimizer):
            parameter = self.parameters[name]
            weight, mask = local(parameter.detach()), local(self.masks[name])
            if mask.stride() != weight.stride() or mask.device != weight.device:  # moved or re-laid out since
                self.masks[name] = like(self.masks[name], parameter)
                mask = local(self.masks[name])
            state = state_of(optimizer, name, parameter) if with_state else ()
            yield mask, [weight, *(local(tensor) for tensor in state)]

    def _save(self, optimizer: Optimizer) -> None:
        if self.full:
            for name in self._names(optimizer):
                local(self.full[name]).copy_(local(self.parameters[name]))

    def _restore(self, optimizer: Optimizer) -> None:
        if self.full:
            with torch.no_grad():
                for name in self._names(optimizer):
                    local(self.parameters[name]).copy_(local(self.full[name]))

    def _names(self, optimizer: Optimizer) -> Iterator[str]:
        mine = held(optimizer)
        return (name for name in self.masks if id(self.parameters[name]) in mine)


def _threshold(surgery: Surgery, name: str, weight: Tensor, mask: Tensor) -> float:
    if not is_sharded(weight):
        return surgery.threshold(weight, mask)
    if surgery.c is not None:
        raise ParameterError(
            f"surgery with c={surgery.c} needs the mean of '{name}', which is sharded and has another one in its last "
            "digit: leave c out, and the threshold is the phase's sparsity"
        )
    own = torch.tensor([surgery.threshold(local(weight), local(mask))], dtype=torch.float64)
    return float(largest_over(cast("Any", weight).device_mesh)(own))
