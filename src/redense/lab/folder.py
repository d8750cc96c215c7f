"""Folders of runs and comparisons: making one, taking one back, reading what it holds."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from redense.errors import StateError
from redense.files.json_text import read_json as read_any_json
from redense.files.locks import locked
from redense.files.opening import at_home
from redense.files.visible import visible_line
from redense.files.writing import is_half_written

from .ranks.launch import launch_id, restarted

STARTED = "started.json"


def new_folder(out: Path | None, name: str, root: Path = Path("runs"), *, left: Collection[str] = ()) -> Path:
    """Make a folder and return it: ``out``, or one named after ``name`` and the time below ``root``.

    Of several that are made in one second, even by several processes, each gets a number of its own.

    Args:
        out: the folder.
        name: of a folder below ``root``.
        root: for folders without a name of their own.
        left: names that may lie in ``out``: what a start that was killed has left.

    Raises:
        StateError: ``out`` exists and is not empty, or the folder cannot be made.
    """
    try:
        if out is not None:
            check_new(out, left=left)
            out.mkdir(parents=True, exist_ok=True)
            return out
        root.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")  # for the user, in the user's time
        first = root / f"{name.replace('/', '-')}-{stamp}"
        folder, number = first, 1
        while not _made(folder):
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        return folder
    except OSError as error:
        raise StateError(f"cannot make the folder {out or root}: {error.strerror}") from None


def given_folder(out: str | PathLike[str]) -> Path:
    """Return the folder that a caller names in Python, where no shell has put a home for ``~``.

    Raises:
        StateError: the name is empty, which would be the working directory.
    """
    if not fspath(out).strip():
        raise StateError("the name of the folder is empty: name one, or '.' for the working directory")
    return at_home(out)


def check_new(out: Path, *, left: Collection[str] = ()) -> None:
    """Raise unless a folder can be a new one: it does not exist, or has no more in it than ``left``.

    Raises:
        StateError: it is not, or its name cannot be written.
    """
    try:
        str(out.absolute()).encode()  # logs, pages and results name it
        taken = out.exists() and (not out.is_dir() or any(not _is_left(path, left) for path in out.iterdir()))
    except UnicodeEncodeError:
        raise StateError(f"cannot make the folder {visible_line(str(out))}: its name is no UTF-8") from None
    except OSError as error:
        raise StateError(f"cannot make the folder {out}: {error.strerror}") from None
    if taken:
        go_on = f"--resume {shlex.quote(str(out))}"
        raise StateError(f"{out} exists and is not empty: name another folder, or go on with {go_on}")


@contextlib.contextmanager
def begun(out: Path | None, name: str, root: Path, *, left: Collection[str]) -> Iterator[Path]:
    """Make a folder as `new_folder` does, and hold it until its first files are written.

    Of two processes that are given one folder, one gets it. If this one is killed meanwhile, the same command finds no
    more than ``left`` in it and begins again.

    Raises:
        StateError: it exists and is not empty, or cannot be made, or another process makes it now.
    """
    folder = new_folder(out, name, root, left=left)
    with locked(folder):
        if out is not None:  # perhaps it was made between the look and the lock
            new_folder(out, name, root, left=left)
        yield folder


def _is_left(path: Path, left: Collection[str]) -> bool:
    if path.is_dir():
        return path.name in left and not any(path.iterdir())
    return path.name in left or is_half_written(path)


def restarted_folder(out: Path | None) -> Path | None:
    """Return the folder that this job has begun before torchrun started it again; None for a job's first start.

    Every folder has an ``environment.json`` that says which launch has made it, so that nobody else's is gone on with.
    """
    launch = launch_id()
    if not restarted() or launch is None:
        return None
    for folder in [out] if out is not None else sorted(Path("runs").glob("*/"), reverse=True):
        with contextlib.suppress(StateError):
            if read_json(folder / "environment.json").get("launch") == launch:
                return folder
    return None


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()  # and no look before it: another process may make the same
    except FileExistsError:
        return False
    return True


def discard_folder(folder: Path, files: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Remove a new folder and what was put in it, so that the corrected command may use its name.

    What somebody else has put there stays, and the folder with it.
    """
    for name in files:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or where the user is
        for name in folders:
            (folder / name).rmdir()
        folder.rmdir()


def refuse_changed(folder: Path, now: Mapping[str, str | Sequence[str]], cure: str, *, old: bool = False) -> None:
    """Raise unless the fingerprints that were noted when work in a folder was started are those of now.

    Of several fingerprints of one thing, as older versions of redense made them, any may have been noted. With ``old``
    one that was not noted is passed over: an older redense did not.

    Raises:
        StateError: one is another; ``cure`` says what to do.
    """
    path = folder / STARTED
    if not path.exists():
        return
    then = read_json(path)
    for what, fingerprint in now.items():
        known = (fingerprint,) if isinstance(fingerprint, str) else tuple(fingerprint)
        if not isinstance(then, Mapping) or then.get(what, known[0] if old else None) not in known:
            raise StateError(f"the {what} of {folder} changed since it was started: {cure}")


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run folder holds.

    Raises:
        StateError: there is no such file, or it is damaged.
    """
    try:
        return read_any_json(path)
    except FileNotFoundError:
        raise StateError(f"no {path.name} in {path.parent}: the run has not got that far") from None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}") from None
