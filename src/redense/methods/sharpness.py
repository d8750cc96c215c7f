"""Sharpness-aware minimisation (Foret et al., ICLR 2021), from the library pytorch_optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch.optim import Optimizer
from typing_extensions import override

from redense.errors import MissingExtraError
from redense.holding.optimizers import unwrap_optimizer

from .base import Method


class SharpnessAware(Method):
    """Steps with the gradient at the worst point within rho: two gradients a step. Option: ``rho``."""

    name = "sam"
    defaults: Mapping[str, Any] = {"rho": 0.05}
    gradient_evaluations = 2

    @override
    def step(self, optimizer: Optimizer, again: Callable[[], object]) -> None:
        try:
            from pytorch_optimizer import SAM
        except ImportError:
            raise MissingExtraError("the arm 'sam' needs a library: pip install 'redense[methods]'") from None
        base = unwrap_optimizer(optimizer)
        for group in base.param_groups:
            group.update(rho=self.options["rho"], adaptive=False, foreach=group.get("foreach"))
        existing = cast("Any", lambda groups, **_: base)  # SAM would make an optimizer of its own
        sam = SAM(base.param_groups, existing, rho=self.options["rho"])
        sam.first_step()  # climb to the local maximum
        again()
        sam.second_step()  # return, and step with the gradient from there
        for group in base.param_groups:
            del group["rho"], group["adaptive"]
