"""A package whose data is in order as it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def copy_real_files(unpacked: Sequence[Path], ready: Path) -> None:
    """Copy the files of one unpacked package, without the links: what is linked is there, under its own name."""
    (folder,) = unpacked
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            target = ready / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
