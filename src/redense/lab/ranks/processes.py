"""Processes that work for another one: none outlives it, and a signal to the whole group stops none of them halfway.

Queues, `timeout` and container runtimes send SIGTERM to every process of a job, a terminal sends Ctrl-C so, and SIGHUP
when it is closed. The main process answers: it lets the step at hand end, saves, and its helpers go with it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any

from redense.errors import StateError

from .signals import STOPPING

_LOOK = 1.0  # seconds between two looks at the parent
_GOING = 0.2  # seconds from the end of a process's connections to that of its own, at most
_CLEANED = 5.0  # seconds from the end of a process's connections to the signal of its own, at most
_KILLED = 137  # 128 + SIGKILL


def leave_with(parent: int, grace: float = 0.0) -> None:
    """End this process soon after its parent has gone, killed perhaps; do nothing where ``parent`` is not its parent.

    Args:
        parent: its process id.
        grace: with it this process is sent SIGTERM first, and has so many seconds to save.
    """
    if os.name != "posix" or os.getppid() != parent or _watched.get(os.getpid()) == parent:
        return
    _watched.clear()
    _watched[os.getpid()] = parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        if grace:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace)
        os._exit(_KILLED)

    if not grace:
        _say_nothing_of_a_lost(parent)
    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _say_nothing_of_a_lost(parent: int) -> None:
    """Leave, and print no traceback, when a connection breaks off because the parent has gone.

    The thread by which `multiprocessing` hands over files notices that before anybody can ask for the parent.
    """
    say = sys.excepthook

    def said(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if isinstance(error, (ConnectionError, EOFError)):
            time.sleep(_GOING)
        if os.getppid() != parent:
            os._exit(_KILLED)
        say(kind, error, where)

    sys.excepthook = said


_watched: dict[int, int] = {}  # this process -> the parent that it watches; a fork has no threads of its parent


def ignore_signals() -> None:
    """Ignore what asks a program to stop; of the main thread alone."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def begin_helping(parent: int, call: str = "") -> None:
    """Begin the work of a helper process: signals are the main process's affair, and this one leaves with it.

    Args:
        parent: the main process.
        call: that it helps in; joblib starts others for another one.
    """
    if threading.current_thread() is threading.main_thread():
        ignore_signals()
    _stay_with(parent)


def _stay_with(parent: int) -> None:
    """Leave with a parent, at once where it has gone before this process could look."""
    if os.name == "posix" and os.getppid() != parent:
        os._exit(_KILLED)
    leave_with(parent)


# --- processes that prepare batches ---------------------------------------------------------------------------------


def begin_loading(worker: int, parent: int | None = None) -> None:
    """Begin the work of a process that prepares batches (``worker_init_fn`` of a `torch.utils.data.DataLoader`).

    The first SIGTERM is the group's and is ignored. One that does not end by itself is killed, in `loading_context`.

    Args:
        worker: its number.
        parent: the process that has forked it; None: it was started otherwise, by one that may not be its parent. To
            ask for the parent here is too late: one that was killed meanwhile has left it to another process.
    """
    ignore_signals()
    signal.signal(signal.SIGTERM, _first_sigterm)
    _say_nothing_of_queues()
    _stay_with(os.getppid() if parent is None else parent)
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _say_nothing_of_queues() -> None:
    """Print no traceback when a thread that hands something over fails as the other end is closed.

    After a helper was killed, the other ones and the main process end. Python now and then closes the end of a queue
    twice then, and says so in three ways: the third is that of the queue in `_made_context`. And the thread that hands
    over files finds that nobody takes them any more.
    """
    say, say_of_thread, say_ignored = sys.excepthook, threading.excepthook, sys.unraisablehook

    def said_of_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or failed.thread.name != "QueueFeederThread":
            say_of_thread(failed)

    def said(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        in_thread = threading.current_thread() is not threading.main_thread()
        if not (in_thread and isinstance(error, (ConnectionError, EOFError))):
            say(kind, error, where)

    def said_ignored(ignored: Any) -> None:
        if not (isinstance(ignored.exc_value, OSError) and ignored.exc_value.errno == errno.EBADF):
            say_ignored(ignored)

    threading.excepthook, sys.excepthook, sys.unraisablehook = said_of_thread, said, said_ignored


def _first_sigterm(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def noticing_lost_helpers() -> Iterator[None]:
    """Turn what PyTorch says when a process that prepares batches was killed into a line.

    Raises:
        StateError: one was.
    """
    try:
        try:
            yield
        except (OSError, EOFError) as error:
            if not _while_handed_over(error):
                raise
            # Killed while it hands over a batch. PyTorch's own error comes with the signal of its end, a moment later,
            # and were it not waited for, where nobody would catch it: as PyTorch cleans up.
            time.sleep(_CLEANED)
            raise _lost_helper() from error
    except RuntimeError as error:
        if isinstance(error, StateError) or not str(error).startswith("DataLoader worker"):
            raise
        raise _lost_helper() from error


def _lost_helper() -> StateError:
    _say_nothing_of_queues()
    return StateError(
        "a process that prepares batches was killed, perhaps for lack of memory: give fewer data.workers, or none"
    )


def _while_handed_over(error: BaseException) -> bool:
    """Whether an error comes from the main process's end of the connection, and not from the data that is read."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_code.co_name == "_try_get_data" and frame.f_globals.get("__name__") == "torch.utils.data.dataloader"
        for frame in frames
    )


def loading_context() -> Any:
    """Return the `multiprocessing` context for processes that prepare batches; None for the usual one.

    From the moment at which one is forked until `begin_loading` it must not be killed by a signal to the group either:
    signals wait meanwhile.
    """
    if sys.platform != "linux" or multiprocessing.get_start_method(allow_none=True) in ("spawn", "forkserver"):
        return None  # as its owner wishes; in a job of joblib it is joblib's own, which starts nothing but its jobs
    start_tracker(resource_tracker.ensure_running)
    return _made_context()


def start_tracker(start: Callable[[], None]) -> None:
    """Start a process that cleans up after helpers so that no signal to the group ends it, as SIGHUP would.

    What waits in this process while another is started waits in that one for ever.
    """
    if os.name != "posix":
        start()
        return
    with _signals_wait():
        start()


def _made_context() -> Any:
    from multiprocessing import popen_fork, queues  # which Windows has not
    from multiprocessing.context import ForkContext, ForkProcess

    class Popen(popen_fork.Popen):
        def terminate(self) -> None:  # Python sends one SIGTERM when it ends itself, and waits for ever
            self.kill()

    class Process(ForkProcess):
        _Popen = staticmethod(Popen)

        def start(self) -> None:
            with _signals_wait():
                super().start()

    class Queue(queues.Queue):  # pyright: ignore[reportMissingTypeArgument]  # which it has not when it runs
        @staticmethod
        def _on_queue_feeder_error(e: Exception, obj: object) -> None:
            if not isinstance(e, OSError):  # as of a batch that cannot be pickled
                traceback.print_exception(e)

    class Event:
        """A byte that all forks see. Python's own has a lock, which one that is killed as it looks holds for ever."""

        def __init__(self) -> None:
            self._byte = mmap.mmap(-1, 1)

        def is_set(self) -> bool:
            return self._byte[0] == 1

        def set(self) -> None:
            self._byte[0] = 1

    class Context(ForkContext):
        def Event(self) -> Any:  # noqa: N802  # its name in `multiprocessing`
            return Event()

        def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802  # its name in `multiprocessing`
            return Queue(maxsize, ctx=self.get_context())

    Context.Process = Process
    return Context()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
