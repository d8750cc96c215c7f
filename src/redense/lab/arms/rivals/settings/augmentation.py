"""TrivialAugment (Mueller and Hutter, ICCV 2021) after the dense phase, by torchvision's own."""

from __future__ import annotations

from redense.lab.arms.base import Flow, Setting, arm
from redense.lab.arms.cards import BUDGET, Card, Paper


@arm(
    "augment",
    "the control, with TrivialAugment on its images after the dense phase",
    source=Paper(
        "Mueller and Hutter 2021",
        "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, ICCV 2021",
        "https://arxiv.org/abs/2103.10158",
    ),
    card=Card(
        "`restart`, where each training image after the dense phase is changed by one operation of fourteen (turned, "
        "sheared, moved, brighter, fewer grey levels and so on) at a random strength, torchvision's "
        "`TrivialAugmentWide`. It "
        "is `data.augment: trivial`, and comes before `data.crop` and `data.flip`. For images.",
        f"{BUDGET}; `data.crop`, `data.flip`",
        "With few images. Preparing a batch takes several times as long where the images are small.",
    ),
)
def augment(setting: Setting) -> Flow:
    """More images, by changing those there are."""
    return setting.after_dense(changes={"data": {"augment": "trivial"}})
