"""Sound files: what is in them, and their samples at the rate that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redense.errors import DataError
from redense.files.opening import open_regular, read_bytes

from .data import ogg
from .data.sndfile import MPEG, OPEN_END, Samples, blocks, can_seek, opened, require_soundfile

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".wv1", ".wv2", ".aiff", ".aif", ".au")
"""Endings of sound files that the library behind `soundfile` reads."""

# As libsndfile calls them: it knows some twenty more, which nobody keeps speech in.
_FORMATS = frozenset((*MPEG, "WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "NIST", "AIFF", "AU"))
_RATES = (1_000, 384_000)
# In libsndfile's log, which goes by the length of the file where that is not what the header says.
_SHOULD_BE = re.compile(r"\b(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)")
_FRAMES_SAID = re.compile(r"does not match value from 'ds64' chunk of (\d+)")
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most: head, lengths of segments, segments (RFC 3533)
_NIST_HEAD = 1 << 14  # bytes; it says itself how long it is, mostly 1,024
SILENT = 1e-4  # of full scale: 80 dB below it
CANCELS = "has channels that cancel each other when they are averaged: turn the sign of one, or save one alone"
WHOLE = 0.1  # seconds; a file that lacks no more than this is taken for whole
LOUDEST = 2.0**32  # of full scale; a file of floats may hold what were whole numbers of 32 bits


@dataclass(frozen=True)
class Sound:
    """The content of a file, or the reason why it cannot be used.

    Args:
        seconds: that can be decoded.
        digest: tells its bytes from others.
        fault: why it cannot be used.
        lacking: seconds that its header announces beyond those, as of a file that was not copied to its end; infinite
            where it ends too early, and nothing says by how much.
    """

    seconds: float = 0.0
    digest: str = ""
    fault: str | None = None
    lacking: float = 0.0


def look(path: Path, start: float = 0.0, length: float | None = None, longest: float = math.inf) -> Sound:
    """Decode a file, or a piece of it, and say what is in it; ``start``, ``length`` and ``longest`` in seconds.

    Of one that is longer than ``longest`` only so much is decoded.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        return Sound(fault=f"cannot be read ({error.strerror or error})")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    heard = _Loudness()
    try:
        source = _decoded(io.BytesIO(content), start, min(_end(length), longest + 1.0))
        rate, count = next(source), 0
        for block in source:
            heard.add(block)
            count += len(block)
    except DataError as error:
        return Sound(digest=digest, fault=str(error))
    if not count:
        return Sound(digest=digest, fault="holds no sound" if not start else f"ends before second {start:g}")
    seconds = count / rate
    if fault := beyond(heard.mean):
        return Sound(seconds, digest, fault)
    if heard.cancels:
        return Sound(seconds, digest, CANCELS)
    if heard.mean < SILENT:
        return Sound(seconds, digest, "is silent")
    announced, has_more = _announced(io.BytesIO(content))
    if has_more:  # what was made of the beginning alone is not taken for it
        digest = hashlib.blake2b(f"all of {digest}".encode(), digest_size=16).hexdigest()
    whole = not start and length is None and seconds <= longest
    return Sound(seconds, digest, lacking=_lacking(announced, seconds) if whole else 0.0)


def lacking(path: Path, seconds: float) -> float:
    """Return `Sound.lacking` of a file of which so many seconds were decoded."""
    try:
        with open_regular(path) as stream:
            return _lacking(_announced(stream)[0], seconds)
    except OSError:  # it was there when it was decoded
        return 0.0


def _lacking(announced: float, seconds: float) -> float:
    return round(max(0.0, announced - seconds), 3)


def _announced(stream: Any) -> tuple[float, bool]:
    """Return the seconds that the header of a file announces, and whether it holds more than libsndfile would give.

    They are 0 where a program that streams has left them open, and infinite where the end is missing and there is no
    number.
    """
    soundfile, parts = require_soundfile(), _parts(stream)
    found: list[tuple[float, bool]] = []
    for part in parts:
        try:
            found.append(_announced_by_one(part))
        except soundfile.LibsndfileError:  # a later stream, of which nothing was asked for
            found.append((math.inf, False))
    return sum(seconds for seconds, _ in found), len(parts) > 1 or any(endless for _, endless in found)


def _announced_by_one(stream: Any) -> tuple[float, bool]:
    with opened(stream) as (file, endless, _):
        frames, log = file.frames, file.extra_info
        if endless or frames >= OPEN_END:
            return 0.0, endless
        if file.format == "OGG":
            return frames / file.samplerate if _ends(stream) else math.inf, False
        if file.format == "NIST":
            stream.seek(0)
            count = re.search(rb"\bsample_count -i (\d+)", stream.read(_NIST_HEAD).partition(b"end_head")[0])
            frames = int(count[1]) if count else frames
        elif found := _FRAMES_SAID.search(log):
            frames = int(found[1])
        elif found := _SHOULD_BE.search(log):
            said, there = map(int, found.groups())
            frames = frames * said // there if there else 0
        return frames / file.samplerate if frames < OPEN_END else 0.0, False


def _parts(stream: Any) -> list[Any]:
    """Return the streams that a file consists of, one after the other: the file itself, but for a chained Ogg."""
    parts = ogg.parts_of(stream)
    return [ogg.Part(stream, *part) for part in parts] if len(parts) > 1 else [stream]


def _ends(stream: Any) -> bool:
    """Whether the last page of an Ogg file is whole, and says that it is the last; what is no page may follow it."""
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - 2 * _OGG_PAGE))
    page = stream.read().rpartition(b"OggS")[2]  # version, flags, ..., number of segments, their lengths
    if len(page) < 23 or not page[1] & 4:
        return False
    return len(page) >= 23 + page[22] + sum(page[23 : 23 + page[22]])


def beyond(loudest: float) -> str:
    """Return what is wrong with samples that are not finite, or so large that their power overflows; else nothing.

    >>> beyond(0.5), beyond(1e30)
    ('', 'holds samples far beyond full scale (1e+30)')
    """
    if not math.isfinite(loudest):
        return "holds samples that are no numbers"
    return f"holds samples far beyond full scale ({loudest:g})" if loudest > LOUDEST else ""


def read(path: Path, rate: int, start: float = 0.0, length: float | None = None) -> Samples:
    """Return a file's samples (n,), its channels averaged, at ``rate`` a second.

    Raises:
        DataError: it cannot be read; the message names it.
        MissingExtraError: soundfile is not installed.
    """
    own, *blocks = decoded(path, start, _end(length))
    if not blocks:
        raise DataError(f"{path} holds no sound")
    return resample(np.concatenate(blocks), own, rate)


def _end(length: float | None) -> float:
    return math.inf if length is None else length


def resample(samples: Samples, own: int, rate: int) -> Samples:
    """Return samples (n,) at another rate, band-limited.

    >>> resample(np.zeros(800, np.float32), 8_000, 16_000).shape
    (1600,)
    """
    if own == rate:
        return samples
    from scipy.signal import resample_poly

    shared = math.gcd(own, rate)
    return np.asarray(resample_poly(samples, rate // shared, own // shared), np.float32)


def decoded(path: Path, start: float = 0.0, length: float = math.inf) -> Iterator[Any]:
    """Yield the rate of a file, and then its samples in blocks (n,), its channels averaged.

    What a header says of the length is not believed: blocks are read until none is left.

    Raises:
        DataError: it cannot be read, is no sound file, or a damaged one, or its channels cancel each other, which is
            known at the end; the message names it.
        MissingExtraError: soundfile is not installed.
    """
    heard = _Loudness()
    try:
        with open_regular(path) as stream, contextlib.closing(_decoded(stream, start, length)) as source:
            yield next(source)
            for block in source:
                yield heard.add(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    if heard.cancels:
        raise DataError(f"{path} {CANCELS}")


class _Loudness:
    """The loudest sample so far of the mean of all channels, and of any channel."""

    def __init__(self) -> None:
        self.mean = self.own = 0.0

    @property
    def cancels(self) -> bool:
        """Whether there is sound in the channels, and none in their mean."""
        return self.mean < SILENT <= self.own

    def add(self, block: Samples) -> Samples:
        """Take samples (n, channels), and return their mean (n,)."""
        mean = block.mean(axis=1)
        self.mean = float(np.maximum(self.mean, np.abs(mean).max()))  # NaN stays
        self.own = float(np.maximum(self.own, np.abs(block).max()))
        return mean


def _decoded(stream: Any, start: float, length: float) -> Generator[Any]:
    """Yield the rate, and then the samples in blocks (n, channels)."""
    if not stream.read(1):
        raise DataError("is empty")
    stream.seek(0)
    parts = _parts(stream)
    if len(parts) == 1:
        yield from _decoded_of_one(stream, start, length)
        return
    rate, skipped, left = 0, 0, math.inf
    for part in parts:
        with contextlib.closing(_decoded_of_one(part, 0.0, math.inf)) as source:
            own = next(source)
            if not rate:
                rate, skipped, left = own, round(start * own), _frames(length, own)
                yield rate
            if own != rate:
                raise DataError(f"holds streams of {rate:,} and of {own:,} samples a second: convert it to one rate")
            for block in source:
                kept = block[skipped : None if math.isinf(left) else skipped + int(left)]
                skipped, left = max(0, skipped - len(block)), left - len(kept)
                if len(kept):
                    yield kept
                if left <= 0:
                    return


def _decoded_of_one(stream: Any, start: float, length: float, *, seeks: bool = True) -> Generator[Any]:
    soundfile = require_soundfile()
    try:
        with opened(stream) as (file, _, even):
            if file.format not in _FORMATS:
                raise DataError(f"is a sound file of the format {file.format}, which is none of the known")
            rate = int(file.samplerate)
            if not _RATES[0] <= rate <= _RATES[1]:
                raise DataError(f"says that it has {rate:,} samples a second")
            wanted = round(start * rate)
            jumps = even and seeks
            place = min(wanted, max(file.frames, 0)) if jumps else 0
            if not place or can_seek(file, place):
                # soundfile would seek after every block, to where it is: of an MP3 what follows then is distorted.
                file.seekable = lambda: False
                for block in blocks(file, stream, 0 if jumps else wanted, place):
                    place += len(block)
                yield rate
                yield from blocks(file, stream, _frames(length, rate), place)
                return
        stream.seek(0)
        yield from _decoded_of_one(stream, start, length, seeks=False)
    except DataError:  # a ValueError, which says what it has to say
        raise
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        head = _head(stream)
        if b"shorten" in head:
            raise DataError("is compressed by shorten, as on the LDC's discs: unpack it with sph2pipe -f wav") from None
        raise DataError(f"is no sound file that can be read ({_words(error)})") from None


def _frames(length: float, rate: int) -> float:
    return math.inf if math.isinf(length) else max(1, round(length * rate))


def _head(stream: Any) -> bytes:
    try:
        stream.seek(0)
        return stream.read(1024)
    except (OSError, ValueError):
        return b""


def _words(error: Exception) -> str:
    words = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return " ".join(str(words).split()).rstrip(".")
