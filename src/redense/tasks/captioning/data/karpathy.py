"""Karpathy's layout: ``dataset.json`` with the splits, sentences and words of Flickr8k, Flickr30k or COCO.

An image has ``filename`` (for COCO ``filepath`` too, its folder), ``split`` and ``sentences``, each with ``raw`` and
perhaps ``tokens``. The images lie beside the file, or in one of the folders that they are distributed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from redense.errors import DataError
from redense.files.opening import is_regular
from redense.tasks.names import Alike

from .source import Entry, Source, caption_split, files_of, read_layout, text_of

FILES = ("dataset.json", "dataset_flickr8k.json", "dataset_flickr30k.json", "dataset_coco.json")
_TRIED = 100  # images that are looked for in each folder
_FOLDERS = ("images", "imgs", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images")


def find_karpathy(folder: Path) -> Path | None:
    """Return the file of this layout in a folder, if there is one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_karpathy(path: Path, images: Path | None, place: str) -> Source:
    """Return what a ``dataset.json`` describes.

    Raises:
        DataError: it is damaged, or names a split that is unknown.
    """

    def read(data: Any) -> tuple[Entry, ...]:
        return tuple(_entry(item, path) for item in data["images"])

    entries = read_layout(path, read, "Karpathy's", "images, each with filename, split and sentences")
    if not entries:
        raise DataError(f"{path}: there are no images in it")
    root = images or _root(path.parent, [entry.name for entry in entries[:_TRIED]])
    return Source(place, files_of(root, entries), entries)


def _entry(item: Any, path: Path) -> Entry:
    name = "/".join(part for part in (item.get("filepath"), item["filename"]) if part)
    split = caption_split(text_of(item["split"]))
    if split is None:
        raise DataError(f"{path}: {name} is of split {item['split']!r}, expected train, restval, val or test")
    sentences = [text_of(sentence["raw"]) for sentence in item["sentences"]]
    tokens = [sentence.get("tokens") for sentence in item["sentences"]]
    given = tuple(tuple(text_of(word) for word in cast("list[Any]", words)) for words in tokens if words is not None)
    return Entry(name, tuple(sentences), split, given if len(given) == len(sentences) and given else None)


def _root(folder: Path, names: Sequence[str]) -> Path:
    """Return the place where an image is: the first images may be missing, and are to be named so."""
    places = [Alike(place) for place in (folder, *(folder / name for name in _FOLDERS))]
    return next((at.root for name in names for at in places if is_regular(at.find(at.root / name))), folder)
