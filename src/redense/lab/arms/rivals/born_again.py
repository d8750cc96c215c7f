"""Born-again networks (Furlanello et al., ICML 2018): a new network of the same kind, taught by the trained one."""

from __future__ import annotations

from dataclasses import replace

from typing_extensions import override

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.anew import renew_
from redense.methods.base import Context, technique
from redense.methods.distillation import Distillation


@technique("born-again")
class BornAgain(Distillation):
    """Distillation from the network as the phase finds it into a new one, which takes its place."""

    @override
    def begin(self, run: Context) -> None:
        super().begin(run)
        renew_(run)


@arm(
    "self-distill",
    "a new network, taught by the trained one for all of the other steps",
    source=Paper("Furlanello et al. 2018", "Born-Again Neural Networks, ICML 2018", "https://arxiv.org/abs/1805.04770"),
    card=Card(
        "Trains dense; then a new network of the same kind takes its place and trains for all of DSD's other steps, at "
        "the rate and decay of the dense phase, with half of its loss from the labels and half from the answers of the "
        "trained network at temperature 4.",
        BUDGET,
        "Where the steps after the dense phase are enough to train a network: with fewer it learns less than its "
        "teacher. The teacher's answers cost one more pass forward a step, which the budget does not count.",
    ),
)
def self_distill(setting: Setting) -> Flow:
    """Born again once."""
    first, *rest = setting.dsd.phases
    again = replace(first, steps=sum(phase.steps for phase in rest), name="again")
    return setting.flow([first, PlannedPhase(again, "born-again")])
