"""Events: what training tells whoever listens, as it happens.

Whoever wants to know of every run and every comparison of a process, also of what the worker processes of a comparison
train, registers a function:

    from redense.lab.events import listen

    listen(lambda event: print(event["kind"], event.get("step")))

`redense run` tells its terminal and its loggers in the same way. An event is plain JSON; ``kind`` says which it is, and
the page "Events" of the documentation has the fields of each.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from redense.errors import RedenseError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

Event = dict[str, Any]
"""One thing that happened, plain JSON: ``kind``, and the fields of its kind."""

Listener = Callable[[Event], None]
"""Called with every event, in the process that `listen` was called in; it must not change it."""

_SECONDS = 0.5  # between two looks at what worker processes have told


class TrainingError(RedenseError, RuntimeError):
    """Training cannot go on: the loss is not finite."""


class StoppedError(RedenseError):
    """The run was asked to stop and has saved its state."""


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


_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with every event of this process from now on; return what ends that.

    One that raises is told nothing more, and the training goes on.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener) if listener in _listeners else None


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` with every event until the block ends."""
    end = listen(listener)
    try:
        yield
    finally:
        end()


def is_heard() -> bool:
    """Whether anybody listens."""
    return bool(_listeners)


def tell(event: Event, **of: Any) -> None:
    """Tell an event to all that listen; ``of`` says what it is of: a folder, or arms and a seed.

    Random numbers that they draw and settings of PyTorch that they change are put back: they change no training.
    """
    if not _listeners:
        return
    from .guests import hosting

    for listener in list(_listeners):
        try:
            with hosting():
                listener({**event, **of})
        except (Exception, SystemExit):  # whatever a listener does must not end a training
            log.exception("a listener has failed, and is told nothing more")
            _listeners.remove(listener)


# --- between processes ----------------------------------------------------------------------------------------------

_inboxes: dict[Path, Inbox] = {}


class Outbox:
    """The outbox of a worker process: events as lines of its own file in a folder that the main process reads.

    What is trained in the main process itself is told at once, between two steps and not beside them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"

    def put(self, event: Event, **of: Any) -> None:
        """Leave an event; that nobody can read it is no reason to stop."""
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**event, **of}) + "\n")
        if (inbox := _inboxes.get(self._folder)) and inbox.process == os.getpid():
            inbox.look()


class Inbox:
    """The events that worker processes leave in a folder, told in this process as they come.

    Args:
        folder: is made, and goes with the block.
        tell: called with every event.
    """

    def __init__(self, folder: Path, tell: Callable[[Event], None]) -> None:
        self._folder, self._tell = folder, tell
        self.process = os.getpid()
        self._read: dict[Path, int] = {}
        self._looking = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Inbox:
        shutil.rmtree(self._folder, ignore_errors=True)  # of a process that was killed
        self._folder.mkdir(parents=True)
        _inboxes[self._folder] = self
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()
        del _inboxes[self._folder]
        shutil.rmtree(self._folder, ignore_errors=True)

    def look(self) -> None:
        """Tell what has come since the last look: of each process in its order."""
        with self._looking:
            for path in sorted(self._folder.glob("*.jsonl")):
                start = self._read.get(path, 0)
                with path.open("rb") as file:
                    file.seek(start)
                    lines = file.read().splitlines(keepends=True)
                for line in lines:
                    if not line.endswith(b"\n"):  # it is being written
                        break
                    start += len(line)
                    self._tell(json.loads(line))
                self._read[path] = start

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS):
            self.look()
