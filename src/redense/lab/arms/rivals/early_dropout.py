"""Early dropout (Liu et al., ICML 2023): its rate falls to nothing along the dense phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import Context, Method, Problem, technique
from redense.variants import restarted

_RATE = 0.5  # of dropout, where the recipe says none


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


def _dropouts(model: nn.Module) -> list[nn.Dropout]:
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


@arm(
    "early-dropout",
    "the control, whose dropout falls to nothing in the dense phase and is off after it",
    source=Paper("Liu et al. 2023", "Dropout Reduces Underfitting, ICML 2023", "https://arxiv.org/abs/2303.01500"),
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
