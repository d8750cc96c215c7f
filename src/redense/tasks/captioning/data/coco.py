"""COCO's layout: ``annotations/captions_train2017.json`` and ``captions_val2017.json``, images in ``train2017/`` ..."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.tasks.task import Split

from .source import Entry, Source, files_of, halved, read_layout, text_of

_FILE = re.compile(r"captions_(train|val)(\d{4})\.json")
_SPLITS: dict[str, Split] = {"train": "train", "val": "validation"}


def find_coco(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files of sentences: year -> ``train`` and ``val`` -> path."""
    found: dict[str, dict[str, Path]] = {}
    for place in (folder, folder / "annotations"):
        for path in sorted(place.glob("captions_*.json")):
            if match := _FILE.fullmatch(path.name):
                found.setdefault(match[2], {})[match[1]] = path
    return found


def read_coco(files: dict[str, dict[str, Path]], folder: Path, images: Path | None, place: str) -> Source:
    """Return what COCO's files describe: those of the newest year.

    The test images have no captions, so half of the validation images take their place.

    Args:
        files: see `find_coco`.
        folder: of the set.
        images: the folder that has ``train2017/`` and ``val2017/``; None: ``folder``, or ``folder/images``.
        place: what a user calls the set.

    Raises:
        DataError: a file is damaged.
    """
    year = max(files)
    notes: list[str] = []
    if others := sorted(files.keys() - {year}):
        notes.append(f"{place}: the annotations of {' and '.join(others)} are not used, those of {year} are")
    parts = files[year]
    entries: list[Entry] = []
    for part, path in sorted(parts.items()):
        entries += _entries(path, f"{part}{year}", _SPLITS[part] if len(parts) == 2 else None)
    if not entries:
        raise DataError(f"{folder}: there are no images in {' and '.join(path.name for path in parts.values())}")
    if len(parts) == 2:
        entries, note = halved(entries, f"{place}: COCO's test images have no captions")
        notes.append(note)
    root = images or next(
        (at for at in (folder, folder / "images") if (at / f"{next(iter(parts))}{year}").is_dir()), folder
    )
    return Source(place, files_of(root, entries), tuple(entries), tuple(notes))


def _whole(value: Any) -> int:
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value!r} is no whole number")
    return number


def _entries(path: Path, folder: str, split: Split | None) -> list[Entry]:
    def read(data: Any) -> list[Entry]:
        names: dict[int, str] = {}
        for item in data["images"]:
            number, name = _whole(item["id"]), f"{folder}/{text_of(item['file_name'])}"
            if names.setdefault(number, name) != name:
                raise DataError(
                    f"{path}: {names[number]} and {name} both have the id {number}, expected one image an id"
                )
        sentences: dict[int, list[str]] = {number: [] for number in names}
        for place, item in enumerate(data["annotations"]):
            number, text = _whole(item["image_id"]), text_of(item["caption"]).strip()
            if number not in sentences:
                own = f"the annotation {item['id']!r}" if "id" in item else f"annotation number {place + 1:,}"
                raise DataError(
                    f"{path}: {own} is about the image {number}, which is not listed in images: remove it, or list "
                    "the image"
                )
            sentences[number].append(text)
        return [Entry(names[number], tuple(own), split) for number, own in sentences.items()]

    expected = "images, each with id and file_name, and annotations, each with image_id and caption"
    return read_layout(path, read, "COCO's", expected)
