"""Every clip is listened to once: what was found is kept in the cache, under its file's name, size and dates."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from typing import Any

from redense.errors import CheckpointError
from redense.files.checksums import sha256
from redense.files.json_text import read_json
from redense.files.writing import write_text
from redense.tasks import catalog
from redense.tasks.speech.audio import Sound, look

from .clips import Clip

log = logging.getLogger(__name__)

OnDone = Callable[[int, int], None]
"""Called with how many clips are done, and how many there are to do."""

_SAY_SECONDS = 20.0  # between two lines in the log
_VERSION = 4  # of what is kept


def listen(clips: Sequence[Clip], place: str, longest: float, on_done: OnDone | None = None) -> list[Sound]:
    """Return what is in every clip; files that were heard before are not opened again."""
    memory = _Memory(place)
    keys = [_key(clip, longest) for clip in clips]
    found = [memory.known.get(key) if key else None for key in keys]
    steps = progress("listening to every clip, once", found.count(None), place, on_done)
    heard: list[Sound] = []
    try:
        for clip, key, sound in zip(clips, keys, found, strict=True):
            heard.append(sound or look(clip.path, clip.start, clip.length, longest))
            if sound is None:
                next(steps)
                memory.add(key, heard[-1])
    finally:  # an hour's work is kept when it is interrupted
        memory.keep()
    return heard


def progress(what: str, total: int, place: str, on_done: OnDone | None = None) -> Iterator[None]:
    """Say how far it is at every ``next``: to ``on_done``, else to the log now and then."""
    said = time.monotonic()
    for done in range(1, total + 1):
        if on_done:
            on_done(done, total)
        elif time.monotonic() - said > _SAY_SECONDS:
            log.warning("%s: %s: %s of %s", place, what, f"{done:,}", f"{total:,}")
            said = time.monotonic()
        yield


def _key(clip: Clip, longest: float) -> str:
    try:
        seen = clip.path.stat()
    except (OSError, ValueError):
        return ""  # it may be there the next time
    text = f"{_VERSION}\0{clip.path}\0{clip.start}\0{clip.length}\0{longest}\0{seen.st_size}\0{seen.st_mtime_ns}"
    text += f"\0{seen.st_ctime_ns}"  # which no copy and no archive sets as they set the date
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


class _Memory:
    """The known facts of the clips of one place."""

    def __init__(self, place: str) -> None:
        name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self.path = catalog.cache_dir() / "heard" / f"{name}.json"
        self.known: dict[str, Sound] = {}
        self.changed = False
        try:
            kept = read_json(self.path)
            if kept["sha256"] != _sum(kept["clips"]):
                raise ValueError("its checksum is another")
            self.known = {key: Sound(*values) for key, values in kept["clips"].items()}
        except FileNotFoundError:
            pass
        except (ArithmeticError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
            log.info("%s is damaged (%s): the clips are listened to again", self.path, error)

    def add(self, key: str, sound: Sound) -> None:
        if key:
            self.known[key] = sound
            self.changed = True

    def keep(self) -> None:
        if not self.changed:
            return
        clips = {key: astuple(sound) for key, sound in self.known.items()}
        text = json.dumps({"sha256": _sum(clips), "clips": clips})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, text)
        except (OSError, CheckpointError) as error:  # it is only quicker with it
            log.info("cannot keep what is known of the clips: %s", error)


def _sum(clips: Any) -> str:
    return sha256(json.dumps(clips).encode())
