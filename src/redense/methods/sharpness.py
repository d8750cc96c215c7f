"""Sharpness-aware minimisation (Foret et al., ICLR 2021), from the library pytorch_optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch.optim import Optimizer
from typing_extensions import override

from redense.errors import MissingExtraError, ScheduleError
from redense.holding.optimizers import unwrap_optimizer
from redense.schedules.numeric import as_float, as_int

from .base import Context, Method, technique


@technique("sam")
class SharpnessAware(Method):
    """Steps with the gradient at the worst point within rho: two gradients a step.

    Options: ``rho``; ``every`` so many steps, those between being plain ones (of one gradient).
    """

    defaults: Mapping[str, Any] = {"rho": 0.05, "every": 1}
    libraries = ("pytorch_optimizer",)

    @override
    def check_options(self) -> None:
        rho, every = as_float(self.options["rho"]), as_int(self.options["every"])
        if rho is None or not 0 <= rho < math.inf:
            raise ScheduleError(f"rho of SAM must be a finite number of at least 0, got {self.options['rho']!r}")
        if every is None or every < 1:
            raise ScheduleError(f"every of SAM must be at least 1 optimizer step, got {self.options['every']!r}")

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
