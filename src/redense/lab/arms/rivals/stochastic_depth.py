"""Late stochastic depth (Liu et al., ICML 2023): branches of residual blocks are dropped after the dense phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.methods.base import Context, Method, Problem, technique

_BLOCKS = {"BasicBlock": "bn2", "Bottleneck": "bn3"}  # of torchvision and timm: where the branch of a block ends


@technique("depth")
class StochasticDepth(Method):
    """Drops the branch of each residual block for random examples (Huang et al. 2016), deeper ones more often.

    The l-th of L blocks is dropped with probability ``rate`` l / L, and counts 1 / (1 - that) where it is kept.
    """

    defaults: Mapping[str, Any] = {"rate": 0.2}

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        if not _branches(model):
            raise ScheduleError(
                "stochastic depth needs a network of residual blocks: a ResNet of torchvision's or ours"
            )

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        ends = _branches(run.model)
        handles = [
            end.register_forward_hook(_dropped(self.options["rate"] * number / len(ends)))
            for number, end in enumerate(ends, start=1)
        ]
        try:
            return run.loss(model, batch)
        finally:
            for handle in handles:
                handle.remove()


def _dropped(rate: float) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept = torch.rand(len(output), 1, 1, 1, device=output.device) >= rate
        return output * (kept / (1 - rate)).to(output.dtype)

    return hook


def _branches(model: nn.Module) -> list[nn.Module]:
    found = [(module, _BLOCKS.get(type(module).__name__, "")) for module in model.modules()]
    return [getattr(module, end) for module, end in found if end and hasattr(module, end)]


@arm(
    "late-depth",
    "the control, with stochastic depth after the dense phase",
    source=Paper("Liu et al. 2023", "Dropout Reduces Underfitting, ICML 2023", "https://arxiv.org/abs/2303.01500"),
    card=Card(
        "`restart`, where after the dense phase the branches of residual blocks are dropped at random, the last one in "
        "a fifth of the examples, the others less often. For residual networks.",
        BUDGET,
        "For networks that overfit, as the usual regulariser of residual networks.",
    ),
)
def late_depth(setting: Setting) -> Flow:
    """Stochastic depth at the end only."""
    return setting.after_dense("depth")
