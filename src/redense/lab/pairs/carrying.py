"""Doing jobs: one after another, in processes or threads of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from redense.errors import MissingExtraError, RecipeError, StateError
from redense.files.visible import visible_line
from redense.lab.ranks.launch import refuse_ranks
from redense.optional.extras import refuse_folder
from redense.schedules.numeric import plain

JobT = TypeVar("JobT")
T = TypeVar("T")
Backend = Literal["loky", "ray"]
MOST_JOBS = 1000


@dataclass(frozen=True)
class Carrier:
    """The way in which jobs are done.

    Args:
        jobs: how many at once.
        backend: processes or threads of this machine, or a Ray cluster.
        resources: what Ray reserves for each job: ``num_cpus``, ``num_gpus``.
        call: tells the processes of one call from those of another: they would have the modules of then, the working
            directory and the environment.
    """

    jobs: int = 1
    backend: Backend | Literal["threading"] = "loky"
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    call: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if isinstance(self.jobs, bool) or not isinstance(self.jobs, int) or not 1 <= self.jobs <= MOST_JOBS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RecipeError(f"jobs must be 1 to {MOST_JOBS:,}, got {self.jobs}")

    @property
    def is_apart(self) -> bool:
        """Whether jobs are done in other processes, which import the user's modules anew."""
        return self.backend == "ray" or (self.backend == "loky" and self.jobs > 1)

    def join(self) -> None:
        """Look whether there is what this takes, before anything is begun.

        Raises:
            MissingExtraError: joblib or Ray is not installed.
            StateError: no cluster answers, or a job does not fit it; or this is one of several processes of torchrun.
        """
        refuse_ranks(
            ". A training that is itself over ranks is a command: redense compare --command NAME='torchrun ...'"
        )
        if self.backend == "ray":
            from redense.lab.comparison.ray_cluster import join_cluster

            join_cluster(self.jobs, self.resources)
        elif self.jobs > 1:
            try:
                import joblib

                refuse_folder(joblib)
            except ImportError:
                raise MissingExtraError("more than one job needs joblib: pip install 'redense[lab]'") from None

    def carry(self, do: Callable[[JobT], T], work: Sequence[JobT], *, again: str) -> Iterator[T]:
        """Do jobs; give what each returns as it comes.

        Args:
            do: does one; in a process of its own where there are several at once.
            work: all of them.
            again: how to go on when a process is lost, for the message.

        Raises:
            StateError: a process died.
        """
        if self.backend == "ray":
            from redense.lab.comparison.ray_cluster import carried

            yield from carried(do, work, self.jobs, self.resources, again=again)
        elif self.jobs == 1:
            yield from map(do, work)
        else:
            try:
                yield from side_by_side(do, work, self.jobs, self.backend, call=self.call)
            except BrokenProcessPool:
                raise StateError(
                    f"a process died, perhaps for lack of memory: give fewer jobs, and go on with {again}; what was "
                    "finished is kept"
                ) from None


def carrier_of_functions(jobs: Any, backend: Any, resources: Mapping[str, float] | None = None) -> Carrier:
    """Return the way in which functions of somebody's own are called.

    Raises:
        RecipeError: there is no such way; in threads they would draw from the same random generators.
    """
    if backend not in get_args(Backend):
        raise RecipeError(f"backend must be 'loky' or 'ray', got {backend!r}")
    if resources and backend != "ray":
        raise RecipeError("resources are what Ray reserves for a job: give backend='ray' beside them")
    return Carrier(plain(jobs), backend, resources or {})


def side_by_side(
    do: Callable[[JobT], T],
    work: Sequence[JobT],
    jobs: int,
    backend: Literal["loky", "threading"] = "loky",
    *,
    call: str = "",
) -> Iterator[T]:
    """Do jobs in processes or threads of this machine, so many at once; give what each returns as it comes.

    Processes that are idle serve the next jobs of the same ``call``.

    Raises:
        BrokenProcessPool: a process died.
        StateError: a process cannot load what it is to do.
    """
    from joblib import Parallel, delayed, parallel_config

    from redense.lab.ranks.processes import begin_helping

    started: dict[str, Any] = {}
    if backend == "loky":  # a worker leaves with this process, also when it is killed
        started = {"initializer": begin_helping, "initargs": (os.getpid(), call)}
    with parallel_config(backend=backend, n_jobs=jobs, **started), warnings.catch_warnings():
        # An idle worker leaves and another is started: nothing that a user could do something about.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        # What a job gives is kept as it comes, and no more is dispatched than runs.
        together = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")
        found: Any = together(delayed(do)(job) for job in work)
        try:
            yield from found
        except BrokenProcessPool as error:
            if error.__cause__ is None:  # a process that died leaves no traceback
                raise
            raise StateError(
                f"a process of its own cannot load what it is to do ({_last_line(error)}): it must be importable in a "
                "fresh Python as it is here, or give jobs=1"
            ) from None
        except pickle.PicklingError as error:
            raise StateError(
                f"what a process of its own is to do cannot be sent to it ({_last_line(error)}): the function holds "
                "something of this process, such as a lock or an open file; make it inside of it, or give jobs=1"
            ) from None


def _last_line(error: Exception) -> str:
    """Return the last line of the traceback, between quotes, that another process or thread has left."""
    return visible_line(str(error.__cause__ or error).strip('\n" ').rpartition("\n")[2])
