"""A technique of one's own with its arm: noise on the gradients that fades (Neelakantan et al. 2015, arXiv 1511.06807).

REDENSE_PLUGINS=examples/plugins/gradient_noise.py redense compare quickstart --arms dsd,restart,gradient-noise
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from redense.lab.arms import Card, Flow, Paper, Setting, arm
from redense.methods.base import Context, Method, technique


@technique("gradient-noise")
class GradientNoise(Method):
    """Adds N(0, eta / (1 + t)^gamma) to every gradient before step t."""

    defaults: Mapping[str, Any] = {"eta": 0.01, "gamma": 0.55}

    def step(self, run: Context, optimizer: Optimizer, again: Callable[[], object]) -> None:
        deviation = (self.options["eta"] / (1 + run.step) ** self.options["gamma"]) ** 0.5
        for number, parameter in enumerate(run.model.parameters()):
            if parameter.grad is not None:
                drawn = torch.randn(parameter.shape, generator=run.generator(number))
                parameter.grad.add_(drawn.to(parameter.grad), alpha=deviation)
        optimizer.step()


@arm(
    "gradient-noise",
    "the control, with noise on its gradients that fades",
    source=Paper(
        "Neelakantan et al. 2015",
        "Adding Gradient Noise Improves Learning for Very Deep Networks",
        "https://arxiv.org/abs/1511.06807",
    ),
    card=Card(
        does="`restart` with Gaussian noise on the gradients after the dense phase, less with every step.",
        settings="each phase's epochs and learning rate",
        use="Beside `anneal`, which moves the weights once.",
    ),
)
def gradient_noise(setting: Setting) -> Flow:
    """Return the control's phases, trained with the technique."""
    return setting.after_dense("gradient-noise")
