"""Room in the cache for pictures that take long to decode: which are worth it, and whether the disk has the space."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from redense.tasks import catalog
from redense.tasks.caches import PICTURES

from .kept import Kept
from .sets import EncodedSet
from .transforms import Preparation

_SPARED, _MOST_SPARED = 0.05, 5e9  # of the disk, for others; bytes


def room_for(parts: Sequence[tuple[EncodedSet, Preparation]], limit: float, place: str) -> tuple[Kept | None, str]:
    """Return where the large pictures of these splits are kept, and a sentence if there is no room for new ones.

    Args:
        parts: splits, and what is done to their pictures.
        limit: bytes that the cache of pictures may have; 0: nothing is kept.
        place: what a user calls the set.
    """
    large = [(images, preparation, large_ones(images, preparation)) for images, preparation in parts]
    needed = sum(int(preparation.bytes_of(images)[chosen].sum()) for images, preparation, chosen in large)
    if not limit or not needed:
        return None, ""
    kept = Kept(catalog.cache_dir() / PICTURES.name)
    there = PICTURES.size()
    if there + needed > limit:  # some of it may be there already
        for images, preparation, chosen in large:
            own = preparation.bytes_of(images)
            needed -= sum(int(own[i]) for i in chosen.tolist() if kept.has(images.identity(i), preparation.name))
    free = _free(kept.folder)
    if there + needed > limit:
        why = f"{_said(there)} are there and data.cache_gb is {limit / 1e9:g}"
    elif free is not None and needed > free:
        why = f"the disk has {_said(max(free, 0))} to spare, beside what it needs for others"
    else:
        return kept, ""
    return Kept(kept.folder, writes=False), (
        f"{place}: decoded pictures are not kept: {_said(needed)} more would be needed, {why}"
    )


def large_ones(images: EncodedSet, preparation: Preparation) -> np.ndarray:
    """Return the numbers of the pictures of a split that are worth keeping: int64 (k,)."""
    return np.flatnonzero(preparation.is_large(images.sizes))


def fill(images: EncodedSet, preparation: Preparation, *, threads: int, on_done: Callable[[], None]) -> int:
    """Keep every large picture of a split, and return how many there are.

    Raises:
        BrokenImageError: one cannot be decoded.
    """
    chosen = large_ones(images, preparation).tolist()

    def one(index: int) -> None:
        preparation.picture(images, index)
        on_done()

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:  # decoding leaves Python's lock to others
        for _ in pool.map(one, chosen):
            pass
    return len(chosen)


def _said(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _free(folder: Path) -> int | None:
    """Return the bytes that may be written to a disk, if it tells."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        usage = shutil.disk_usage(place) if place else None
    except OSError:
        return None
    return None if usage is None else usage.free - int(min(_SPARED * usage.total, _MOST_SPARED))
