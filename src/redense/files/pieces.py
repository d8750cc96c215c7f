"""The code that a training is made of, piece by piece, to tell whether it is that which trained an earlier result.

`redense.files.sources` takes whole modules. Here a piece is a function, with the plain values that it reads: a script
that calls `redense.compare` with more seeds than before trains by the same code. What is compared is compiled code, so
that comments, documentation and lines do not count. Not compared are installed packages, files that are read when the
code runs, tensors, what an object keeps (but for a frozen dataclass), and lists and dicts that are not named in
capitals, as constants are: a training may write into them.

What is bound to a name and is no plain value, such as an optimizer's class, counts by what it is called, and by its own
pieces where it is the user's code.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from reprlib import recursive_repr
from typing import Any, cast

from .code.imported import read_module, short
from .code.loaded import check_loaded, note_loaded
from .module_values import Asked, Value, attributes_of, importable, is_as_written
from .modules import file_of, place_of, source_of
from .sources import codes, is_own, is_plain, is_users, is_users_module

_DICTS = (dict, types.MappingProxyType)  # others may load what they hold, as an .npz file does
_COLLECTIONS = (*_DICTS, list, tuple, set, frozenset)
_AROUND = (functools.cached_property, functools.partialmethod, functools.singledispatchmethod)
_METHODS = (types.FunctionType, staticmethod, classmethod, property, *_AROUND)
PYTHON = "Python"
"""The entry of the version: compiled code of another one cannot be compared."""
FORM = "form"
"""The entry of the form: 1 (not written) lacks what names are bound to, 2 what modules are asked for by name."""

Pieces = Mapping[str, str]
"""Name of a piece -> checksum."""


def pieces_of(*things: object) -> dict[str, str]:
    """Return a checksum of each piece of the user's code that functions are made of, by name.

    Args:
        things: functions, bound methods, partials, objects with ``__call__``.
    """
    found = _Pieces(things)
    for home in found.homes:
        note_loaded(home)
    return {**found.checksums(), PYTHON: f"{sys.version_info.major}.{sys.version_info.minor}", FORM: "3"}


def values_of(*things: object) -> list[Value]:
    """Return the plain values of the user's modules that functions read, and none that they set themselves.

    Another process imports those modules anew, and has not got what a script has set in them.

    Raises:
        PluginError: the file of one was edited since it was loaded: that process would have other code.
    """
    found = _Pieces(things)
    for home in found.homes:
        check_loaded(home)
    return found.values()


def changed_pieces(before: Pieces | None, now: Pieces | None) -> list[str]:
    """Return the names of the pieces that are not what they were; none where they cannot be compared.

    >>> changed_pieces({"train": "a", "Net": "b", "old": "c"}, {"train": "a", "Net": "x", "new": "d"})
    ['Net', 'new', 'old']
    """
    if before is None or now is None or before.get(PYTHON) != now.get(PYTHON):
        return []
    compared = {*before, *now} if before.get(FORM) == now.get(FORM) else {*before} - {FORM}
    return sorted(name for name in compared if before.get(name) != now.get(name))


class _Pieces:
    """Findings on what a function is made of."""

    def __init__(self, things: Sequence[object]) -> None:
        self._texts: dict[str, set[str]] = {}
        self._seen: dict[int, object] = {}  # with the object, so that its number stays its own
        self._modules: dict[str, str] = {}
        self._asked: dict[tuple[str, str], Any] = {}  # by module and name: values that are read as ``module.name``
        self._beside: dict[tuple[str, str], Any] = {}  # and those that stand in the module of who reads them
        self._set: set[tuple[str, str]] = set()
        self.homes: set[str] = set()  # modules of the user's functions
        for thing in things:
            self.take(thing)

    def checksums(self) -> dict[str, str]:
        texts = {name: sorted(several) for name, several in self._texts.items()}
        for (module, name), value in sorted(self._asked.items()):
            if (module, name) not in self._set:
                texts.setdefault(f"settings in {module}", []).append(f"{name} {_text(value)}")
        return {**{name: short(json.dumps(several).encode()) for name, several in texts.items()}, **self._modules}

    def values(self) -> list[Value]:
        return [(*at, value) for at, value in {**self._beside, **self._asked}.items() if at not in self._set]

    def take(self, thing: Any) -> None:
        """Add what a thing is made of, if it is the user's."""
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, functools.partial):
            bound = cast("functools.partial[Any]", thing)
            self.take(bound.func)
            self._values(f"arguments of {_name(bound.func)}", [*enumerate(bound.args), *bound.keywords.items()])
        elif isinstance(thing, types.MethodType):
            self.take(thing.__func__)
            self._object(thing.__self__)
        elif isinstance(thing, staticmethod | classmethod):
            self.take(cast("Any", thing).__func__)
        elif isinstance(thing, property):
            for part in (thing.fget, thing.fset):
                self.take(part)
        elif isinstance(thing, _AROUND):
            self.take(cast("Any", thing).func)
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, types.ModuleType):
            self._module(thing.__name__, source_of(thing))
        elif callable(thing) and not isinstance(thing, types.BuiltinFunctionType):
            self.take(getattr(thing, "__wrapped__", None))  # of functools.cache
            self._object(thing)

    def _function(self, function: types.FunctionType) -> None:
        name, code = _name(function), function.__code__
        typed = place_of(Path(code.co_filename)) == "own"
        if is_own(function) or not (typed or is_users(function)):
            return
        if typed:  # else a decorator of a library around one of the user's
            self._texts.setdefault(name, set()).add(json.dumps(_compiled(code)))
        written, read = set[str](), set[str]()
        for part in codes(code):
            for text in part.co_consts if "import_module" in part.co_names else ():
                if isinstance(text, str):
                    self._module(text)
            for opcode, value, imported in _instructions(part, function.__globals__.get("__package__")):
                if opcode in ("STORE_GLOBAL", "STORE_DEREF", "STORE_NAME"):
                    written.add(value)
                elif opcode in ("LOAD_GLOBAL", "LOAD_NAME"):
                    read.add(value)
                elif opcode == "IMPORT_NAME":
                    self._module(imported)
        held = {read_: function.__globals__[read_] for read_ in read if read_ in function.__globals__}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
        held |= {free: cell.cell_contents for free, cell in cells if cell != types.CellType()}
        values = [(key, value) for key, value in held.items() if key not in written and _is_setting(key, value)]
        defaults = [*enumerate(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        self._values(name, [*values, *((f"default {key}", value) for key, value in defaults)])
        for key, value in held.items():
            self._part(value, constant=_is_setting(key, value))
        if home := importable(function.__globals__):
            self.homes.add(home)
            self._beside |= {(home, key): value for key, value in values if key in read and is_plain(value)}
            self._set |= {(home, key) for key in written}
        for part in codes(code):
            for asked in attributes_of(part, held, function.__globals__.get("__package__")):
                self._attribute(asked)

    def _attribute(self, asked: Asked) -> None:
        """Add what a function asks a module of the user's for; of one that is imported late, what a script has set."""
        home, name, value = importable(vars(asked.module)), asked.name, vars(asked.module).get(asked.name)
        if not home or not is_users_module(asked.module):
            pass
        elif asked.is_set:
            self._set.add((home, name))
        elif is_plain(value) and value is not None and _is_setting(name, value):
            if not (asked.is_late and is_as_written(asked.module, name)):
                self._asked[home, name] = value
        elif not asked.is_late:
            self._part(value, constant=_is_setting(name, value))

    def _part(self, value: Any, *, constant: bool = True) -> None:
        """Add what a function uses, if it is code: a function, a class, a module, or an object of the user's class.

        A training may fill a collection that is no ``constant``: of it the functions and classes of modules count.
        """
        if isinstance(value, _COLLECTIONS):
            if id(value) in self._seen:
                return
            self._seen[id(value)] = value
            several = cast("Any", value.values() if isinstance(value, _DICTS) else value)
            for one in list(several):
                if constant:
                    self._part(one)
                elif isinstance(one, types.FunctionType | type) and "<locals>" not in one.__qualname__:
                    self.take(one)
        elif callable(value) or isinstance(value, types.ModuleType):
            self.take(value)
        elif is_users(type(value)):
            self._object(value)

    def _object(self, value: Any) -> None:
        kind = cast("Any", type(value))
        self.take(kind)
        if dataclasses.is_dataclass(kind) and cast("Any", kind).__dataclass_params__.frozen:
            fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(kind)]
            self._values(_name(type(value)), fields)

    def _class(self, cls: type) -> None:
        if is_own(cls) or not is_users(cls):
            return
        held = [(key, value) for key, value in vars(cls).items() if not key.startswith("__")]
        if issubclass(cls, enum.Enum):  # what else is there Python keeps of it
            held = [*(item for item in held if is_plain(item[1])), *((one.name, one) for one in cls)]
        held = [item for item in held if not isinstance(item[1], _METHODS)]
        if not issubclass(cls, enum.Enum) and "<" not in cls.__qualname__ and cls.__module__ != "__main__":
            where, inside = cls.__module__, cls.__qualname__
            self._beside |= {(where, f"{inside}.{k}"): v for k, v in held if is_plain(v) and _is_setting(k, v)}
        self._values(_name(cls), [item for item in held if is_plain(item[1]) or _is_setting(*item)])
        for member in vars(cls).values():
            if isinstance(member, _METHODS):
                self.take(member)
        for base in cls.__bases__:
            self.take(base)

    def _values(self, name: str, values: list[tuple[Any, Any]]) -> None:
        plain = [f"{key} {_text(value)}" for key, value in values if is_plain(value)]
        if plain:
            self._texts.setdefault(name, set()).add(json.dumps(sorted(plain)))
        others = [(key, value) for key, value in values if not is_plain(value)]
        if others:
            texts = sorted(f"{key} {_called(value)}" for key, value in others)
            self._texts.setdefault(f"names in {name}", set()).add(json.dumps(texts))
        for _, value in others:
            self._part(value)

    def _module(self, name: str, path: Path | None = None) -> None:
        path = path or file_of(name)
        if path is not None and not is_own(name):
            read_module(path, name, self._modules, loaded=True)


def _is_setting(name: str, value: Any) -> bool:
    """Whether a value that a function reads is one of its settings, and not what it keeps its books in."""
    return not isinstance(value, list | dict | set) or name.isupper()


def _instructions(code: types.CodeType, package: str | None) -> Iterator[tuple[str, str, str]]:
    """Give each instruction with its name and, of an import, the whole name of the module."""
    before: list[Any] = [0, 0]
    for each in dis.get_instructions(code):
        imported = ""
        if each.opname == "IMPORT_NAME":
            level = before[-2] if isinstance(before[-2], int) else 0
            try:
                imported = importlib.util.resolve_name("." * level + str(each.argval), package)
            except ImportError:
                imported = ""
        before = [before[-1], each.argval]
        yield each.opname, str(each.argval), imported


def _compiled(code: types.CodeType) -> list[Any]:
    """Return what a function does: its arguments and instructions, without the places of lines and constants."""
    parts: list[Any] = [list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])]
    for each in dis.get_instructions(code):
        if each.opname in ("EXTENDED_ARG", "RESUME"):
            continue
        value = each.argval
        if value == "__firstlineno__":  # of a class inside, in Python 3.13
            parts.pop()
            continue
        parts.append([each.opname, _compiled(value) if isinstance(value, types.CodeType) else _text(value)])
    return parts


@recursive_repr("itself")
def _text(value: Any) -> str:
    """Return a plain value as text that is the same for the same value."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _collection(cast("Any", value), _text)
    return f"{type(value).__name__} {value!r}"


def _collection(several: Any, tell: Callable[[Any], str]) -> str:
    """Return a mapping, or a list, a tuple or a set, as text in which each value is what ``tell`` makes of it."""
    if isinstance(several, Mapping):
        items = cast("Mapping[Any, Any]", several).items()
        return f"{{{', '.join(sorted(f'{tell(key)}: {tell(own)}' for key, own in items))}}}"
    texts = [tell(own) for own in several]
    return f"{type(several).__name__} {sorted(texts) if isinstance(several, set | frozenset) else texts}"


@recursive_repr("itself")
def _called(value: Any) -> str:
    """Return what a value that is not plain is called: by two texts two of them can be told apart."""
    kind = type(value)
    if is_plain(value):
        return _text(value)
    if isinstance(value, functools.partial):
        bound = cast("functools.partial[Any]", value)
        return f"partial {_called(bound.func)} {_called(bound.args)} {_called(bound.keywords)}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, types.MethodType):
        return f"method {_called(value.__func__)} {_called(value.__self__)}"
    if isinstance(value, _COLLECTIONS):
        return _collection(value, _called)
    if isinstance(value, enum.Enum):
        return f"{_place(kind)} {value.name} {_called(value.value)}"
    if isinstance(value, PurePath):
        return f"path {_near(value)}"
    if _is_constant(value):
        return f"{_place(kind)} {value!r}"
    return _place(value) if hasattr(value, "__qualname__") or callable(value) else f"object of {_place(kind)}"


def _near(path: PurePath) -> str:
    """Return a path as it is from the script that runs, or the working directory: where these lie does not matter."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    for base in (*([Path(script).absolute().parent] if script else []), Path.cwd()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
        if base.is_relative_to(path):
            return "/".join([".."] * len(base.relative_to(path).parts))
    return path.as_posix()


def _place(thing: Any) -> str:
    """Return the name of a function or a class with its module, where that is not the user's, who moves code."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(name, str):
        return f"object of {_place(type(thing))}"
    module = str(getattr(thing, "__module__", None) or "")
    return name if is_users(thing) else f"{module.partition('.')[0] if is_own(thing) else module}.{name}"


def _is_constant(value: Any) -> bool:
    """Whether a value of a library can be told by its text: a path, a dtype, a device, a number of NumPy."""
    kind = type(value)
    equal = kind.__eq__ is not object.__eq__ or kind.__module__ == "torch"
    known = kind.__hash__ is not None and not callable(value) and not hasattr(value, "__dict__")
    return equal and known and not is_users(kind) and " at 0x" not in repr(value)


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", type(thing).__qualname__).replace("<locals>.", "")
