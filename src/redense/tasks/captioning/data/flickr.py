"""Flickr8k and Flickr30k as they are distributed: a file of sentences, a folder of images, perhaps lists of names.

``Flickr8k.token.txt`` and ``results_20130124.token`` have lines ``NAME.jpg#0<tab>sentence``; ``results.csv`` has
``NAME.jpg| 0| sentence`` and ``captions.txt``, as Kaggle has Flickr8k, ``NAME.jpg,sentence``, each perhaps below a
line that names the columns. Flickr8k's three lists, ``Flickr_8k.trainImages.txt`` and so on, are its splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from redense.errors import DataError
from redense.files.opening import read_text
from redense.files.visible import counted
from redense.tasks.classification.data.layouts.folder import SUFFIXES
from redense.tasks.folders import ending_of
from redense.tasks.tables import FILES as IMAGES
from redense.tasks.tables import parted
from redense.tasks.task import Split

from .hub import USUAL
from .source import Entry, Source, files_of, sentences_of

FILES = ("Flickr8k.token.txt", "results_20130124.token", "results.csv", "captions.txt")
_TEXTS = ("Flickr8k_text", "flickr8k_text", "Flickr30k_text", "flickr30k_text")  # folders that archives unpack to
_FOLDERS = (
    *("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images"),  # the first one's name is so
    *("Images", "images", "imgs"),
)
_LISTS: dict[Split, str] = {
    "train": "Flickr_8k.trainImages.txt",
    "validation": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def find_flickr(folder: Path) -> Path | None:
    """Return the file of sentences in a folder, if it has one of this layout."""
    places = [folder, *(folder / name for name in (*_TEXTS, *_FOLDERS))]  # Kaggle's results.csv lies with its images
    return next((place / name for place in places for name in FILES if (place / name).is_file()), None)


def read_flickr(path: Path, folder: Path, images: Path | None, place: str) -> Source:
    """Return the images that a file of sentences names, each with its sentences.

    Args:
        path: of the file.
        folder: of the set.
        images: the folder of the images; None: one of those that they are distributed in.
        place: what a user calls the set.

    Raises:
        DataError: a line is not of the layout, a list is missing, or there are no images.
    """
    sentences: dict[str, list[str]] = {}
    for name, sentence in _READERS[path.name](path):
        sentences.setdefault(name, []).append(sentence)
    if not sentences:
        raise DataError(f"{path}: there are no sentences in it")
    root = images or _image_folder(folder)
    lists = _lists(path.parent)
    if lists is None:
        entries = tuple(Entry(name, tuple(own)) for name, own in sentences.items())
        return Source(place, files_of(root, entries), entries)
    entries = tuple(Entry(name, tuple(sentences.get(name, ())), split) for name, split in lists.items())
    rest = len(sentences.keys() - lists.keys())
    notes = (f"{place}: {counted(rest, 'image')} with sentences in none of the three lists, left out",) if rest else ()
    return Source(place, files_of(root, entries), entries, notes)


def _image_folder(root: Path) -> Path:
    for name in _FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(
        f"{root}: no folder with images: expected one of {', '.join(f'{name}/' for name in _FOLDERS)}, or data.images"
    )


def _lists(folder: Path) -> dict[str, Split] | None:
    """Return image -> split as Flickr8k's lists have it; None where there are none."""
    found: dict[Split, Path] = {split: folder / name for split, name in _LISTS.items() if (folder / name).is_file()}
    if not found:
        return None
    if missing := [name for split, name in _LISTS.items() if split not in found]:
        raise DataError(f"{folder}: {' and '.join(missing)} are missing, expected all three lists, or none of them")
    out: dict[str, Split] = {}
    for split, path in found.items():
        for name in filter(None, map(str.strip, _lines(path))):
            if name in out:
                raise DataError(f"{path}: {name} is in the list of {out[name]}, too: expected every image in one list")
            out[name] = split
    return out


def _tokens(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            match = re.fullmatch(r"([^\t]+)#\d+\t(.*)", line)
            if match is None:
                raise DataError(
                    f"{path}, line {number}: expected IMAGE#NUMBER, a tab and a sentence, got {line[:60]!r}"
                )
            yield match[1], match[2]


def _bars(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), 1):
        parts = [part.strip() for part in line.split("|", 2)]
        if not line.strip() or (number == 1 and not _is_image(parts[0])):  # image_name| comment_number| comment
            continue
        if len(parts) == 2 and re.fullmatch(r"\d+ .*", parts[1]):  # one line of Kaggle's copy lacks its second bar
            parts[1:] = parts[1].split(maxsplit=1)
        if len(parts) != 3:
            raise DataError(f"{path}, line {number}: expected IMAGE| NUMBER| SENTENCE, got {line[:60]!r}")
        yield parts[0], parts[2]


def _commas(path: Path) -> Iterator[tuple[str, str]]:
    names = ["image", "caption"]
    for line, row in parted((f"{line}\n" for line in _lines(path)), ",", path):  # a cell may have an end of line in it
        if line == 1 and row and not _is_image(row[0]):
            names = [name.strip().lower() for name in row]
        elif row:
            image, sentence = _columns(names, path)
            if len(row) < len(names) or (len(row) > len(names) and sentence < len(names) - 1):
                raise DataError(f"{path}, line {line}: expected IMAGE,SENTENCE, got {','.join(row)[:60]!r}")
            cell = ",".join(row[sentence:]) if sentence == len(names) - 1 else row[sentence]
            texts = sentences_of(cell)
            if texts is None:
                raise DataError(f"{path}, line {line}: {cell[:60]!r}, expected a sentence or a list of sentences")
            yield from ((row[image], text) for text in texts or [""])


def _columns(names: list[str], path: Path) -> tuple[int, int]:
    """Return the places of the columns of the images and of the sentences: of two columns, the first and the second."""
    image = next((names.index(name) for name in IMAGES if name in names), None)
    sentence = next((names.index(name) for name in USUAL if name in names), None)
    if image is not None and sentence is not None:
        return image, sentence
    if len(names) == 2:
        return 0, 1
    raise DataError(f"{path}, line 1: {', '.join(names)[:60]!r}, expected columns called image and caption")


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    "Flickr8k.token.txt": _tokens,
    "results_20130124.token": _tokens,
    "results.csv": _bars,
    "captions.txt": _commas,
}


def _is_image(name: str) -> bool:
    return ending_of(name.strip()) in SUFFIXES


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start:,})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
