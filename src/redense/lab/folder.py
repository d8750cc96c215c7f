"""Folders of runs and comparisons: making one, taking one back, reading what it holds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import StateError
from .launch import launch_id, restarted


def new_folder(out: Path | None, name: str, root: Path = Path("runs")) -> Path:
    """Make a folder and return it: ``out``, or one named after ``name`` and the time below ``root``.

    Of several that are made in one second, even by several processes, each gets a number of its own.

    Raises:
        StateError: ``out`` exists and is not empty, or the folder cannot be made.
    """
    try:
        if out is not None:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise StateError(f"{out} exists and is not empty: name another folder, or go on with --resume {out}")
            out.mkdir(parents=True, exist_ok=True)
            return out
        root.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005  # a name for the user, in the user's time
        first = root / f"{name.replace('/', '-')}-{stamp}"
        folder, number = first, 1
        while not _made(folder):
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        return folder
    except OSError as error:
        raise StateError(f"cannot make the folder {out or root}: {error.strerror}") from None


def restarted_folder(out: Path | None, root: Path = Path("runs")) -> Path | None:
    """Return the folder that this job has begun before torchrun started it again; None for a job's first start.

    Every folder has an ``environment.json`` that says which launch has made it, so that nobody else's is gone on with.
    """
    launch = launch_id()
    if not restarted() or launch is None:
        return None
    for folder in [out] if out is not None else sorted(root.glob("*/"), reverse=True):
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


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run folder holds.

    Raises:
        StateError: there is no such file, or it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateError(f"no {path.name} in {path.parent}: the run has not got that far") from None
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path} is damaged: {error}") from None
