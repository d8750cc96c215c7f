"""LAWA (Kaddour 2022): the mean of the latest checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import override

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.averaging import take_mean_
from redense.methods.base import Context, Method, technique
from redense.variants import restarted


@technique("latest")
class Latest(Method):
    """Ends with the mean of the ``last`` checkpoints of the phase, one ``every`` so many steps."""

    defaults: Mapping[str, Any] = {"every": 1, "last": 6}
    kept_attributes = ("kept",)

    @override
    def begin(self, run: Context) -> None:
        self.kept: list[dict[str, Tensor]] = []

    @override
    def after_step(self, run: Context) -> None:
        if run.step % self.options["every"] == 0:
            checkpoint = {name: value.detach().clone() for name, value in run.model.named_parameters()}
            self.kept = [*self.kept, checkpoint][-self.options["last"] :]

    @override
    def finish(self, run: Context) -> None:
        if self.kept:
            take_mean_(run, self.kept)


@arm(
    "lawa",
    "the control, ending with the mean of its latest six checkpoints",
    source=Paper(
        "Kaddour 2022",
        "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
        "https://arxiv.org/abs/2209.14981",
    ),
    card=Card(
        "`restart`, ending with the mean of the latest six checkpoints of its last phase, one an epoch, or one an "
        "eighth of a phase that is shorter than eight epochs. The statistics of batch normalisation are taken anew.",
        BUDGET,
        "Beside `swa` and `ema`, which average over more, and at another rate.",
    ),
)
def lawa(setting: Setting) -> Flow:
    """The latest checkpoints, averaged."""
    *before, last = restarted(setting.dsd).phases
    every = max(1, min(setting.steps_per_epoch, last.steps // 8))
    return setting.flow([*before, PlannedPhase(last, "latest", {"every": every})])
