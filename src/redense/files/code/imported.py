"""Checksums of a script or a module and of the user's modules that it imports, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from redense.files.checksums import sha256
from redense.files.modules import file_of, imports_of, place_of

from .loaded import check_loaded

_OWN = __name__.partition(".")[0]


def modules_from(path: Path, folders: Sequence[Path] = (), module: str = "") -> dict[str, str]:
    """Return checksums of a script and of the user's modules that it imports, by file name.

    Args:
        path: of a program in any language; modules are looked for if it is Python.
        folders: where its modules are looked for beside its own folder, first to last.
        module: its name where Python runs it as a module, which looks in ``folders`` alone.
    """
    found: dict[str, str] = {}
    own = module or path.stem
    places = tuple(folders) if module else (path.parent, *folders)
    read_module(path, own, found, places)
    parents = module.split(".")[:-1]
    for end in range(1, len(parents) + 1):  # which run before it
        parent = ".".join(parents[:end])
        if above := _inside(places, parent):
            read_module(above, parent, found, places)
    return {path.name if name == own else name: checksum for name, checksum in found.items()}


def read_module(
    path: Path, name: str, found: dict[str, str], folders: tuple[Path, ...] = (), *, loaded: bool = False
) -> None:
    """Add the source of a module, and of the user's modules that it imports, by their names.

    Args:
        path: of the module.
        name: of it.
        found: what is added to.
        folders: in which another process, that will run a script, looks for modules first.
        loaded: it is this process that runs it, see `check_loaded`.
    """
    if name in found or place_of(path) != "own":
        return
    try:
        data = path.read_bytes()
    except OSError:
        return
    if loaded:
        check_loaded(name, path, data)
    found[name] = short(data)
    if path.suffix != ".py":
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for imported in imports_of(data, package):
        own = _inside(folders, imported) or file_of(imported, path.parent)
        if own and imported.partition(".")[0] != _OWN:
            read_module(own, imported, found, folders, loaded=loaded)


def _inside(folders: Sequence[Path], name: str) -> Path | None:
    """Return the file of a module in the first of some folders that has it."""
    if not all(name.split(".")):
        return None
    places = [folder.joinpath(*name.split(".")) for folder in folders]
    tried = (path for place in places for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"))
    return next((path for path in tried if path.is_file()), None)


def short(data: bytes) -> str:
    """Return a checksum of 16 hexadecimal digits."""
    return sha256(data)[:16]
