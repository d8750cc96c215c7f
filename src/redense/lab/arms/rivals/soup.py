"""Soups (Wortsman et al., ICML 2022): branches from one trained network, averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor
from typing_extensions import override

from redense.errors import RecipeError, ScheduleError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, SPARSE, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.averaging import take_mean_
from redense.methods.base import Context, Method, technique
from redense.phase import Phase
from redense.variants import restarted, scaled, shares

_BRANCHES = 3
_SPARSITIES = (0.5, 1.0, 1.5)  # times the recipe's
_WORTSMAN = Paper(
    "Wortsman et al. 2022",
    "Model soups: averaging weights of multiple fine-tuned models improves accuracy, ICML 2022",
    "https://arxiv.org/abs/2203.05482",
)


@technique("soup")
class Soup(Method):
    """Joins phases: the plain mean of the weights that they ended with, statistics of batch normalisation anew."""

    @override
    def join(self, run: Context, ends: Sequence[Mapping[str, Tensor]]) -> None:
        take_mean_(run, ends)


def _branched(setting: Setting, branches: Sequence[Sequence[Phase]]) -> Flow:
    """Return the dense phase, the branches, each from its end, and their soup."""
    phases: list[PlannedPhase] = [PlannedPhase(setting.dsd.phases[0])]
    ends: list[int] = []
    for number, branch in enumerate(branches, start=1):
        for place, phase in enumerate(branch):
            named = replace(phase, name=f"{phase.name}-{number}")
            phases.append(PlannedPhase(named, after=0 if place == 0 else None))
        ends.append(len(phases) - 1)
    phases.append(PlannedPhase(Phase.dense(1, name="soup"), "soup", joins=tuple(ends)))
    return setting.flow(phases)


def _shared(phases: Sequence[Phase]) -> list[list[Phase]]:
    """Return the phases for each branch, in which each has its part of the steps."""
    short = min(phase.steps for phase in phases)
    if short < _BRANCHES:
        raise ScheduleError(f"a phase of {short} steps cannot make {_BRANCHES} branches of at least one step each")
    parts = [shares(phase.steps, _BRANCHES) for phase in phases]
    return [
        [replace(phase, steps=steps[i]) for phase, steps in zip(phases, parts, strict=True)] for i in range(_BRANCHES)
    ]


@arm(
    "soup",
    "the mean of three networks that train on from one dense network, in other orders of the data",
    source=_WORTSMAN,
    card=Card(
        "Trains dense; from there trains on three times as `restart` does, each time for a third of its steps and in "
        "another order of the data; and takes the mean of the three networks' weights. The statistics of batch "
        "normalisation are taken anew.",
        BUDGET,
        "As averaging over runs, where `swa`, `ema` and `lawa` average over time.",
    ),
)
def soup(setting: Setting) -> Flow:
    """A soup of the control."""
    return _branched(setting, _shared(restarted(setting.dsd).phases[1:]))


@arm(
    "dsd-soup",
    "the mean of three DSD networks whose masks differ, from one dense network",
    source=_WORTSMAN,
    masked=True,
    card=Card(
        "As `soup`, with the phases of `dsd` in each branch, at half, once and one and a half times the sparsity (95 % "
        "at most): the three masks differ.",
        SPARSE,
        "Beside `soup`, and `restart-dsd-soup`, its control without masks: whether masks that differ make better "
        "soups.",
    ),
)
def dsd_soup(setting: Setting) -> Flow:
    """A soup of DSD at three sparsities."""
    branches = _shared(setting.dsd.phases[1:])
    pruned = [
        [replace(p, sparsity=scaled(p.sparsity, times, most=0.95)) if p.sparsity is not None else p for p in branch]
        for branch, times in zip(branches, _SPARSITIES, strict=True)
    ]
    if any(phase.pattern for phase in setting.dsd.phases):
        raise RecipeError("a soup of DSD at three sparsities needs a sparsity, not an N:M pattern")
    return _branched(setting, pruned)
