"""`training.keep`: what makes one state of a network the better one to keep.

The figure of the validation split decides; of equal figures the lower loss; of equal losses the later state, which has
seen more. A figure that counts few examples, or that is 0 as BLEU-4 often is, ties often: `training.keep_by: loss` lets
the loss decide, and the figure where losses are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from redense.errors import StateError
from redense.tasks.metrics import Metric


def as_good(
    metric: Metric,
    result: Mapping[str, float],
    best: Mapping[str, Any] | None,
    by: Literal["metric", "loss"] = "metric",
) -> bool:
    """Return whether a state with the validation figures ``result`` is kept in place of ``best``, which came before.

    Args:
        metric: by which the task is judged.
        result: its figure and the ``loss``.
        best: ``value`` of the figure and ``loss`` of what would be kept so far; None if there is nothing.
        by: what decides first.
    """
    value, loss = result[metric.name], result["loss"]
    if best is None:
        return True
    if by == "loss":
        return loss < best["loss"] or (loss == best["loss"] and not metric.better(best["value"], value))
    return loss <= best["loss"] if value == best["value"] else metric.better(value, best["value"])


def refuse_older(best: Mapping[str, Any] | None) -> None:
    """Raise where an older redense, whose rule was another, began to choose from the epochs of a phase.

    Raises:
        StateError: it did.
    """
    if best is not None and "loss" not in best:
        raise StateError(
            "this phase was begun by an older redense, whose `keep: best` chose by another rule: start anew, or go on "
            "from the phase before"
        )
