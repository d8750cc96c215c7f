"""Writing files so that a kill or a power cut at any moment leaves either the old file or the new one.

A file is written aside, synced, renamed, and its folder is synced.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from redense.errors import CheckpointError

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one whole.

    Raises:
        CheckpointError: it cannot be written.
    """
    with written_aside(path) as temporary:
        temporary.write_bytes(data)


def write_unsynced(path: Path, data: bytes) -> None:
    """Write a file of a cache whole or not at all, without waiting for the disk.

    After a power cut it may be there and hold anything: for what has its checksum in itself and can be made anew.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _replacing(path, sync=False) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8 as `write_bytes` does; the odd bytes of a name that is no UTF-8 become ``\udce9``."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_again(path: Path, written: Path) -> None:
    """Give a file that `write_bytes` wrote a second name, atomically; where there are no hard links, a copy has it.

    Raises:
        CheckpointError: it cannot be done.
    """
    with _replacing(path) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(written)
        except OSError:
            temporary.write_bytes(written.read_bytes())
            _sync(temporary)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give the name of a file that the caller writes; at the end it is synced and takes the place of ``path``.

    For what writes by itself (safetensors, NumPy, line by line). If the caller fails, nothing is left.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _replacing(path) as temporary:
        yield temporary
        _sync(temporary)


@contextlib.contextmanager
def _replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot write {path}: {reason}; what was there before is untouched") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_half_written(path: Path) -> bool:
    """Whether a name is one that `write_bytes` gives to what it has not finished: ``.NAME.PROCESS``."""
    return path.name.startswith(".") and path.name.rpartition(".")[2].isdigit()


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half written in a folder that this one holds."""
    for path in folder.glob(".*"):
        if is_half_written(path):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be synced
        try:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:  # the file is there; some disks of others, and folders that nobody may list, refuse
            if error.errno not in _NO_SYNC:
                raise
