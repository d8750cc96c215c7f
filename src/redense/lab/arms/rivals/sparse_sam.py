"""SAM in every tenth step (Liu et al., CVPR 2022: most of its gain at a tenth of its cost)."""

from __future__ import annotations

from dataclasses import replace

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper
from redense.lab.training.plan import PlannedPhase
from redense.variants import restarted

_EVERY = 10


@arm(
    "sam-sparse",
    "the control with SAM in every tenth step, for ten elevenths of the steps",
    source=Paper(
        "Liu et al. 2022",
        "Towards Efficient and Scalable Sharpness-Aware Minimization, CVPR 2022",
        "https://arxiv.org/abs/2203.02714",
    ),
    card=Card(
        "`restart` with sharpness-aware minimisation (rho 0.05) in every tenth step after the dense phase. These steps "
        "take two gradients, so that there are ten elevenths of the steps. Needs `pip install 'redense[methods]'`. Its "
        "paper looks around the point with the gradient of before in the other steps; here they are plain.",
        BUDGET,
        "Beside `sam`, which has half the steps.",
    ),
)
def sam_sparse(setting: Setting) -> Flow:
    """SAM now and then."""
    first, *rest = restarted(setting.dsd).phases
    fewer = [replace(phase, steps=max(1, phase.steps * _EVERY // (_EVERY + 1))) for phase in rest]
    return setting.flow([first, *(PlannedPhase(phase, "sam", {"every": _EVERY}) for phase in fewer)])
