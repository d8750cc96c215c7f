"""The arms that the report has words of its own for, named as in `redense.lab.comparison`, which needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redense.lab.pairs.named import BASELINE

CONTROL = "restart"


def of_control(networks: Sequence[str], told: Callable[[int], str]) -> str:
    """Return the sentence on training on without a mask, where that stands between the baseline and the last network.

    A run has phases and no arms, and the phase `restart` of one is no control of it.
    """
    if BASELINE not in networks[:1] or CONTROL not in networks[1:-1]:
        return ""
    return f" For {CONTROL}, the same budget without a mask, it is {told(networks.index(CONTROL))}."
