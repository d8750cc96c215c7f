"""Stronger weight decay (Krogh and Hertz, NIPS 1991) after the dense phase."""

from __future__ import annotations

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper

_TIMES, _LEAST = 5.0, 5e-4


@arm(
    "decay",
    "the control, with five times the weight decay after the dense phase",
    source=Paper(
        "Krogh and Hertz 1991",
        "A Simple Weight Decay Can Improve Generalization, NIPS 4",
        "https://proceedings.neurips.cc/paper/1991/hash/8eefcfdf5990e441f0fb6f3fad709e21-Abstract.html",
    ),
    card=Card(
        "`restart` with five times the recipe's weight decay after the dense phase, 0.0005 at least. The optimizer "
        "keeps what it has gathered.",
        f"{BUDGET}; `training.optimizer.weight_decay`",
        "As the plainest way of making weights small. DSD removes the smallest ones; this shrinks all.",
    ),
)
def decay(setting: Setting) -> Flow:
    """Stronger weight decay."""
    own = setting.recipe.training.optimizer.weight_decay
    value = max(_TIMES * own, _LEAST)
    note = f"weight decay {value:g} after the dense phase, {own:g} in it"
    return setting.after_dense(changes={"training": {"optimizer": {"weight_decay": value}}}, note=note)
