"""Modules and their files: what a source imports, where that lies, whether it is the user's. Nothing is imported."""

from __future__ import annotations

import ast
import sys
import sysconfig
import types
from collections.abc import Iterator
from functools import lru_cache
from importlib import util
from pathlib import Path

_IMPORTERS = ("import_module", "__import__", "run_module")


def imports_of(source: bytes, package: str) -> Iterator[str]:
    """Give the names of all modules that a source may import, at its top and inside of functions."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                parts = base.split(".")
                yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
                yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(given := node.args[0], ast.Constant):
            called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if called in _IMPORTERS and isinstance(name := given.value, str):
                bare = name.lstrip(".")
                parts = _absolute(bare, len(name) - len(bare), package).split(".")
                yield from (".".join(parts[: i + 1]) for i in range(len(parts)) if all(parts))


@lru_cache(maxsize=1)  # one source is asked for its imports, and then for the files that it names
def _tree(source: bytes) -> ast.Module:
    """Return the syntax of a source; an empty one if it is not Python: a module of C."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _absolute(name: str, level: int, package: str) -> str:
    """Return the whole name of a module that is named from inside of a package, with so many dots before it."""
    above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*above, *([name] if name else [])])


def scripts_named_in(source: bytes, folder: Path) -> Iterator[Path]:
    """Give the Python files of a folder that a source names in a text: who loads a module by its path does."""
    texts = {node.value for node in ast.walk(_tree(source)) if isinstance(node, ast.Constant)}
    for text in sorted(text for text in texts if isinstance(text, str) and text.endswith(".py") and len(text) < 200):
        if (file := folder / text).is_file():
            yield file


def source_of(module: types.ModuleType) -> Path | None:
    """Return the file that a module was loaded from, also of one that nobody finds by its name."""
    file = getattr(module, "__file__", None) or getattr(getattr(module, "__spec__", None), "origin", None)
    return Path(file) if file and Path(file).is_file() else None


def file_of(name: str, beside: Path | None = None) -> Path | None:
    """Return the file of a module, imported or not; nothing is imported for it."""
    module = sys.modules.get(name)
    if module is not None:
        source = getattr(module, "__file__", None)
        return None if source is None else Path(source)
    top, *below = name.split(".")
    folder = _folder_of(top)
    if folder is None and beside is not None:
        folder = beside / top if (beside / top).is_dir() else beside / f"{top}.py"
    if folder is None:
        return None
    for part in below:
        if folder.suffix == ".py":
            return None
        folder = folder / part if (folder / part).is_dir() else folder / f"{part}.py"
    file = folder / "__init__.py" if folder.is_dir() else folder
    return file if file.is_file() else None


def _folder_of(top: str) -> Path | None:
    """Return the folder of a package, or the file of a module."""
    try:
        spec = util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


def place_of(path: Path) -> str:
    """Return where a file lies: ``standard``, ``installed``, or ``own`` for the user's."""
    if is_installed(path):
        return "installed"
    paths = sysconfig.get_paths()
    return "standard" if any(path.is_relative_to(paths[key]) for key in ("stdlib", "platstdlib")) else "own"


def is_installed(path: Path) -> bool:
    """Whether a file is of a package that was installed, and not of a folder that somebody works in."""
    paths = sysconfig.get_paths()
    found = any(path.is_relative_to(paths[key]) for key in ("purelib", "platlib"))
    return found or bool({"site-packages", "dist-packages"} & set(path.parts))
