"""Lists of clips: JSON lines as NeMo writes them, and the tables of Hugging Face audio folders."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ....errors import DataError
from ....files.json_text import parse_json
from ....files.opening import open_text
from ...names import can_be_a_file
from ...task import Split
from .clips import Clip

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "eval": "test",
}
_PATHS = ("audio_filepath", "audio", "path", "file_name", "file")
_TEXTS = ("text", "transcription", "transcript", "sentence")
_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.tsv")


def split_named(name: str) -> tuple[Split | None, str]:
    """Return the split that a file's or folder's name tells, and the rest of the name.

    >>> split_named("dev-clean"), split_named("test_92"), split_named("clips")
    (('validation', 'clean'), ('test', '92'), (None, 'clips'))
    """
    for mark in sorted(SPLITS, key=len, reverse=True):
        rest = name.lower().removeprefix(mark)
        if rest != name.lower() and (not rest or not rest[0].isalpha()):
            return SPLITS[mark], rest.strip("-_. ")
    return None, name


def read_manifests(folder: Path) -> list[Clip]:
    """Read every ``*.jsonl`` (or ``*.json`` of JSON lines) of a folder; the name of a list says its split.

    Raises:
        DataError: a line is no JSON, or has no path or text.
    """
    paths = sorted(path for ending in ("*.jsonl", "*.json") for path in folder.glob(ending))
    return [clip for path in paths for clip in read_manifest(path)]


def read_manifest(path: Path) -> list[Clip]:
    """Read one list; paths in it are relative to its folder.

    A line has ``audio_filepath`` and ``text``; ``offset`` with ``duration`` choose a piece of the file, ``speaker`` and
    ``split`` are taken if they are there.

    Raises:
        DataError: a line is no JSON, or has no path or text.
    """
    split, part = split_named(path.stem)
    return [_clip(entry, path, line, split, part) for line, entry in _json_lines(path)]


def find_tables(folder: Path) -> list[Path]:
    """Return the tables of an audio folder: its own, or one in every folder of a split."""
    return [below / name for below in (folder, *_folders(folder)) for name in _TABLES if (below / name).is_file()]


def read_tables(folder: Path) -> list[Clip]:
    """Read the tables of a Hugging Face audio folder: ``file_name`` and ``transcription`` (or text, sentence).

    Raises:
        DataError: a table lacks a column.
    """
    clips: list[Clip] = []
    for path in find_tables(folder):
        split, part = split_named(path.parent.name if path.parent != folder else "")
        lines = _json_lines(path) if path.suffix == ".jsonl" else read_rows(path)
        for line, entry in lines:
            name = str(entry.get("file_name") or "")
            # One table may list files of several folders.
            own = SPLITS.get(name.partition("/")[0]) or split
            clips.append(_clip(entry, path, line, own, part))
    return clips


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the columns of every row of a table: CSV, or TSV without quotes.

    Raises:
        DataError: it is no text in UTF-8.
    """
    tabs = path.suffix == ".tsv"
    try:
        with open_text(path, newline="") as file:
            quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
            rows = csv.DictReader(file, delimiter="\t" if tabs else ",", quoting=quoting)
            for row in rows:
                yield rows.line_num, {key: value for key, value in row.items() if isinstance(key, str)}
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no table that can be read: {error}") from None


def _clip(entry: Mapping[str, Any], path: Path, line: int, split: Split | None, part: str) -> Clip:
    name = next((entry[key] for key in _PATHS if isinstance(entry.get(key), str) and entry[key]), None)
    text = next((entry[key] for key in _TEXTS if isinstance(entry.get(key), str)), None)
    if name is None or text is None:
        keys, missing = (_PATHS, "path") if name is None else (_TEXTS, "transcript")
        raise DataError(f"{path}, line {line}: no {missing}, expected one of {', '.join(keys)}")
    if not can_be_a_file(name):
        raise DataError(f"{path}, line {line}: {name!r} is no name of a file")
    start = _seconds(entry, "offset", path, line) or 0.0
    # Without an offset, NeMo's duration is that of the file: what the file holds counts, not what a list says of it.
    length = _seconds(entry, "duration", path, line) if "offset" in entry else None
    if isinstance(own := entry.get("split"), str) and own in SPLITS:
        split = SPLITS[own]
    return Clip(
        path=path.parent / _expanded(name),
        name=f"{name}@{start:g}" if start else name,
        text=text,
        split=split,
        part=part if split == "test" else "",
        speaker=str(entry.get("speaker") or ""),
        start=start,
        length=length,
    )


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~ of a user who is not here
        return Path(name)


def _seconds(entry: Mapping[str, Any], key: str, path: Path, line: int) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise DataError(f"{path}, line {line}: {key} must be in seconds, got {value!r}")
    return float(value)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    entry = parse_json(line, finite=True)
                    if not isinstance(entry, dict):
                        raise DataError(f"{path}, line {number}: expected a JSON object, got {type(entry).__name__}")
                    yield number, entry
    except DataError:
        raise
    except (ValueError, RecursionError, OSError) as error:  # ValueError: numbers of thousands of digits, too
        raise DataError(f"{path}: not JSON lines in UTF-8: {error}") from None


def _folders(folder: Path) -> list[Path]:
    return sorted(below for below in folder.iterdir() if below.is_dir() and split_named(below.name)[0])
