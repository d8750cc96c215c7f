"""The caches of redense: the content and size of each kind, and how to clear it.

All of it can be made anew: clearing costs time, no result. Every kind is checked by a checksum when it is read.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError, nearest

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
        """Remove it, and return how many bytes that were; what is open stays readable to who has it open.

        Raises:
            DataError: it cannot be removed.
        """
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
