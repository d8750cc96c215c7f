"""Tables that people keep beside their files: CSV, TSV and their kin with or without a head, and lines of JSON."""

from __future__ import annotations

import ast
import csv
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from redense.errors import DataError
from redense.files.json_text import parse_json
from redense.files.opening import open_text

from .folders import ending_of
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
_NEVER_QUOTED = "\t|"
_LOOKED_AT = 50  # rows
_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\[\\'"nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*'"""
    r"""|"(?:[^"\\]|\\[\\'"nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*\""""
)
_NO_TEXT = r"None|nan|True|False|-?[\d.]++"
_LIST = re.compile(rf"\[\s*+(?:(?>{_QUOTED.pattern}|{_NO_TEXT})\s*+(?:,\s*+)?+)*+\]")


def read_rows(
    path: Path,
    *,
    known: Collection[str] = (),
    bare: Sequence[str] = (),
    is_file: Callable[[str], bool] = lambda cell: False,
    texts: Collection[str] = (),
) -> list[tuple[int, dict[str, Any]]]:
    """Return the line number and the columns of every row of a table.

    Args:
        path: of the table; it ends in .csv, .tsv or .jsonl.
        known: names of columns in small letters: a first line with one of them is the head of the table.
        bare: names of the columns of a table without a head, for where the first line names a file already.
        is_file: whether a cell names a file.
        texts: names of columns in small letters: as the last of a table such a column may have commas in its cells that
            are not quoted. So may the only one beside that of the files.

    Raises:
        DataError: it is no text in UTF-8, or no table; two columns have one name, or a row has more cells than columns.
    """
    if path.suffix.lower() == ".jsonl":
        return list(json_lines(path))
    delimiter, lines = _table(path)
    if not lines:
        raise DataError(f"{path}: there is nothing in it")
    names = [cell.strip() for cell in lines[0][1]]
    files = [cell for cell in names if is_file(cell)] if bare else []
    # What a first line says beside `a.png` is a class or a sentence, whatever the word; a column may be called `image`.
    if any(map(ending_of, files)) or (files and not any(cell.lower() in known for cell in names)):
        names = list(bare)
    else:
        lines = lines[1:]
    meant = [name.lower() if name.lower() in known else name for name in names if name]
    if twice := [name for name in meant if meant.count(name) > 1]:
        raise DataError(f"{path}: two columns are called {twice[0]!r}: rename one of them")
    last = names[-1].lower()
    joins = last in texts or (len(names) == 2 and last not in FILES)
    out: list[tuple[int, dict[str, Any]]] = []
    for number, given in lines:
        row = _without_empty_ends(given, len(names))
        if len(row) > len(names) and not joins:
            quoted = "" if delimiter in _NEVER_QUOTED else f"; a cell with {delimiter!r} in it needs quotation marks"
            raise DataError(f"{path}, line {number}: {len(row)} cells in {len(names)} columns{quoted}")
        cells = [*row[: len(names) - 1], delimiter.join(row[len(names) - 1 :])]
        out.append((number, dict(zip(names, cells, strict=False))))
    return out


def _without_empty_ends(row: list[str], width: int) -> list[str]:
    """Return a row without the empty cells beyond its columns: some programs end every line with a comma."""
    end = len(row)
    while end > width and not row[end - 1].strip():
        end -= 1
    return row[:end]


def cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the first line and the cells of every row of a table that is not empty.

    The delimiter is the tab of a .tsv, else the one of ``, ; tab |`` that parts the first rows into equally many cells;
    of several, or if none does, the one that comes first. With tabs and bars a quotation mark is a letter like others.

    Raises:
        DataError: it is no text in UTF-8, or no table.
    """
    return _table(path)[1]


def _table(path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    try:
        with open_text(path, newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(file)
            file.seek(0)
            rows = list(parted(file, delimiter, path))
    except (UnicodeDecodeError, OSError) as error:
        raise unreadable(path, error) from None
    if any("\0" in cell for _, row in rows[:_LOOKED_AT] for cell in row):
        raise DataError(f"{path} is no table that can be read: it has NULs in it; save it as text in UTF-8")
    return delimiter, [(line, row) for line, row in rows if any(cell.strip() for cell in row)]


def parted(lines: Iterable[str], delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of every row.

    Raises:
        DataError: a quotation mark is not closed; it would take the following rows with it.
    """
    rows, first = _rows(lines, delimiter), 1
    try:
        for row in rows:
            yield first, row
            first = rows.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {first}: this row cannot be read ({error}): a cell that begins with a quotation mark must "
            "end with one, and double those inside"
        ) from None


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error of a table that cannot be opened, or is no text in UTF-8."""
    hint = "; save it as text in UTF-8" if isinstance(error, UnicodeDecodeError) else ""
    return DataError(f"{path} is no table that can be read: {error}{hint}")


def _delimiter(file: TextIO) -> str:
    first = file.readline()
    there = sorted(filter(first.count, _DELIMITERS), key=first.index)
    for delimiter in there:
        file.seek(0)
        try:
            widths = {len(row) for row in itertools.islice(_rows(file, delimiter), _LOOKED_AT) if row}
        except csv.Error:
            continue
        if len(widths) == 1:
            return delimiter
    return there[0] if there else ","


def _rows(lines: Iterable[str], delimiter: str) -> Any:
    quoting = csv.QUOTE_NONE if delimiter in _NEVER_QUOTED else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)


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


def listed(cell: str, *, numbers: bool = False) -> list[Any] | None:
    r"""Return the items of a list that is written into a cell, as JSON, Python, pandas or NumPy do; None if it is none.

    Without ``numbers`` a list of nothing but those is none: a sentence may be in brackets, too.

    >>> listed('["a red", "a circle"]'), listed("['a red', \"it's\"]"), listed("['a red' 'a circle']"), listed("[]")
    (['a red', 'a circle'], ['a red', "it's"], ['a red', 'a circle'], [])
    >>> listed("[a dog] runs"), listed("[laughs]"), listed("[1]"), listed("['a', None]")
    (None, None, None, ['a', None])
    >>> listed("[1, 2]", numbers=True)
    [1, 2]
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        items = parse_json(text)
    except ValueError:
        if not _LIST.fullmatch(text):
            return None
        try:
            items = [ast.literal_eval(own) for own in _QUOTED.findall(text)]
        except (ValueError, SyntaxError):  # a character that there is none of
            return None
        if re.search(_NO_TEXT, _QUOTED.sub("", text)):
            items.append(None)
    return items if numbers or not items or any(isinstance(item, str | list | dict) for item in items) else None


def column_of(row: Mapping[str, Any], names: Collection[str]) -> str | None:
    """Return the column of a row that is called like one of ``names``, the first of these, in any case."""
    own = {key.strip().lower(): key for key in row}
    return next((own[name] for name in names if name in own), None)


def verify_splits(path: Path, rows: Iterable[tuple[int, Split | None, Split | None]]) -> None:
    """Refuse a table of which some rows name a split in a column, and others have none.

    Args:
        path: of the table.
        rows: line, the split that a column names, and the split that the row has by that or otherwise.

    Raises:
        DataError: a row has none.
    """
    found = list(rows)
    if any(said for _, said, _ in found) and (line := next((line for line, _, own in found if own is None), None)):
        raise DataError(f"{path}, line {line}: no split, where other lines have one")


def fitting(tables: Mapping[Path, Split | None], fits: Callable[[Path], bool], has: str) -> list[Path]:
    """Return the tables that fit a layout.

    Args:
        tables: table -> the split that its name or place says, or None.
        fits: whether the first row of a table has what the layout needs.
        has: what such a line names, for the message.

    Raises:
        DataError: some fit, and the only one of a split does not: that split would be drawn from others.
    """
    found = [path for path in tables if fits(path)]
    splits = {tables[path] for path in found}
    for path, split in tables.items():
        if found and split is not None and split not in splits:
            raise DataError(
                f"{path}: its first row names no {has}, as that of {found[0].name} does: give it the same columns, or "
                "another name if it is no list of that split"
            )
    return found


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
