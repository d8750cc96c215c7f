"""Opening files that others name: only regular files are opened, and what is read at once has a largest size.

A pipe that nobody writes to never answers, `/dev/zero` never ends, and both can stand in a list or under the name of a
recipe. Whatever reads a file that a user or a stranger named opens it here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TextIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return a path in which ``~`` is a home: of ``--out=~/runs`` no shell makes it one, nor Python of a text.

    >>> at_home("~/runs") == Path.home() / "runs", str(at_home("./~"))
    (True, '~')
    """
    try:
        return Path(path).expanduser() if os.fspath(path).startswith("~") else Path(path)
    except RuntimeError:  # ~ of a user who is not here
        return Path(path)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file for reading bytes, without waiting for anybody.

    Raises:
        OSError: there is none, or it is a folder, a pipe, a socket or a device; the error says which.
    """
    path = Path(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check(path.stat(), path)  # before it is opened: to open a device can do something
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"no name of a file: {error}", str(path)) from None
    try:
        _check(os.fstat(descriptor), path)  # which may be another by now
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_text(path: Path | str, newline: str | None = None) -> TextIO:
    """Open a regular file for reading text in UTF-8, with a mark of byte order or without, as `open_regular` does.

    Raises:
        OSError: there is none, or it is none.
    """
    return io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline=newline)


def is_regular(path: Path | str) -> bool:
    """Whether a name stands for a regular file, perhaps by way of a link."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, or is none, or is larger.
    """
    with open_regular(path) as file:
        if limit is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size  # asked first: Python makes room for as much as it is told to read
        data = file.read() if size <= limit else b""
        if max(size, len(data)) > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes are too many, expected at most {limit:,}", str(path))
        return data


def read_text(path: Path | str, limit: int | None = None) -> str:
    """Return the text of a regular file in UTF-8 of at most ``limit`` bytes; line ends become newlines.

    Raises:
        OSError: it cannot be read, or is no regular file, or is larger.
        UnicodeDecodeError: it is no UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        number = errno.EISDIR if kind == "a folder" else errno.EINVAL
        raise OSError(number, f"is {kind}, expected a file", str(path))


def nowhere() -> TextIO:
    """Return a stream for text that nobody reads."""
    return Path(os.devnull).open("w", encoding="utf-8")


def descriptor_of(stream: IO[Any]) -> int | None:
    """Return the number by which the system knows a stream, or nothing for one in memory or closed."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def hush(stream: IO[Any]) -> None:
    """Send what is still written to a stream nowhere: its reader has gone, and Python would complain again at exit."""
    descriptor = descriptor_of(stream)
    if descriptor is None:  # it fails by itself
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
