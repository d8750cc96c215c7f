"""Muon (Jordan et al. 2024) in every phase."""

from __future__ import annotations

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.variants import restarted

_LR = 0.02


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
    own = {"name": "muon", "lr": _LR, "weight_decay": setting.recipe.training.optimizer.weight_decay}
    recipe = setting.changed(training={"optimizer": own})
    return setting.flow(restarted(setting.dsd), recipe=recipe, note=f"Muon at rate {_LR:g} in every phase")
