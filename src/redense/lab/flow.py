"""The flow of phases: each is taken from the store, or resumed where it was interrupted, or trained; and kept.

All that trains goes through it: `redense run`, every arm of `redense compare`, and what `redense sensitivity` scans.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from redense.errors import CheckpointError, RedenseError, StateError
from redense.tasks.task import Task

from .events import Event, Wiring
from .recipe.recipe import Recipe
from .store import PhaseStore
from .training.engine import Engine
from .training.plan import PlannedPhase

log = logging.getLogger(__name__)

_kept: list[Engine] = []  # the engine of this process, which goes on from one phase of a comparison to another


class DamagedError(RedenseError):
    """A phase in the store is damaged, and discarded."""


@dataclass(frozen=True)
class Taken:
    """A phase that the store had: the snapshot that it ended with, and its events, which were not emitted again."""

    state: dict[str, Any]
    events: list[Event]


class Flow:
    """The phases of a run or of an arm, on their way through the phase store.

    Args:
        engine: trains them; its events and its snapshots come here from now on.
        store: of phases; None: no phase is taken, and none is kept.
        keys: the key of every phase.
        emit: called with every event, on every rank.
        keep: keeps a snapshot in a place of the caller's, on every rank. A phase that was interrupted is then resumed
            by the caller, and not from the store, and a store that cannot be written stops nothing.
    """

    def __init__(
        self,
        engine: Engine,
        store: PhaseStore | None,
        keys: Sequence[str],
        *,
        emit: Callable[[Event], None] = lambda event: None,
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.engine, self.store, self.keys = engine, store, tuple(keys)
        self._told, self._keep = emit, keep
        self._records: list[Event] = []  # of the phase at hand
        engine.emit, engine.save = self._emit, self._save

    def resume(self, records: Iterable[Event]) -> None:
        """Go on with a phase that the engine was restored in the middle of; ``records`` are its events until then."""
        self._records = list(records)

    def advance(self, index: int | None = None) -> Taken | None:
        """Bring the engine to the end of a phase: the next one, or the one of number ``index``.

        Returns:
            The phase, if the store had it; None if it was trained.

        Raises:
            DamagedError: the phase before it is damaged in the store; it was discarded.
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
        """
        engine, store = self.engine, self.store
        index = engine.phase_index if index is None else index
        key = self.keys[index]
        with store.locked(key) if store else contextlib.nullcontext():
            if not engine.position_in_phase:
                if store and (found := stored_phase(store, key)):
                    steps = [planned.steps for planned in engine.plan]
                    start = {"phase_index": index, "step": sum(steps[:index]), "start": sum(steps[:index])}
                    self._told({"kind": "phase", **start, "steps": steps[index], "stored": True})
                    engine.restore(found.state)
                    return found
                self._begin(index)
            engine.train()
        return None

    def _begin(self, index: int) -> None:
        """Bring the engine to where a phase begins, or to where it was interrupted."""
        self._records = []
        part = self.store.partial(self.keys[index]) if self.store and self._keep is None else None
        if part:
            self.engine.restore(part[0])
            self._records = list(part[1])
        elif self.store and self._keep is None:  # else the caller has kept where a branch begins
            after = self.engine.plan[index].after
            if after is not None:  # a branch
                self.engine.restore(state_of(self.store, self.keys[after]), at=index)
            elif index != self.engine.phase_index:
                self.engine.restore(state_of(self.store, self.keys[index - 1]))

    def _emit(self, event: Event) -> None:
        if event["kind"] in ("step", "epoch"):
            self._records.append(event)
        self._told(event)

    def _save(self, snapshot: dict[str, Any]) -> None:
        if self._keep:
            self._keep(snapshot)
        if not self.store:
            return
        index, step = snapshot["position"]["phase"], snapshot["position"]["step"]
        if step and self._keep is None:
            self.store.put_partial(self.keys[index], snapshot, self._records)
        if step:
            return
        try:
            self.store.put(self.keys[index - 1], snapshot, self._records)
        except (StateError, CheckpointError) as error:
            if self._keep is None:
                raise
            log.warning("%s; this phase is not in the store, and the run goes on", error)


def stored_phase(store: PhaseStore, key: str) -> Taken | None:
    """Return a phase that the store has whole; a damaged one is to be trained again in its place."""
    store.mend(key, held=True)
    if not store.has(key):
        return None
    try:
        return Taken(store.state(key), store.records(key))
    except CheckpointError as error:
        log.warning("%s; the phase is trained again", error)
        return None


def state_of(store: PhaseStore, key: str) -> dict[str, Any]:
    """Return the snapshot that a phase of the store ended with.

    Raises:
        DamagedError: it is damaged; it is discarded.
    """
    try:
        return store.state(key)
    except CheckpointError as error:
        store.discard(key)
        raise DamagedError(f"{error}; the phase is trained again") from None


def process_engine(task: Task, recipe: Recipe, phases: Sequence[PlannedPhase], **changes: Unpack[Wiring]) -> Engine:
    """Return an engine that is about to train other phases: the last one of this process, where it can.

    Args:
        task: what is trained.
        recipe: how.
        phases: in order.
        changes: further arguments of `Engine`; what is not given is as it is by default.
    """
    # Accelerate's settings are those of the engine that was made last.
    if _kept and _kept[0] is Engine.last() and _kept[0].fits(task, recipe):
        _kept[0].follow(recipe, phases, **changes)
    else:
        _kept[:] = [Engine(task, recipe, phases, **changes)]
    return _kept[0]


def release_engine() -> None:
    """Let go of what `process_engine` keeps for the phases to come."""
    _kept.clear()
