"""Code of your own: arms, techniques, criteria, tasks and more in a file next to your recipe, or in a package.

``REDENSE_PLUGINS`` names files and modules, separated by commas, which are imported before a command begins; in Python
you import them yourself. An installed package declares its own once for all, in its ``pyproject.toml``:

    [project.entry-points."redense.plugins"]
    mine = "my_package.arms"

A plugin is code, so that a recipe never names one: a recipe from elsewhere can start nothing. All that can be added is
kept in one kind of table, `Registry`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from .errors import PluginError, RedenseError, nearest
from .files.code.loaded import note_loaded
from .files.modules import is_installed, place_of
from .files.opening import at_home
from .files.sources import code_of, is_own

VARIABLE = "REDENSE_PLUGINS"
GROUP = "redense.plugins"

T = TypeVar("T")
Space = Mapping[str, Any]
"""The names of a module."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Registry(MutableMapping[str, T]):
    """A table of the things of one kind, by name: redense's own, and those that plugins add.

    A name that is taken, or that no recipe and no command could ask for, is refused when it is registered, and so is
    what ``check`` refuses. The same function of the same module may be registered again, as a notebook does whose cell
    is run twice, or a module that is loaded anew; but not twice while a module is imported.

    Args:
        kind: what the things are called: ``arm``.
        error: what is raised for a name that is unknown, taken or unfit.
        pattern: of names; by default letters, digits, ``.``, ``_`` and ``-``, at most 64.
        check: (name, thing) -> raises for a thing that cannot be used.
        hint: what the error of an unknown name ends with.
        ours: the names of our own things, where those are registered later, with what they need.
        home: the package of ours whose modules register what we have ourselves; they are imported when they are needed.
    """

    def __init__(
        self,
        kind: str,
        error: type[RedenseError],
        *,
        pattern: re.Pattern[str] = _NAME,
        check: Callable[[str, T], None] = lambda name, thing: None,
        hint: str = "",
        ours: Collection[str] = (),
        home: str | None = None,
    ) -> None:
        self.kind, self._ours = kind, ours
        self._homes = [home] if home else []
        self._error, self._pattern, self._check, self._hint = error, pattern, check, hint
        self._things: dict[str, T] = {}
        self._makers: dict[str, object] = {}
        self._spaces: dict[str, Space | None] = {}
        _ALL[kind] = self

    def add_home(self, package: str) -> None:
        """Say where more of our own things are: a package whose modules register them when they are needed."""
        self._homes.append(package)

    def register(self, name: str, thing: T, *, maker: object = None) -> T:
        """Add a thing under a name and return it.

        Args:
            name: what it is asked for by.
            thing: what is added.
            maker: the function, the class or the name of the module that it is made of, if that is not the thing.

        Raises:
            RedenseError: of the registry's class: the name is taken or unfit, or the thing cannot be used.
        """
        maker = thing if maker is None else maker
        if not isinstance(name, str) or not self._pattern.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self._error(
                f"no {self.kind} can be called {name!r}, because nothing could ask for it: take letters, digits, "
                "'.', '_' and '-'"
            )
        if not is_own(maker):
            self._settle()
        space = _space()
        if self._is_taken(name, maker, space) or (name in self._ours and not is_own(maker)):
            article = "an" if self.kind[0] in "aeiou" else "a"
            by = f", of {plugin}" if (plugin := self.plugin_of(name)) else ""
            raise self._error(f"there is {article} {self.kind} '{name}' already{by}: call yours otherwise")
        self._check(name, thing)
        if not is_own(maker):
            note_loaded(_module_of(maker))
        self._things[name], self._makers[name], self._spaces[name] = thing, maker, space
        return thing

    def _is_taken(self, name: str, maker: object, space: Space | None) -> bool:
        if name not in self._things or self._makers[name] == maker:
            return False
        before, origin = self._spaces[name], _origin(maker)
        if _origin(self._makers[name]) != origin or (before is space and _is_imported(space)):
            return True
        # Of a partial and of a lambda the origin tells little: it counts which module has registered them.
        by, again = ((own or {}).get("__name__") for own in (before, space))
        return by != again and origin[1].endswith(("partial", "<lambda>"))

    def get_named(self, name: str) -> T:
        """Return the thing of a name.

        Raises:
            RedenseError: of the registry's class: there is none; it names the nearest.
        """
        self._settle()
        if name not in self._things:
            known = f" (known: {', '.join(sorted(self._things))})"
            raise self._error(f"unknown {self.kind} '{name}'{nearest(name, self._things)}{self._hint or known}")
        return self._things[name]

    def maker_of(self, name: str) -> object:
        """Return the function, the class or the name of the module that a thing is made of; None for no such thing."""
        return self._makers.get(name)

    def plugin_of(self, name: str) -> str | None:
        """Return what ``REDENSE_PLUGINS`` has to name for a thing: a file or a module; None for our own."""
        maker = self._makers.get(name)
        return None if maker is None or is_own(maker) else _shown(_module_of(maker))

    def _settle(self) -> None:
        """Import the modules that have our own things, once; each of them registers some while it is imported."""
        while self._homes:
            home = self._homes.pop()
            for module in pkgutil.iter_modules(importlib.import_module(home).__path__):
                importlib.import_module(f"{home}.{module.name}")

    def __getitem__(self, name: str) -> T:
        self._settle()
        return self._things[name]

    def __setitem__(self, name: str, thing: T) -> None:
        self.register(name, thing)

    def __delitem__(self, name: str) -> None:
        del self._things[name], self._makers[name], self._spaces[name]

    def __iter__(self) -> Iterator[str]:
        self._settle()
        return iter(self._things)

    def __len__(self) -> int:
        self._settle()
        return len(self._things)


_ALL: dict[str, Registry[Any]] = {}
_LOADED: list[Space] = []
"""The files of plugins that are loaded at this moment."""


def plugins_of(used: Mapping[str, list[str]]) -> dict[str, str]:
    """Return which plugins things need: ``{"criterion lamp": "lamp.py"}`` of ``{"criterion": ["lamp", "random"]}``."""
    found = {
        f"{kind} {name}": _ALL[kind].plugin_of(name)
        for kind, names in used.items()
        if kind in _ALL
        for name in dict.fromkeys(names)
    }
    return {what: plugin for what, plugin in found.items() if plugin is not None}


def modules_of(used: Mapping[str, list[str]]) -> list[str]:
    """Return the modules that have registered things, which another process has to import; none for our own."""
    things = [(kind, name) for kind, names in used.items() if kind in _ALL for name in names]
    found = [_module_of(_ALL[kind].maker_of(name)) for kind, name in things if _ALL[kind].plugin_of(name) is not None]
    return sorted({*found})


def names_of(kind: str) -> list[str]:
    """Return the names of all things of a kind that are registered now."""
    return list(_ALL.get(kind, ()))


def makers_of(used: Mapping[str, list[str]]) -> dict[str, object]:
    """Return what the user's things are made of, by what they are: ``{"criterion 'lamp'": lamp}``; none of our own."""
    things = [(kind, name) for kind, names in used.items() if kind in _ALL for name in names]
    found = {f"{kind} '{name}'": _ALL[kind].maker_of(name) for kind, name in things}
    return {what: maker for what, maker in found.items() if maker is not None and not is_own(maker)}


def refuse_typed(used: Mapping[str, list[str]]) -> None:
    """Raise if something is registered by the script or the notebook that runs: another process has not got it.

    Raises:
        PluginError: it is.
    """
    for kind, names in used.items():
        for name in names:
            if "__main__" in modules_of({kind: [name]}):
                raise PluginError(
                    f"the {kind} '{name}' is registered by what you run, and another process has not got it: give "
                    f"jobs=1, or register it in a file that {VARIABLE} names, or in a module that you import"
                )


def refuse_missing(needed: object, where: str) -> None:
    """Raise if something that a folder was made with is registered nowhere.

    Args:
        needed: what `plugins_of` returned when the folder was made; what is no such mapping is passed over.
        where: the folder.

    Raises:
        PluginError: a plugin is not loaded.
    """
    for what, plugin in needed.items() if isinstance(needed, dict) else ():
        kind, _, name = str(what).partition(" ")
        if name not in _ALL.get(kind, {}):
            raise PluginError(
                f"{where} needs the {kind} '{name}' of the plugin {plugin}, which is not loaded: set "
                f"{VARIABLE}={plugin}, or install it"
            )


def load_plugins() -> tuple[str, ...]:
    """Import the plugins of installed packages and those that ``REDENSE_PLUGINS`` names, each once; return the names.

    Raises:
        PluginError: there is no such file or module, or it fails when it is imported.
    """
    named = (item.strip() for item in os.environ.get(VARIABLE, "").split(","))
    return (*_installed(), *(_load(item) for item in named if item))


def code_of_plugins(more: Iterable[str] = ()) -> dict[str, str]:
    """Return a checksum of the code of each plugin that is named, as its files are now, by its name.

    Args:
        more: modules that have registered something beside them; they are imported.
    """
    names = dict.fromkeys((*load_plugins(), *(_import(name, "a job") for name in more)))
    return {name: own for name in names if (own := code_of(name, versions=False))}


def refuse_edited(then: Mapping[str, str]) -> None:
    """Raise if this process has loaded a plugin that is not what it was, as `code_of_plugins` gave it elsewhere.

    Raises:
        PluginError: it has; what it trains would be stored as trained by the code of then.
    """
    if edited := [name for name, own in then.items() if _loaded_code(tuple(then)).get(name) != own]:
        raise PluginError(f"the plugin '{edited[0]}' was edited meanwhile: bring it back as it was, or start anew")


@cache
def _loaded_code(more: tuple[str, ...]) -> Mapping[str, str]:
    return code_of_plugins(more)


@cache
def _installed() -> tuple[str, ...]:
    return tuple(_import(point.module, f"the entry point '{point.name}'") for point in entry_points(group=GROUP))


def _load(item: str) -> str:
    if not item.endswith(".py"):
        return _import(item, VARIABLE)
    path = at_home(item).resolve()
    if not path.is_file():
        raise PluginError(f"{VARIABLE} names {item}, and there is no such file here: give a .py file or a module")
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return path.stem
    if loaded is not None or _is_a_library(path):
        raise PluginError(f"{VARIABLE} names {item}, but there is a module '{path.stem}' already: rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{VARIABLE} names {item}, which Python cannot import")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    _LOADED.append(vars(module))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise PluginError(_failed(item, error)) from error
    finally:
        _LOADED.pop()
    return path.stem


def _is_a_library(path: Path) -> bool:
    """Whether Python has another module of a file's name: who imports that would be given the plugin."""
    if path.stem in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError, AttributeError):
        return False
    places = [*([spec.origin] if spec.origin else []), *(spec.submodule_search_locations or ())] if spec else []
    return any(place_of(Path(place)) != "own" and place != str(path) for place in places)


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


# --- who made a thing, and where ------------------------------------------------------------------------------------


def _module_of(maker: object) -> str:
    """Return the module that a thing was made in."""
    inner = getattr(maker, "func", None) or getattr(maker, "__func__", None) or maker  # of a partial, of a method
    if isinstance(inner, str):
        return inner
    return str(getattr(inner, "__module__", None) or type(inner).__module__)


def _space() -> Space | None:
    """Return the names of the module that registers something while it is executed; None inside of functions alone."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return None if frame is None else frame.f_globals


def _is_imported(space: Space | None) -> bool:
    """Whether a module is executed for the first time, and not loaded anew or in a notebook."""
    if space is None:
        return False
    return any(space is one for one in _LOADED) or bool(getattr(space.get("__spec__"), "_initializing", False))


def _origin(maker: object) -> tuple[str, str]:
    return _module_of(maker), str(getattr(maker, "__qualname__", type(maker).__qualname__))


def _shown(module: str) -> str:
    """Return a module as ``REDENSE_PLUGINS`` would name it: of a file that is no package's, the file."""
    source = getattr(sys.modules.get(module), "__file__", None)
    if source is None or is_installed(Path(source)):
        return module
    return module if "." in module and Path(source).stem != module else Path(source).name
