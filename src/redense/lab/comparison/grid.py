"""The grid of a comparison: arms times seeds, as phases that are trained once and shared.

All first phases are one wave of jobs, all second ones the next, and so on; joblib carries a wave to its processes.
Under torchrun the ranks train one phase after another, all of them together (`Grid.run_over_ranks`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from redense.errors import CheckpointError, StateError
from redense.files.writing import write_text
from redense.lab.arms.of_recipe import naming
from redense.lab.carried import carried
from redense.lab.events import Inbox, is_heard, tell
from redense.lab.flow import process_engine, release_engine
from redense.lab.pairs.carrying import side_by_side
from redense.lab.ranks.processes import start_tracker
from redense.lab.ranks.ranks import join, noticing_lost_ranks
from redense.lab.store import PhaseStore
from redense.lab.tasks import forget_tasks, shared_task
from redense.lab.training.engine import StoppedError
from redense.lab.training.pretrained import tuned
from redense.plugins import refuse_typed

from .comparison import Cell, Comparison, cells, check_started, names_in_flows
from .jobs import Done, Job, do

log = logging.getLogger(__name__)

_ROUNDS = 3  # how often damaged phases are trained again before the disk is to blame


class Grid:
    """The phases that a comparison needs, wave by wave: all first phases, all second ones, and so on.

    Args:
        comparison: what is compared.
        store: of phases.
        folder: of the comparison.
        save_seconds: between two snapshots inside a phase.
        begun: the comparison as the folder has it, where seeds or arms are to be added.
    """

    def __init__(
        self,
        comparison: Comparison,
        store: PhaseStore,
        folder: Path,
        *,
        save_seconds: float = 30.0,
        begun: Comparison | None = None,
    ) -> None:
        self.comparison, self.store, self.folder = comparison, store, folder
        torch.set_num_threads(1)  # as in every job, for the keys
        forget_tasks()
        self.ranks = join()
        self.task = self.ranks.in_turn(lambda: shared_task(comparison.recipe))
        self.ranks.agree("the data", self.task.fingerprint)
        data = self.ranks.main(lambda: check_started(folder, begun or comparison, self.task))
        self.cells = cells(comparison, self.task, data)
        self._save_seconds, self._damaged = save_seconds, False
        self._stop, self._events = folder / ".stop", folder / ".events"
        self._used = names_in_flows(cell.flow for cell in self.cells)
        self._code = carried(self._used)
        self._call = uuid.uuid4().hex  # processes of another would have other code
        self._stop.unlink(missing_ok=True)
        # What is wrong with an arm is said before anything is trained.
        for cell in self.cells:
            if cell.seed == comparison.seeds[0]:
                self._check(cell)
        of_start = self.ranks.main(lambda: tuned(comparison.recipe, self.task)[1])
        self.notes = [*getattr(self.task, "notes", ()), *of_start]
        """What a reader of the results should know of the data and of the weights that all arms start from."""

    def _check(self, cell: Cell) -> None:
        """Raise what would end the training of an arm, of the network that it has."""
        recipe = cell.flow.recipe
        with naming(cell.label):
            same = recipe.model == self.comparison.recipe.model
            task = self.task if same else self.ranks.in_turn(lambda: shared_task(recipe))
            process_engine(task, recipe, cell.flow.phases).begin()

    def stop(self) -> None:
        """Ask every worker to save and stop."""
        self._stop.parent.mkdir(parents=True, exist_ok=True)  # of a rank on another machine
        self._stop.touch()

    def jobs(self) -> Iterator[list[Job]]:
        """Give the phases that are still to be trained, in waves that can run at once; then those to evaluate."""
        depth = max(len(cell.keys) for cell in self.cells)
        for index in range(depth):
            wave = {cell.keys[index]: cell for cell in self.cells if index < len(cell.keys)}
            yield [
                self._job(cell, index)
                for key, cell in wave.items()
                if not self._is_trained(key) and not self.store.failure(cell.keys[: index + 1])
            ]
        final = {cell.keys[-1]: cell for cell in self.cells}
        yield [
            self._job(cell, -1)
            for key, cell in final.items()
            if self.store.has(key) and not self.store.is_measured(key)
        ]

    def _waves(self) -> Iterator[list[Job]]:
        """Give `jobs`, and again where a phase turned out to be damaged: it is trained anew.

        Raises:
            StateError: that does not help.
        """
        for _ in range(_ROUNDS):
            self._damaged = False
            yield from self.jobs()
            if not self._damaged:
                return
        raise StateError(f"phases in the store {self.store.root} are damaged again and again: look at its disk")

    def _is_trained(self, key: str) -> bool:
        """Whether a phase is in the store; what is damaged of it is dropped, its state is looked at when used."""
        try:
            self.store.mend(key)
            self.store.records(key)
        except CheckpointError as error:
            log.warning("%s", error)
            self.store.discard(key)
        return self.store.has(key)

    def _job(self, cell: Cell, index: int) -> Job:
        whole, own = self.comparison.recipe, cell.flow.recipe
        is_same = (own.task, own.data, own.model) == (whole.task, whole.data, whole.model)
        return Job(
            str(self.store.root.resolve()),
            cell.flow.recipe.model_dump(mode="json", exclude={"log"}),  # which is the affair of the main process
            tuple(planned.to_dict() for planned in cell.flow.phases),
            cell.keys,
            index,
            str(self._stop.resolve()),
            os.getpid(),
            self._save_seconds,
            str(self._events.resolve()) if is_heard() else "",
            self._code,
            self.task.fingerprint if is_same else "",
        )

    def write_plan(self) -> None:
        """Write ``grid.json``: the phases of every run, for whoever watches how far they are."""
        runs = [
            {
                "arm": cell.label,
                "seed": cell.seed,
                "phases": [[key, planned.steps] for key, planned in zip(cell.keys, cell.flow.phases, strict=True)],
            }
            for cell in self.cells
        ]
        plan = {"store": str(self.store.root.resolve()), "cells": runs}
        write_text(self.folder / "grid.json", json.dumps(plan) + "\n")

    def run(
        self,
        *,
        jobs: int,
        backend: str = "loky",
        resources: Mapping[str, float] | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> int:
        """Train and evaluate everything; return the number of phases that had to be trained.

        Args:
            jobs: how many at once.
            backend: ``loky``, processes of this machine, or ``ray``, a cluster.
            resources: what Ray reserves for each job: ``num_cpus``, ``num_gpus``.
            tick: called after every job.

        Raises:
            StoppedError: `stop` was called; what was done is kept.
            StateError: a worker process died.
            PluginError: other processes would lack what the script itself registers.
        """
        if jobs > 1 or backend == "ray":
            refuse_typed(self._used)
        trained = 0
        try:
            with self._hearing():
                for wave in self._waves():
                    stopped = False
                    for done in self._carried(wave, jobs, backend, resources or {}):
                        stopped |= done == Done.STOPPED
                        trained += done == Done.TRAINED
                        self._damaged |= done == Done.DAMAGED
                        tick()
                    if stopped:
                        raise StoppedError("stopped; the state is saved")
        finally:
            release_engine()
        return trained

    def _hearing(self) -> contextlib.AbstractContextManager[object]:
        """Tell in this process what its workers tell, each event with the arms and the seed that it is of."""
        if not is_heard():
            return contextlib.nullcontext()
        of: dict[str, dict[str, Any]] = {}
        for cell in self.cells:
            for key in cell.keys:
                of.setdefault(key, {"seed": cell.seed, "arms": []})["arms"].append(cell.label)
        folder = str(self.folder)
        return Inbox(self._events, lambda event: tell(event, folder=folder, **of.get(event["key"], {})))

    def _carried(self, wave: list[Job], jobs: int, backend: str, resources: Mapping[str, float]) -> Iterator[Done]:
        again = f"--resume {shlex.quote(str(self.folder))}"
        if backend == "ray":
            from .ray_cluster import carried

            yield from carried(do, wave, jobs, resources, again=again)
            return
        from joblib.externals.loky.backend.resource_tracker import ensure_running

        if jobs > 1:
            start_tracker(ensure_running)
        try:
            yield from side_by_side(do, wave, jobs, call=self._call)  # one at once: in this process itself
        except BrokenProcessPool:
            if self._stop.exists():  # the signal reached a worker that was not up yet
                raise StoppedError("stopped; the state is saved") from None
            raise StateError(
                f"a worker process died, perhaps for lack of memory: go on with fewer --jobs and {again}; what was "
                "trained is kept"
            ) from None

    def run_over_ranks(self, *, tick: Callable[[], None] = lambda: None) -> int:
        """Train and evaluate everything as `run` does, in the ranks of this job; rank 0 knows what is to do.

        Raises:
            StoppedError: `stop` was called on any rank; what was done is kept.
            LostRankError: another rank is gone.
        """
        waves, trained = self._waves(), 0

        def following() -> list[dict[str, Any]] | None:
            wave = next(waves, None)
            return None if wave is None else [{**vars(job), "carried": None} for job in wave]  # each runs the script

        with noticing_lost_ranks(), self._hearing() if self.ranks.is_main else contextlib.nullcontext():
            while (wave := self.ranks.main(following)) is not None:
                for job in wave:
                    # Signals are this process's own affair: nobody else would tell it to stop.
                    done = do(Job(**{**job, "main": os.getpid()}))
                    if done == Done.STOPPED:
                        raise StoppedError("stopped; the state is saved")
                    trained += done == Done.TRAINED
                    self._damaged |= done == Done.DAMAGED
                    if self.ranks.is_main:
                        tick()
        return trained
