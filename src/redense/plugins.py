"""Code of your own for the command line: arms, criteria and tasks in a file beside your recipe, or in a package.

``REDENSE_PLUGINS`` names files and modules, separated by commas, which are imported before a command begins; in Python
you import them yourself. An installed package declares its own once for all, in its ``pyproject.toml``::

    [project.entry-points."redense.plugins"]
    mine = "my_package.arms"

A plugin is code, so that a recipe never names one: a recipe from elsewhere can start nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from .errors import PluginError

VARIABLE = "REDENSE_PLUGINS"
GROUP = "redense.plugins"


def load_plugins() -> tuple[str, ...]:
    """Import the plugins of installed packages and those that ``REDENSE_PLUGINS`` names, each once; return the names.

    Raises:
        PluginError: there is no such file or module, or it fails when it is imported.
    """
    named = (item.strip() for item in os.environ.get(VARIABLE, "").split(","))
    return (*_installed(), *(_load(item) for item in named if item))


def code_of(thing: object) -> str | None:
    """Return a hash of the source that defines a function or class, or of a module; None for redense's own.

    Phases that it trained are stored under it, so that none is taken for the work of another version. It covers the
    file, and the files beside it where it is in a package.
    """
    name = thing if isinstance(thing, str) else thing.__module__
    if name.partition(".")[0] == (__package__ or ""):
        return None
    module = sys.modules.get(name)
    source = getattr(module, "__file__", None)
    if source is None:  # typed into an interpreter: there is nothing to tell two versions by but the name
        return name
    files = sorted(Path(source).parent.glob("*.py")) if getattr(module, "__package__", "") else [Path(source)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


@cache
def _installed() -> tuple[str, ...]:
    return tuple(_import(point.module, f"the entry point '{point.name}'") for point in entry_points(group=GROUP))


def _load(item: str) -> str:
    if not item.endswith(".py"):
        return _import(item, VARIABLE)
    path = Path(item).expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"{VARIABLE} names {item}, and there is no such file here: give a .py file or a module")
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path):
            return path.stem
        raise PluginError(f"{VARIABLE} names {item}, but there is a module '{path.stem}' already: rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{VARIABLE} names {item}, which Python cannot import")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise PluginError(_failed(item, error)) from error
    return path.stem


def _import(name: str, where: str) -> str:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(f"{where} names the module '{name}', which Python does not find") from None
        raise PluginError(_failed(name, error)) from error
    except (Exception, SystemExit) as error:
        raise PluginError(_failed(name, error)) from error
    return name


def _failed(name: str, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the plugin {name} cannot be loaded: it ends the program while it is imported"
    first, *_ = str(error).splitlines() or [""]
    return f"the plugin {name} cannot be loaded: {type(error).__name__}: {first}"
