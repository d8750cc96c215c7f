"""Tables of any program as columns of cells: CSV, JSON, data frames, rows."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np

from redense.errors import DataError
from redense.files.csv_text import as_named
from redense.files.json_text import parse_json
from redense.files.opening import read_bytes
from redense.lab.judging.figures import quoted, shown
from redense.lab.judging.statistics import LARGEST

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_WRITTEN = re.compile(r"[-+−]?[0-9][0-9.,]*\s*(?:%|‰|(?:±|\+/?-).*)?")  # with a percent sign, a comma, a spread
_PREFIX = re.compile(r"(?:params|metrics|tags|config|summary)[./](?=.)")  # of MLflow, and of W&B
IN_A_FOLDER = "compare.csv"  # of `redense compare`
csv.field_size_limit(1 << 24)


@dataclass(frozen=True)
class Columns:
    """A table as it was given.

    Args:
        source: what messages call it.
        cells: column -> one cell a row; text, or what a data frame holds.
        lines: where each row begins in the file; None where there is no file.
    """

    source: str
    cells: Mapping[str, Sequence[Any]]
    lines: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.cells.values()), ()))

    def place(self, row: int) -> str:
        """Return where a row is."""
        return f"line {self.lines[row]}" if self.lines else f"row {row + 1}"


def read_file(path: Path) -> Columns:
    """Read CSV (with a comma, a semicolon or a tab), JSON lines, or a JSON list; or the CSV of a comparison's folder.

    Raises:
        DataError: there is no such file, or it is none of these.
    """
    path = path / IN_A_FOLDER if path.is_dir() else path
    return _columns_of(lambda: read_bytes(path), f"'{shown(path)}'")


def read_stream(stream: Any) -> Columns:
    """Read what `read_file` reads from an open file, such as ``sys.stdin``.

    Raises:
        DataError: it cannot be read, or is no table.
    """
    name = getattr(stream, "name", None)
    source = "standard input" if name == "<stdin>" else f"'{shown(name)}'" if isinstance(name, str) else "the stream"
    return _columns_of(stream.read, source)


def _columns_of(read: Callable[[], str | bytes], source: str) -> Columns:
    try:
        given = read()
    except FileNotFoundError:
        raise DataError(f"there is no file {source}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        pipe = "; of a pipe, give it to standard input and name it -" if "a pipe" in str(why) else ""
        raise DataError(f"{source} cannot be read: {quoted(why)}{pipe}") from None
    data = given.encode() if isinstance(given, str) else given
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is no {encoding[:6].rstrip('-').upper()} text: byte {error.start} is wrong"
        ) from None
    if not text.strip():
        raise DataError(f"{source} is empty: expected a header and rows")
    if text.lstrip().startswith(("{", "[")):
        return _json(text, source)
    return _csv(text, source)


def columns_of_frame(frame: Any) -> Columns:
    """Return a data frame of pandas, of polars, or of anything with ``columns`` and ``frame[column]``.

    Raises:
        DataError: two columns have the same name, or they are not in memory.
    """
    try:
        names = list(frame.columns)
        columns = [list(frame[name]) for name in names]
    except (TypeError, NotImplementedError):
        raise DataError(
            f"the columns of this {type(frame).__name__} cannot be read: give a data frame that is in memory (of a "
            "polars.LazyFrame its collect(), of dask its compute(), of DuckDB its df())"
        ) from None
    _check_head([str(name) for name in names], "the data frame")
    return Columns(
        "the data frame", {str(name).strip(): list(column) for name, column in zip(names, columns, strict=True)}
    )


def columns_of_rows(rows: Iterable[Any], source: str = "the list", lines: Sequence[int] | None = None) -> Columns:
    """Return dicts, one a row, as columns; a key that a row lacks is an empty cell.

    Raises:
        DataError: a row is no dict.
    """
    rows = list(rows)
    cells: dict[str, list[Any]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"row {index + 1} of {source} is a {type(row).__name__}, expected a dict with arm and seed")
        for key, value in row.items():
            column = cells.setdefault(str(key).strip(), [])
            column.extend([None] * (index - len(column)))
            if len(column) > index:
                raise DataError(f"row {index + 1} of {source} has the column {quoted(key)} twice")
            column.append(value)
    for column in cells.values():
        column.extend([None] * (len(rows) - len(column)))
    return Columns(source, cells, lines)


def without_prefixes(columns: Columns) -> Columns:
    """Return a table of a tracker with the names that its columns had there: MLflow's ``params.seed`` is ``seed``.

    Only where that is clear: there is no ``arm`` or no ``seed`` without it. What two columns would be called keeps its
    prefix.

    >>> list(
    ...     without_prefixes(
    ...         Columns("t", {"run_id": [], "params.arm": [], "params.seed": [], "metrics.error": []})
    ...     ).cells
    ... )
    ['run_id', 'arm', 'seed', 'error']
    """
    if {"arm", "seed"} <= set(columns.cells):
        return columns
    bare = [without_prefix(name) for name in columns.cells]
    counts = Counter(bare)
    names = [own if counts[own] == 1 else name for name, own in zip(columns.cells, bare, strict=True)]
    if len(set(names)) < len(names):
        return columns
    return Columns(columns.source, dict(zip(names, columns.cells.values(), strict=True)), columns.lines)


def without_prefix(name: str) -> str:
    """Return the name that a column of a tracker was logged with."""
    return _PREFIX.sub("", name)


def number(cell: Any) -> float | None:
    """Return a cell as a number, NaN and infinity among them; None if it is empty.

    >>> number(" 12.5 "), number(""), number("-inf")
    (12.5, None, -inf)

    Raises:
        ValueError: it is no number.
    """
    if isinstance(cell, str):
        text = cell.strip()
        if not text:
            return None
        if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return float(text)
        raise ValueError(text)
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(cell, bool) or type(cell).__name__ == "bool" or isinstance(cell, (bytes, complex)):
        raise ValueError(str(cell))
    try:
        return float(cell.detach() if hasattr(cell, "detach") else cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        raise ValueError(str(cell)) from None


def is_number(cell: Any) -> bool:
    """Whether a cell is a number, or a text of one."""
    try:
        return number(cell) is not None
    except ValueError:
        return False


def is_written_number(cell: Any) -> bool:
    """Whether a cell is a text that a person reads as a number, and that is none here.

    >>> [is_written_number(cell) for cell in ("31.5 %", "12,5", "1,234.5", "31 ± 2", "31.5", "v2", "2026-11-28")]
    [True, True, True, True, False, False, False]
    """
    return isinstance(cell, str) and not is_number(cell) and _WRITTEN.fullmatch(cell.strip()) is not None


def plain(cell: Any) -> float | None:
    """Return a cell that is a finite number, as most are, at once; None where `finite` has to look closer.

    >>> plain("12.5"), plain(" 12.5"), plain(3)
    (12.5, None, 3.0)
    """
    if type(cell) is not float:
        if type(cell) is not int and not (type(cell) is str and len(cell) <= 40 and _NUMBER.fullmatch(cell)):
            return None
        try:
            cell = float(cell)
        except OverflowError:
            return None
    return cell if abs(cell) <= LARGEST else None


def finite(
    cell: Any, what: str, empty: str = "a run without a figure cannot be judged, nor left out in silence"
) -> float:
    """Return a cell as a finite number; ``what`` says where it is, and ``empty`` why it may not be empty.

    Raises:
        DataError: it is empty, no number, NaN, infinite, or larger than can be computed with.
    """
    try:
        value = number(cell)
    except ValueError as error:
        raise DataError(f"{what} is {quoted(error)}, which is no number{_comma(str(error))}") from None
    if value is None:
        raise DataError(f"{what} is empty: {empty}")
    if not math.isfinite(value):
        raise DataError(f"{what} is {quoted(cell)}: a run that diverged has no figure, and cannot be judged")
    if abs(value) > LARGEST:
        raise DataError(f"{what} is {quoted(cell)}, too large to compute with: give it in another unit")
    return value


def _comma(text: str) -> str:
    """Return how a number with commas is to be written, whatever the commas mean; empty where it is none."""
    decimal = re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text)
    thousands = re.fullmatch(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?", text)
    if decimal and thousands:
        return f"; write {text.replace(',', '.')} or {text.replace(',', '')}: the comma may be a decimal point or not"
    return "; write a decimal point" if decimal else "; write it without commas" if thousands else ""


def label(cell: Any) -> str:
    """Return a cell of names or seeds as text; 3.0 of a data frame is 3.

    >>> label(" dsd "), label(3.0), label(None)
    ('dsd', '3', '')
    """
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(cell, (float, np.floating)):
        return "" if math.isnan(cell) else str(int(cell)) if math.isfinite(cell) and cell == int(cell) else str(cell)
    return str(cell).strip()


def _csv(text: str, source: str) -> Columns:
    best, most = ",", -1
    first = next(line for line in io.StringIO(text, newline="") if line.strip())
    for delimiter in ",;\t":
        head = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
        found = 1000 * (("arm" in head) + ("seed" in head)) + len(head)
        if found > most:
            best, most = delimiter, found
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=best, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    begins = 1
    try:
        for row in reader:
            if any(map(str.strip, row)):
                rows.append(row)
                lines.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{source}, line {begins}: no CSV: {quoted(error)}") from None
    if not rows:
        raise DataError(f"{source} has no cell that is filled: expected a header and rows")
    head = [name.strip() for name in rows[0]]
    _check_head(head, source)
    wide = len(head)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) > wide and any(map(str.strip, row[wide:])):
            raise DataError(f"{source}, line {line}: {len(row)} cells under {wide} columns")
        if any(cell[:1] == "'" for cell in row):
            row[:] = map(as_named, row)
    places = {name: index for index, name in enumerate(head)}  # one of all that have no name
    cells = {name: [row[at] if at < len(row) else "" for row in rows[1:]] for name, at in places.items()}
    return Columns(source, cells, lines[1:])


def _json(text: str, source: str) -> Columns:
    if text.lstrip().startswith("["):
        rows, lines, expected = _parsed(text, source), None, "a JSON list of objects with arm and seed"
    else:
        given = [(at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows, lines = [_parsed(line, f"{source}, line {at}") for at, line in given], [at for at, _ in given]
        expected = "a JSON object with arm and seed on every line"
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{source}: expected {expected}")
    return columns_of_rows(rows, source, lines)


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except JSONDecodeError:
        raise DataError(f"{where}: no JSON, expected an object a line, or one list of objects") from None
    except ValueError as error:
        raise DataError(f"{where}: no JSON that can be used ({error})") from None


def _check_head(head: Sequence[str], source: str) -> None:
    named = [name.strip() for name in head if name.strip()]
    twice = next((name for name in named if named.count(name) > 1), None) if len(set(named)) < len(named) else None
    if twice is not None:
        raise DataError(f"{source} has the column {quoted(twice)} twice")
