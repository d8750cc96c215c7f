"""Shrink and perturb (Ash and Adams, NeurIPS 2020): all weights shrunk towards a new network's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from typing_extensions import override

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import Context, Method, technique
from redense.variants import restarted


@technique("shrink")
class ShrinkAndPerturb(Method):
    """Begins a phase with ``keep`` w + ``new`` w', where w' are the weights of a freshly drawn network."""

    defaults: Mapping[str, Any] = {"keep": 0.4, "new": 0.1}

    @override
    def begin(self, run: Context) -> None:
        new = dict(run.built().named_parameters())
        with torch.no_grad():
            for name, value in run.model.named_parameters():
                value.mul_(self.options["keep"]).add_(new[name].to(value), alpha=self.options["new"])


@arm(
    "shrink-perturb",
    "the control, whose weights are shrunk towards new ones after the dense phase",
    source=Paper(
        "Ash and Adams 2020",
        "On Warm-Starting Neural Network Training, NeurIPS 2020",
        "https://arxiv.org/abs/1910.08475",
    ),
    card=Card(
        "`restart`, where after the dense phase every weight becomes 0.4 of itself and 0.1 of a new network's (the "
        "values of Zaidi et al. 2022).",
        BUDGET,
        "Beside `anneal` and `forget`: another way to leave a minimum and keep some of what was learnt.",
    ),
)
def shrink_perturb(setting: Setting) -> Flow:
    """Shrunk and perturbed once."""
    first, second, *rest = restarted(setting.dsd).phases
    return setting.flow([first, PlannedPhase(second, "shrink"), *rest])
