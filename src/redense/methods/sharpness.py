"""Sharpness-aware minimisation (Foret et al., ICLR 2021), from the library pytorch_optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch.optim import Optimizer
from typing_extensions import override

from redense.errors import MissingExtraError
from redense.holding.optimizers import unwrap_optimizer

from .base import Context, Method, technique


@technique("sam")
class SharpnessAware(Method):
    """Steps with the gradient at the worst point within rho: two gradients a step.

    Options: ``rho``; ``every`` so many steps, those between being plain ones (of one gradient).
    """

    defaults: Mapping[str, Any] = {"rho": 0.05, "every": 1}
    libraries = ("pytorch_optimizer",)

    @property
    @override
    def gradient_evaluations(self) -> float:
        return 1 + 1 / self.options["every"]

    @override
    def step(self, run: Context, optimizer: Optimizer, again: Callable[[], object]) -> None:
        if run.step % self.options["every"]:
            optimizer.step()
            return
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
