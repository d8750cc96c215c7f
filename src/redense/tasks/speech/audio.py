"""Sound files: what is in them, and their samples at the rate that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redense.errors import DataError, MissingExtraError
from redense.files.opening import open_regular, read_bytes
from redense.optional.extras import refuse_folder

from .data import mp3

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".wv1", ".wv2", ".aiff", ".aif", ".au")
"""Endings of sound files that the library behind `soundfile` reads."""

Samples = NDArray[np.float32]

# As libsndfile calls them: it knows some twenty more, which nobody keeps speech in.
_MPEG = ("MP3", "MPEG")
_FORMATS = frozenset((*_MPEG, "WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "NIST", "AIFF", "AU"))
_BLOCK = 1 << 16  # numbers read at once: a header may claim any length
_RATES = (1_000, 384_000)
_OPEN_END = (1 << 31) - (1 << 20)  # bytes or frames; a length that is not known is the largest, less the header
# In libsndfile's log, which goes by the length of the file where that is not what the header says.
_SHOULD_BE = re.compile(r"\b(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)")
_FRAMES_SAID = re.compile(r"does not match value from 'ds64' chunk of (\d+)")
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most: head, lengths of segments, segments (RFC 3533)
_NIST_HEAD = 1 << 14  # bytes; it says itself how long it is, mostly 1,024
SILENT = 1e-4  # of full scale: 80 dB below it
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
    try:
        rate, *blocks = _decoded(io.BytesIO(content), start, min(_end(length), longest + 1.0))
    except DataError as error:
        return Sound(digest=digest, fault=str(error))
    if not blocks:
        return Sound(digest=digest, fault="holds no sound" if not start else f"ends before second {start:g}")
    samples = np.concatenate(blocks)
    seconds = len(samples) / rate
    loudest = float(np.abs(samples).max())
    if fault := beyond(loudest):
        return Sound(seconds, digest, fault)
    if loudest < SILENT:
        return Sound(seconds, digest, "is silent")
    announced, endless = _announced(io.BytesIO(content))
    if endless:  # what was made of the beginning alone is not taken for it
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
    """Return the seconds that the header of a file announces, and whether it holds more, as `_opened` says.

    They are 0 where a program that streams has left them open, and infinite where the end is missing and there is no
    number.
    """
    with _opened(stream) as (file, endless, _):
        frames, log = file.frames, file.extra_info
        if endless or frames >= _OPEN_END:
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
        return frames / file.samplerate if frames < _OPEN_END else 0.0, False


def _ends(stream: Any) -> bool:
    """Whether the last page of an Ogg file is whole, and says that it is the last; what is no page may follow it."""
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - 2 * _OGG_PAGE))
    page = stream.read().rpartition(b"OggS")[2]  # version, flags, ..., number of segments, their lengths
    if len(page) < 23 or not page[1] & 4:
        return False
    return len(page) >= 23 + page[22] + sum(page[23 : 23 + page[22]])


@contextlib.contextmanager
def _opened(stream: Any) -> Iterator[tuple[Any, bool, bool]]:
    """Give a sound file, and two facts that are of an MP3 alone.

    The first is whether it holds more than libsndfile would give of it: then all of it is given. The second is whether
    a place in it can be found without decoding what is before.
    """
    soundfile = require_soundfile()
    with soundfile.SoundFile(_Careful(stream)) as file:
        frames = mp3.frames_of(stream) if file.format in _MPEG else None
        if frames is None or not frames.has_more(file.frames):
            yield file, False, frames is None or frames.even
            return
    with soundfile.SoundFile(_Careful(mp3.Endless(stream, frames.start))) as file:
        yield file, True, False


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
        DataError: it cannot be read, is no sound file, or a damaged one; the message names it.
        MissingExtraError: soundfile is not installed.
    """
    try:
        with open_regular(path) as stream:
            yield from _decoded(stream, start, length)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def _decoded(stream: Any, start: float, length: float) -> Iterator[Any]:
    soundfile = require_soundfile()
    if not stream.read(1):
        raise DataError("is empty")
    stream.seek(0)
    try:
        with _opened(stream) as (file, _, even):
            if file.format not in _FORMATS:
                raise DataError(f"is a sound file of the format {file.format}, which is none of the known")
            rate = int(file.samplerate)
            if not _RATES[0] <= rate <= _RATES[1]:
                raise DataError(f"says that it has {rate:,} samples a second")
            if start and even:
                file.seek(min(round(start * rate), max(file.frames, 0)))
            # soundfile would seek after every block, to where it is: of an MP3 what follows then is distorted.
            file.seekable = lambda: False
            for _ in _blocks(file, 0 if even else round(start * rate)):
                pass
            yield rate
            yield from _blocks(file, math.inf if math.isinf(length) else max(1, round(length * rate)))
    except DataError:  # a ValueError, which says what it has to say
        raise
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        head = _head(stream)
        if b"shorten" in head:
            raise DataError("is compressed by shorten, as on the LDC's discs: unpack it with sph2pipe -f wav") from None
        raise DataError(f"is no sound file that can be read ({_words(error)})") from None


def require_soundfile() -> Any:
    """Return the module soundfile.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import soundfile

        refuse_folder(soundfile)
    except (ImportError, OSError) as error:  # OSError: the C library behind it is missing
        raise MissingExtraError(f"sound files need soundfile ({error}): pip install 'redense[speech]'") from error
    return soundfile


class _Careful:
    """A stream for libsndfile, which seeks wherever a damaged header says; soundfile would show a traceback of that."""

    def __init__(self, stream: Any) -> None:
        self.read, self.tell, self._stream = stream.read, stream.tell, stream

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(OSError, ValueError, OverflowError):  # where it is says that it failed
            self._stream.seek(offset, whence)
        return self._stream.tell()


def _blocks(file: Any, frames: float) -> Iterator[Samples]:
    most = max(1, _BLOCK // max(1, file.channels))
    while frames > 0:
        block = file.read(int(min(most, frames)), dtype="float32", always_2d=True)
        if not len(block):
            return
        frames -= len(block)
        yield block.mean(axis=1)


def _head(stream: Any) -> bytes:
    try:
        stream.seek(0)
        return stream.read(1024)
    except (OSError, ValueError):
        return b""


def _words(error: Exception) -> str:
    words = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return " ".join(str(words).split()).rstrip(".")
