"""The frames of an MP3 file, because libsndfile goes by a header, or by the size of the first frame.

Of a file of varying bit rates without a header (Xing, VBRI), and of several files one after the other, as in a
recording of a station, it gives a part without a word: of 20 s perhaps 4. Where bit rates vary, it cannot find a place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # MPEG 1, 2, 2.5; a second
_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # of MPEG 1
_LAYER_3 = 1
_HEADERS = (b"Xing", b"Info", b"VBRI")
_WITHIN = 64  # bytes of a frame in which such a header begins
_LOST = 1 << 12, 1 << 16  # bytes of anything else that are searched for the next frame, at first and at most
_SPARED = 5  # frames that encoders fill up with silence, which libsndfile leaves out
_TAIL = 128  # bytes of a tag at the end
_TIMES = 64  # as long as the file seems: more than the largest bit rate is of the smallest


class _Frame(NamedTuple):
    length: int  # bytes
    samples: int
    rate: int
    kilobits: int


class Frames(NamedTuple):
    """The frames of a stream.

    Args:
        start: place of the first with sound.
        samples: that all of them have.
        one: samples of one.
        even: all have one bit rate.
    """

    start: int
    samples: int
    one: int
    even: bool

    def has_more(self, samples: int) -> bool:
        """Whether there is clearly more than so many samples."""
        return self.samples > samples + _SPARED * self.one


def frames_of(stream: Any) -> Frames:
    """Return the frames of a stream, which is left where it is."""
    place = stream.tell()
    try:
        return _walk(stream)
    finally:
        stream.seek(place)


class Endless:
    """A stream of frames that seems to be longer than any estimate: its reader goes on until there is nothing left."""

    def __init__(self, stream: Any, start: int) -> None:
        self._stream, self._start, self._place = stream, start, 0
        self._length = _TIMES * (stream.seek(0, 2) - start)

    def tell(self) -> int:
        """Return where it is."""
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place, also behind the end."""
        self._place = max(0, offset + (0, self._place, self._length)[whence])
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none behind the end; of a tag at the end, zeros."""
        if self._place >= self._length - _TAIL:
            data = bytes(max(0, min(size, self._length - self._place)))
        else:
            self._stream.seek(self._start + self._place)
            data = self._stream.read(size)
        self._place += len(data)
        return data


def _walk(stream: Any) -> Frames:
    place = samples = one = 0
    start, kinds = -1, set[int]()
    while frame := _next(stream, place):
        place, own = frame
        if start < 0:
            head = _bytes(stream, place, _WITHIN)
            start = place + own.length if any(mark in head for mark in _HEADERS) else place
        if place >= start:
            samples, one = samples + own.samples, own.samples
            kinds.add(own.kilobits)
        place += own.length
    return Frames(max(start, 0), samples, one, len(kinds) < 2)


def _next(stream: Any, place: int) -> tuple[int, _Frame] | None:
    """Return the next frame at a place or behind it, with its place; None where there is no other."""
    head = _bytes(stream, place, 10)
    while head.startswith(b"ID3") and len(head) == 10:  # a tag, its length in four times seven bits
        place += 10 + sum((byte & 127) << 7 * (3 - index) for index, byte in enumerate(head[6:]))
        head = _bytes(stream, place, 10)
    if frame := _frame(head):
        return place, frame
    for size in _LOST:
        rest = _bytes(stream, place, size)
        at = rest.find(b"\xff")
        while 0 <= at < len(rest) - 4:
            frame = _frame(rest[at : at + 4])
            if frame and _alike(frame, rest[at + frame.length : at + frame.length + 4]):
                return place + at, frame
            at = rest.find(b"\xff", at + 1)
    return None


def _bytes(stream: Any, place: int, size: int) -> bytes:
    stream.seek(place)
    return stream.read(size)


def _alike(frame: _Frame, head: bytes) -> bool:
    """Whether another frame of the same rate begins: what looks like one frame alone may be anything."""
    other = _frame(head)
    return other is not None and other.rate == frame.rate


def _frame(head: bytes) -> _Frame | None:
    """Return the frame that four bytes begin; None if they begin none of layer 3, or one of no given length."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] >> 1 & 3 != _LAYER_3:
        return None
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    rates = _RATES.get(version)
    kilobits = _KILOBITS_1 if version == 3 else _KILOBITS
    if rates is None or rate == 3 or not 0 < bits < len(kilobits):
        return None
    samples = 1152 if version == 3 else 576
    length = samples // 8 * 1000 * kilobits[bits] // rates[rate] + (head[2] >> 1 & 1)
    return _Frame(length, samples, rates[rate], kilobits[bits])
