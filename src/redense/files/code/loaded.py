"""Whether the file of a module is still what the module was loaded from: keys are of files, and what runs is loaded."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import NamedTuple

from redense.errors import PluginError
from redense.files.checksums import sha256
from redense.files.modules import source_of


class _Seen(NamedTuple):
    """A module as this process saw it first, or as it was loaded again: ``spec`` is another one then."""

    module: weakref.ref[object] | None  # None: it was not loaded
    spec: object
    digest: str


_seen: dict[tuple[str, Path], _Seen] = {}


def note_loaded(name: str) -> None:
    """Remember what the source of a module is, unless it is known already."""
    if (path := _path_of(name)) is not None and (name, path) not in _seen:
        _note(name, path, sha256(path.read_bytes()))


def check_loaded(name: str, path: Path | None = None, data: bytes | None = None) -> None:
    """Raise if the file of a module has changed since this process saw it, and the module was not loaded again.

    Args:
        name: of the module, loaded or not.
        path: of its file, where it may not be loaded.
        data: what the file holds now.

    Raises:
        PluginError: it has.
    """
    loaded = _path_of(name)
    path = path or loaded
    if path is None:
        return
    now = sha256(path.read_bytes() if data is None else data)
    before = _seen.get((name, path))
    if before is None or loaded != path or before.digest == now:
        _note(name, path, now)
        return
    module = sys.modules[name]
    if before.module is None or (before.module() is module and before.spec is module.__spec__):
        _note(name, path, before.digest)  # so that it is known once it is loaded again
        raise PluginError(
            f"{path.name} was edited since this process loaded it, and the code of before would run: restart, or "
            f"reload the module '{name}'"
        )
    _note(name, path, now)


def _note(name: str, path: Path, digest: str) -> None:
    module = sys.modules.get(name) if _path_of(name) == path else None
    _seen[name, path] = _Seen(
        None if module is None else weakref.ref(module), getattr(module, "__spec__", None), digest
    )


def _path_of(name: str) -> Path | None:
    module = sys.modules.get(name)
    return None if module is None or name == "__main__" else source_of(module)
