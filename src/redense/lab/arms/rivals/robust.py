"""Generalised cross-entropy (Zhang and Sabuncu, NeurIPS 2018): a loss that wrong labels pull at less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.methods.base import Context, Method, Problem, technique


@technique("gce")
class GeneralisedCrossEntropy(Method):
    """Trains with (1 - p_y^q) / q: cross-entropy for q near 0, the mean absolute error for q = 1."""

    defaults: Mapping[str, Any] = {"q": 0.7}
    needs = ("targets",)

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        if not 0 < self.options["q"] <= 1:
            raise ScheduleError(f"q of the generalised cross-entropy must be in (0, 1], got {self.options['q']}")

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        q, targets = self.options["q"], run.targets(batch)
        logarithm = F.log_softmax(run.outputs(model, batch).float(), dim=-1).gather(1, targets[:, None])
        return ((1 - (q * logarithm).exp()) / q).mean()


@arm(
    "gce",
    "the control, with a loss that wrong labels pull at less after the dense phase",
    source=Paper(
        "Zhang and Sabuncu 2018",
        "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, NeurIPS 2018",
        "https://arxiv.org/abs/1805.07836",
    ),
    card=Card(
        "`restart` with the generalised cross-entropy, q = 0.7, after the dense phase: an example that the network "
        "finds wrong pulls less. Label smoothing and the losses of auxiliary heads are left out.",
        BUDGET,
        "With wrong labels. There it is what a reviewer would ask for beside DSD.",
    ),
)
def gce(setting: Setting) -> Flow:
    """A loss for wrong labels."""
    return setting.after_dense("gce")
