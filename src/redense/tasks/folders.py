"""Folders as people have them: which files are there, and which are left behind by programs and never count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

_LEFT_BEHIND = (
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "__pycache__", "thumbs.db", "desktop.ini"),
)
TEXTS = (".txt", ".token", ".csv", ".tsv", ".json", ".jsonl", ".md", "")
"""Endings of what lies beside pictures and says something about them, or about the set."""

_DEEP = 6  # folders below each other that are looked into for a first file


@dataclass
class Found:
    """The files below a folder.

    Args:
        files: path and status of each, sorted by path.
        others: ending -> how many files have another one than was asked for.
    """

    files: list[tuple[bytes, os.stat_result]] = field(default_factory=list[tuple[bytes, os.stat_result]])
    others: Counter[str] = field(default_factory=Counter[str])


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: its name begins with a dot, or a program has left it behind.

    >>> [
    ...     is_hidden(name)
    ...     for name in (".DS_Store", "._dog.jpg", "__MACOSX", ".ipynb_checkpoints", "Thumbs.db", "dog.jpg")
    ... ]
    [True, True, True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def visible(paths: Iterable[Path], root: Path) -> list[Path]:
    """Return the paths below ``root`` of which no part is hidden, sorted."""
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(root).parts)))


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without the hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def ending_of(name: str) -> str:
    """Return the ending of a file's name in small letters, with its dot; nothing if it has none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # asked of a million names


def walk(folder: Path, endings: Collection[str]) -> Found:
    """Return the files below a folder that have one of the endings, however deep. Links are followed, once.

    Raises:
        OSError: a folder cannot be read.
    """
    found = Found()
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
                if is_hidden(name):
                    continue
                if entry.is_dir():
                    todo.append(entry.path)
                elif ending_of(name) in endings:
                    # A link to nothing is an empty file: it is named with the other broken ones.
                    found.files.append((entry.path, entry.stat() if entry.is_file() else os.lstat(entry.path)))
                else:
                    found.others[ending_of(name)] += 1
    found.files.sort(key=lambda item: item[0])
    return found


def paths_below(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the files below a folder that have one of the endings, sorted, without hidden ones."""
    return [Path(os.fsdecode(path)) for path, _ in walk(folder, endings).files]


def endings_said(others: Counter[str]) -> str:
    """Return how many files have which ending, in words.

    >>> endings_said(Counter({".heic": 30, "": 1}))
    '30 .heic, 1 without an ending'
    """
    return ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in others.most_common())


def has_any(folder: Path, endings: Collection[str]) -> bool:
    """Whether a folder has, however deep, a file with one of the endings. Links are followed, once."""
    todo, seen = [(os.fspath(folder), 0)], set[tuple[int, int]]()
    while todo:
        here, deep = todo.pop()
        try:
            status = os.stat(here)  # noqa: PTH116  # as in `walk`
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    if not entry.is_dir():
                        if ending_of(entry.name) in endings:
                            return True
                    elif deep < _DEEP:
                        todo.append((entry.path, deep + 1))
        except OSError:  # whoever lists it says so
            continue
    return False
