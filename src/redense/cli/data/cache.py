"""`redense data cache`: what is kept so as not to be made twice, how it is filled beforehand, and how it is cleared."""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

from redense.cli.terminal.printing import answer, say, say_line
from redense.errors import RedenseError

from .check import section_of


def show_or_clear(options: argparse.Namespace) -> int:
    """Print the caches with their sizes, or clear one, or all; return the exit code."""
    from redense.tasks import catalog
    from redense.tasks.caches import CACHES, find_cache

    if options.clear is not None:
        cleared: dict[str, int] = {}
        for cache in CACHES if options.clear == "all" else [find_cache(options.clear)]:
            cleared[cache.name] = cache.clear()
            if not options.json:
                say(f"{cache.name}: {_size(cleared[cache.name])} cleared")
        return answer({"folder": str(catalog.cache_dir()), "cleared": cleared}) if options.json else 0
    sizes = {cache.name: cache.size() for cache in CACHES}
    if options.json:
        return answer({"folder": str(catalog.cache_dir()), "bytes": sizes})
    for cache in CACHES:
        say(f"{cache.name:<14}{_size(sizes[cache.name]):>9}  {cache.about}")
    say(f"kept in {catalog.cache_dir()}; all of it can be made anew: redense data cache --clear NAME, or all")
    return 0


def fill_cache(options: argparse.Namespace, place: str) -> int:
    """Decode the large pictures of a set and keep them as training with these settings needs them.

    Raises:
        RedenseError: nothing would be kept with these settings.
    """
    from redense.cli.terminal.screen import bar
    from redense.tasks.caches import used
    from redense.tasks.classification.data.loading import divide_images, preparations, with_cache
    from redense.tasks.classification.data.reading import read_images
    from redense.tasks.classification.data.room import fill, large_ones
    from redense.tasks.classification.data.sets import EncodedSet

    if options.task not in (None, "classification"):
        raise RedenseError(
            f"a cache is filled with pictures of classes, got --task {options.task}; run fills the others"
        )
    data: Any = section_of("classification", options, place)
    if data.size is None:
        raise RedenseError("pictures are kept as the network sees them: give its size too, for example --data.size 224")
    began = time.monotonic()
    with used(), bar("looking at every image") as show:
        found = read_images(data, on_checked=show)
        splits = with_cache(divide_images(data, found), data)
        for note in () if options.json else splits.notes:
            say_line(f"note: {note}")
        parts = [(part, how) for part, how in preparations(splits, data) if isinstance(part, EncodedSet) and part.kept]
        if any(part.kept and not part.kept.writes for part, _ in parts):
            raise RedenseError("there is no room: raise --data.cache_gb, or redense data cache --clear pictures")
        total = sum(len(large_ones(part, how)) for part, how in parts)
        show(0, total, "decoding")
        done = itertools.count(1)
        count = sum(
            fill(part, how, threads=data.workers, on_done=lambda: show(next(done), total)) for part, how in parts
        )
    seconds = time.monotonic() - began
    if options.json:
        return answer({"path": place, "kept": count, "seconds": round(seconds, 3), "notes": splits.notes})
    if not count:
        say("nothing to keep: no picture is so much larger than the network's that it would be quicker")
        return 0
    say(f"{count:,} pictures are kept, {seconds:.0f} s; the same settings train from them")
    return 0


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
