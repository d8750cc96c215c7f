"""The data that redense fetches by name, with Debian's package tools and no root, into its own cache.

A new source is one entry of ``SOURCES``. Nothing here imports torch: ``redense data list`` stays instant.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redense.errors import DataError, nearest

OnProgress = Callable[[str, float], None]
"""Called with what is being done now, and how much of that is done, in [0, 1]."""

Status = Literal["ready", "broken", "absent"]

SYSTEM_ROOT = Path("/")
"""Where packages that the machine's owner installed lie."""


@dataclass(frozen=True)
class File:
    """A file of a source; the checksum decides whether it is the right one."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A data set that can be fetched by name: ``files`` lie in the folder ``inside`` of a Debian package."""

    name: str
    description: str
    licence: str
    megabytes: float
    package: str
    inside: str
    files: tuple[File, ...]


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="fashion-mnist",
            description="28x28 grey photographs of clothes, ten classes: 60,000 to train, 10,000 to test",
            licence="MIT, Zalando SE",
            megabytes=30.9,
            package="dataset-fashion-mnist",
            inside="usr/share/datasets/fashion-mnist",
            files=(
                File(
                    "train-images-idx3-ubyte.gz",
                    26_421_856,
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                ),
                File(
                    "train-labels-idx1-ubyte.gz",
                    29_491,
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                ),
                File(
                    "t10k-images-idx3-ubyte.gz",
                    4_422_079,
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                ),
                File(
                    "t10k-labels-idx1-ubyte.gz",
                    5_125,
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
        ),
    )
}


def find(name: str) -> Source:
    """Return the source of that name.

    >>> find("fashion-mnist").package
    'dataset-fashion-mnist'

    Raises:
        DataError: There is none; the message names the nearest one.
    """
    if name not in SOURCES:
        known = ", ".join(sorted(SOURCES))
        raise DataError(f"no data set is called {name!r}, expected one of {known}{nearest(name, SOURCES)}")
    return SOURCES[name]


def cache_dir() -> Path:
    """Return ``$REDENSE_CACHE``, else ``$XDG_CACHE_HOME/redense``, else ``~/.cache/redense``."""
    if own := os.environ.get("REDENSE_CACHE"):
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (shared if shared.is_absolute() else Path("~/.cache").expanduser()) / "redense"


def locate(source: Source) -> Path | None:
    """Return the folder that holds ``source``: the cache's, or the installed package's; None if neither does.

    Only names and sizes are looked at, so that this is instant; ``check`` reads the bytes.
    """
    for folder in (cache_dir() / source.name, SYSTEM_ROOT / source.inside):
        if all(_size(folder / file.name) == file.size for file in source.files):
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


def get(source: Source, on_progress: OnProgress | None = None) -> Path:
    """Fetch ``source`` into the cache unless it is there and whole, and return its folder.

    The package is downloaded and unpacked beside its final place, its files are checked, and one rename makes
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
        with _locked(cache / f".{source.name}.lock"):
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
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise DataError(
            f"{source.name} comes from the Debian package {source.package}, but this system has no "
            f"{' and no '.join(missing)}; get the data yourself and use --data PATH, or --data hub:OWNER/NAME"
        )


def _fetch(source: Source, scratch: Path, say: OnProgress) -> Path:
    """Download, unpack and check; return a folder inside ``scratch`` with exactly the files of ``source``."""
    package = _download(source, scratch, say)
    say(f"unpacking {source.package}", 0.0)
    unpacked = scratch / "unpacked"
    done, words = _run(["dpkg", "-x", str(package), str(unpacked)], scratch)
    if not done:
        raise DataError(f"cannot unpack the Debian package {source.package}: {words}; try again")
    say(f"checking {source.name}", 0.0)
    if fault := _fault(source, unpacked / source.inside):
        raise DataError(
            f"the Debian package {source.package} is not the one that redense knows: {fault}; "
            "try again, or get the data yourself and use --data PATH"
        )
    ready = scratch / "ready"
    ready.mkdir()
    for file in source.files:
        shutil.copyfile(unpacked / source.inside / file.name, ready / file.name)  # a copy: it may be a link
    say(f"checking {source.name}", 1.0)
    return ready


def _download(source: Source, scratch: Path, say: OnProgress) -> Path:
    folder, lists = scratch / "package", scratch / "lists"
    folder.mkdir()
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]
    # Root's downloads run as the user _apt, who cannot write here; without root the option has no effect.
    apt += ["-o", "APT::Sandbox::User=root"]
    # apt's own caches describe the system's lists, and must not be rewritten from ours.
    apt += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]

    def attempt(options: list[str]) -> tuple[Path | None, str]:
        for left in folder.iterdir():
            left.unlink() if left.is_file() else shutil.rmtree(left)

        def watch() -> None:
            say(f"downloading {source.package}", min(1.0, _bytes_below(folder) / (source.megabytes * 1e6)))

        done, words = _run([*apt, *options, "download", source.package], folder, watch)
        packages = sorted(folder.glob("*.deb"))
        return (packages[0] if done and len(packages) == 1 else None), words

    package, words = attempt([])
    if package is None:
        # No package lists (a bare container), or old ones that name a version that is gone: take our own.
        (lists / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={lists}"]
        say("updating the package lists", 0.0)
        # Its exit status says nothing: one dead third-party source fails it. The second attempt decides.
        _, update_words = _run([*apt, *private, "update"], folder)
        package, words = attempt(private)
        words = f"{words}; {update_words}"
    if package is None:
        raise DataError(
            f"cannot download the Debian package {source.package}: {words}; check the network and "
            "apt's sources, or get the data yourself and use --data PATH, or --data hub:OWNER/NAME"
        )
    return package


def _run(command: list[str], folder: Path, watch: Callable[[], None] | None = None) -> tuple[bool, str]:
    """Run ``command`` in ``folder``; return whether it succeeded, and its last line of complaint."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                if watch is not None:
                    watch()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        except BaseException:  # Ctrl-C above all: a download must not go on in a folder that is gone
            process.terminate()
            process.wait()
            raise
        if watch is not None:
            watch()
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    # An update without a network succeeds, with warnings; they are what the reader needs then.
    complaints = [line[3:] for mark in ("W: ", "E: ") for line in lines if line.startswith(mark)]
    words = next(reversed(complaints or lines), f"exit status {process.returncode}")
    return process.returncode == 0, words.rstrip(".")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where there is no apt-get either

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fault(source: Source, folder: Path) -> str | None:
    """Say what is wrong with the files of ``source`` in ``folder``, or None."""
    for file in source.files:
        path = folder / file.name
        if not path.is_file():
            return f"{file.name} is missing"
        if path.stat().st_size != file.size:
            return f"{file.name} has {path.stat().st_size:,} bytes, expected {file.size:,}"
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            return f"{file.name} has sha256 {digest[:12]}..., expected {file.sha256[:12]}..."
    return None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # apt renames what it has finished
            total += path.lstat().st_size
    return total
