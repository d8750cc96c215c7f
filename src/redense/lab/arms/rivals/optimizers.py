"""Other optimizers in every phase: Muon (Jordan et al. 2024), schedule-free SGD (Defazio et al., NeurIPS 2024)."""

from __future__ import annotations

from dataclasses import replace

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.phase import Decay
from redense.variants import restarted

_MUON_LR = 0.02


@arm(
    "muon",
    "the control trained with Muon in every phase",
    source=Paper(
        "Jordan et al. 2024",
        "Muon: An optimizer for hidden layers in neural networks",
        "https://kellerjordan.github.io/posts/muon/",
    ),
    card=Card(
        "`restart` with the optimizer `muon` in every phase, at rate 0.02: weights of two and more axes move by "
        "orthogonalised momentum, all others as with AdamW. The recipe's weight decay stays. Its dense phase is its "
        "own. Needs `pip install 'redense[methods]'`.",
        f"{BUDGET}; `training.optimizer`",
        "If another optimizer might be what you are looking for. A step costs more than one of SGD, which the budget "
        "does not count. Much of it is done in bfloat16: on a processor without instructions for that (AVX-512 or AMX) "
        "a step of an MLP of 670,000 weights took 5 s.",
    ),
)
def muon(setting: Setting) -> Flow:
    """Muon in every phase."""
    own = {"name": "muon", "lr": _MUON_LR, "weight_decay": setting.recipe.training.optimizer.weight_decay}
    recipe = setting.changed(training={"optimizer": own})
    return setting.flow(restarted(setting.dsd), recipe=recipe, note=f"Muon at rate {_MUON_LR:g} in every phase")


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
