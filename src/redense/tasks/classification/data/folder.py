"""Folders of class folders, the layout of ImageNet: found, listed and named, without opening a file.

A path is bytes in one long array, not a Python object: the workers that prepare batches then share the list of a
million files instead of each copying it, as reference counts would have them do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from redense.errors import DataError
from redense.files.opening import read_bytes

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class Files:
    """Image files below a folder, by number; ``lengths`` and ``modified`` (in ns) are int64 (n,)."""

    def __init__(self, root: Path, names: list[bytes], lengths: list[int], modified: list[int]) -> None:
        self.root = root
        self.lengths, self.modified = np.array(lengths, np.int64), np.array(modified, np.int64)
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
    """What lies in one split's folder: ``labels`` int64 (n,) number the class folders, sorted by name."""

    files: Files
    labels: np.ndarray
    classes: tuple[str, ...]
    empty: list[str] = field(default_factory=list)  # class folders without an image
    loose: list[str] = field(default_factory=list)  # images in no class folder
    others: int = 0  # files that are no images by their names


def find_parts(folder: Path) -> dict[str, Path]:
    """Return the folder of each split, of ``train``, ``validation`` and ``test``; or of ``all``, if it has none.

    A test folder without class folders (the unlabelled one of ImageNet) does not count.

    Raises:
        DataError: there is a folder of another split and none to train on, or two for one split.
    """
    parts: dict[str, Path] = {}
    for part, names in SPLIT_NAMES.items():
        found = [folder / name for name in names if (folder / name).is_dir()]
        if len(found) > 1:
            raise DataError(f"{folder} has both {found[0].name}/ and {found[1].name}/: remove or rename one of them")
        if found and (part != "test" or _class_folders(found[0])):
            parts[part] = found[0]
    if not parts:
        return {"all": folder}
    if "train" not in parts:
        raise DataError(
            f"{folder} has {' and '.join(f'{path.name}/' for path in parts.values())} but no train/; "
            "expected train/CLASS/ beside it, or class folders alone"
        )
    return parts


def list_folder(folder: Path, root: Path) -> Listing:
    """List the images of the class folders in ``folder``, however deep; names are relative to ``root``.

    Hidden files and folders are passed over. Links are followed.

    Raises:
        DataError: it cannot be read, or it has no class folders.
    """
    names: list[bytes] = []
    lengths: list[int] = []
    modified: list[int] = []
    labels: list[int] = []
    loose: list[str] = []
    counts: list[int] = []
    others = 0
    try:
        classes = _class_folders(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file() and not entry.name.startswith("."):
                    if _is_image(entry.name):
                        loose.append(entry.name)
                    else:
                        others += 1
        if not classes:
            raise DataError(_no_classes(folder, len(loose)))
        start = len(os.fsencode(root)) + 1
        for label, name in enumerate(classes):
            found, rest = _walk(folder / name)
            others += rest
            counts.append(len(found))
            for path, status in found:
                names.append(path[start:])
                lengths.append(status.st_size)
                modified.append(status.st_mtime_ns)
                labels.append(label)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    files = Files(root, names, lengths, modified)
    return Listing(files, np.array(labels, np.int64), tuple(classes), empty, sorted(loose), others)


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name))


def _walk(folder: Path) -> tuple[list[tuple[bytes, os.stat_result]], int]:
    """Return the images below a folder, sorted by path, and the number of other files."""
    found: list[tuple[bytes, os.stat_result]] = []
    others = 0
    todo, seen = [os.fsencode(folder)], set[tuple[int, int]]()
    while todo:
        here = todo.pop()
        status = os.stat(here)  # noqa: PTH116  # a million Path objects take their time
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(here) as entries:
            for entry in entries:
                name = os.fsdecode(entry.name)
                if _is_hidden(name):
                    continue
                if entry.is_dir():
                    todo.append(entry.path)
                elif _is_image(name):
                    # A link to nothing is an empty file: it is named with the other broken ones.
                    found.append((entry.path, entry.stat() if entry.is_file() else os.lstat(entry.path)))
                else:
                    others += 1
    return sorted(found, key=lambda item: item[0]), others


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  # asked of a million names


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _no_classes(folder: Path, loose: int) -> str:
    if loose:
        return (
            f"{folder}: {loose:,} images lie in no class folder; move each into a folder named after its class, "
            f"{folder.name}/CLASS/, as for ImageNet's validation images"
        )
    return f"{folder}: there are no class folders in it, expected {folder.name}/CLASS/ with the images of each class"
