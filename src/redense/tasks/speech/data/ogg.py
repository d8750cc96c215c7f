"""The streams of an Ogg file: of several, one after the other, libsndfile gives the first and no word of the others.

Such a file is called chained (RFC 3533); joining files makes one, and so do programs that record radio.
"""

from __future__ import annotations

import os
from typing import Any

_MARK = b"OggS"
_HEAD = 27  # bytes of a page before the lengths of its segments
_BEGINS = 2  # among its flags
_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_LOST = 1 << 16  # bytes that are searched at once where no page begins
_TRIES = 1000  # how often that is done in one file, which may have been made to take long


def parts_of(stream: Any) -> list[tuple[int, int]]:
    """Return the first byte of each stream of a chained file, and its end; of any other file one part, or none."""
    place = stream.tell()
    try:
        size = stream.seek(0, os.SEEK_END)
        starts = _starts(stream, size)
    finally:
        stream.seek(place)
    return list(zip(starts, [*starts[1:], size], strict=True)) if starts else []


def _starts(stream: Any, size: int) -> list[int]:
    starts: list[int] = []
    place, begins, tries = 0, False, 0
    stream.seek(0)
    if stream.read(len(_MARK)) != _MARK:
        return []
    while place < size and tries < _TRIES:
        stream.seek(place)
        head = stream.read(_HEAD + 255 + 8)
        if not head.startswith(_MARK) or len(head) < _HEAD:
            place, tries = _next(stream, place + 1, size), tries + 1
            continue
        segments = head[26]
        first = head[_HEAD + segments :]
        # Streams that begin side by side, as sound and picture, are no chain.
        if head[5] & _BEGINS and (not starts or (not begins and first.startswith(_CODECS))):
            starts.append(place)
        begins = bool(head[5] & _BEGINS)
        end = place + _HEAD + segments + sum(head[_HEAD : _HEAD + segments])
        stream.seek(end)
        if stream.read(len(_MARK)) != _MARK:  # a page that was cut off may say that it reaches into the next stream
            end, tries = _next(stream, place + 1, size), tries + 1
        place = end
    return starts


def _next(stream: Any, place: int, size: int) -> int:
    """Return where the next page begins, at a place or behind it; the size of the file if none does."""
    while place < size:
        stream.seek(place)
        found = stream.read(_LOST).find(_MARK)
        if found >= 0:
            return place + found
        place += _LOST - len(_MARK) + 1
    return size


class Part:
    """A part of a stream of bytes as one of its own."""

    def __init__(self, stream: Any, start: int, end: int) -> None:
        self._stream, self._start, self._length, self._place = stream, start, end - start, 0

    def tell(self) -> int:
        """Return where it is."""
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place."""
        self._place = max(0, offset + (0, self._place, self._length)[whence])
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none behind the end."""
        left = max(0, self._length - self._place)
        self._stream.seek(self._start + self._place)
        data = self._stream.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data
