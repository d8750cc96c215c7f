"""Pictures brought to size once and kept in the cache: what takes long to decode is decoded once.

A file a picture: its sha256, its shape, its pixels as they are. Its name is a hash of all that it depends on: the
picture's folder, name, size, date, last change and mark, and what was done to it. So it is never stale, any training
that does the same to the same picture shares it, and pixels from the cache are those that decoding gives, bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redense.errors import CheckpointError
from redense.files.opening import read_bytes
from redense.files.writing import write_unsynced

log = logging.getLogger(__name__)

_VERSION = 1  # of `decode` and the transforms: another one keeps other files
_HEAD = struct.Struct("<32s3I")  # checksum, channels or 0, height, width


@dataclass
class Kept:
    """The cache of decoded pictures; ``writes``: whether it takes new ones."""

    folder: Path
    writes: bool = True

    def get(self, picture: str, what: str) -> np.ndarray | None:
        """Return the pixels of a picture to which ``what`` was done; None if they are not there, or damaged.

        ``picture`` tells it from all others, see `EncodedSet.identity`.
        """
        path = self._path(picture, what)
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

    def put(self, picture: str, what: str, pixels: np.ndarray) -> None:
        """Keep pixels, uint8: (c, h, w) of the network's, or (h, w, c) of a picture that is cut out at random."""
        if not self.writes:
            return
        planes = what.startswith("evaluated")
        channels, (height, width) = (pixels.shape[0], pixels.shape[1:]) if planes else (0, pixels.shape[:2])
        rest = _HEAD.pack(b"", channels, height, width)[32:] + np.ascontiguousarray(pixels).tobytes()
        path = self._path(picture, what)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_unsynced(path, hashlib.sha256(rest).digest() + rest)
        except (OSError, CheckpointError) as error:  # it is only quicker with it
            log.warning("cannot keep decoded pictures: %s", error)
            self.writes = False

    def has(self, picture: str, what: str) -> bool:
        """Whether there is something for a picture."""
        return self._path(picture, what).exists()

    def _path(self, picture: str, what: str) -> Path:
        text = f"{_VERSION}\0{what}\0{picture}"
        name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / name[2:40]
