"""Early dropout and late stochastic depth (Liu et al., ICML 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import Context, Method, Problem, technique
from redense.variants import restarted

_LIU = Paper("Liu et al. 2023", "Dropout Reduces Underfitting, ICML 2023", "https://arxiv.org/abs/2303.01500")
_RATE = 0.5  # of dropout, where the recipe says none
_BLOCKS = {"BasicBlock": "bn2", "Bottleneck": "bn3"}  # of torchvision and timm: where the branch of a block ends


@technique("dropout")
class FallingDropout(Method):
    """Trains with a rate of dropout that goes from ``first`` to ``last`` along the phase."""

    defaults: Mapping[str, Any] = {"first": 0.5, "last": 0.0}

    @override
    def check(self, model: nn.Module, task: Problem) -> None:
        super().check(model, task)
        if not _dropouts(model):
            raise ScheduleError("the network has no dropout layer whose rate could fall")

    @override
    def begin(self, run: Context) -> None:
        self.rates = [layer.p for layer in _dropouts(run.model)]

    @override
    def load_state_dict(self, state: Mapping[str, Any], run: Context) -> None:
        self.begin(run)

    @override
    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        first, last = self.options["first"], self.options["last"]
        for layer in _dropouts(run.model):
            layer.p = first + (last - first) * run.progress
        return run.loss(model, batch)

    @override
    def finish(self, run: Context) -> None:
        for layer, rate in zip(_dropouts(run.model), self.rates, strict=True):
            layer.p = rate


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


def _dropouts(model: nn.Module) -> list[nn.Dropout]:
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


def _branches(model: nn.Module) -> list[nn.Module]:
    found = [(module, _BLOCKS.get(type(module).__name__, "")) for module in model.modules()]
    return [getattr(module, end) for module, end in found if end and hasattr(module, end)]


@arm(
    "early-dropout",
    "the control, whose dropout falls to nothing in the dense phase and is off after it",
    source=_LIU,
    card=Card(
        "`restart` with dropout that falls from the recipe's rate (0.5 if it says none) to nothing along the dense "
        "phase, and is off after it. Its dense phase is its own. For networks with dropout layers.",
        f"{BUDGET}; `model.dropout`",
        "Beside `dropout`: early dropout is meant for networks that underfit.",
    ),
)
def early_dropout(setting: Setting) -> Flow:
    """Dropout at the beginning only."""
    first, *rest = restarted(setting.dsd).phases
    options = {"first": getattr(setting.recipe.model, "dropout", None) or _RATE, "last": 0.0}
    after = [PlannedPhase(phase, "dropout", {"first": 0.0}) for phase in rest]
    return setting.flow([PlannedPhase(first, "dropout", options), *after])


@arm(
    "late-depth",
    "the control, with stochastic depth after the dense phase",
    source=_LIU,
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
