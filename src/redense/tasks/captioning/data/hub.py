"""Hugging Face sets of images and text, on the hub or in a folder: a column of images, one or more of sentences."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import digits
from typing import Any, cast

import numpy as np

from redense.errors import DataError, nearest
from redense.files.visible import counted
from redense.tasks.classification.data.layouts.hub import Rows, image_columns, load_tables, row_splits, split_columns

from .source import Entry, Source, caption_split, halved, sentences_of, split_by_hash

USUAL = ("caption", "captions", "sentence", "sentences", "text", "texts", "raw", "sentences_raw")


class JoinedRows:
    """The encoded images of several tables one after the other; ``lengths`` int64 (n,) are their sizes in bytes.

    Args:
        parts: the tables.
        rows: those that count, int64 (n,); None: all.

    ``version`` tells them from others in the same place.
    """

    def __init__(self, parts: Sequence[Rows], rows: np.ndarray | None = None) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.version = " ".join(part.version for part in parts)
        self._rows = np.arange(self._starts[-1]) if rows is None else rows
        self.lengths = np.concatenate([part.lengths for part in parts])[self._rows]

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        """Return the split and the number of a row."""
        part, row = self._find(index)
        return part.name(row)

    def read(self, index: int) -> bytes:
        """Return the bytes of a row's image; none if it has none."""
        part, row = self._find(index)
        return part.read(row)

    def _find(self, index: int) -> tuple[Rows, int]:
        row = int(self._rows[index])
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[place], row - int(self._starts[place])


def read_hub(source: str, text: str | None, place: str) -> Source:
    """Return what a Hugging Face set holds.

    Splits are the set's own, or those of a column ``split``. Where there is no test, it is half of the validation
    images; where there is no validation, a part of the training images. A set of one split is parted by hash.

    Args:
        source: ``hub:OWNER/NAME``, ``hub:OWNER/NAME:CONFIGURATION``, or a folder.
        text: the columns of the sentences, with commas between; None: found by their type.
        place: what a user calls the set.

    Raises:
        DataError: it cannot be loaded, or the columns cannot be told.
        MissingExtraError: ``datasets`` is not installed.
    """
    datasets, tables, beside = load_tables(source, streaming=False, alone=True)
    features: Mapping[str, Any] = tables["train"].features
    images = image_columns(features, datasets)
    if len(images) != 1:
        found = f"{' and '.join(map(repr, images))} are" if images else "there is none"
        raise DataError(f"{place}: expected one column of images, but {found} (columns: {_named(features)})")
    columns = _text_columns(features, text, place)
    parts: list[Rows] = []
    entries: list[Entry] = []
    for part, table in tables.items():
        rows = Rows(table, images[0], part, datasets)
        cells = [table.with_format(None)[column][:] for column in columns]
        named = split_columns(features, columns)
        said = list(table.select_columns(named)) if named else []
        splits = row_splits(said, place, part if len(tables) > 1 else None, caption_split)
        parts.append(rows)
        for index in range(len(rows)):
            name, sentences = rows.name(index), list[str]()
            for column in cells:
                own = sentences_of(column[index])
                if own is None:
                    cell = str(column[index])[:60]
                    raise DataError(f"{place}: {name} has {cell!r} for sentences, expected text or a list of texts")
                sentences += own
            split = splits[index] if splits else caption_split(part) if len(tables) > 1 else None
            entries.append(Entry(name, tuple(sentences), split))
    entries, rows = _joined(entries, JoinedRows(parts))
    images = JoinedRows(parts, rows)
    entries, notes = complete(entries, place)
    if again := sum(map(len, parts)) - len(rows):
        said = f"{counted(again, 'row')} of a picture that another row has: its sentences are taken together"
        notes = (f"{place}: {said}", *notes)
    return Source(place, images, tuple(entries), (*beside, *notes))


def _joined(entries: list[Entry], images: JoinedRows) -> tuple[list[Entry], np.ndarray]:
    """Return entries in which rows of one split with the same picture, byte for byte, are one, and the rows that stay.

    A set may have a row a sentence; drawn one by one, a picture would be in training and in the test.
    """
    lengths = images.lengths.tolist()
    counts = Counter(lengths)
    seen: dict[Any, int] = {}
    out: list[Entry] = []
    rows: list[int] = []
    for row, entry in enumerate(entries):
        content = _content(images, row) if counts[lengths[row]] > 1 else b""
        place = seen.setdefault((entry.split, hashlib.sha256(content).digest()) if content else row, len(out))
        if place == len(out):
            out.append(entry)
            rows.append(row)
        else:
            out[place] = replace(out[place], sentences=(*out[place].sentences, *entry.sentences))
    return out, np.array(rows, np.int64)


def _content(images: JoinedRows, row: int) -> bytes:
    try:
        return images.read(row)
    except OSError:  # it is named where images are looked at
        return b""


def complete(entries: list[Entry], place: str) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries with what is missing of validation and test made of what there is.

    Raises:
        DataError: there are splits, and none to train on.
    """
    have = {entry.split for entry in entries}
    if None in have or len(have) == 3:
        return entries, ()
    if "train" not in have:
        raise DataError(
            f"{place}: all of its images are of {' or '.join(sorted(filter(None, have)))}: give it a train split, or "
            "no split at all, and it is divided by the hash of the names"
        )
    if have == {"train", "validation"}:
        entries, note = halved(entries, f"{place}: there is no test split")
        return entries, (note,)
    if have == {"train", "test"}:

        def parted(entry: Entry) -> Entry:
            held = entry.split == "train" and split_by_hash(entry.name, 0.1) == "validation"
            return replace(entry, split="validation") if held else entry

        return [parted(entry) for entry in entries], (
            f"{place}: there is no validation split: a tenth of the training images is it, by the hash of their names",
        )
    return [replace(entry, split=None) for entry in entries], ()


def _text_columns(features: Mapping[str, Any], chosen: str | None, place: str) -> list[str]:
    """Return the columns of sentences: those named, or the only one of text, or ``caption_0``, ``caption_1``, ..."""
    texts = [name for name, feature in features.items() if _is_text(feature)]
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",") if name.strip()]
        for name in names:
            if name not in texts:
                what = "is no column of text" if name in features else f"is no column{nearest(name, features)}"
                raise DataError(f"{place}: data.text: {name!r} {what} (columns: {_named(features)})")
        return names
    if len(texts) == 1:
        return texts
    usual = [name for name in texts if name.lower() in USUAL]
    if len(usual) == 1:
        return usual
    numbered = [name for name in texts if name.endswith(tuple(digits)) and name.strip(digits)]  # caption_0, caption_1
    stems = {name: name.rstrip(digits).removesuffix("_") for name in numbered}
    if len(set(stems.values())) == 1:
        return list(stems)
    found = f"{', '.join(map(repr, texts))} could all be it: choose with data.text" if texts else "there is none"
    raise DataError(f"{place}: expected a column of sentences, but {found} (columns: {_named(features)})")


def _is_text(feature: Any) -> bool:
    inner = getattr(feature, "feature", None)
    if isinstance(feature, list) and len(cast("list[Any]", feature)) == 1:
        inner = cast("list[Any]", feature)[0]
    return any(getattr(one, "dtype", None) in ("string", "large_string") for one in (feature, inner))


def _named(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items()) or "unknown"
