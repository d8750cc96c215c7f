"""The end of a FLAC file: whether its frames stop because the file was cut off, or because they are damaged.

libsndfile gives the same error for both. Every frame begins with a header that says its place and has a checksum. In a
file that was cut off, no header lies behind the last frame that could be decoded, but that of the frame that was cut.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any, NamedTuple

_HEAD = 1 << 16  # bytes in which the stream begins, behind a tag perhaps
_TAIL = 1 << 18  # bytes at the end in which headers are looked for: several frames
_SYNC = re.compile(rb"\xff[\xf8\xf9]")  # the second is of frames of several lengths
_CRC = 0x07  # polynomial of a header's checksum
_LONGEST = 16  # bytes of a header


class _Header(NamedTuple):
    kind: tuple[int, int, int]  # what all frames of a file have in common
    number: int  # of the frame, or of its first sample where frames have several lengths


def is_cut(stream: Any, samples: int) -> bool:
    """Whether a FLAC file ends in or behind the frame that begins after so many samples; the place is left as it is."""
    place = stream.tell()
    try:
        return place >= stream.seek(0, os.SEEK_END) and _ends_at(stream, samples)
    finally:
        stream.seek(place)


def _ends_at(stream: Any, samples: int) -> bool:
    stream.seek(0)
    head = stream.read(_HEAD)
    start = head.find(b"fLaC")
    if start < 0 or not head.startswith((b"fLaC", b"ID3")):
        return False
    length = int.from_bytes(head[start + 10 : start + 12], "big")  # of a frame, in samples: STREAMINFO's largest
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(start, size - _TAIL))
    tail = stream.read()
    found = [header for at in _SYNC.finditer(tail) if (header := _header(tail[at.start() : at.start() + _LONGEST]))]
    if not found:
        return False
    ((kind, _),) = Counter(header.kind for header in found).most_common(1)  # others are chance
    last = next(header for header in found[::-1] if header.kind == kind)
    return (last.number if kind[0] else last.number * length) <= samples


def _header(head: bytes) -> _Header | None:
    """Return what the first bytes of a frame say; None if they begin none."""
    if len(head) < 6 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
        return None
    ones = next((bit for bit in range(8) if not head[4] >> (7 - bit) & 1), 8)  # of a number written as UTF-8 does
    if ones in (1, 8):
        return None
    end = 4 + max(1, ones)
    number = head[4] & (0x7F >> ones)
    for byte in head[5:end]:
        number = number << 6 | byte & 0x3F
    end += {6: 1, 7: 2}.get(head[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= end or _checksum(head[:end]) != head[end]:
        return None
    return _Header((head[1] & 1, head[2] & 15, head[3] >> 1 & 7), number)


def _checksum(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ _CRC if value & 0x80 else value << 1) & 0xFF
    return value
