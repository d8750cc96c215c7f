"""The caches of redense: the content and size of each kind, and how to clear it.

All of it can be made anew: clearing costs time, no result. Every kind is checked by a checksum when it is read.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError, StateError, nearest
from redense.files.locks import locked

from .catalog import cache_dir
from .fetching.packages import bytes_below


@dataclass(frozen=True)
class Cache:
    """One kind of what is kept: the name of its folder in the cache, and one line about it."""

    name: str
    about: str

    @property
    def folder(self) -> Path:
        """The folder of the cache."""
        return cache_dir() / self.name

    def size(self) -> int:
        """Return its bytes."""
        return bytes_below(self.folder)

    def clear(self) -> int:
        """Remove it, and return how many bytes that were.

        Raises:
            DataError: it cannot be removed.
            StateError: another process trains from the caches.
        """
        with _alone():
            size = self.size()
            gone = self.folder.with_name(f".{self.name}-{uuid.uuid4().hex[:8]}")
            try:
                self.folder.rename(gone)  # at once: nobody sees half of it
                shutil.rmtree(gone)
            except FileNotFoundError:
                return 0
            except OSError as error:
                raise DataError(f"cannot clear {self.folder}: {error.strerror or error}") from None
            return size


PICTURES = Cache("pictures", "large pictures, decoded and brought to size")
CACHES = (
    PICTURES,
    Cache("features", "what a CNN sees in pictures with captions"),
    Cache("spectrograms", "spectrograms of recordings"),
    Cache("checked", "which files of sets were looked at, and what was found"),
    Cache("heard", "which recordings were listened to, and what was found"),
)


def find_cache(name: str) -> Cache:
    """Return the cache of a name.

    Raises:
        DataError: there is none.
    """
    known = {cache.name: cache for cache in CACHES}
    if name not in known:
        raise DataError(f"no cache is called {name!r}, expected {', '.join(known)} or all{nearest(name, known)}")
    return known[name]


# --- in use ---------------------------------------------------------------------------------------------------------

_mutex = threading.Lock()
_held: dict[Path, tuple[contextlib.ExitStack, int]] = {}  # folder of the caches -> its lock, and how many use it here
_over = deque[Path]()  # folders that one each uses no more: a finalizer may not wait for the mutex, see `_tidy`


def used_by(thing: object) -> None:
    """Hold the caches for as long as a thing that reads from them lives: no other process clears them meanwhile."""
    folder = _hold()
    try:
        weakref.finalize(thing, _let_go, folder)
    except TypeError:  # of a task of others that takes no weak references: until the process ends
        return


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Hold the caches among others that use them."""
    folder = _hold()
    try:
        yield
    finally:
        _let_go(folder)


def _hold() -> Path:
    folder = cache_dir()
    with _one_at_a_time():
        stack, count = _held.get(folder) or (_shared(folder), 0)
        _held[folder] = stack, count + 1
    return folder


def _let_go(folder: Path) -> None:
    _over.append(folder)
    _tidy()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    try:
        with _mutex:
            yield
    finally:
        _tidy()


def _tidy() -> None:
    """Let go of what is used no more, or leave it to whoever has the mutex, and comes here after it.

    That may be this very thread: Python collects things, and calls what was to be called then, in the midst of
    anything, also of what is done under the mutex.
    """
    while _over and _mutex.acquire(blocking=False):
        try:
            while _over:
                folder = _over.popleft()
                stack, count = _held.pop(folder)
                if count > 1:
                    _held[folder] = stack, count - 1
                else:
                    stack.close()
        finally:
            _mutex.release()


def _shared(folder: Path) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    with contextlib.suppress(OSError, StateError):  # who can only read it can only hope
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(folder, wait=True, shared=True))
    return stack


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the caches for this process alone.

    Raises:
        StateError: another process uses them.
    """
    folder = cache_dir()
    with _one_at_a_time():
        own = _held.get(folder)
        if own:
            own[0].close()
        try:
            with locked(folder, f"with what is kept in {folder}") if folder.is_dir() else contextlib.nullcontext():
                yield
        finally:
            if own:
                _held[folder] = _shared(folder), own[1]
