"""Schedule-free SGD (Defazio et al., NeurIPS 2024) over the whole budget."""

from __future__ import annotations

from dataclasses import replace

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.phase import Decay
from redense.variants import restarted


@arm(
    "schedule-free",
    "the control trained with schedule-free SGD in every phase, its rate constant",
    source=Paper("Defazio et al. 2024", "The Road Less Scheduled, NeurIPS 2024", "https://arxiv.org/abs/2405.15682"),
    card=Card(
        "One phase over the whole budget with schedule-free SGD at the recipe's rate: the rate is constant, and the "
        "network that is evaluated is an average of those on the way. It is `longer` with another optimizer. Needs "
        "`pip install 'redense[methods]'`.",
        f"the epochs of all phases together; {BUDGET}; `training.optimizer`",
        "If you do not want to choose a schedule. Beside `longer`.",
    ),
)
def schedule_free(setting: Setting) -> Flow:
    """Schedule-free SGD over the whole budget."""
    own = setting.recipe.training.optimizer
    values = {"name": "schedule-free", "lr": own.lr, "weight_decay": own.weight_decay, "momentum": 0.9}
    recipe = setting.changed(training={"optimizer": values})
    first = restarted(setting.dsd).phases[0]
    whole = replace(first, steps=setting.dsd.total_steps, decay=Decay(), name="schedule-free")
    return setting.flow([whole], recipe=recipe, note="schedule-free SGD at a constant rate")
