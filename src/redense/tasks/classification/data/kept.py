"""Pictures brought to size once and kept in the cache: what takes long to decode is decoded once.

A file a picture: its sha256, its shape, its pixels as they are. Its name is a hash of all that it depends on: the
picture's name, size, date and last bytes, and what was done to it. So it is never stale, any training that does the
same to the same picture shares it, and pixels from the cache are those that decoding gives, bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from redense.errors import CheckpointError
from redense.files.opening import read_bytes
from redense.files.writing import write_unsynced
from redense.tasks import catalog

from ...caches import PICTURES
from .checking import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .sets import EncodedSet
    from .transforms import Preparation

log = logging.getLogger(__name__)

_VERSION = 1  # of `decode` and the transforms: another one keeps other files
_HEAD = struct.Struct("<32s3I")  # checksum, channels or 0, height, width
_SPARED = 0.05  # of the disk


@dataclass
class Kept:
    """Where pictures are kept; ``writes``: whether new ones are."""

    folder: Path
    writes: bool = True

    def get(self, images: EncodedSet, index: int, what: str) -> np.ndarray | None:
        """Return the pixels of a picture to which ``what`` was done; None if they are not there, or damaged."""
        path = self._path(images, index, what)
        try:
            data = read_bytes(path)
        except OSError:
            return None
        if len(data) < _HEAD.size or hashlib.sha256(data[32:]).digest() != data[:32]:
            log.warning("%s is damaged: the picture is decoded anew", path)
            path.unlink(missing_ok=True)
            return None
        _, channels, height, width = _HEAD.unpack_from(data)
        pixels = np.frombuffer(bytearray(data[_HEAD.size :]), np.uint8)  # writable, as the transforms expect
        return pixels.reshape((channels, height, width) if channels else (height, width, -1))

    def put(self, images: EncodedSet, index: int, what: str, pixels: np.ndarray) -> None:
        """Keep pixels, uint8: (c, h, w) of the network's, or (h, w, c) of a picture that is cut out at random."""
        if not self.writes:
            return
        planes = what.startswith("evaluated")
        channels, (height, width) = (pixels.shape[0], pixels.shape[1:]) if planes else (0, pixels.shape[:2])
        rest = _HEAD.pack(b"", channels, height, width)[32:] + np.ascontiguousarray(pixels).tobytes()
        path = self._path(images, index, what)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_unsynced(path, hashlib.sha256(rest).digest() + rest)
        except (OSError, CheckpointError) as error:  # it is only quicker with it
            log.warning("cannot keep decoded pictures: %s", error)
            self.writes = False

    def has(self, images: EncodedSet, index: int, what: str) -> bool:
        """Whether there is something for a picture."""
        return self._path(images, index, what).exists()

    def _path(self, images: EncodedSet, index: int, what: str) -> Path:
        own = identity(images.files, int(images.index[index]))
        text = f"{_VERSION}\0{what}\0{images.channels}\0{int(images.marks[index])}\0{own}"
        name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / name[2:40]


def room_for(parts: Sequence[tuple[EncodedSet, Preparation]], limit: float, place: str) -> tuple[Kept | None, str]:
    """Return where the large pictures of these splits are kept, and a sentence if there is no room for new ones.

    Args:
        parts: splits, and what is done to their pictures.
        limit: bytes that the cache of pictures may have; 0: nothing is kept.
        place: what a user calls the set.
    """
    large = [(images, preparation, large_ones(images, preparation)) for images, preparation in parts]
    needed = sum(int(preparation.bytes_of(images)[chosen].sum()) for images, preparation, chosen in large)
    if not limit or not needed:
        return None, ""
    kept = Kept(catalog.cache_dir() / PICTURES.name)
    there = PICTURES.size()
    if there + needed > limit:  # some of it may be there already
        for images, preparation, chosen in large:
            own = preparation.bytes_of(images)
            needed -= sum(int(own[i]) for i in chosen.tolist() if kept.has(images, i, preparation.name))
    free = _free(kept.folder)
    if there + needed > limit:
        why = f"{there / 1e9:.1f} GB are there and data.cache_gb is {limit / 1e9:g}"
    elif free is not None and needed > free:
        why = f"the disk has {max(free, 0) / 1e9:.1f} GB to spare"
    else:
        return kept, ""
    return Kept(kept.folder, writes=False), (
        f"{place}: decoded pictures are not kept: {needed / 1e9:.1f} GB more would be needed, {why}"
    )


def large_ones(images: EncodedSet, preparation: Preparation) -> np.ndarray:
    """Return the numbers of the pictures of a split that are worth keeping: int64 (k,)."""
    return np.flatnonzero(preparation.is_large(images.sizes))


def fill(images: EncodedSet, preparation: Preparation, *, threads: int, on_done: Callable[[], None]) -> int:
    """Keep every large picture of a split, and return how many there are.

    Raises:
        BrokenImageError: one cannot be decoded.
    """
    chosen = large_ones(images, preparation).tolist()

    def one(index: int) -> None:
        preparation.picture(images, index)
        on_done()

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:  # decoding leaves Python's lock to others
        for _ in pool.map(one, chosen):
            pass
    return len(chosen)


def _free(folder: Path) -> int | None:
    """Return the bytes that may be written to a disk, if it tells."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        usage = shutil.disk_usage(place) if place else None
    except OSError:
        return None
    return None if usage is None else usage.free - int(_SPARED * usage.total)
