"""The arms that the quick tests train, and those that only the slow tests do."""

from __future__ import annotations

from redense.lab.arms import get_arms

SOME_ARMS = (
    *("dsd", "restart", "llr", "longer", "scratch", "scratch-own", "surgery", "acdc", "svd", "swa", "early-dropout"),
    *("augment", "ensemble", "batchnorm", "schedule-free", "soup", "dsd-soup"),
)
"""A few of every kind: masks, controls, other data, networks and optimizers, means, branches."""
NOT_HERE = ("late-depth",)
"""Their network is not the one that the recipe of these tests has."""
OTHER_ARMS = tuple(arm.name for arm in get_arms() if arm.name not in (*SOME_ARMS, *NOT_HERE))
