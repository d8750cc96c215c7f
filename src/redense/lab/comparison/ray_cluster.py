"""Jobs of a comparison on a Ray cluster: each is a task of its own, and as many run at once as there is room for.

Ray is asked before anything is begun, and every way in which it fails is a line: no Ray, no cluster at its address, a
job that no machine has the processors for, a machine that went away.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from redense.errors import MissingExtraError, RedenseError, StateError
from redense.optional.extras import refuse_folder

log = logging.getLogger(__name__)

JobT = TypeVar("JobT")
T = TypeVar("T")

_REACH = 5.0  # seconds in which the head of a cluster has to answer
_LOOK = 1.0  # seconds after which Ctrl-C is answered at the latest
_TOKEN = "RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN"
_NAMES = {"num_cpus": ("CPU", "processors"), "num_gpus": ("GPU", "GPUs")}


def join_cluster(jobs: int, resources: Mapping[str, float]) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or begin one on this machine, and see whether the jobs fit it.

    Args:
        jobs: how many at once.
        resources: what each needs: ``num_cpus`` (1, if nothing is said), ``num_gpus``.

    Raises:
        MissingExtraError: Ray is not installed.
        StateError: nothing answers at the address, the cluster wants another token, or no machine of it has what a job
            needs.
    """
    ray = _ray()
    address = os.environ.get("RAY_ADDRESS", "")
    if not ray.is_initialized():
        _reach(address)
        try:
            ray.init(logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
            asks = f"; a cluster that asks for a token needs {_TOKEN}" if address else ""
            raise StateError(f"Ray does not start: {' '.join(str(error).split())[:200]}{asks}") from error
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, needed in {"num_cpus": 1.0, **resources}.items():
        key, words = _NAMES[name]
        most = max((machine.get(key, 0.0) for machine in machines), default=0.0)
        whole = sum(machine.get(key, 0.0) for machine in machines)
        if needed > most:
            raise StateError(
                f"a job needs {needed:g} {words}, and the largest machine of the Ray cluster has {most:g}: "
                f"give a smaller --{name.removeprefix('num_')}-per-job"
            )
        if needed * jobs > whole:
            fit = int(whole // needed)
            log.warning("the Ray cluster has %g %s: %d of %d jobs can run at once", whole, words, fit, jobs)


def carried(
    do: Callable[[JobT], T], work: Sequence[JobT], jobs: int, resources: Mapping[str, float], *, again: str
) -> Iterator[T]:
    """Do jobs on the cluster, as `redense.lab.pairs.carrying.Carrier.carry` says.

    Raises:
        StateError: Ray lost a job: its process or machine has died.
        RedenseError: a job has failed so.
    """
    ray = _ray()
    remote = ray.remote(do).options(max_retries=0, **resources)
    waiting, running = iter(work), list[Any]()
    while True:
        while len(running) < jobs and (job := next(waiting, None)) is not None:
            running.append(remote.remote(job))
        if not running:
            return
        ready, running = ray.wait(running, num_returns=1, timeout=_LOOK)
        for one in ready:
            yield _given(ray, one, again)


def _given(ray: Any, one: Any, again: str) -> Any:
    try:
        return ray.get(one)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, RedenseError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        words = " ".join(str(error).split())[:160] or type(error).__name__
        raise StateError(
            f"Ray lost a job, its process or machine has died, perhaps for lack of memory ({type(error).__name__}: "
            f"{words}): go on with {again}; what was trained is kept"
        ) from error


def _reach(address: str) -> None:
    """Raise unless somebody answers at an address, which Ray itself would ask for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # nothing, "auto" or "local"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StateError(f"no Ray cluster answers at {address}, as RAY_ADDRESS says: {reason}") from None


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]

        refuse_folder(ray)
    except ImportError:
        raise MissingExtraError("--backend ray needs Ray: pip install 'redense[ray]'") from None
    return ray
