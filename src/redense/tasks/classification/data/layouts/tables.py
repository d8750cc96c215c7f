"""Classes in a table beside the images: ``labels.csv`` with a file and its class a line, as competitions give them.

One table is for all images, or one a split: ``train.csv`` and ``test.csv``, or ``metadata.jsonl`` in ``train/`` and in
``test/``. A table may lack the line that names its columns. The names in it may lack folder and ending.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from redense.errors import DataError, nearest
from redense.tasks.folders import ending_of, is_hidden, subfolders, visible, walk
from redense.tasks.names import can_be_a_file, one_each, plain_name
from redense.tasks.split_names import split_of
from redense.tasks.tables import ENDINGS, FILES, SPLITS, column_of, listed, read_rows, split_in, verify_splits
from redense.tasks.task import Split

from .folder import SUFFIXES, Files

LABELS = (
    *("label", "labels", "class", "class_name", "classname", "category", "target", "species", "breed", "diagnosis"),
    *("class_id", "classid", "label_id", "y"),
)
"""Columns of classes, in small letters; the first that a table has is taken."""
_DIGITS = 1000  # of a number that is the name of a class: Python reads no longer ones than 4,300
_TRIED = 50  # rows of a table in which images are looked for


class Where(NamedTuple):
    """The place of a table: its folder below that of the set, empty if it is that, and the split it is called after."""

    below: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class LabelTable:
    """A table that gives images their classes: ``rows`` are line, name of the image as it is there, and its class."""

    path: Path
    where: Where
    split: str  # train, validation, test or all
    column: str
    rows: tuple[tuple[int, str, str], ...]


class Images:
    """The images below a folder, by path, and by name with and without its ending where no other is called so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        found = walk(root, SUFFIXES)
        start = len(os.fsencode(root)) + 1
        self.others = found.others
        self.files = {os.fsdecode(path[start:]): status for path, status in found.files}
        self._short = _index(self.files, lambda path: path.rpartition("/")[2])

    @cached_property
    def _folders(self) -> set[str]:
        return {path.rpartition("/")[0] for path in self.files}

    @cached_property
    def _alike(self) -> dict[str, str | None]:
        return _index(self.files, plain_name)

    @cached_property
    def _short_alike(self) -> dict[str, str | None]:
        return _index(self.files, lambda path: plain_name(path).rpartition("/")[2])

    @cached_property
    def _splits(self) -> set[Split]:
        return set().union(*map(_splits_of, self._folders))

    def find(self, name: str, where: Where, *, alike: bool = False) -> str | None:
        """Return the path of an image that a table names.

        Args:
            name: as it is there; folder and ending may lack. A folder that is there is believed.
            where: the table is. One in a folder means only images in it; a name without its folder, or in a folder that
                is not there, means none in the folder of another split.
            alike: take a file whose name differs in capitals or in how its letters are composed, as it comes out of
                other file systems and of archives.
        """
        name = _clean(name)
        inside = f"{where.below}/" if where.below else ""
        paths = dict.fromkeys((inside + name, name) if name.startswith(inside) else (inside + name,))
        for path in paths:
            if path in self.files:
                return path
        if alike and (same := next(filter(None, (self._alike.get(plain_name(path)) for path in paths)), None)):
            return same
        folder, _, short = name.rpartition("/")
        if not short or (folder and any(path.rpartition("/")[0] in self._folders for path in paths)):
            return None
        found = self._short.get(short) or (self._short_alike.get(plain_name(short)) if alike else None)
        if not found or not found.startswith(inside):
            return None
        said = _splits_of(folder) or ({where.split} & self._splits)
        return None if said and (theirs := _splits_of(found.rpartition("/")[0])) and said != theirs else found

    def find_all(self, names: Iterable[tuple[str, Where]]) -> dict[tuple[str, Where], str]:
        """Return name and its table's place -> path, of the images that are there.

        Where names in different folders would all mean one image, only the names in its own folder do: the others are
        those of missing images.
        """
        found: dict[tuple[str, Where], str] = {}
        own: set[str] = set()
        others: dict[str, set[str]] = {}
        for name, where in names:
            if (name, where) in found or not (path := self.find(name, where) or self.find(name, where, alike=True)):
                continue
            found[name, where] = path
            folder, real = _folder(_clean(name)), _folder(path)
            if real in (folder, _folder(f"{where.below}/{_clean(name)}")):
                own.add(path)
            elif folder:
                others.setdefault(path, set()).add(folder)
        unclear = {path: folders for path, folders in others.items() if path in own or len(folders) > 1}
        return {
            (name, where): path
            for (name, where), path in found.items()
            if path not in unclear or _folder(_clean(name)) not in unclear[path]
        }


def has_tables(root: Path) -> bool:
    """Whether a folder, or that of a split in it, has a table of any kind."""
    return bool(_paths(root))


def find_label_tables(root: Path, label: str | None, images: Images) -> tuple[list[LabelTable], list[str]]:
    """Return the tables of a folder that give its images classes, and notes on those that do not.

    Args:
        root: of the set.
        label: the column of the classes, where there are several.
        images: below the folder.

    Raises:
        DataError: a table that names images has no column of classes that can be told, or several tables are for one
            split.
    """
    tables: list[LabelTable] = []
    notes: list[str] = []
    for path in _paths(root):
        below = "" if path.parent == root else path.parent.name
        split = (
            split_of(below) if below else split_of(path.stem.removesuffix("labels").removesuffix("Labels") or path.stem)
        )
        where = Where(below, split)
        rows = read_rows(
            path,
            known=(*FILES, *LABELS),
            bare=("image", "label"),
            is_file=lambda cell, where=where: ending_of(cell) in SUFFIXES or images.find(cell, where) is not None,
            texts=(*LABELS, *([label.lower()] if label else [])),
        )
        column = _image_column([row for _, row in rows[:_TRIED]], images, where)
        if column is None:
            column = _image_column([row for _, row in rows[:_TRIED]], images, where, alike=True)
        if column is None:
            if images.files:
                notes.append(f"{path.name} is not used: no column of its names images that are here, one each")
            continue
        if "submission" in path.stem.lower():
            notes.append(f"{path.name} is a form to be filled in, and is not used")
            continue
        classes = _label_column(rows[0][1], column, label, path)
        if classes is None:
            notes.append(f"{path.name} names images and no classes, and is not used")
            continue
        named = tuple((line, str(row.get(column) or ""), _label(row.get(classes), path, line)) for line, row in rows)
        tables += _divided(LabelTable(path, where, split or "all", classes, named), [row for _, row in rows])
    return _one_a_split(tables, root), notes


def find_named(tables: Iterable[LabelTable], images: Images) -> dict[tuple[str, Where], str]:
    """Return name and its table's place -> path of the images that tables name: see `Images.find_all`."""
    return images.find_all((name, table.where) for table in tables for _, name, _ in table.rows)


def read_table(
    table: LabelTable, images: Images, found: Mapping[tuple[str, Where], str], known: Mapping[str, int]
) -> tuple[Files, np.ndarray, list[str]]:
    """Return the images that a table names, their labels, int64 (n,), -1 where it does not say, and what is missing.

    Args:
        table: of the classes.
        images: below the folder of the set.
        found: see `find_named`.
        known: class -> its number.

    Raises:
        DataError: a line names no file, or an image twice with two classes.
    """
    labels: dict[str, int] = {}
    missing: list[str] = []
    for line, name, label in table.rows:
        if not can_be_a_file(name):
            raise DataError(f"{table.path}, line {line}: {name!r} is no name of an image")
        path = found.get((name, table.where))
        if path is None:
            missing.append(f"{name} in line {line} of {table.path.relative_to(images.root)}")
            continue
        number = -1 if is_unlabelled(label) else known[label]
        if labels.setdefault(path, number) != number:
            raise DataError(f"{table.path}, line {line}: {name} has another class than before")
    paths = sorted(labels)
    files = Files(images.root, list(map(os.fsencode, paths)), [images.files[path] for path in paths])
    return files, np.array([labels[path] for path in paths], np.int64), missing


def classes_of(tables: list[LabelTable]) -> dict[str, int]:
    """Return class -> number over all tables: numbers in their order, else words by the alphabet."""
    return {name: number for number, name in enumerate(in_order({c for t in tables for _, _, c in t.rows}))}


def is_unlabelled(label: object) -> bool:
    """Whether a label says that the class is not known: there is nothing in it, or a number below 0.

    A word such as ``none`` may be a class, as that of pictures without a defect: it is one.

    >>> [is_unlabelled(label) for label in (None, " ", -1, "-1", 0, "none")]
    [True, True, True, True, False, False]
    """
    if isinstance(label, str):
        return label.strip() in ("", "-1")
    return label is None or (isinstance(label, int) and label < 0)


def in_order(names: set[str]) -> list[str]:
    """Return the names of classes in order, without those that mean that a class is not known.

    >>> in_order({"10", "9", ""}), in_order({"b", "a", "-1"})
    (['9', '10'], ['a', 'b'])
    """
    known = [name for name in names if not is_unlabelled(name)]
    return sorted(
        known, key=lambda name: (0, int(name), name) if name.isdecimal() and len(name) < _DIGITS else (1, 0, name)
    )


def _paths(root: Path) -> list[Path]:
    places = [root, *(root / name for name in subfolders(root) if split_of(name))]
    found = [path for place in places for path in visible(place.iterdir(), root) if path.suffix.lower() in ENDINGS]
    return [path for path in found if path.is_file() and not is_hidden(path.name)]


def _image_column(rows: list[dict[str, Any]], images: Images, where: Where, *, alike: bool = False) -> str | None:
    """Return the column whose cells name images, most of them; None where none does."""
    counts: dict[str, int] = {}
    for row in rows:
        for key, cell in row.items():
            if isinstance(cell, str) and images.find(cell, where, alike=alike):
                counts[key] = counts.get(key, 0) + 1
    return max(counts, key=lambda key: (counts[key], key.lower() in FILES)) if counts else None


def _label_column(row: dict[str, Any], image: str, chosen: str | None, path: Path) -> str | None:
    rest = [key for key in row if key != image and (key == chosen or key.strip().lower() not in SPLITS)]
    if chosen is not None:
        if chosen not in rest:
            raise DataError(
                f"{path}: data.label is {chosen!r}, which is no column of classes{nearest(chosen, rest)} "
                f"(columns: {', '.join(map(repr, rest))})"
            )
        return chosen
    if not rest:
        return None
    column = rest[0] if len(rest) == 1 else column_of({key: row[key] for key in rest}, LABELS)
    if column is None:
        raise DataError(
            f"{path}: which of the columns {', '.join(map(repr, rest))} has the classes? choose one with data.label"
        )
    return column


def _label(cell: Any, path: Path, line: int) -> str:
    """Return the class that a cell names; no text where it says none."""
    if is_unlabelled(cell):
        return ""
    if not isinstance(cell, str | int) or (isinstance(cell, str) and len(listed(cell, numbers=True) or ()) > 1):
        raise DataError(
            f"{path}, line {line}: the label is {cell!r:.60}, expected one class for the image: a word, a whole "
            "number, true or false"
        )
    return str(cell).strip()


def _divided(table: LabelTable, rows: list[dict[str, Any]]) -> list[LabelTable]:
    """Return a table for each split that a column of it names, or the table itself.

    Raises:
        DataError: some rows name a split, and others none.
    """
    rest = [{key: cell for key, cell in row.items() if key != table.column} for row in rows]
    splits: list[Split | None] = [
        split_in(row, table.path, line) for row, (line, _, _) in zip(rest, table.rows, strict=True)
    ]
    if not any(splits):
        return [table]
    verify_splits(table.path, ((line, split, split) for (line, _, _), split in zip(table.rows, splits, strict=True)))
    named = zip(splits, table.rows, strict=True)
    parts: dict[str, list[tuple[int, str, str]]] = {}
    for split, row in named:
        parts.setdefault(str(split), []).append(row)
    return [replace(table, split=split, rows=tuple(own)) for split, own in parts.items()]


def _index(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, str | None]:
    """Return key, and key without ending -> the path; None where several have it."""
    named = ((key(path), path) for path in paths)
    # The text of a table, and not a path.
    return one_each((own, path) for name, path in named for own in {name, os.path.splitext(name)[0]})  # noqa: PTH122


def _clean(name: str) -> str:
    return name.strip().replace("\\", "/").removeprefix("./")


def _folder(path: str) -> str:
    return plain_name(path.rpartition("/")[0])


def _splits_of(folder: str) -> set[Split]:
    return {split for part in folder.split("/") if (split := split_of(part))}


def _one_a_split(tables: list[LabelTable], root: Path) -> list[LabelTable]:
    splits = [table.split for table in tables]
    for table in tables:
        if splits.count(table.split) > 1:
            both = [str(other.path.relative_to(root)) for other in tables if other.split == table.split]
            raise DataError(f"{root}: {' and '.join(both)} both give classes: remove or rename one of them")
    if len(tables) > 1 and "all" in splits:
        both = [str(other.path.relative_to(root)) for other in tables]
        if "train" in splits:
            raise DataError(f"{root}: {' and '.join(both)} all give classes: remove the one that is for no split")
        tables = [replace(table, split="train" if table.split == "all" else table.split) for table in tables]
    return tables
