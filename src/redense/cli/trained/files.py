"""Files that a verb is to read: those that are named, and those in folders that are named."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import complain

_BATCH = 8  # pictures of a camera are large while they are open


def files_of(paths: list[Path], endings: Collection[str], what: str) -> Iterator[tuple[Path, str]]:
    """Yield the files, those of a folder sorted, each with what is wrong with it so far, or nothing.

    Hidden files and folders are passed over. What a folder has beside files of the right endings is said.

    Args:
        paths: files and folders.
        endings: of the files in folders.
        what: is looked for, in the plural.
    """
    from redense.tasks.folders import endings_said, walk

    for path in paths:
        if not path.is_dir():
            yield path, "" if path.is_file() else "is missing"
            continue
        found = walk(path, endings)
        inside = [Path(os.fsdecode(name)) for name, _ in found.files]
        if found.others:
            complain(f"{path}: passed over for their endings: {endings_said(found.others)}", before="note: ")
        yield from ((other, "") for other in inside)
        if not inside:
            yield path, f"is a folder without {what}"


def opened_pictures(paths: list[Path], *, grey: bool = False, least: int = 0) -> Iterator[list[tuple[Path, Any]]]:
    """Yield the pictures in batches, in the order given: path and picture, or what is wrong with it, as text."""
    from redense.errors import DataError
    from redense.tasks.classification.classifier import open_picture
    from redense.tasks.classification.data.layouts.folder import SUFFIXES

    def opened(path: Path, fault: str) -> Any:
        if fault:
            return fault
        try:
            return open_picture(path, grey=grey, least=least)
        except DataError as error:
            return str(error).removeprefix(f"{path} ")

    images = files_of(paths, SUFFIXES, "images")
    while batch := list(itertools.islice(images, _BATCH)):
        yield [(path, opened(path, fault)) for path, fault in batch]
