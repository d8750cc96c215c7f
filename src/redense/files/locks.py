"""One process in a folder: a lock that goes with the process that holds it, even when that process is killed."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

from redense.errors import StateError

log = logging.getLogger(__name__)

LOCK = ".lock"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)  # by another; any other error says that there are no locks


@contextlib.contextmanager
def locked(folder: Path, what: str | None = None, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold a folder for one process; another waits, or is refused. Gives whether there are such locks here.

    Windows has none of this kind, and some network disks have none: there the work goes on, with a warning for the
    disk.

    Args:
        folder: where the lock lies.
        what: the folder in errors; "with ..." of one that nothing is trained in.
        wait: for another process, or else refuse.
        shared: hold it among others that share it; they keep out only who does not.

    Raises:
        StateError: another process works in it, or nobody can write to it.
    """
    what = what or str(folder)
    try:
        import fcntl
    except ImportError:
        yield False
        return
    try:
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise StateError(f"cannot write to {what.removeprefix('with ')}: {error.strerror}") from None
    with file:
        held = True
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise StateError(f"another process is training {what}: wait for it, or stop it first") from None
            log.warning(
                "the disk of %s has no locks (%s): make sure that no second process works there",
                what.removeprefix("with "),
                error.strerror,
            )
            held = False
        yield held
