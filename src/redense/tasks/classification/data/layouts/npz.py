"""Arrays of NumPy: ``x_train``, ``y_train``, ``x_test``, ``y_test`` in a file .npz, as Keras and MedMNIST have them."""

from __future__ import annotations

import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redense.errors import DataError
from redense.files.opening import open_regular
from redense.tasks.classification.data.sets import MAX_BYTES, ImageSet, check_claim
from redense.tasks.folders import has_any, visible
from redense.tasks.split_names import split_of

from .folder import SUFFIXES
from .tables import in_order

_IMAGES = ("x", "image", "images", "data", "pixels", "arr_0")
_LABELS = ("y", "label", "labels", "target", "targets", "arr_1")
_DIMENSIONS = 3  # of grey images
_ONE = 1.001  # some resizing goes beyond 1 by its rounding
_SHOWN = 5  # arrays that a note names
# What Python's and NumPy's readers raise: NotImplementedError for another compression, RuntimeError for a password.
_BROKEN = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_SURROGATES = (0xD800, 0xDFFF)  # halves of letters, which no file can hold
_LAST_LETTER = 0x10FFFF


def find_npz(place: Path) -> Path | None:
    """Return a file of arrays: the place itself, or the only one in a folder without pictures."""
    if place.is_file():
        return place if place.suffix.lower() == ".npz" else None
    found = visible(place.glob("*.npz"), place)
    return found[0] if len(found) == 1 and not has_any(place, SUFFIXES) else None


def read_npz(path: Path) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the splits of a file of arrays, or all images as ``all``, and a note on the arrays that are not used.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w), bytes or numbers from 0 to 1 or to 255; labels numbers or text.

    Raises:
        DataError: it is damaged, its arrays are no images and labels, or two of them could be the same; the message
            names the array.
    """
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
            members = dict(zip(names, archive.infolist(), strict=True))
            named = _named(names, path)
            size = sum(members[name].file_size for pair in named.values() for name in pair)
            check_claim(size, os.fstat(stream.fileno()).st_size, path)
            raw = {
                split: (_array(archive, members[images]), _array(archive, members[labels]))
                for split, (images, labels) in named.items()
            }
    except DataError:
        raise
    except (*_BROKEN, MemoryError) as error:
        raise DataError(f"{path}: no arrays that can be read ({' '.join(str(error).split())[:200]})") from None
    unit = _go_to_one({named[split][0]: images for split, (images, _) in raw.items()}, path)
    pairs = {
        split: (_pixels(images, path, named[split][0], unit=unit), _words(labels, path, named[split][1]))
        for split, (images, labels) in raw.items()
    }
    known = {
        name: number for number, name in enumerate(in_order({word for _, words in pairs.values() for word in words}))
    }
    out: dict[str, ImageSet] = {}
    for split, (images, words) in pairs.items():
        if len(images) != len(words):
            raise DataError(
                f"{path}: {named[split][0]} has {len(images):,} images and {named[split][1]} {len(words):,} labels"
            )
        if (unknown := next((word for word in words if word not in known), None)) is not None:
            raise DataError(f"{path}: {named[split][1]} has the label {unknown!r}, expected a class for every image")
        labels = torch.tensor([known[word] for word in words], dtype=torch.int64)
        out[split] = ImageSet(torch.from_numpy(images), labels, tuple(known))
    used = {name for pair in named.values() for name in pair}
    unused = [name for name in names if name not in used]
    more = f" and {len(unused) - _SHOWN:,} more" if len(unused) > _SHOWN else ""
    return out, [f"{path}: not used: {', '.join(unused[:_SHOWN])}{more}"] if unused else []


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return one array; none of Python objects, which only pickle could read."""
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if array.dtype.kind == "U" and array.size:
        letters = np.ascontiguousarray(array).view(array.dtype.byteorder.replace("|", "=") + "u4")
        if letters.max() > _LAST_LETTER or np.any((letters >= _SURROGATES[0]) & (letters <= _SURROGATES[1])):
            raise ValueError(f"{member.filename} holds what is no letter")
    return array


def _named(names: list[str], path: Path) -> dict[str, tuple[str, str]]:
    """Return split -> the names of its images and its labels; ``x_train`` and ``train_images`` say the same."""
    found: dict[tuple[str, str], str] = {}
    for name in names:
        words = name.lower() if name.lower() in (*_IMAGES, *_LABELS) else ""
        parts = [words] if words else re.split(r"[_\W]+", name.lower())
        split = next((split for part in parts if (split := split_of(part))), "all")
        kind = "images" if any(p in _IMAGES for p in parts) else "labels" if any(p in _LABELS for p in parts) else ""
        if kind and (split, kind) in found:
            which = f"the {kind} of {split}" if split != "all" else f"{kind} of no split"
            raise DataError(f"{path}: {found[split, kind]} and {name} are both {which}: keep one of them in the file")
        if kind:
            found[split, kind] = name
    splits = [split for split, kind in found if kind == "images" and (split, "labels") in found]
    if "train" not in splits and "all" not in splits:
        raise DataError(
            f"{path} holds {', '.join(names) or 'no arrays'}: expected x_train and y_train (or train_images and "
            "train_labels), and x_test and y_test, or x and y"
        )
    if "train" in splits and "all" in splits:
        raise DataError(
            f"{path}: {found['train', 'images']} is for training, and {found['all', 'images']} for no split (train, "
            "validation or test): take it out of the file, join the two, or name its split"
        )
    return {split: (found[split, "images"], found[split, "labels"]) for split in splits}


def _go_to_one(arrays: Mapping[str, np.ndarray], path: Path) -> bool:
    """Whether images of numbers with fractions go from 0 to 1: all of a file do, or none.

    Raises:
        DataError: they go beyond 1 by more than rounding, and stay far below 255; or some splits go to 1 and others do
            not.
    """
    tops = {name: float(one.max()) for name, one in arrays.items() if one.dtype.kind == "f" and one.size}
    highest = max(tops.values(), default=0.0)
    if _ONE < highest < 2:
        raise DataError(f"{path}: its images have numbers up to {highest:g}, expected 0 to 255, or 0 to 1")
    if highest > _ONE and (low := next((name for name, top in tops.items() if 0 < top <= _ONE), None)):
        raise DataError(
            f"{path}: {low} has numbers up to {tops[low]:g} and others up to {highest:g}, expected 0 to 255 in all of "
            "them, or 0 to 1"
        )
    return highest <= _ONE


def _pixels(images: Any, path: Path, name: str, *, unit: bool) -> np.ndarray:
    """Return uint8 (n, 1 or 3, h, w); ``unit``: numbers with fractions go from 0 to 1."""
    shape = " x ".join(map(str, images.shape))
    if images.ndim == _DIMENSIONS:
        images = images[:, None]
    elif images.ndim == _DIMENSIONS + 1 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != _DIMENSIONS + 1 or images.shape[1] not in (1, 3) or images.dtype.kind not in "uif":
        raise DataError(
            f"{path}: {name} is {shape} of {images.dtype}, expected images (n, h, w), (n, h, w, 3) or (n, 3, h, w)"
        )
    if images.size > MAX_BYTES or not images.size:
        raise DataError(f"{path}: {name} is {shape}, expected between 1 and {MAX_BYTES:,} numbers")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 255:  # NaN, too
        raise DataError(f"{path}: {name} has numbers from {low:g} to {high:g}, expected 0 to 255, or 0 to 1")
    if unit and images.dtype.kind == "f":
        images = np.minimum(images, 1) * 255.0
    return np.ascontiguousarray(np.rint(images).astype(np.uint8))


def _words(labels: Any, path: Path, name: str) -> list[str]:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "biuUS":
        shape = " x ".join(map(str, labels.shape))
        raise DataError(f"{path}: {name} is {shape} of {labels.dtype}, expected one class for each image (n,)")
    if flat.dtype.kind == "S":
        return [_decoded(word, path, name) for word in flat.tolist()]
    return list(map(str, flat.tolist()))


def _decoded(word: bytes, path: Path, name: str) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: {name} has the label {word!r:.60}, which is no text in UTF-8: save the labels as text, or numbers"
        ) from None
