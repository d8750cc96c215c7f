"""Fetched files: copied to where they belong, and checked, by name and checksum, one by one or in a list."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redense.files.checksums import file_sum

SUMS = "SHA256SUMS"
"""The list of all files of a source that has many; `sha256sum -c` reads it, too."""


@dataclass(frozen=True)
class File:
    """A file of a source; the checksum decides whether it is the right one."""

    name: str
    size: int
    sha256: str


def copy(file: Path, target: Path) -> None:
    """Copy what a file, or the link to one, holds to a place whose folder need not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def copy_real_files(unpacked: Sequence[Path], ready: Path) -> None:
    """Copy the files of one unpacked package, without the links: what is linked is there, under its own name."""
    (folder,) = unpacked
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            copy(path, ready / path.relative_to(folder))


def list_files(folder: Path) -> str:
    """Return one line a file below ``folder``, as ``sha256sum`` writes them, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(f"{file_sum(folder / name)}  {name}\n" for name in names if name != SUMS)


def fault_in(folder: Path, files: Sequence[File], sums: File | None = None) -> str | None:
    """Say what is wrong with ``files`` in ``folder``, or with ``sums`` and the files that it lists; else None."""
    for file in (*files, *((sums,) if sums else ())):
        if fault := _fault(folder / file.name, file):
            return fault
    for line in (folder / sums.name).read_text(encoding="utf-8").splitlines() if sums else ():
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_sum(folder / name) != digest:
            return f"{name} holds other bytes than it should"
    return None


def has_size(folder: Path, file: File) -> bool:
    """Whether a file of that name and size is there."""
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size


def _fault(path: Path, file: File) -> str | None:
    if not path.is_file():
        return f"{file.name} is missing"
    if path.stat().st_size != file.size:
        return f"{file.name} has {path.stat().st_size:,} bytes, expected {file.size:,}"
    digest = file_sum(path)
    if digest != file.sha256:
        return f"{file.name} has sha256 {digest[:12]}..., expected {file.sha256[:12]}..."
    return None
