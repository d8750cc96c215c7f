"""Lists of clips: JSON lines as NeMo writes them, and the tables of Hugging Face audio folders."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.opening import at_home
from redense.tasks.folders import ending_of, subfolders, visible
from redense.tasks.names import can_be_a_file
from redense.tasks.speech.audio import SUFFIXES
from redense.tasks.split_names import split_named, split_of, split_within, verify_names
from redense.tasks.tables import ENDINGS, fitting, json_lines, read_rows, split_in, verify_splits
from redense.tasks.task import Split

from .clips import Clip, named_once

JSON = (".jsonl", ".json")
_PATHS = ("audio_filepath", "audio", "path", "file_name", "wav_filename", "file", "filename")
TEXT_COLUMNS = ("text", "transcription", "transcript", "sentence")
_COLUMNS = (*_PATHS, *TEXT_COLUMNS, "offset", "duration", "speaker")


def find_manifests(folder: Path) -> list[Path]:
    """Return the lists of a folder: every file that ends in .jsonl or .json."""
    return visible((path for path in folder.iterdir() if path.suffix.lower() in JSON), folder)


def read_manifests(folder: Path) -> list[Clip]:
    """Read every ``*.jsonl`` (or ``*.json`` of JSON lines) of a folder; the name of a list says its split.

    Raises:
        DataError: a line is no JSON, or has no path or text, two lists name one clip, or one has its split inside its
            name.
    """
    lists = find_manifests(folder)
    verify_names(lists if len(lists) > 1 else [])
    clips = [(path, clip) for path in lists for clip in read_manifest(path)]
    named_once(clips)
    return [clip for _, clip in clips]


def read_manifest(path: Path) -> list[Clip]:
    """Read one list; paths in it are relative to its folder.

    A line has ``audio_filepath`` and ``text``; ``offset`` with ``duration`` choose a piece of the file, ``speaker`` and
    ``split`` are taken if they are there.

    Raises:
        DataError: a line is no JSON, or has no path or text.
    """
    split, part = split_named(path.stem)
    rows = list(_rows(path))
    clips = [_clip(entry, path, line, split, part) for line, entry in rows]
    _verify_splits(path, rows, clips)
    return clips


def named_tables(folder: Path) -> list[Path]:
    """Return the tables of a folder that are called as those of an audio folder are.

    ``metadata.csv`` and its kin, its own or one in every folder of a split; else the ``.csv`` files that
    are called after a split, as DeepSpeech's ``train.csv``.
    """
    places = [folder, *(folder / name for name in subfolders(folder) if split_named(name)[0])]
    found = [path for place in places for path in visible(place.iterdir(), folder) if path.suffix.lower() in ENDINGS]
    tables = [path for path in found if path.is_file()]
    if named := [path for path in tables if _is_metadata(path)]:
        return named
    return [path for path in tables if split_named(path.stem)[0] and path.suffix.lower() == ".csv"]


def find_tables(folder: Path) -> list[Path]:
    """Return the tables of an audio folder: `named_tables`, and of those of splits the ones that have the columns.

    Raises:
        DataError: the table of a split cannot be read, or is the only one of its split and has other columns.
    """
    if (found := named_tables(folder)) and not _is_metadata(found[0]):
        tabular = (path for path in folder.iterdir() if path.suffix.lower() == ".csv")
        others = [path for path in visible(tabular, folder) if path not in found]
        verify_names(path for path in others if split_within(path.stem) and names_sounds(path))
    tables: dict[Path, Split | None] = {path: split_of(path.stem) for path in found}
    return fitting(tables, lambda path: _is_metadata(path) or _first_names_a_sound(path), "file of sound")


def read_tables(folder: Path) -> list[Clip]:
    """Read the tables of a folder: ``file_name`` and ``transcription`` (or text, sentence), or DeepSpeech's columns.

    Raises:
        DataError: a table lacks a column, or two name one clip.
    """
    clips: list[tuple[Path, Clip]] = []
    for path in find_tables(folder):
        own = "" if _is_metadata(path) else path.stem
        split, part = split_named(path.parent.name if path.parent != folder else own)
        rows = list(_rows(path))
        for line, entry in rows:
            name = next((str(entry[key]) for key in _PATHS if entry.get(key)), "")
            # One table may list files of several folders.
            own = (split_named(name.partition("/")[0])[0] if "/" in name else None) or split
            clips.append((path, _clip(entry, path, line, own, part)))
        _verify_splits(path, rows, [clip for _, clip in clips[len(clips) - len(rows) :]])
    named_once(clips)
    return _told_apart([(path.parent.relative_to(folder), clip) for path, clip in clips])


def _is_metadata(path: Path) -> bool:
    return path.stem.lower() == "metadata"


def _verify_splits(path: Path, rows: Sequence[tuple[int, Mapping[str, Any]]], clips: Sequence[Clip]) -> None:
    pairs = zip(rows, clips, strict=True)
    verify_splits(path, ((line, split_in(entry, path, line), clip.split) for (line, entry), clip in pairs))


def _told_apart(clips: Sequence[tuple[Path, Clip]]) -> list[Clip]:
    """Return the clips of the tables in several folders: a name that several of them use has its folder before it."""
    places: dict[str, set[Path]] = {}
    for place, clip in clips:
        places.setdefault(clip.name, set()).add(place)
    return [
        replace(clip, name=(place / clip.name).as_posix()) if len(places[clip.name]) > 1 else clip
        for place, clip in clips
    ]


def names_sounds(path: Path) -> bool:
    """Whether the first line of a list or table names a sound file; one that cannot be read names none."""
    try:
        return _first_names_a_sound(path)
    except DataError:
        return False


def _first_names_a_sound(path: Path) -> bool:
    first = next(iter(_rows(path)), None)
    return first is not None and any(
        ending_of(str(first[1].get(key) or "")) in SUFFIXES or (key == "audio_filepath" and key in first[1])
        for key in _PATHS
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the columns of every row; those that are known have their names in small letters."""
    if path.suffix.lower() in JSON:
        rows = json_lines(path)
    else:
        rows = read_rows(
            path,
            known=_COLUMNS,
            bare=("file_name", "text"),
            is_file=lambda cell: ending_of(cell) in SUFFIXES,
            texts=TEXT_COLUMNS,
        )
    for line, row in rows:
        own = {name: key for key in row if (name := key.strip().lower()) in _COLUMNS}
        yield line, {**{name: row[key] for name, key in own.items()}, **row}


def _clip(entry: Mapping[str, Any], path: Path, line: int, split: Split | None, part: str) -> Clip:
    name = next((entry[key] for key in _PATHS if isinstance(entry.get(key), str) and entry[key]), None)
    text = next((entry[key] for key in TEXT_COLUMNS if isinstance(entry.get(key), str)), None)
    if name is None or text is None:
        keys, missing = (_PATHS, "path") if name is None else (TEXT_COLUMNS, "transcript")
        raise DataError(f"{path}, line {line}: no {missing}, expected one of {', '.join(keys)}")
    if not can_be_a_file(name):
        raise DataError(f"{path}, line {line}: {name!r} is no name of a file")
    offset = _seconds(entry, "offset", path, line)
    # Without an offset, NeMo's duration is that of the file: what the file holds counts, not what a list says of it.
    length = None if offset is None else _seconds(entry, "duration", path, line)
    start = offset or 0.0
    if length == 0:
        raise DataError(f"{path}, line {line}: duration must be more than 0 seconds beside an offset, got 0")
    return Clip(
        path=path.parent / at_home(name),
        name=f"{name}@{start:g}" if start else name,
        text=text,
        split=split_in(entry, path, line) or split,
        part=part if split == "test" else "",
        speaker="" if (speaker := entry.get("speaker")) is None else str(speaker).strip(),
        start=start,
        length=length,
    )


def _seconds(entry: Mapping[str, Any], key: str, path: Path, line: int) -> float | None:
    """Return the seconds in a column; None where there is no such column, or nothing in it: null, NaN, no text."""
    value = entry.get(key)
    if isinstance(value, str):
        value = value.strip() or None
    if isinstance(value, str) and path.suffix.lower() not in JSON:  # of a table every cell is a text
        with contextlib.suppress(ValueError):
            value = float(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise DataError(f"{path}, line {line}: {key} must be in seconds, got {value!r}")
    return float(value)
