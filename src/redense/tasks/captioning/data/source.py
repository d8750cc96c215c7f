"""A source of captioned images, whatever its layout: the images, and the captions of each."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from redense.errors import DataError
from redense.files.json_text import read_json
from redense.tasks.classification.data.layouts.folder import Files
from redense.tasks.classification.data.sets import Encoded
from redense.tasks.names import Alike, can_be_a_file
from redense.tasks.split_names import split_of
from redense.tasks.tables import listed
from redense.tasks.task import Split


def caption_split(name: str) -> Split | None:
    """Return the split that a name means; ``restval`` is Karpathy's, of validation images that he trains on.

    >>> caption_split("restval"), caption_split("Dev"), caption_split("dogs")
    ('train', 'validation', None)
    """
    return "train" if name == "restval" else split_of(name)


@dataclass(frozen=True)
class Entry:
    """The captions of one image.

    Args:
        name: of its file, below the folder of the images; of a row, how a message calls it.
        sentences: as people wrote them.
        split: which part it belongs to; None where the source does not say.
        tokens: the words of each sentence, where the source has them.
    """

    name: str
    sentences: tuple[str, ...]
    split: Split | None = None
    tokens: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A set as it lies there: ``entries[i]`` is about image i of ``images``.

    Args:
        place: what a user calls it, for messages.
        images: one by one, encoded.
        entries: as many.
        notes: what was left out or looks odd, a sentence each.
    """

    place: str
    images: Encoded
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def place_of(name: str) -> float:
    """Return where the hash of an image's name lies in [0, 1): what splits go by where a source has none."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def split_by_hash(name: str, share: float) -> Split:
    """Return the split of an image whose source does not say it; ``share`` is validation's, and the test's."""
    place = place_of(name)
    return "test" if place < share else "validation" if place < 2 * share else "train"


def halved(entries: Iterable[Entry], what: str) -> tuple[list[Entry], str]:
    """Return the validation images of a set that has no test, half of them as its test, and a note that says so."""
    out = [
        replace(entry, split="test") if entry.split == "validation" and place_of(entry.name) < 0.5 else entry
        for entry in entries
    ]
    counts = Counter(entry.split for entry in out)
    return out, (
        f"{what}: its validation images are shared out by the hash of their names, "
        f"{counts['validation']:,} to validation and {counts['test']:,} to the test"
    )


def files_of(root: Path, entries: Sequence[Entry]) -> Files:
    """Return the image files that entries name, below ``root``; one that is missing has no bytes.

    Raises:
        DataError: a name leads out of the folder, or is there twice and could be judged by twice.
    """
    places = [os.path.normpath(entry.name) for entry in entries]  # ./1.png is 1.png
    several = {place for place, count in Counter(places).items() if count > 1}
    # Training goes through its entries as they are: the set `emoji` has one twice.
    named = zip(places, entries, strict=True)
    if twice := next((one.name for place, one in named if place in several and one.split != "train"), None):
        raise DataError(f"{root}: {twice!r} is there twice, expected an image once, with all its sentences")
    names: list[bytes] = []
    statuses: list[os.stat_result | None] = []
    alike = Alike(root)
    for entry in entries:
        if os.path.isabs(entry.name) or ".." in Path(entry.name).parts:  # noqa: PTH117  # asked of many names
            raise DataError(f"{root}: the image {entry.name!r} is not in this folder, expected a name below it")
        if not can_be_a_file(entry.name):
            raise DataError(f"{root}: {entry.name!r} is no name of an image")
        name, status = entry.name, _status(root / entry.name)
        if status is None and (other := alike.find(root / name)) != root / name:
            name, status = str(other.relative_to(root)), _status(other)
        statuses.append(status)
        names.append(os.fsencode(name))
    return Files(root, names, statuses)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


T = TypeVar("T")


def read_layout(path: Path, read: Callable[[Any], T], layout: str, expected: str) -> T:
    """Return what ``read`` makes of a file of JSON.

    Args:
        path: of the file.
        read: raises an error of any kind that wrong types and missing keys raise.
        layout: whose it is, for the message.
        expected: what belongs to the layout.

    Raises:
        DataError: it cannot be read, is no JSON, or is not in the layout.
    """
    try:
        data = read_json(path)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return read(data)
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: not in {layout} layout ({type(error).__name__}: {error}); expected {expected}"
        ) from None


def text_of(value: Any) -> str:
    """Return a text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def sentences_of(cell: Any) -> list[str] | None:
    """Return the sentences in a cell of a table: one, a list of them, or none; None where it has anything else.

    A list may be written as text, as in a table of CSV: see `redense.tasks.tables.listed`.
    """
    if isinstance(cell, str):
        cell = [cell] if (items := listed(cell)) is None else items
    sentences: Any = [] if cell is None else cell
    fits = isinstance(sentences, list) and all(isinstance(one, str) for one in sentences)
    return sentences if fits else None
