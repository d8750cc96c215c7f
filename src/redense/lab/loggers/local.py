"""Loggers that write files into the run folder and need nothing: TensorBoard's curves, and a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from redense.files.opening import read_text
from redense.files.writing import write_text
from redense.lab.runs.tensorboard import Board

from .base import LoggedRun, register_logger


@register_logger("tensorboard")
class TensorBoardLogger:
    """Curves in the files of TensorBoard, written by `Board`."""

    rewinds = True

    def begin(self, run: LoggedRun) -> None:
        """Add a file of events; TensorBoard then forgets what earlier ones have after ``run.step``."""
        self._board = Board(run.folder / "tensorboard", purge_step=run.step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def attach(self, path: Path) -> None:
        """Do nothing: TensorBoard shows no pages."""

    def close(self) -> None:
        """End the file."""
        self._board.close()


@register_logger("csv")
class CsvLogger:
    """A table ``log.csv``: a row for each thing that was logged, a column for each name, and the step."""

    rewinds = True

    def begin(self, run: LoggedRun) -> None:
        """Make the table; of a resumed run keep the rows up to its step."""
        self._path = run.folder / "log.csv"
        kept = [row for row in _rows(self._path) if int(row["step"]) <= run.step] if run.step else []
        self._columns = list(dict.fromkeys(["step", *(name for row in kept for name in row)]))
        self._last = _line([kept[-1].get(name, "") for name in self._columns]) if kept else ""
        self._write(kept)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add a row; a name that is new adds a column to the whole table."""
        new = [name for name in values if name not in self._columns]
        if new:
            self._file.close()
            kept = _rows(self._path)
            self._columns += new
            self._write(kept)
        row = {"step": str(step), **{name: repr(float(value)) for name, value in values.items()}}
        line = _line([row.get(name, "") for name in self._columns])
        if line != self._last:  # the figures of a run that is finished once more
            self._file.write(line)
            self._file.flush()
        self._last = line

    def attach(self, path: Path) -> None:
        """Do nothing: the page lies beside the table."""

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, rows: list[dict[str, str]]) -> None:
        head, body = _line(self._columns), (_line([row.get(n, "") for n in self._columns]) for row in rows)
        write_text(self._path, head + "".join(body))
        self._file = self._path.open("a", encoding="utf-8", newline="")


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a table; none of one that is not there. A kill may have cut the last row off."""
    text = read_text(path) if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(io.StringIO(whole)) if (row.get("step") or "").isdecimal()]


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
