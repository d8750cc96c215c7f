"""A line that says how far a comparison is and how long it will take yet, on the error output."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO

from redense.files.visible import visible_line

_LINE_SECONDS = 30.0  # between two lines where there is no terminal: a log, a cell of a notebook
_LINE_SHARE, _LINE_MOST = 0.1, 600.0  # of the time that has passed, if that is longer; and at most these seconds
_WIDTH = 78


class ProgressLine:
    """Shows how many of all pairs are done: on a terminal one line that changes, elsewhere a line now and then."""

    def __init__(self, total: int, *, jobs: int = 1, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet, self._total, self._jobs = quiet, total, jobs
        self._done, self._failed, self._began = 0, 0, time.monotonic()
        self._new, self._said, self._shown = 0.0, -_LINE_SECONDS, 0
        self._left = 0.0

    def begin(self, done: int, weight: float) -> None:
        """Say how many pairs are done already, and what the others weigh: steps, or one for each."""
        self._done, self._left = done, weight
        self._began = time.monotonic()
        self._show("")

    def tick(self, what: str, weight: float, *, failed: bool = False) -> None:
        """Count a pair that has come to its end; ``what`` names it."""
        self._done += 1
        self._failed += failed
        self._new += weight
        self._left -= weight
        self._show(what)

    def say(self, text: str) -> None:
        """Say a line that stays."""
        if not self._quiet:
            self.end()
            self._write(visible_line(text) + "\n")

    def end(self) -> None:
        """Take the changing line away."""
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    @property
    def text(self) -> str:
        """The line."""
        spent = time.monotonic() - self._began
        parts = [f"{self._done:,} of {self._total:,} pairs"]
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        if self._new and self._left > 0:
            parts.append(f"about {duration(spent * self._left / self._new)} to go")
        elif self._jobs > 1 and self._done < self._total:
            parts.append(f"{self._jobs} at once")
        return ", ".join(parts)

    def _show(self, what: str) -> None:
        if self._quiet:
            return
        if self._stream.isatty():
            line = visible_line(f"{self.text}  {what}")[:_WIDTH]
            self._write("\r" + line.ljust(self._shown))
            self._shown = len(line)
            return
        now = time.monotonic()
        if now - self._said >= pause_after(now - self._began) or self._done == self._total:
            self._said = now
            self._write(f"{self.text}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: the work goes on
            self._stream.write(text)
            self._stream.flush()


def pause_after(spent: float) -> float:
    """Return the seconds from one line to the next where there is no terminal, after so many of work."""
    return min(max(_LINE_SECONDS, _LINE_SHARE * spent), _LINE_MOST)


def duration(seconds: float) -> str:
    """Return a time as a person says it.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
