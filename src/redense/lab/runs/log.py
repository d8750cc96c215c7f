"""Metrics of a run as they come: metrics.jsonl; and the loggers that its recipe names begin and end with it.

Before a checkpoint is written, the lines so far are synced, and ``metrics.sums`` gets their checksum: so a resumed run
has every line that its checkpoint has seen, none twice, and none that a broken disk has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from redense._version import __version__
from redense.errors import CheckpointError, StateError
from redense.files.writing import write_bytes, write_text
from redense.lab.events import Event
from redense.lab.loggers.base import flat
from redense.lab.loggers.sending import RunSenders
from redense.lab.recipe.recipe import Recipe
from redense.tasks.task import Task

_LINES, _SUMS = "metrics.jsonl", "metrics.sums"


def read_records(path: Path) -> Iterator[Event]:
    """Give the events of a metrics.jsonl, without a last line that a kill cut off.

    Raises:
        StateError: another line is damaged.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):  # after the last newline is nothing, or what a kill cut off
                raise StateError(f"{path} is damaged in line {number}: copy it back, or start anew") from None


def check_records(folder: Path, step: int) -> None:
    """Raise unless the metrics are those that a checkpoint of this step has seen.

    Raises:
        CheckpointError: they are damaged.
    """
    if (folder / _SUMS).exists() and _seen(folder, step) is None:  # an older redense kept no checksums
        raise CheckpointError(f"{folder / _LINES} is damaged before step {step}")


def _marks(folder: Path) -> list[dict[str, Any]]:
    """Return the notes of `Recorder.mark`: step, bytes and sha256 of the lines at each checkpoint."""
    found: list[dict[str, Any]] = []
    path = folder / _SUMS
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            mark = json.loads(line)
            found.append({"step": int(mark["step"]), "bytes": int(mark["bytes"]), "sha256": str(mark["sha256"])})
    return found


def _mark(step: int, digest: str, count: int) -> dict[str, Any]:
    return {"step": step, "bytes": count, "sha256": digest}


def _seen(folder: Path, step: int) -> bytes | None:
    """The lines that a checkpoint of this step has seen; None if they are damaged or were never noted."""
    data = (folder / _LINES).read_bytes() if (folder / _LINES).exists() else b""
    for mark in reversed(_marks(folder)):
        part = data[: mark["bytes"]]
        whole = len(part) == mark["bytes"] and hashlib.sha256(part).hexdigest() == mark["sha256"]
        if mark["step"] == step and whole:
            return part
    return None


def recorder_of(folder: Path, recipe: Recipe, task: Task) -> Recorder:
    """Return what writes the metrics of a run, and has the loggers that its recipe names listen to it."""
    names = ("tensorboard",) if recipe.log is None else recipe.log
    facts = {"folder": folder.resolve().name, "data_fingerprint": task.fingerprint, "redense": __version__}
    return Recorder(folder, names, {**flat(recipe.model_dump(mode="json", exclude={"log"})), **facts})


class Recorder:
    """Writes events to metrics.jsonl while loggers listen; after a kill it forgets what came after the checkpoint.

    Args:
        folder: of the run.
        loggers: their names.
        settings: of the run, for the loggers, by names with dots.
    """

    def __init__(
        self, folder: Path, loggers: Sequence[str] = ("tensorboard",), settings: Mapping[str, Any] | None = None
    ) -> None:
        self._folder, self._path = folder, folder / _LINES
        self._names, self._settings = loggers, settings or {}

    def __enter__(self) -> Recorder:
        return self

    def begin(self, step: int | None) -> None:
        """Go on after this step of the run; None: from the beginning.

        Raises:
            CheckpointError: the files cannot be written.
            RedenseError: a logger cannot begin.
        """
        last = self._last() if step is not None else None
        self._loggers = RunSenders(self._folder, self._names, step or 0, last, self._settings)
        data, marks = b"", list[dict[str, Any]]()
        if step is not None:
            marks = [mark for mark in _marks(self._folder) if mark["step"] < step]
            found = _seen(self._folder, step)
            if found is None:  # an older redense began it
                kept = [event for event in read_records(self._path) if event["step"] <= step]
                found = "".join(json.dumps(event) + "\n" for event in kept).encode()
            data = found
            # With the others, in one file that is replaced as a whole: a kill must not part them.
            marks.append(_mark(step, hashlib.sha256(data).hexdigest(), len(data)))
        write_bytes(self._path, data)
        self._loggers.send_again(json.loads(line) for line in data.splitlines())
        write_text(self._folder / _SUMS, "".join(json.dumps(mark) + "\n" for mark in marks))
        self._digest, self._bytes = hashlib.sha256(data), len(data)
        with self._writing():
            self._file = self._path.open("ab", buffering=0)
            self._sums = (self._folder / _SUMS).open("ab", buffering=0)

    def mark(self, step: int) -> None:
        """Sync what was written and note its checksum, for the checkpoint of this step that is to be written now.

        Raises:
            CheckpointError: the disk is full.
        """
        mark = _mark(step, self._digest.hexdigest(), self._bytes)
        with self._writing():
            os.fsync(self._file.fileno())
            self._sums.write(json.dumps(mark).encode() + b"\n")
            os.fsync(self._sums.fileno())

    def __call__(self, event: Event) -> None:
        """Write an event, if it is of a step or an epoch.

        Raises:
            CheckpointError: the disk is full.
        """
        if event["kind"] not in ("step", "epoch"):
            return
        line = json.dumps(event).encode() + b"\n"
        with self._writing():
            if self._file.write(line) != len(line):
                raise OSError("the disk is full")
        self._digest.update(line)
        self._bytes += len(line)

    def finish(self, result: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Hand the figures that the run ends with to its loggers, and files: the page."""
        self._loggers.finish(result, files)

    def __exit__(self, *exception: object) -> None:
        for name in ("_file", "_sums", "_loggers"):
            if hasattr(self, name):
                getattr(self, name).close()

    def _last(self) -> Event | None:
        """The last event that was written before; of damaged lines, that of the last one that is whole."""
        last = None
        with contextlib.suppress(StateError):
            for event in read_records(self._path):
                last = event
        return last

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(f"cannot write to {self._path}: {error.strerror or error}") from None
