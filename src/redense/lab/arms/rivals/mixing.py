"""mixup (Zhang et al., ICLR 2018): each example is mixed with another one of its batch, and so are their losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.methods.base import Context, Method, technique
from redense.methods.distillation import called_once


@technique("mixup")
class Mixup(Method):
    """Trains on l x_i + (1 - l) x_j with the loss l L(y_i) + (1 - l) L(y_j); l ~ Beta(alpha, alpha), once a batch."""

    defaults: Mapping[str, Any] = {"alpha": 0.2}
    needs = ("inputs", "targets", "replaced")

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        generator, inputs = run.generator(), run.inputs(batch)
        alpha = torch.full((2,), float(self.options["alpha"]), dtype=torch.float64)
        drawn = torch._standard_gamma(alpha, generator=generator)  # pyright: ignore[reportPrivateImportUsage]  # torch.distributions takes no generator
        one, other = drawn.clamp_min(1e-300).tolist()
        share = one / (one + other)  # a Beta of two Gammas
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        mixed = run.replaced(batch, share * inputs + (1 - share) * inputs[order])
        swapped = run.replaced(mixed, run.inputs(mixed), run.targets(batch)[order])
        answer = called_once(model)
        return share * run.loss(answer, mixed) + (1 - share) * run.loss(answer, swapped)


@arm(
    "mixup",
    "the control, trained on mixtures of two examples after the dense phase",
    source=Paper(
        "Zhang et al. 2018", "mixup: Beyond Empirical Risk Minimization, ICLR 2018", "https://arxiv.org/abs/1710.09412"
    ),
    card=Card(
        "`restart`, trained on mixtures of two examples of a batch after the dense phase, with alpha 0.2. For tasks "
        "whose inputs can be mixed: images.",
        BUDGET,
        "Where the network learns its training data by heart, wrong labels included.",
    ),
)
def mixup(setting: Setting) -> Flow:
    """Mixtures of two examples."""
    return setting.after_dense("mixup")
