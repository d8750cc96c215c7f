"""Checksums beside files that have none of their own: ``SHA256SUMS``, which ``sha256sum -c`` can check too.

A checkpoint is checked by its own digest (`redense.lab.checkpoint`). Everything else that results are read from has a
line here, so that a flipped bit is an error and not another result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

from ..errors import CheckpointError

NAME = "SHA256SUMS"


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
    _write(folder, {**read_sums(folder), **_sums_of(folder, paths)})


def drop_sums(folder: Path, names: Collection[str]) -> None:
    """Forget the checksums of files that are about to be written anew; the sums of the others stay.

    Raises:
        CheckpointError: it cannot be written.
    """
    if (folder / NAME).exists():
        _write(folder, {name: digest for name, digest in read_sums(folder).items() if name not in names})


def _sums_of(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sum(path) for path in paths}


def note_sum(folder: Path, name: str, data: bytes) -> None:
    """Note what a file of a folder will hold, before it is written; the sums of the others stay.

    Raises:
        CheckpointError: it cannot be written.
    """
    _write(folder, {**read_sums(folder), name: hashlib.sha256(data).hexdigest()})


def read_sums(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of a folder that has one; a line that is none is left out."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.partition("  ") for line in lines)
    return {name: digest for digest, gap, name in parts if gap and len(digest) == 64}


def is_intact(folder: Path, name: str) -> bool:
    """Whether a file is there and is what its checksum says; one without a checksum, of an older redense, is."""
    return _is(folder / name, read_sums(folder).get(name))


def check_sums(folder: Path, *names: str) -> None:
    """Raise if a file is not what its checksum says; all files that have one where none is named.

    Raises:
        CheckpointError: one is damaged, or gone.
    """
    sums = read_sums(folder)
    for name in names or sums:
        if name in sums and not _is(folder / name, sums[name]):
            there = (folder / name).is_file()
            fault = "is damaged: it does not match its checksum" if there else "is gone; it has a checksum"
            raise CheckpointError(f"{folder / name} {fault} in {folder / NAME}; copy it back, or make it again")


def _is(path: Path, expected: str | None) -> bool:
    return path.is_file() and (expected is None or file_sum(path) == expected)


def file_sum(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: Path, sums: dict[str, str]) -> None:
    from .checkpoint import write_text  # which imports torch: a report only reads

    write_text(folder / NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
