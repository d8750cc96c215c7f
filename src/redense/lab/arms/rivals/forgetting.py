"""Later-layer forgetting (Zhou et al., ICLR 2022): the later layers are drawn anew, and the network trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import Context, Method, Problem, technique
from redense.variants import restarted


@technique("forget")
class Forget(Method):
    """Draws the later layers anew before the phase: the last ``part`` of those that can be pruned, and all after them.

    Their statistics of batch normalisation are new too, and the optimizer forgets what it had gathered for them.
    """

    defaults: Mapping[str, Any] = {"part": 0.5}

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        if not 0 < self.options["part"] < 1:
            raise ScheduleError(
                f"the part of the layers that are forgotten must be in (0, 1), got {self.options['part']}"
            )

    @override
    def begin(self, run: Context) -> None:
        modules = dict(run.model.named_modules())
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in run.prunable))
        ordered = [name for name in modules if name in layers]
        kept = max(1, int(len(ordered) * (1 - self.options["part"])))
        if kept >= len(ordered):
            raise ScheduleError(f"a network of {len(ordered)} prunable layers has no later ones that it could forget")
        names = list(modules)
        later = names[names.index(ordered[kept]) :]
        new = dict(run.built().named_modules())
        with torch.no_grad():
            for name in later:
                for kind in ("named_parameters", "named_buffers"):
                    fresh = dict(getattr(new[name], kind)(recurse=False))
                    for own, value in getattr(modules[name], kind)(recurse=False):
                        value.copy_(fresh[own])
                        if run.optimizer is not None:
                            run.optimizer.state.pop(value, None)


@arm(
    "forget",
    "the control, whose later layers are drawn anew after the dense phase",
    source=Paper(
        "Zhou et al. 2022",
        "Fortuitous Forgetting in Connectionist Networks, ICLR 2022",
        "https://arxiv.org/abs/2202.00155",
    ),
    card=Card(
        "`restart`, where the later half of the layers is drawn anew after the dense phase: what pruning forgets by "
        "weight, this forgets by layer. Its paper does it again and again.",
        BUDGET,
        "To see whether forgetting of any kind is what helps, on little data and on wrong labels most.",
    ),
)
def forget(setting: Setting) -> Flow:
    """Later layers forgotten once."""
    first, second, *rest = restarted(setting.dsd).phases
    return setting.flow([first, PlannedPhase(second, "forget"), *rest])
