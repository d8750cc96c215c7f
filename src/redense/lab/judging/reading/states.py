"""The states that trackers and queues give a run: whether it has come to its end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .cells import label

COLUMNS = ("state", "status")  # of W&B and MLflow
# Of W&B and MLflow, and of Slurm, Optuna, Ray, Kubernetes, ClearML and other services. What is in neither is not known.
_ENDED = frozenset(
    {"complete", "completed", "done", "ended", "finished", "ok", "passed", "published", "succeeded"}
    | {"success", "successful", "terminated"}
)
_UNENDED = frozenset(
    {"aborted", "aborting", "active", "boot fail", "canceled", "cancelled", "completing", "configuring", "crashed"}
    | {"created", "deadline", "diverged", "error", "errored", "evicted", "expired", "fail", "failed", "failure"}
    | {"in progress", "incomplete", "interrupted", "killed", "nan", "node fail", "not finished", "oom", "oom killed"}
    | {"oomkilled", "out of memory", "paused", "pending", "preempted", "preempting", "pruned", "queued", "requeue hold"}
    | {"requeued", "resizing", "revoked", "running", "scheduled", "signaling", "special exit", "stage out", "starting"}
    | {"stopped", "stopping", "suspended", "timed out", "timeout", "unfinished", "waiting"}
)


def unended(cell: Any) -> str:
    """Return the state of a run that did not come to its end; empty for any other.

    >>> unended("CANCELLED by 1000"), unended("OUT_OF_ME+"), unended("TrialState.PRUNED"), unended("COMPLETED")
    ('CANCELLED by 1000', 'OUT_OF_ME+', 'TrialState.PRUNED', '')
    """
    return label(cell) if _is_one_of(cell, _UNENDED) else ""


def is_known(cell: Any) -> bool:
    """Whether a state says if a run has come to its end; an empty one says that nothing is wrong."""
    return not label(cell) or _is_one_of(cell, _UNENDED) or _is_one_of(cell, _ENDED)


def _is_one_of(cell: Any, states: Iterable[str]) -> bool:
    word = re.sub(r"[\s_-]+", " ", label(cell).casefold()).partition(" by ")[0]  # Slurm's CANCELLED by 1000
    word = re.sub(r"\A[a-z]+\.(?=[a-z])", "", word)  # Optuna's TrialState.PRUNED
    if word.endswith("+"):  # Slurm cuts what is wider than its column
        return len(word) > 3 and any(state.startswith(word[:-1]) for state in states)
    return word in states
