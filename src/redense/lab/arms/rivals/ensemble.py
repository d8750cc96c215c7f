"""An ensemble of dense networks of several seeds: an upper bound, which costs as many times at inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import RecipeError
from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import Context, Method, technique
from redense.phase import Phase

_MOST = 5  # networks


class Ensemble(nn.Module):
    """Networks whose answers are averaged: the logarithm of the mean of their probabilities, (rows, classes)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Any) -> Tensor:
        """Return the logarithm of the mean probability."""
        answers = torch.stack([F.log_softmax(member(*inputs).float(), dim=-1) for member in self.members])
        return answers.logsumexp(0) - torch.tensor(float(len(self.members))).log()


@technique("ensemble")
class Together(Method):
    """Joins phases of other seeds into one network of several, which is not trained. Option: ``members``."""

    defaults: Mapping[str, Any] = {"members": 2}
    needs = ("targets",)  # whose outputs are one row an answer

    @override
    def reshape(self, run: Context, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        count = made or self.options["members"]
        return Ensemble([run.built(number) for number in range(count)]), count

    @override
    def join(self, run: Context, ends: Sequence[Mapping[str, Tensor]]) -> None:
        for member, end in zip(run.model.get_submodule("members").children(), ends, strict=True):
            member.load_state_dict(end)


@arm(
    "ensemble",
    "up to five dense networks of other seeds together: k times the cost at inference",
    source=Paper(
        "Lakshminarayanan et al. 2017",
        "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NIPS 2017",
        "https://arxiv.org/abs/1612.01474",
    ),
    card=Card(
        "The mean answer of the dense networks of this seed and the next ones of the comparison, five at most. An "
        "upper bound and no competitor: it costs as many times the inference, and as many trained networks, which its "
        "budget does not count; no arm has to beat it. Nothing is trained after the dense phase. For classification.",
        "`--seeds` decides how many networks there are",
        "To see how much there is to be gained at all. Its rows share networks, so that they differ less from seed to "
        "seed than those of the others: its interval is too narrow.",
    ),
)
def ensemble(setting: Setting) -> Flow:
    """The dense networks of several seeds."""
    seeds, own = setting.seeds, setting.recipe.seed
    if len(seeds) < 2:
        raise RecipeError("an ensemble needs the dense networks of at least two seeds")
    if setting.is_given:
        raise RecipeError("its networks would be one and the same, the recipe's `start`: give --tune.backbone_lr 1")
    place, count = seeds.index(own), min(_MOST, len(seeds))
    keys = tuple(setting.dense_key(seeds[(place + i) % len(seeds)]) for i in range(count))
    joined = PlannedPhase(Phase.dense(1, name="ensemble"), "ensemble", {"members": count}, joins=keys)
    note = f"{count} networks: {count} times the cost at inference; the training of the others is not counted"
    return replace(setting.flow([PlannedPhase(setting.dsd.phases[0]), joined], note=note), bound=True)
