"""Rivals of DSD: other things to do with the same budget, one file each, with its technique, its arm and its card.

Unless a card says otherwise they begin with the dense phase that all arms share, and change what comes after it.
"""

from . import (
    augmentation,
    born_again,
    dropping,
    ensemble,
    forgetting,
    latest,
    mixing,
    normalisation,
    optimizers,
    robust,
    shrinking,
    smoothing,
    soup,
    sparse_sam,
)

__all__ = [
    "augmentation",
    "born_again",
    "dropping",
    "ensemble",
    "forgetting",
    "latest",
    "mixing",
    "normalisation",
    "optimizers",
    "robust",
    "shrinking",
    "smoothing",
    "soup",
    "sparse_sam",
]
