"""Label smoothing (Szegedy et al., CVPR 2016) after the dense phase, of the control and of DSD."""

from __future__ import annotations

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, SPARSE, Card, Paper

_SMOOTHING = 0.1

_SZEGEDY = Paper(
    "Szegedy et al. 2016",
    "Rethinking the Inception Architecture for Computer Vision",
    "https://arxiv.org/abs/1512.00567",
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
