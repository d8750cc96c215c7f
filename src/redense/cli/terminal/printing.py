"""The one place where the command line prints text: whoever wrote it, nothing in it is a command to the terminal.

`redense.cli.terminal.screen.SafeConsole` does the same for tables, progress and styles.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from redense.files.opening import descriptor_of, hush, nowhere
from redense.files.visible import visible, visible_line

_taken: list[TextIO] = []


@contextlib.contextmanager
def taken(by: TextIO) -> Iterator[None]:
    """Have what the command line says go to a stream; what a listener or a plugin prints goes where it would."""
    _taken.append(by)
    try:
        yield
    finally:
        _taken.pop()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep the output for what the command line says: what anybody else prints goes to the error output.

    Anybody is a listener, a plugin, a library in C, and every process that is started meanwhile.
    """
    with _set_apart(sys.stdout) as ours, taken(ours), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _set_apart(output: TextIO) -> Iterator[TextIO]:
    """Give a stream to where the output goes, while descriptor 1 itself leads to the error output."""
    if descriptor_of(output) != 1:  # in memory, or somebody else's
        yield output
        return
    output.flush()
    with os.fdopen(os.dup(1), "w", encoding=output.encoding, errors=output.errors) as ours:  # no child inherits it
        with contextlib.suppress(OSError):  # without an error output, things stay as they are
            os.dup2(2, 1)
        try:
            yield ours
        finally:
            try:
                _flush(ours)
            finally:
                os.dup2(ours.fileno(), 1)


def say(*words: object, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
    """Print as `print` does, with control characters written out; in silence where the reader has gone."""
    _write(visible(sep.join(map(str, words))) + end, _taken[-1] if _taken else sys.stdout, flush=flush)


def say_line(text: object, *, end: str = "\n", flush: bool = False) -> None:
    r"""Print as `say` does, in one line: a name or an answer of somebody else cannot begin another.

    >>> say_line("a.png: bag 99.9 %\nb.png", end="")
    a.png: bag 99.9 %\u000ab.png
    """
    say(visible_line(str(text)), end=end, flush=flush)


def say_json(data: object, *, flush: bool = False, **form: Any) -> None:
    """Print plain data as JSON: with the letters that are in it where the output is UTF-8, else all of it in ASCII."""
    encoding = getattr(_taken[-1] if _taken else sys.stdout, "encoding", None) or "utf-8"  # a text in memory has none
    say(json.dumps(_numbers(data), ensure_ascii=codecs.lookup(encoding).name != "utf-8", **form), flush=flush)


def answer(data: object, **form: Any) -> int:
    """Print plain data as JSON in ASCII, and return the exit code of a verb whose work is done with it."""
    say(json.dumps(_numbers(data), **form))
    return 0


def _numbers(data: Any) -> Any:
    """Return plain data with null for numbers that are not finite: JSON has none."""
    if isinstance(data, Mapping):
        return {key: _numbers(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_numbers(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def complain(message: object, *, before: str = "redense: ") -> None:
    """Print a message to the error output, in one line."""
    with contextlib.suppress(OSError):  # nobody listens, and the exit code says it too
        _write(f"{before}{visible_line(str(message))}\n", sys.stderr, flush=True)


def prepare() -> None:
    """Make the streams take any text, and the log a line a message; called when the command line begins."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-` or a service: what is written goes nowhere
            setattr(sys, name, nowhere())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # it has become a pipe since it was opened: it takes the change, too
                stream.reconfigure(errors="backslashreplace")  # a terminal of ASCII, names that are no UTF-8
    root = logging.getLogger()
    if not root.handlers:  # another program's are its own
        handler = logging.StreamHandler()
        handler.setFormatter(_Line())
        root.addHandler(handler)
        root.setLevel(logging.WARNING)


def flush_or_hush() -> None:
    """Send what was printed on its way, if anybody reads it."""
    _flush(sys.stdout)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        hush(stream)


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        ours = record.name.startswith("redense") and not record.exc_info
        return visible_line(text) if ours else visible(text)


def _write(text: str, stream: TextIO, *, flush: bool) -> None:
    try:
        stream.write(text)
        if flush:
            stream.flush()
    except BrokenPipeError:
        hush(stream)
