"""Folders of class folders, the layout of ImageNet: found, listed and named, without opening a file.

A path is bytes in one long array, not a Python object: the workers that prepare batches then share the list of a
million files instead of each copying it, as reference counts would have them do.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from redense.errors import DataError
from redense.files.opening import read_bytes
from redense.files.visible import counted
from redense.tasks.folders import ending_of, has_any, is_hidden, subfolders, walk
from redense.tasks.names import in_utf8
from redense.tasks.split_names import by_split, split_of, verify_folders

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)
_NAMED = 5  # folders or files that a message names
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".dat", ".xlsx", ".xls", ".ods")  # of classes, perhaps


class Files:
    """Image files below a folder, by number; ``lengths``, ``modified`` and ``changed`` (in ns) are int64 (n,).

    ``changed`` is the time of the last change as the system notes it, which no copy and no archive sets as they set the
    date. ``place`` is the folder with its links followed.

    Args:
        root: the folder.
        names: of the files, relative to it.
        statuses: of the files; None: one is missing.
    """

    def __init__(self, root: Path, names: list[bytes], statuses: Sequence[os.stat_result | None]) -> None:
        self.root, self.place = root, root.resolve()
        facts = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) if s else (0, 0, 0) for s in statuses]
        self.lengths, self.modified, self.changed = np.array(facts, np.int64).reshape(-1, 3).T.copy()
        self._ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
        self._text = np.frombuffer(b"".join(names), np.uint8)

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        """Return a path relative to the folder."""
        return os.fsdecode(self._text[self._ends[index] : self._ends[index + 1]].tobytes())

    def path(self, index: int) -> Path:
        """Return where a file is."""
        return self.root / self.name(index)

    def read(self, index: int) -> bytes:
        """Return the bytes of a file."""
        return read_bytes(self.path(index))


@dataclass
class Listing:
    """The files of one split's folder: ``labels`` int64 (n,) number the class folders, sorted by name."""

    files: Files
    labels: np.ndarray
    classes: tuple[str, ...]
    empty: list[str] = field(default_factory=list)  # class folders without an image
    loose: list[str] = field(default_factory=list)  # images in no class folder
    others: Counter[str] = field(default_factory=Counter[str])  # endings of files that are no images by their names


def find_parts(folder: Path) -> dict[str, Path]:
    """Return the folder of each split, of ``train``, ``validation`` and ``test``; or of ``all``, if it has none.

    A folder is that of a split if it is called so (`redense.tasks.split_names`) and holds class folders. A test folder
    without class folders (the unlabelled one of ImageNet) does not count.

    Raises:
        DataError: there is a folder of another split and none to train on, or two for one split, or a folder that could
            be a split or a class.
    """
    names = subfolders(folder)
    named = [name for name in names if split_of(name)]
    sorted_out = [name for name in named if subfolders(folder / name)]
    if not sorted_out and named:
        _refuse_doubtful(folder, named, [name for name in names if name not in named])
    candidates = [
        (f"{name}/", _inner(folder / name)) for name in named if split_of(name) != "test" or name in sorted_out
    ]
    parts: dict[str, Path] = {split: path for split, (_, path) in by_split(candidates, str(folder)).items()}
    if not parts:
        _refuse_wrapper(folder, names)
        return {"all": folder}
    if "train" not in parts:
        raise DataError(
            f"{folder} has {' and '.join(f'{path.name}/' for path in parts.values())} but no train/; "
            "expected train/CLASS/ beside it, or class folders alone"
        )
    return {split: parts[split] for split in ("train", "validation", "test") if split in parts}


def beside(folder: Path, parts: Mapping[str, Path]) -> list[str]:
    """Return a sentence for each folder of images in a set that is none of its parts: what is not used is said."""
    if "all" in parts:
        return []
    notes: list[str] = []
    for name in subfolders(folder):
        if any(path == folder / name or folder / name in path.parents for path in parts.values()):
            continue
        count = len(walk(folder / name, SUFFIXES).files)
        if count:
            why = "has no class folders" if split_of(name) else "is called like no split"
            images = counted(count, "image")
            notes.append(f"{folder.name}/{name}/ {why}: its {images} {'is' if count == 1 else 'are'} not used")
    return notes


def same_inside(folder: Path) -> list[str]:
    """Return a sentence where every class folder holds folders of the same names: one of the two could be the splits.

    Raises:
        DataError: those inside are called like splits, or those around, of the same folders, have splits inside their
            names; a class may lack in a split.
    """
    inside = {name: subfolders(folder / name) for name in subfolders(folder) if has_any(folder / name, SUFFIXES)}
    counts = Counter(name for below in inside.values() for name in below)
    first, names, others = next(iter(inside), ""), sorted(counts), _shown(list(inside))
    if len(inside) < 2 or not names:
        return []
    alike = len(set(map(tuple, inside.values()))) == 1
    if len(names) > 1 and all(below and all(map(split_of, below)) for below in inside.values()):
        split = next((name for name in names if split_of(name) == "train"), names[0])
        raise DataError(
            f"{folder}: each of {others} holds {'' if alike else 'some of '}{_shown(names)}, which are called like "
            f"splits; expected {split}/{first}/ and not {first}/{split}/"
        )
    verify_folders(folder, [name for name, below in inside.items() if any(counts[one] > 1 for one in below)])
    if not alike or len(names) < 2:
        return []
    return [
        f"the classes are {others}, and each holds {_shown(names)}; if those are the classes, and the folders around "
        "them splits, call these train/, validation/ and test/"
    ]


def list_folder(folder: Path, root: Path) -> Listing:
    """List the images of the class folders in ``folder``, however deep; names are relative to ``root``.

    Hidden files and folders are passed over. Links are followed.

    Raises:
        DataError: it cannot be read, it has no class folders, or they are called like splits.
    """
    names: list[bytes] = []
    statuses: list[os.stat_result] = []
    labels: list[int] = []
    loose: list[str] = []
    empty: list[str] = []
    texts: list[str] = []
    others = Counter[str]()
    try:
        classes = subfolders(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file() and not is_hidden(entry.name):
                    if ending_of(entry.name) in SUFFIXES:
                        loose.append(entry.name)
                    else:
                        others[ending_of(entry.name)] += 1
                        texts += [entry.name] * (ending_of(entry.name) in _TABLES)
        if not classes:
            raise DataError(_no_classes(folder, len(loose), sorted(texts)))
        if all(map(split_of, classes)):
            raise DataError(
                f"{folder}: its class folders {_shown(classes)} are called like splits: give the folder that has the "
                "splits and nothing else, or give the classes other names"
            )
        start = len(os.fsencode(root)) + 1
        for label, name in enumerate(classes):
            found = walk(folder / name, SUFFIXES)
            others += found.others
            if not found.files:
                empty.append(name)
            for path, status in found.files:
                names.append(path[start:])
                statuses.append(status)
                labels.append(label)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    files = Files(root, names, statuses)
    return Listing(files, np.array(labels, np.int64), tuple(map(in_utf8, classes)), empty, sorted(loose), others)


def _inner(folder: Path) -> Path:
    """Return the folder in a split's folder that has the split's name again, as some archives have it."""
    inside = subfolders(folder)
    if len(inside) == 1 and split_of(inside[0]) == split_of(folder.name):
        return folder / inside[0]
    return folder


def _refuse_doubtful(folder: Path, named: list[str], rest: list[str]) -> None:
    """Refuse folders that are called like splits and hold images as classes do, beside folders of other names."""
    full = [name for name in named if has_any(folder / name, SUFFIXES)]
    others = [name for name in rest if has_any(folder / name, SUFFIXES)]
    if full and others:
        raise DataError(
            f"{folder}: {_shown(full)} could be a split or a class beside {_shown(others)}: a class goes to "
            f"{folder.name}/train/{full[0]}/ beside the others, in a split every image lies in a class folder"
        )


def _refuse_wrapper(folder: Path, names: list[str]) -> None:
    """Refuse a folder whose only folder is the set, as an archive has unpacked it: that would be one class."""
    if len(names) != 1:
        return
    inside = [name for name in subfolders(folder / names[0]) if has_any(folder / names[0] / name, SUFFIXES)]
    if inside:
        raise DataError(
            f"{folder} holds one folder, {names[0]}/, which holds {_shown(inside)}: give {folder / names[0]} for these"
        )


def _shown(names: Sequence[str]) -> str:
    shown = [f"{name}/" for name in names[:_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _no_classes(folder: Path, loose: int, texts: Sequence[str]) -> str:
    if loose:
        images = "1 image lies" if loose == 1 else f"{loose:,} images lie"
        table = (
            f"; {' and '.join(texts[:_NAMED])} beside them is read as no table of their classes: expected labels.csv "
            "(or .tsv, .jsonl) with the name of a file and its class a line, parted by a comma, semicolon, tab or bar"
        )
        return (
            f"{folder}: {images} in no class folder; move each into a folder named after its class, "
            f"{folder.name}/CLASS/, as for ImageNet's validation images{table if texts else ''}"
        )
    return f"{folder}: there are no class folders in it, expected {folder.name}/CLASS/ with the images of each class"
