"""Captions in a table beside the images: ``metadata.jsonl`` or ``captions.csv``, a file and what is said of it a line.

One table is for all images, or one lies in the folder of each split. An image may have several lines, or one line with
a list of sentences. This is Hugging Face's layout of an image folder, read as the table says: the name of a picture
tells nothing of its split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redense.errors import DataError, nearest
from redense.tasks.classification.data.layouts.folder import SUFFIXES
from redense.tasks.classification.data.layouts.tables import Images, Where
from redense.tasks.folders import ending_of, subfolders, visible
from redense.tasks.names import can_be_a_file
from redense.tasks.split_names import split_of, split_within, verify_names
from redense.tasks.tables import ENDINGS, FILES, column_of, fitting, read_rows, split_in, verify_splits
from redense.tasks.task import Split

from .hub import USUAL, complete
from .source import Entry, Source, caption_split, files_of, sentences_of

_CAPTIONS = ("captions", "caption", "sentences")
_STEMS = ("metadata", *_CAPTIONS)


def find_caption_tables(folder: Path, text: str | None = None) -> list[Path]:
    """Return the tables of a folder, and of the folders of splits in it, that give images sentences.

    Args:
        folder: of the set.
        text: the columns of the sentences, with commas between; None: one that is called as usual.

    Raises:
        DataError: a table that is called after a split, or as one of captions, cannot be read, or is the only one of
            its split and has other columns, or has its split inside its name.
    """
    found: dict[Path, Split | None] = {path: _where(path, folder).split for path in _named(folder)}
    if any(found.values()):
        others = [path for path in visible(folder.iterdir(), folder) if path.suffix.lower() in ENDINGS]
        inside = [path for path in others if path not in found and split_within(path.stem)]
        verify_names(path for path in inside if _seems_to_fit(path, text))
    return fitting(found, lambda path: _fits(path, text), "image with a text")


def has_caption_tables(folder: Path) -> bool:
    """Whether a folder has tables that give images sentences: one that cannot be read does if it is called so."""
    return any(map(_seems_to_fit, _named(folder)))


def verify_columns(folder: Path, text: str | None) -> None:
    """Refuse a folder of which a table names images, and has none of the columns that sentences are looked for in.

    Raises:
        DataError: there is one; the message has its columns.
    """
    for path in _named(folder):
        for line, row in _rows(path, text)[:1]:
            if not (image := _image_in(row)):
                continue
            if text is not None:
                _columns(row, text, path, line)
            rest = ", ".join(repr(name) for name in row if name != image)
            raise DataError(
                f"{path} names images, and no column of it is called as sentences are: choose one with data.text "
                f"(columns: {rest or 'no others'})"
            )


def _named(folder: Path) -> list[Path]:
    places = [folder, *(folder / name for name in subfolders(folder) if split_of(name))]
    found = [path for place in places for path in visible(place.iterdir(), folder) if path.suffix.lower() in ENDINGS]
    return [path for path in found if path.is_file() and (path.stem.lower() in _STEMS or split_of(path.stem))]


def read_caption_tables(
    paths: list[Path], folder: Path, text: str | None, place: str, images: Path | None = None
) -> Source:
    """Return what the tables of a folder say of its images.

    Args:
        paths: see `find_caption_tables`.
        folder: of the set.
        text: the columns of the sentences, with commas between; None: the usual one.
        place: what a user calls the set.
        images: the folder of the images; None: ``folder``.

    Raises:
        DataError: a line names no image, or has no text.
    """
    rows = [(path, line, row, _name_in(row, path, line)) for path in paths for line, row in _rows(path, text)]
    where = {path: _where(path, folder) for path in paths}
    files = _files([(name, where[path]) for path, _, _, name in rows], images or folder)
    sentences: dict[str, list[str]] = {}
    told: dict[tuple[str, str], Path] = {}
    splits: dict[str, Split | None] = {}
    given: dict[Path, list[tuple[int, Split | None, Split | None]]] = {path: [] for path in paths}
    for path, line, row, name in rows:
        own, key = where[path].split, files[name, where[path]]
        said = split_in(row, path, line, caption_split)
        first = caption_split(name.partition("/")[0]) if "/" in name else None
        split = said or own or first
        if splits.setdefault(key, split) != split:
            raise DataError(
                f"{path}, line {line}: {name} is of {split or 'no split'}, and of {splits[key] or 'no split'} before"
            )
        given[path].append((line, said, split))
        for column in _columns(row, text, path, line):
            texts = sentences_of(row[column])
            if texts is None:
                cell = str(row[column])[:60]
                raise DataError(f"{path}, line {line}: {cell!r}, expected text or a list of texts")
            sentences.setdefault(key, []).extend(texts)
            for said_before in texts:
                if (first := told.setdefault((key, said_before), path)) != path:
                    raise DataError(
                        f"{folder}: {first.relative_to(folder)} and {path.relative_to(folder)} both say "
                        f"{said_before[:60]!r} of {key}: remove one of them, or join the two"
                    )
    for path, own in given.items():
        verify_splits(path, own)
    _verify_tables(given, folder)
    entries = [Entry(name, tuple(own), splits[name]) for name, own in sentences.items()]
    if not entries:
        raise DataError(f"{folder}: there are no images in {' and '.join(path.name for path in paths)}")
    entries, notes = complete(entries, place)
    return Source(place, files_of(images or folder, entries), tuple(entries), notes)


def _verify_tables(rows: Mapping[Path, Sequence[tuple[int, Split | None, Split | None]]], folder: Path) -> None:
    """Refuse a table that puts images into no split beside one that does: some would be drawn into the given test."""
    divided = {path: any(split for _, _, split in own) for path, own in rows.items()}
    other = next((path for path, has in divided.items() if has), None)
    for path, own in rows.items():
        for line, _, split in own:
            if other and split is None:
                raise DataError(
                    f"{path}, line {line}: no split, where {other.relative_to(folder)} has one: name the splits of all "
                    "tables, or take this one out of the folder"
                )


def _name_in(row: dict[str, Any], path: Path, line: int) -> str:
    name = row.get(_column(row, FILES) or "")
    if not isinstance(name, str) or not can_be_a_file(name):
        raise DataError(f"{path}, line {line}: no name of an image, expected one of the columns {', '.join(FILES[:4])}")
    return name


def _where(path: Path, folder: Path) -> Where:
    below = path.parent.relative_to(folder).as_posix()
    return Where("", split_of(path.stem)) if below == "." else Where(below, split_of(path.parent.name))


def _files(names: Iterable[tuple[str, Where]], root: Path) -> dict[tuple[str, Where], str]:
    """Return name and its table's place -> path below ``root`` of the image that is meant, there or not."""
    files = {(name, where): f"{where.below}/".lstrip("/") + name.strip() for name, where in names}
    if missing := [key for key, path in files.items() if not (root / path).is_file()]:
        found = Images(root).find_all(files)
        files |= {key: found[key] for key in missing if key in found}
    return files


def _rows(path: Path, text: str | None = None) -> list[tuple[int, dict[str, Any]]]:
    return read_rows(
        path,
        known=(*FILES, *USUAL),
        bare=("image", "caption"),
        is_file=lambda cell: ending_of(cell) in SUFFIXES,
        texts=(*USUAL, *map(str.lower, _chosen(text))),
    )


def _fits(path: Path, text: str | None = None) -> bool:
    """Whether the first line of a table names an image and has text."""
    for _, row in _rows(path, text)[:1]:
        has_text = column_of(row, USUAL) is not None or any(name in row for name in _chosen(text))
        return has_text and _image_in(row) is not None
    return False


def _image_in(row: Mapping[str, Any]) -> str | None:
    """Return the column of a row that names an image."""
    column = _column(row, FILES)
    return column if column and ending_of(str(row[column])) in SUFFIXES else None


def _chosen(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the column of a row that is called so: a null is as if its key were not there, but for the only one."""
    return column_of({key: cell for key, cell in row.items() if cell is not None}, names) or column_of(row, names)


def _seems_to_fit(path: Path, text: str | None = None) -> bool:
    try:
        return _fits(path, text)
    except DataError:
        return path.stem.lower() in _CAPTIONS


def _columns(row: dict[str, Any], text: str | None, path: Path, line: int) -> list[str]:
    if text is None:
        column = _column(row, USUAL)
        if column is None:
            raise DataError(f"{path}, line {line}: no text, expected one of the columns {', '.join(USUAL)}")
        return [column]
    names = _chosen(text)
    for name in names:
        if name not in row:
            raise DataError(f"{path}, line {line}: data.text: {name!r} is no column{nearest(name, row)}")
    return names
