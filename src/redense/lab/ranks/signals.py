"""The signals that ask a program to stop. No torch here."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

STOPPING: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
"""Ctrl-C, a queue's or a container's, a terminal that was closed, and what `sbatch --signal=USR1` sends."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal asked the program to stop while nothing was there to save."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stopping() -> list[signal.Signals]:
    """Return the signals to answer: not SIGHUP where it is ignored, as `nohup` asks for."""
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in STOPPING if number != hangup or signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Raise `StoppedBySignal` where one would end the program without a word. In the main thread alone."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedBySignal(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    silent = [number for number, handler in before.items() if handler == signal.SIG_DFL]
    for number in silent:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in silent:
            signal.signal(number, before[number])
