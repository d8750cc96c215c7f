"""One job of `redense.compare`: a function trains an arm with a seed, in whatever process, and what it says is kept."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.errors import RecipeError, RedenseError, StateError
from redense.files.checksums import sha256
from redense.files.module_values import Value, put
from redense.files.opening import read_bytes
from redense.files.visible import visible_line
from redense.files.writing import write_bytes
from redense.schedule import Schedule

from .criteria import Named, make_known
from .defaults import Values, held
from .figures import AnswerError, read_figures
from .keeping import Outcome

if TYPE_CHECKING:
    from redense.lab.carried import Carried

Train = Callable[..., Any]
_LONGEST = 400  # characters of a line that says why a pair failed


@dataclass(frozen=True)
class Job:
    """The job of a process for one pair.

    Args:
        arm: its name; empty for a part that arms share and that is no arm itself.
        train: ``train(schedule, seed)``, and with ``start`` where a part is shared.
        schedule: all of it, or what is left after the shared part.
        start: the file of the state to start from, and its sha256.
        part: what it leaves for arms that begin alike; empty for nothing.
        leave: the file for the state that they start from.
        threads: of PyTorch.
        metric: the figure that decides, if it is known.
        defaults: of PyTorch, in the process that has called.
        criteria: that the schedule names, as they are registered there.
        values: of the user's modules there, which another process imports anew.
        carried: for that process, too, where what trains is no function of the user's.
    """

    arm: str
    seed: int
    train: Train
    schedule: Schedule | None
    start: tuple[str, str] | None = None
    part: str = ""
    leave: str | None = None
    threads: int | None = 1
    metric: str | None = None
    defaults: Values = ()
    criteria: Mapping[str, Named] = field(default_factory=dict[str, Named])
    values: Sequence[Value] = ()
    carried: Carried | None = None


@dataclass(frozen=True)
class Done:
    """The result of a job: the outcome, the state for other arms and its sha256, the place of a failure."""

    arm: str
    seed: int
    outcome: Outcome
    part: str = ""
    state: str = ""
    trace: str = ""


def do(job: Job) -> Done:
    """Train one pair. Whatever goes wrong in the training is its outcome, and no reason to stop the others."""
    clock, spent = time.perf_counter(), processor_time()
    figures, failed, trace, state, unread = None, "", "", "", False
    try:
        with _apart(job):
            given = _train(job)
        if job.leave is not None:
            state = _leave(job, given)
        if job.arm:
            shown = (
                {key: value for key, value in given.items() if key != "state"} if isinstance(given, Mapping) else given
            )
            figures = read_figures(shown, job.metric)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # anybody's training raises anything
        failed, trace, unread = why(error), traceback.format_exc(), isinstance(error, AnswerError)
    outcome = Outcome(figures, failed, time.perf_counter() - clock, processor_time() - spent, unread)
    return Done(job.arm, job.seed, outcome, job.part, state, trace)


def why(error: BaseException) -> str:
    """Return in a line why a training failed.

    >>> why(ValueError("no such file")), why(KeyError())
    ('ValueError: no such file', 'KeyError')
    """
    text = " ".join(str(error).split())
    name = type(error).__name__
    return visible_line(text if isinstance(error, RedenseError) and text else f"{name}: {text}" if text else name)[
        :_LONGEST
    ]


def check_train(train: Train, *, start: bool, what: str = "train") -> None:
    """Raise unless a function can be called as ``train(schedule, seed)``, and with ``start`` where a part is shared.

    Raises:
        RecipeError: it cannot.
    """
    if not callable(train):
        raise RecipeError(f"{what} must be a function train(schedule, seed), got a {type(train).__name__}")
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # written in C
        return
    try:
        signature.bind(None, 0, **({"start": None} if start else {}))
        if next(iter(signature.parameters)) == "seed":  # it would be given the schedule, and train without a seed
            raise TypeError
    except TypeError:
        wanted = "train(schedule, seed, start=None), which share='dense' needs" if start else "train(schedule, seed)"
        raise RecipeError(f"{what} must be a function {wanted}, and takes {signature}") from None


def name_of(train: Train) -> str:
    """Return the name of a function, as a person would find it."""
    inner = inspect.unwrap(getattr(train, "func", train))
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', '')}.{name.replace('<locals>.', '')}"


def processor_time() -> float:
    """Return the processor seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _train(job: Job) -> Any:
    if job.start is None:
        return job.train(job.schedule, job.seed)
    import torch

    path, digest = job.start
    data = read_bytes(path)
    if sha256(data) != digest:
        raise StateError(f"{path} is damaged: delete it, and it is made again")
    state = torch.load(io.BytesIO(data), weights_only=True)
    return job.train(job.schedule, job.seed, start=state)


def _leave(job: Job, given: Any) -> str:
    """Write the state that a training returned, and return its sha256."""
    import torch

    if not isinstance(given, Mapping) or given.get("state") is None:
        raise AnswerError("share='dense' needs the state that others start from: train must return it as 'state'")
    buffer = io.BytesIO()
    torch.save(given["state"], buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError) as error:
        raise AnswerError(
            "the state that train returned holds more than tensors, numbers, strings, lists and dicts "
            f"(as state_dict() gives): {' '.join(str(error).split())[:160]}"
        ) from None
    write_bytes(Path(job.leave or ""), buffer.getvalue())
    return sha256(buffer.getvalue())


@contextlib.contextmanager
def _apart(job: Job) -> Iterator[None]:
    """Train as the process that has called would, and leave this one as it was: working directory and defaults."""
    folder = Path.cwd()
    make_known(job.criteria)
    put(job.values)
    if job.carried:
        job.carried.take()
    try:
        with held(job.defaults, job.threads):
            yield
    finally:
        os.chdir(folder)
