"""Label smoothing and stronger weight decay after the dense phase: settings of a recipe that change for some phases."""

from __future__ import annotations

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, SPARSE, Card, Paper

_SMOOTHING = 0.1
_TIMES, _LEAST = 5.0, 5e-4

_SZEGEDY = Paper(
    "Szegedy et al. 2016",
    "Rethinking the Inception Architecture for Computer Vision",
    "https://arxiv.org/abs/1512.00567",
)
_KROGH = Paper(
    "Krogh and Hertz 1991",
    "A Simple Weight Decay Can Improve Generalization, NIPS 4",
    "https://proceedings.neurips.cc/paper/1991/hash/8eefcfdf5990e441f0fb6f3fad709e21-Abstract.html",
)


@arm(
    "smooth",
    "the control, with label smoothing 0.1 after the dense phase",
    source=_SZEGEDY,
    card=Card(
        "`restart`, whose loss after the dense phase is that of labels of which a tenth is spread over all classes.",
        BUDGET,
        "Always: it costs nothing. With a recipe that smooths already it is told to smooth by 0.1 after the "
        "dense phase.",
    ),
)
def smooth(setting: Setting) -> Flow:
    """Label smoothing."""
    return setting.after_dense(changes={"training": {"label_smoothing": _SMOOTHING}})


@arm(
    "dsd-smooth",
    "DSD, with label smoothing 0.1 after its first phase",
    source=_SZEGEDY,
    masked=True,
    card=Card(
        "`dsd`, whose loss after the first dense phase is that of labels smoothed by 0.1.",
        SPARSE,
        "Beside `dsd` and `smooth`: whether the two add up. `smooth` is its control.",
    ),
)
def dsd_smooth(setting: Setting) -> Flow:
    """DSD and label smoothing."""
    changes = {"training": {"label_smoothing": _SMOOTHING}}
    return setting.flow(setting.with_changes(setting.dsd.phases, changes, start=1))


@arm(
    "decay",
    "the control, with five times the weight decay after the dense phase",
    source=_KROGH,
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
