"""Sound files as libsndfile opens them: blocks of samples, and what it has to be helped with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redense.errors import MissingExtraError
from redense.optional.extras import refuse_folder

from . import flac, mp3

Samples = NDArray[np.float32]

MPEG = ("MP3", "MPEG")
"""Formats of libsndfile whose frames are counted here."""
OPEN_END = (1 << 31) - (1 << 20)
"""Bytes or frames; a length that is not known is the largest, less the header."""
_BLOCK = 1 << 16  # numbers read at once: a header may claim any length
_LOST_SYNC = 158  # libsndfile's number of the error that the next frame of a FLAC is none


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


@contextlib.contextmanager
def opened(stream: Any) -> Iterator[tuple[Any, bool, bool]]:
    """Give a sound file, and two facts that are of an MP3 alone.

    The first is whether it holds more than libsndfile would give of it: then all of it is given. The second is whether
    a place in it can be found without decoding what is before.
    """
    soundfile = require_soundfile()
    with soundfile.SoundFile(_Careful(stream)) as file:
        frames = mp3.frames_of(stream) if file.format in MPEG else None
        if frames is None or not frames.has_more(file.frames):
            yield file, False, frames is None or frames.even
            return
    with soundfile.SoundFile(_Careful(mp3.Endless(stream, frames.start))) as file:
        yield file, True, False


def can_seek(file: Any, frame: int) -> bool:
    """Go to a frame of a sound file, and return whether that was possible: with GSM 6.10 it never is."""
    soundfile = require_soundfile()
    try:
        file.seek(frame)
    except soundfile.LibsndfileError:
        return False
    return True


def blocks(file: Any, stream: Any, frames: float, place: int) -> Iterator[Samples]:
    """Yield the next samples of a sound file at frame ``place``, at most so many, in blocks (n, channels)."""
    most = max(1, _BLOCK // max(1, file.channels))
    while frames > 0:
        size = int(min(most, frames))
        if file.format == "FLAC":
            block = _flac_block(file, stream, size, place)
        else:
            block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            return
        frames -= len(block)
        place += len(block)
        yield block


def _flac_block(file: Any, stream: Any, frames: int, place: int) -> Samples:
    """Return the next samples of a FLAC file, also the last ones before the place at which it was cut off."""
    soundfile = require_soundfile()
    block = np.full((frames, file.channels), np.nan, np.float32)  # a FLAC holds no such samples
    try:
        return file.read(out=block)
    except soundfile.LibsndfileError as error:
        block = block[: int(np.isnan([*block[:, 0], np.nan]).argmax())]
        end = place + len(block)
        if error.code == _LOST_SYNC and end and 0 < file.frames < OPEN_END and flac.is_cut(stream, end):
            return block
        raise


class _Careful:
    """A stream for libsndfile, which seeks wherever a damaged header says; soundfile would show a traceback of that."""

    def __init__(self, stream: Any) -> None:
        self.read, self.tell, self._stream = stream.read, stream.tell, stream

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(OSError, ValueError, OverflowError):  # where it is says that it failed
            self._stream.seek(offset, whence)
        return self._stream.tell()
