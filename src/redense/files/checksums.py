"""Checksums of the files of a folder in ``SHA256SUMS``, which ``sha256sum -c`` can check too.

A checkpoint is checked by its own digest (`redense.lab.checkpoint`). Everything else that results are
read from has a line here, so that a flipped bit is an error and not another result. `check_folder` is how every verb
opens a folder that redense wrote: a run, an export, a copy of the zoo, a comparison.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from redense.errors import CheckpointError

from .opening import is_regular, open_regular, read_bytes
from .writing import write_text

log = logging.getLogger(__name__)

NAME = "SHA256SUMS"

# What results are read from, in any folder of ours.
_READ = (
    *("recipe.yaml", "started.json", "environment.json", "model.safetensors", "dense.safetensors", "result.json"),
    *("outcome.safetensors", "evidence.json", "moments.json", "metrics.jsonl"),
    *("comparison.json", "compare.json", "compare.csv", "costs.json", "curves.json", "diagnosis.json"),
)
_LAST = ("model.safetensors", "compare.json")  # what a folder has when it is finished
_LARGEST = 1 << 24  # bytes of a list
_LINE = re.compile("[0-9a-f]{64}  [^\n]+")


def sha256(data: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sum(path: Path) -> str:
    """Return the sha256 of a regular file.

    Raises:
        OSError: it cannot be read, or is none.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sum(path: Path) -> str:
    """Return the sha256 of a regular file, which is read once a process while its size and dates stay the same.

    Raises:
        OSError: it cannot be read, or is none.
    """
    status = path.stat()
    return _remembered(path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _remembered(path: Path, size: int, changed: tuple[int, int]) -> str:
    return file_sum(path)


# --- writing --------------------------------------------------------------------------------------------------------


def write_sums(folder: Path, paths: Iterable[Path]) -> None:
    """Write the checksums of files of a folder, in place of those that were there.

    Raises:
        CheckpointError: they cannot be written.
    """
    _write(folder, _sums_of(folder, paths))


def add_sums(folder: Path, paths: Iterable[Path]) -> None:
    """Write the checksums of files of a folder; the sums of the others stay.

    Raises:
        CheckpointError: they cannot be written.
    """
    _write(folder, {**_good(folder), **_sums_of(folder, paths)})


def drop_sums(folder: Path, names: Collection[str]) -> None:
    """Forget the checksums of files that are about to be written anew; the sums of the others stay.

    Raises:
        CheckpointError: it cannot be written.
    """
    if (folder / NAME).exists():
        _write(folder, {name: digest for name, digest in _good(folder).items() if name not in names})


def write_with_sums(folder: Path, texts: Mapping[str, str]) -> None:
    """Write text files of a folder, in this order, then their checksums; a kill in between leaves no wrong one.

    Raises:
        CheckpointError: one cannot be written.
    """
    drop_sums(folder, texts)
    for name, text in texts.items():
        write_text(folder / name, text)
    add_sums(folder, [folder / name for name in texts])


def note_sum(folder: Path, name: str, data: bytes) -> None:
    """Note what a file of a folder will hold, before it is written; the sums of the others stay.

    Raises:
        CheckpointError: it cannot be written.
    """
    _write(folder, {**_good(folder), name: sha256(data)})


def _sums_of(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}


def _write(folder: Path, sums: dict[str, str]) -> None:
    if not sums:
        (folder / NAME).unlink(missing_ok=True)
        return
    write_text(folder / NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


# --- checking -------------------------------------------------------------------------------------------------------


def read_sums(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of a folder that has one.

    Raises:
        CheckpointError: the list itself is damaged.
    """
    sums, damaged = _lines(folder)
    if damaged:
        raise CheckpointError(
            f"{folder / NAME} is damaged: {damaged}; copy it back, or delete it if you trust the other files"
        )
    return sums


def is_intact(folder: Path, name: str) -> bool:
    """Whether a file is there and is what its checksum says; an older redense wrote some without a checksum.

    Raises:
        CheckpointError: the list of checksums is damaged.
    """
    return _is(folder / name, read_sums(folder).get(name))


def check_sums(folder: Path, *names: str) -> None:
    """Raise if a file is not what its checksum says; all files that have one where none is named.

    Raises:
        CheckpointError: one is damaged, or gone.
    """
    sums = read_sums(folder)
    for name in names or sums:
        if name in sums and not _is(folder / name, sums[name]):
            there = is_regular(folder / name)
            fault = "is damaged: it does not match its checksum" if there else "is gone; it has a checksum"
            cure = "copy it back, or make it again"
            if name == "recipe.yaml":
                cure = f"copy it back; if you changed it on purpose, delete its line from {NAME}"
            raise CheckpointError(f"{folder / name} {fault} in {folder / NAME}; {cure}")


def check_folder(folder: Path) -> list[str]:
    """Check everything in a folder that redense wrote, before anything in it is used.

    Returns the names of those files that results are read from and that have no checksum, because an older redense
    wrote them or because somebody deleted it: damage to them cannot be seen, and a warning says so.

    Raises:
        CheckpointError: a file, or the list of checksums, is damaged or gone.
    """
    check_sums(folder)
    sums = read_sums(folder)
    if not any(is_regular(folder / name) for name in _LAST):
        return []  # it is not finished, and not all of it has its checksum
    there = [folder / name for name in _READ]
    there += sorted((folder / "artifacts").glob("*"))
    unknown = [name for path in there if is_regular(path) and (name := path.relative_to(folder).as_posix()) not in sums]
    if unknown:
        few = f"{', '.join(unknown[:3])} and {len(unknown) - 3} more" if len(unknown) > 4 else ", ".join(unknown)
        log.warning("%s has no checksums of %s: damage to them would not be noticed", folder, few)
    return unknown


def _lines(folder: Path) -> tuple[dict[str, str], str]:
    """Return the checksums of a list, and what is wrong with the first line that is none."""
    try:
        text = read_bytes(folder / NAME, _LARGEST).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, error.strerror or str(error)
    sums: dict[str, str] = {}
    damaged = "" if text.endswith("\n") else "its end is missing"
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if not _LINE.fullmatch(line) or not _is_inside(name) or name in sums:
            damaged = damaged or f"line {number} is no checksum of a file of the folder"
        else:
            sums[name] = digest
    return sums, damaged


def _good(folder: Path) -> dict[str, str]:
    """Return the checksums of a list without its damaged lines: what they stood for is made anew, or has none."""
    return _lines(folder)[0]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and "\\" not in name


def _is(path: Path, expected: str | None) -> bool:
    return is_regular(path) and (expected is None or file_sum(path) == expected)
