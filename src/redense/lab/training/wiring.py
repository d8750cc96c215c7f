"""The connections of an engine: who listens, who is asked, who keeps what it has trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from torch import Tensor

from redense.lab.events import Event


class Wiring(TypedDict, total=False):
    """Functions that an engine calls, and one number.

    Args:
        emit: called with every event, on every rank.
        stop: asked after every optimizer step whether to stop; the engine then saves and raises `StoppedError`. It is
            enough that one rank is told to.
        save: called with a snapshot to keep it, on every rank; one of them has to write it.
        save_seconds: time between two snapshots inside a phase.
        resolve: gives the weights of a stored phase by its key, for techniques that need other arms' models.
        ended: gives the snapshot that a phase of this flow ended with, for branches; by default the engine keeps those
            that are needed, and each of its snapshots has them.
    """

    emit: Callable[[Event], None]
    stop: Callable[[], bool]
    save: Callable[[dict[str, Any]], None]
    save_seconds: float
    resolve: Callable[[str], dict[str, Tensor]]
    ended: Callable[[int], Mapping[str, Any]]
