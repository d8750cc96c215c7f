"""Every file is looked at once: what was found is kept in the cache, under its name, size, date and last change."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from redense.errors import CheckpointError
from redense.files.opening import open_regular
from redense.files.writing import written_aside
from redense.tasks import catalog

from .layouts.folder import Files
from .pixels import Look, look, require_pillow
from .sets import Encoded, identity, identity_before

log = logging.getLogger(__name__)

OnChecked = Callable[[int, int], None]
"""Called with how many files have been looked at, and how many there are to look at."""

Looks = Callable[[Encoded, str], "Checked"]
"""(files, place) -> the facts of them, see `check`."""

_GREY, _FULL, _FAULT, _TURNED, _FAINT, _BY_PILLOW = 1, 2, 4, 8, 16, 32
_VERSION = 3  # of what is looked for: what another one found is not used, but for what it decoded
_DECODED = 2  # the version whose full checks are still believed
_PLAIN = (b"BM", *(b"P%d" % kind for kind in range(1, 8)))  # first bytes of BMP, PBM, PGM and PPM: pixels as they are
_WHOLE, _WHOLE_PLAIN = 1 << 16, 1 << 29  # bytes of a file up to which all of it is marked
_BLOCKS, _BLOCK = 16, 4096  # of a longer one: how many, of how many bytes
_SAY_SECONDS = 20.0  # between two lines in the log


@dataclass(frozen=True, eq=False)
class Checked:
    """The facts of every file: ``sizes`` int32 (n, 2) are height and width, ``faults`` name the unusable ones.

    ``turned``, bool (n,): its camera noted that it is to be turned, and it is; ``sizes`` are those of then. ``faint``,
    bool (n,): its numbers are of 16 bits of grey and so small that it becomes black, or nearly. ``upright``, bool (n,):
    it is turned, by whomever: fingerprints do not cover a TIFF that is, which Pillow has always turned.

    Files that differ in ``marks``, uint64 (n,), differ: they are of the length and of bytes all over the file.
    """

    sizes: np.ndarray
    grey: np.ndarray
    faults: dict[int, str]
    marks: np.ndarray
    turned: np.ndarray
    faint: np.ndarray
    upright: np.ndarray


def check(files: Encoded, place: str, *, full: bool = False, on_checked: OnChecked | None = None) -> Checked:
    """Look at every file that was not looked at before, as thoroughly as asked.

    A file is known again by its name, size, date and last change, a row of a table by its number and size. What
    ``full`` found stays known: a later quick check repeats it.
    """
    require_pillow()
    keys = _keys(files, identity)
    memory = _Memory(place)
    state, marks, faults = memory.recall(keys)
    unknown = state[:, 2] < 0
    todo = np.flatnonzero(unknown | (state[:, 2] & _FULL == 0) if full else unknown)
    if len(todo):
        decoded = _decoded_before(files, place, todo)
        steps = _progress(len(todo), place, on_checked)
        try:
            for index in todo.tolist():
                seen, marks[index] = _look(files, index, full=full)
                fault = seen.fault or decoded.get(index, "")
                flags = _GREY * seen.grey | _FULL * (full or index in decoded) | _FAULT * bool(fault)
                flags |= _TURNED * seen.turned | _FAINT * seen.faint | _BY_PILLOW * seen.by_pillow
                state[index] = seen.height, seen.width, flags
                faults.pop(index, None)
                if fault:
                    faults[index] = fault
                next(steps)
        finally:  # an hour's work is kept when it is interrupted
            memory.keep(keys, state, marks, faults)
    grey, turned, faint, upright = (state[:, 2] & flags > 0 for flags in (_GREY, _TURNED, _FAINT, _TURNED | _BY_PILLOW))
    return Checked(state[:, :2], grey, dict(sorted(faults.items())), marks, turned, faint, upright)


def turned_note(place: str, upright: np.ndarray) -> list[str]:
    """Return a note on how many of the images of a place are turned, bool (n,); none where none is."""
    count = int(upright.sum())
    return [f"{place}: {count:,} of {len(upright):,} images are turned upright, as their camera noted"] if count else []


def faint_note(place: str, names: Sequence[str], total: int) -> list[str]:
    """Return a note on the images of a place that become black, or nearly, by their names; none where none does."""
    if not names:
        return []
    many = "1 is" if len(names) == 1 else f"{len(names):,} are"
    return [
        f"{place}: of {total:,} images {many} of 16 bits or more of grey, with no number of 4,096 or above, such as "
        f"{names[0]}: of 65,536 shades that is black, or nearly; multiply the numbers, or save them with 8 bits"
    ]


def _look(files: Encoded, index: int, *, full: bool) -> tuple[Look, int]:
    try:
        if isinstance(files, Files):  # most of a file need not be read
            with open_regular(files.path(index)) as stream:
                length = int(files.lengths[index])
                mark = _mark(stream, length)
                stream.seek(0)
                return look(stream, length, full=full), mark
        content = files.read(index)
    except OSError as error:
        return Look(fault=f"cannot be read ({error.strerror or error})"), 0
    return look(io.BytesIO(content), len(content), full=full), _mark(io.BytesIO(content), len(content))


def _decoded_before(files: Encoded, place: str, todo: np.ndarray) -> dict[int, str]:
    """Return the faults, if any, that a full check of an older redense found in files that are the same since."""
    memory = _Memory(place, _DECODED)
    if not memory.path.is_file():
        return {}
    state, _, faults = memory.recall(_keys(files, identity_before))
    return {index: faults.get(index, "") for index in todo.tolist() if state[index, 2] > 0 and state[index, 2] & _FULL}


def _mark(stream: BinaryIO, length: int) -> int:
    """Return a hash of the length and of bytes of a file: all of them, or blocks of a long one.

    The blocks are evenly spread from the first byte to the last. Where pixels are compressed, a change of one moves
    what follows, or a checksum at the end. Plain pixels have nothing of that: BMP, PBM, PGM and PPM, which `look` reads
    to their ends, are marked as a whole.
    """
    digest = hashlib.blake2b(b"%d " % length, digest_size=8)
    stream.seek(0)
    whole = length <= _WHOLE or (stream.read(2) in _PLAIN and length <= _WHOLE_PLAIN)
    for place in range(0, length, _WHOLE) if whole else np.linspace(0, length - _BLOCK, _BLOCKS).astype(int).tolist():
        stream.seek(place)
        digest.update(stream.read(_WHOLE if whole else _BLOCK))
    return int.from_bytes(digest.digest(), "big")


def _keys(files: Encoded, known_by: Callable[[Encoded, int], str]) -> np.ndarray:
    texts = (known_by(files, index).encode("utf-8", "surrogateescape") for index in range(len(files)))
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _progress(total: int, place: str, on_checked: OnChecked | None) -> Iterator[None]:
    said = time.monotonic()
    for done in range(1, total + 1):
        if on_checked and (done % 200 == 0 or done == total):
            on_checked(done, total)
        elif not on_checked and time.monotonic() - said > _SAY_SECONDS:
            log.warning("%s: looking at every image, once: %s of %s", place, f"{done:,}", f"{total:,}")
            said = time.monotonic()
        yield


class _Memory:
    """The known facts of the files of one place: plain arrays in a file of the cache."""

    def __init__(self, place: str, version: int | None = None) -> None:
        name = hashlib.sha256(f"{version or _VERSION}\0{place}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self.path = catalog.cache_dir() / "checked" / f"{name}.npz"

    def recall(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Return int32 (n, 3), height, width and flags, the flags of the unknown -1; marks (n,); the known faults."""
        state = np.full((len(keys), 3), -1, np.int32)
        marks = np.zeros(len(keys), np.uint64)
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                known, values, known_marks = kept["keys"], kept["state"], kept["marks"]
                words: dict[str, Any] = json.loads(kept["faults"].tobytes())
            places = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
            found = known[places] == keys if len(known) else np.zeros(len(keys), bool)
            state[found], marks[found] = values[places[found]], known_marks[places[found]]
            broken = np.flatnonzero((state[:, 2] > 0) & (state[:, 2] & _FAULT > 0)).tolist()
            return state, marks, {index: str(words[str(keys[index])]) for index in broken}
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            log.info("%s is damaged (%s): the images are looked at again", self.path, error)
            state[:] = -1
        return state, marks, {}

    def keep(self, keys: np.ndarray, state: np.ndarray, marks: np.ndarray, faults: dict[int, str]) -> None:
        known = np.flatnonzero(state[:, 2] >= 0)
        known = known[np.argsort(keys[known], kind="stable")]
        words = json.dumps({str(keys[index]): text for index, text in faults.items()})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self.path) as aside, aside.open("wb") as file:
                np.savez(
                    file,
                    keys=keys[known],
                    state=state[known],
                    marks=marks[known],
                    faults=np.frombuffer(words.encode(), np.uint8),
                )
        except (OSError, CheckpointError) as error:  # it is only quicker with it
            log.info("cannot keep what is known of the images: %s", error)
