"""`training.keep`: what makes one state of a network the better one to keep.

The figure of the validation split decides; of equal figures the lower loss; of equal losses the later state, which has
seen more. A figure that counts few examples, or that is 0 as BLEU-4 often is, ties often: `training.keep_by: loss` lets
the loss decide, and the figure where losses are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from redense.errors import StateError
from redense.lab.checkpoint import clone
from redense.tasks.metrics import Metric


class Best:
    """The states that a phase, and a run, would keep if it ended now.

    Args:
        metric: by which the task is judged.
        keep: ``best``: each phase its best state; ``best-of-run``: the run its best; ``last``: nothing.
        by: what decides first.
    """

    def __init__(
        self, metric: Metric, keep: Literal["last", "best", "best-of-run"], by: Literal["metric", "loss"]
    ) -> None:
        self._metric, self._keep, self._by = metric, keep, by
        self.of_run: dict[str, Any] | None = None
        """Of ``best-of-run``: figures, phase, epoch and weights of the best state so far."""

    def of_phase(
        self,
        best: dict[str, Any] | None,
        result: Mapping[str, float],
        epoch: float,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, Any] | None:
        """Return what a phase would keep after an epoch with validation figures ``result``, in place of ``best``."""
        if self._keep != "best" or not self._as_good(result, best):
            return best
        return {**self._candidate(result, epoch, model), "optimizer": clone(optimizer.state_dict())}

    def offer(self, result: Mapping[str, float], epoch: float, model: nn.Module, **told: Any) -> None:
        """Let the run end with the weights as they are, if they are its best so far; ``told`` is kept with them."""
        if self._keep == "best-of-run" and self._as_good(result, self.of_run):
            self.of_run = {**self._candidate(result, epoch, model), **told}

    def meet(self, others: Iterable[dict[str, Any] | None]) -> None:
        """Let a run that joins branches end with the best state of any of them, if that is its best so far."""
        for other in others:
            if other is not None and self._as_good({self._metric.name: other["value"], **other}, self.of_run):
                self.of_run = other

    def _as_good(self, result: Mapping[str, float], best: Mapping[str, Any] | None) -> bool:
        """Return whether a state is kept in place of the ``best`` so far, which came before it."""
        if best is None:
            return True
        metric, value, loss = self._metric, result[self._metric.name], result["loss"]
        if self._by == "loss":
            return loss < best["loss"] or (loss == best["loss"] and not metric.better(best["value"], value))
        return loss <= best["loss"] if value == best["value"] else metric.better(value, best["value"])

    def _candidate(self, result: Mapping[str, float], epoch: float, model: nn.Module) -> dict[str, Any]:
        figures = {"value": result[self._metric.name], "loss": result["loss"]}
        return {**figures, "epoch": epoch, "model": clone(model.state_dict())}


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
