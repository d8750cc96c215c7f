"""One job of a comparison: it trains or evaluates one phase, in whatever process and on whatever machine."""

from __future__ import annotations

import enum
import functools
import json
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from redense.errors import StateError
from redense.lab.carried import Carried
from redense.lab.events import Event, Outbox, Wiring
from redense.lab.flow import DamagedError, Flow, process_engine, state_of
from redense.lab.ranks.memory import keep_freed_memory
from redense.lab.ranks.processes import ignore_signals, leave_with, noticing_lost_helpers
from redense.lab.recipe.recipe import Recipe, build_recipe
from redense.lab.store import PhaseStore, shared_store, weights_in
from redense.lab.tasks import shared_task
from redense.lab.training.engine import Engine, StoppedError, TrainingError
from redense.lab.training.plan import PlannedPhase
from redense.masks import sparsity_of
from redense.plugins import load_plugins

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One phase to train or to evaluate, as plain data for any process on any machine."""

    store: str
    recipe: dict[str, Any]
    phases: tuple[dict[str, Any], ...]
    keys: tuple[str, ...]
    index: int
    stop: str
    main: int
    save_seconds: float
    events: str = ""  # folder in which its events are left, if anybody listens
    carried: Carried | None = None  # of the user's code, for another process
    data: str = ""  # its fingerprint, which is that of another process, too


class Done(enum.IntEnum):
    """The end of a job."""

    NOTHING = 0  # another had trained it, or it was to be evaluated
    TRAINED = 1
    STOPPED = 2
    DAMAGED = 3  # what it needs; that was discarded and is to be trained again


def do(job: Job) -> Done:
    """Train or evaluate one phase, in whatever process."""
    if os.getpid() != job.main and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches all processes, and so may SIGTERM: the main one asks us to stop.
        ignore_signals()
        leave_with(job.main)
    # One thread a job, whatever the number of jobs: two times two threads on two cores are far slower than two times
    # one, and the last digits would depend on it.
    torch.set_num_threads(1)
    keep_freed_memory()
    load_plugins()
    if job.carried and os.getpid() != job.main:
        job.carried.take()
    store = shared_store(Path(job.store))
    try:
        with noticing_lost_helpers():
            if job.index < 0:
                _evaluate(store, job)
                return Done.NOTHING
            return Done.TRAINED if _train(store, job) else Done.NOTHING
    except StoppedError:  # raised from here, joblib would kill the other jobs before they have saved
        return Done.STOPPED
    except DamagedError as error:
        log.warning("%s", error)
        return Done.DAMAGED
    except TrainingError as error:  # a diverged run is a result, and no reason to stop the others
        store.put_text(job.keys[job.index], "failed.json", json.dumps({"error": str(error)}) + "\n")
        return Done.TRAINED


def _engine(job: Job, **changes: Unpack[Wiring]) -> Engine:
    """Return the engine of this process, about to train the phases of a job."""
    recipe = _recipe(json.dumps(job.recipe))  # as it is: the order of patterns matters
    task = shared_task(recipe)
    if job.data and task.fingerprint != job.data:
        raise StateError(
            "a process of its own reads other data than this one: a file has changed meanwhile, or a layout or task is "
            "registered otherwise there; give jobs=1, or register it as it is in the module that is imported"
        )
    return process_engine(task, recipe, [PlannedPhase.from_dict(p) for p in job.phases], **changes)


@functools.lru_cache(maxsize=64)
def _recipe(text: str) -> Recipe:
    return build_recipe(json.loads(text))


def _train(store: PhaseStore, job: Job) -> bool:
    """Train a phase unless it is there, and say whether it was trained."""
    key, stop = job.keys[job.index], Path(job.stop)
    store.mend(key)
    if store.has(key):
        return False
    engine = _engine(
        job,
        stop=stop.exists,
        save_seconds=job.save_seconds,
        resolve=lambda other: _weights(store, other),
        ended=lambda index: state_of(store, job.keys[index]),
    )

    def emit(event: Event) -> None:
        if job.events and engine.ranks.is_main:
            Outbox(Path(job.events)).put(event, key=key)
        if event["kind"] in ("step", "epoch"):
            store.progress(key, engine.position_in_phase, engine.plan[job.index].steps)

    engine.give_way()
    return Flow(engine, store, job.keys, emit=emit).advance(job.index) is None


def _weights(store: PhaseStore, key: str) -> dict[str, Tensor]:
    """Return the weights that another arm's phase ended with."""
    reason = store.failure([key])
    if reason:
        raise TrainingError(f"another arm's phase that this one needs diverged: {reason}")
    return weights_in(state_of(store, key))


def _evaluate(store: PhaseStore, job: Job) -> None:
    """Touch the test split with the network that a flow ends with, and count its weights."""
    key, engine = job.keys[-1], _engine(job)
    with store.locked(key):
        if store.is_measured(key):
            return
        engine.restore(state_of(store, key))
        engine.end()
        outcome = engine.outcome("test")
        store.put_outcome(key, "test", outcome)
        parameters = list(engine.model.parameters())
        weights = sum(parameter.numel() for parameter in parameters)
        facts = {
            "test": engine.task.metrics(outcome),
            "validation": engine.evaluate("validation"),
            "parameters": weights,
            "nonzeros": weights - round(sparsity_of(*parameters) * weights),
            **({"kept": engine.kept} if engine.kept else {}),
        }
        store.put_text(key, "facts.json", json.dumps(facts) + "\n")
