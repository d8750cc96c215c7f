"""Tables that people keep beside their files: CSV, TSV and their kin with or without a head, and lines of JSON."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from redense.errors import DataError
from redense.files.json_text import parse_json
from redense.files.opening import open_text

from .split_names import split_named, split_of
from .task import Split

ENDINGS = (".csv", ".tsv", ".jsonl")
FILES = (
    *("file_name", "filename", "file", "filepath", "file_path", "path", "image", "image_path", "image_name", "img"),
    *("image_id", "id", "name", "picture", "fname", "audio_filepath", "wav_filename", "audio"),
)
"""Columns that name a file, in small letters."""
SPLITS = ("split", "set", "subset", "partition")
"""Columns that divide the rows into splits, in small letters."""
_DELIMITERS = ",;\t|"
_LOOKED_AT = 50  # rows


def read_rows(
    path: Path,
    *,
    known: Collection[str] = (),
    bare: Sequence[str] = (),
    is_file: Callable[[str], bool] = lambda cell: False,
) -> list[tuple[int, dict[str, Any]]]:
    """Return the line number and the columns of every row of a table.

    Args:
        path: of the table; it ends in .csv, .tsv or .jsonl.
        known: names of columns in small letters: a first line with one of them is the head of the table.
        bare: names of the columns of a table without a head, for where the first line names a file already.
        is_file: whether a cell names a file.

    Raises:
        DataError: it is no text in UTF-8, or no table.
    """
    if path.suffix.lower() == ".jsonl":
        return list(json_lines(path))
    lines = cells(path)
    if not lines:
        raise DataError(f"{path}: there is nothing in it")
    head = [cell.strip() for cell in lines[0][1]]
    if bare and not any(cell.lower() in known for cell in head) and any(map(is_file, head)):
        return [(number, _named(bare, row)) for number, row in lines]
    return [(number, _named(head, row)) for number, row in lines[1:]]


def _named(names: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    """Name the cells of a row; what stands beyond the last column belongs to it: a sentence may have commas."""
    last = len(names) - 1
    return dict(zip(names, [*row[:last], ",".join(row[last:])], strict=False))


def cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the line number and the cells of every row of a table that is not empty.

    The delimiter is the tab of a .tsv, else the one of ``, ; tab |`` that parts the first rows into equally many cells;
    of several, or if none does, the one that comes first. With tabs and bars a quotation mark is a letter like others.

    Raises:
        DataError: it is no text in UTF-8, or no table.
    """
    try:
        with open_text(path, newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(file)
            file.seek(0)
            rows = _rows(file, delimiter)
            return [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        hint = "; save it as text in UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path} is no table that can be read: {error}{hint}") from None


def _delimiter(file: TextIO) -> str:
    first = file.readline()
    there = sorted(filter(first.count, _DELIMITERS), key=first.index)
    for delimiter in there:
        file.seek(0)
        widths = {len(row) for row in itertools.islice(_rows(file, delimiter), _LOOKED_AT) if row}
        if len(widths) == 1:
            return delimiter
    return there[0] if there else ","


def _rows(file: TextIO, delimiter: str) -> Any:
    quoting = csv.QUOTE_NONE if delimiter in "\t|" else csv.QUOTE_MINIMAL
    return csv.reader(file, delimiter=delimiter, quoting=quoting)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of every line of JSON.

    Raises:
        DataError: a line is none, or no object.
    """
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        entry = parse_json(line, finite=True)
                    except ValueError as error:
                        raise DataError(f"{path}, line {number}: not JSON lines in UTF-8: {error}") from None
                    if not isinstance(entry, dict):
                        raise DataError(f"{path}, line {number}: expected a JSON object, got {type(entry).__name__}")
                    yield number, entry
    except DataError:
        raise
    except (ValueError, OSError) as error:  # ValueError: no UTF-8
        raise DataError(f"{path}: not JSON lines in UTF-8: {error}") from None


def column_of(row: Mapping[str, Any], names: Collection[str]) -> str | None:
    """Return the column of a row that is called like one of ``names``, the first of these, in any case."""
    own = {key.strip().lower(): key for key in row}
    return next((own[name] for name in names if name in own), None)


def split_in(
    row: Mapping[str, Any], path: Path, line: int, known: Callable[[str], Split | None] = split_of
) -> Split | None:
    """Return the split that a column of a row names; None where there is no such column, or nothing in it.

    Args:
        row: of a table.
        path: of the table, for messages.
        line: of the row.
        known: gives the split of a name.

    Raises:
        DataError: the column ``split`` has another word: what it means is not guessed.
    """
    for name in SPLITS:
        column = column_of(row, (name,))
        said = str(row[column]).strip() if column and row[column] is not None else ""
        if split := (known(said) or split_named(said)[0]) if said else None:
            return split
        if said and name == SPLITS[0]:
            raise DataError(
                f"{path}, line {line}: {said[:60]!r} in the column {column!r}, expected train, validation or test; "
                "call the column otherwise if it means something else"
            )
    return None
