"""A checksum of code: of a function or a class, of what it holds, and of all modules that it is made of.

What code has trained is stored under it. It covers the source of every module of the user's that the thing's own
module imports, near or far, by a statement or by ``import_module("name")``, and of every ``.py`` file next to it that
it names; the versions of installed packages among those; and what an object holds beside its source: the arguments of a
`functools.partial`, defaults, values that a closure keeps, and what it reads of its module: modules, numbers, texts,
tensors, arrays, collections of these, objects of the user's classes. What other objects keep, a logger or a lock, and
files that the code opens when it runs, are not covered. `redense.files.code.values` covers values that were added
later, so that checksums of before stay what they were.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any, cast

from redense.errors import PluginError

from .checksums import sha256
from .code.loaded import check_loaded
from .module_values import attributes_of, importable
from .modules import file_of, imports_of, place_of, scripts_named_in, source_of

_OWN = __name__.partition(".")[0]
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_COLLECTIONS = (Mapping, list, tuple, set, frozenset, types.SimpleNamespace)
_NOT_IN_KEYS = ("__doc__", "__module__", "__dict__", "__weakref__", "__annotations__")


def is_own(thing: object) -> bool:
    """Whether a function, a class, or a module by its name is redense's own, and nothing is bound to it."""
    name = thing if isinstance(thing, str) else getattr(thing, "__module__", None)
    if isinstance(thing, functools.partial | types.MethodType) or not isinstance(name, str):
        return False
    return name.partition(".")[0] == _OWN and isinstance(thing, str | type | types.FunctionType)


def code_of(thing: object, *, versions: bool = True) -> str | None:
    """Return a checksum of what a thing does, 32 hexadecimal digits; None for redense's own.

    Args:
        thing: a function, a class, a bound method, a partial, an object with ``__call__``, or the name of a module.
        versions: of installed packages that it imports count too.

    Raises:
        PluginError: it holds a value whose versions cannot be told apart, or a file of it was edited since it was
            loaded.
    """
    if is_own(thing):
        return None
    found = Found()
    if isinstance(thing, str):
        found.module(thing)
    else:
        found.add("thing", found.value(thing, label_of(thing)))
    lines = (line for line in found.lines if versions or not line.startswith("package "))
    return sha256(json.dumps(sorted(lines)).encode())[:32]


def version_of(package: str) -> str:
    """Return the installed version of what is imported under a name; ``?`` where no distribution has it."""
    for name in (package, *_distributions().get(package, ())):
        try:
            return metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return "?"


class Found:
    """Findings on the code of a thing: lines of text, the same for the same code."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self.read: dict[tuple[str, str], Any] = {}  # by module and name: plain values
        self._modules: set[tuple[str, Path | None]] = set()
        self.strict = True  # whether a value that cannot be told is refused, or told by its kind alone
        self._root: str | None = None  # the package that the thing itself is of: its files count, not its version
        self._texts: dict[int, tuple[object, str | None]] = {}  # with the object, so that its number stays its own

    def add(self, *parts: str) -> None:
        """Add a line."""
        self.lines.add(" ".join(parts))

    # --- modules --------------------------------------------------------------------------------------------------

    def module(self, name: str, path: Path | None = None) -> None:
        """Add the source of a module and of all that it imports."""
        top, path = name.partition(".")[0], path or file_of(name)
        if (name, path) in self._modules:
            return
        self._modules.add((name, path))
        if top == _OWN or path is None:
            return
        self._root = self._root or top
        place = place_of(path)
        if place == "installed" and top != self._root:
            self.add("package", top, version_of(top))
        elif place != "standard":
            self._source(name, path)

    def _source(self, name: str, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError:
            return
        check_loaded(name, path, data)
        self.add("source", name, sha256(data))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        if package:  # the files next to it: what one of them imports by a name made at run time is mostly there
            siblings = (one for one in sorted(path.parent.glob("*.py")) if one.is_file() and one.name[0] != ".")
            for sibling in siblings:  # not a lock of an editor, which is a link to nothing
                self.add("source", package, sibling.name, sha256(sibling.read_bytes()))
        for imported in imports_of(data, package):
            if found := file_of(imported, path.parent):
                self.module(imported, found)
        for file in scripts_named_in(data, path.parent):
            self.module(file.stem, file)

    # --- values ---------------------------------------------------------------------------------------------------

    def value(self, value: Any, label: str) -> str:
        """Return a value as text that is the same for the same value, and add the code in it.

        Raises:
            PluginError: there is no such text.
        """
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._texts:
            return self._texts[id(value)][1] or "itself"
        self._texts[id(value)] = (value, None)
        text = self._text(value, label)
        self._texts[id(value)] = (value, text)
        return text

    def _text(self, value: Any, label: str) -> str:
        if isinstance(value, functools.partial):
            bound = cast("functools.partial[Any]", value)
            parts = [self.value(item, label) for item in (bound.func, bound.args, bound.keywords)]
            return f"partial {parts}"
        if isinstance(value, types.ModuleType):
            self.module(value.__name__, source_of(value))
            return f"module {value.__name__}"
        if isinstance(value, types.MethodType):
            return f"method {self.value(value.__func__, label)} {self.value(value.__self__, label)}"
        if isinstance(value, types.BuiltinFunctionType):
            return f"builtin {value.__module__} {value.__qualname__}"
        if isinstance(value, types.FunctionType):
            return self._function(value, label)
        if isinstance(value, type):
            return self._class(value, label)
        if isinstance(value, Mapping):
            items = sorted((self.value(k, label), self.value(v, label)) for k, v in cast("Any", value).items())
            return f"mapping {items}"
        if isinstance(value, list | tuple | set | frozenset):
            texts = [self.value(item, label) for item in cast("Any", value)]
            return f"{type(value).__name__} {sorted(texts) if isinstance(value, set | frozenset) else texts}"
        if isinstance(value, PurePath):
            return f"path {value}"
        return self._object(value, label)

    def _function(self, function: types.FunctionType, label: str) -> str:
        self.module(function.__module__)
        if is_own(function):
            return f"function {function.__module__}.{function.__qualname__}"
        typed = getattr(sys.modules.get(function.__module__), "__file__", None) is None
        by_itself = told_by_itself(function) if typed else []
        if typed:  # into an interpreter
            self.add("typed", function.__qualname__, by_itself[0])
        held: list[Any] = [function.__defaults__, function.__kwdefaults__]
        held += [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
        texts = [self.value(item, label) for item in held]
        names = sorted({name for code in codes(function.__code__) for name in code.co_names})
        home = importable(function.__globals__) if is_users(function) else ""
        texts += self._read(function.__globals__, names, label, home)
        texts += by_itself[1:]
        for name in names:
            if isinstance(module := function.__globals__.get(name), types.ModuleType):
                self.value(module, label)
                if is_users_module(module):
                    home = importable(vars(module))
                    texts += [f"{name}.{text}" for text in self._read(vars(module), names, label, home)]
        direct = {id(own) for own in function.__globals__.values()}
        asked = {  # of modules inside of packages
            (one.module.__name__, one.name): one.module
            for code in codes(function.__code__)
            for one in attributes_of(code, function.__globals__, function.__globals__.get("__package__"))
            if not one.is_late and id(one.module) not in direct and is_users_module(one.module)
        }
        for (place, name), module in sorted(asked.items()):
            home = importable(vars(module))
            texts += [f"{place}.{text}" for text in self._read(vars(module), [name], label, home)]
        return f"function {function.__module__}.{function.__qualname__} {texts}"

    def _read(self, space: Mapping[str, Any], names: Iterable[str], label: str, home: str) -> Iterator[str]:
        """Give what code reads of a module or a class by these names: data, and code of the user's.

        ``home`` is the module's name; empty for a class, and where no other process can import it.
        """
        for name in names:
            used = None if name == "__file__" else space.get(name)  # where it lies does not matter
            if home and name in space and is_plain(used) and not name.startswith("__"):
                self.read[home, name] = used
            used = used.__func__ if isinstance(used, staticmethod | classmethod) else used
            used = used.fget if isinstance(used, property) else used
            strict = is_plain(used) or (callable(used) and not is_own(used) and is_users(used))
            if strict or is_data(used):
                before, self.strict = self.strict, self.strict and strict
                try:
                    text = self.value(used, label)
                finally:
                    self.strict = before
                yield f"{name} {text}"

    def _class(self, cls: type, label: str) -> str:
        self.module(cls.__module__)
        texts: list[str] = []
        is_found = "<" not in cls.__qualname__ and not issubclass(cls, enum.Enum)
        is_found = is_found and cls.__module__ != "__main__" and cls.__module__ in sys.modules
        if is_users(cls):
            for name, member in sorted(vars(cls).items()):
                if name in _NOT_IN_KEYS:
                    continue
                if is_plain(member) or isinstance(member, types.FunctionType):
                    if is_found and is_plain(member) and not name.startswith("__"):
                        self.read[cls.__module__, f"{cls.__qualname__}.{name}"] = member
                    texts.append(f"{name} {self.value(member, label)}")
                elif not name.startswith("__"):
                    texts += self._read(vars(cls), [name], label, "")
            texts += [self.value(base, label) for base in cls.__bases__ if base is not object]
        return f"class {cls.__module__}.{cls.__qualname__} {texts}"

    def _object(self, value: Any, label: str) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, enum.Enum):
            return f"{kind} {value.name}"
        if _is_tensor(value) and value.layout == sys.modules["torch"].strided and not value.is_meta:
            flat = value.detach().cpu().contiguous().reshape(-1).view(sys.modules["torch"].uint8)
            return f"{kind} {value.dtype} {tuple(value.shape)} {sha256(flat.numpy().tobytes())}"
        if _is_array(value):
            held = self.value(value.tolist(), label) if value.dtype.hasobject else sha256(value.tobytes())
            return f"{kind} {value.dtype} {value.shape} {held}"
        walked = hasattr(value, "__dict__")
        if walked and (self.strict or is_data(value)):
            return f"{self.value(type(value), label)} {self.value(vars(value), label)}"
        if not walked and " at 0x" not in repr(value):  # a dtype, a device, a function of C
            return f"{kind} {value!r}"
        if not self.strict:
            return kind
        raise PluginError(
            f"{label} holds {type(value).__name__} {str(value)[:60]!r}, of which two versions cannot be told apart, so "
            "that the store could serve what another one has trained: give it numbers, texts, tensors or functions"
        )


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


# --- values ---------------------------------------------------------------------------------------------------------


def is_users(thing: Any) -> bool:
    """Whether a function or class is code of the user's, and not of an installed package."""
    name = getattr(thing, "__module__", None)
    if not isinstance(name, str) or name.partition(".")[0] in (_OWN, "builtins"):
        return False
    path = file_of(name)
    return name not in sys.builtin_module_names and (path is None or place_of(path) == "own")


def is_users_module(module: types.ModuleType) -> bool:
    """Whether a module is code of the user's, and not redense's own or of an installed package."""
    return (path := source_of(module)) is not None and place_of(path) == "own" and not is_own(module.__name__)


def _is_library(value: Any) -> bool:
    """Whether a value is a function or a class of a library."""
    return callable(value) and hasattr(value, "__qualname__") and not is_users(value) and not is_own(value)


def _place(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a collection of such, which may hold itself."""
    looked: dict[int, object] = {}  # with the object, so that its number stays its own
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, _PLAIN) or id(one) in looked:
            continue
        looked[id(one)] = one
        if isinstance(one, Mapping):
            left += [part for item in cast("Mapping[Any, Any]", one).items() for part in item]
        elif isinstance(one, list | tuple | set | frozenset):
            left += cast("Any", one)
        else:
            return False
    return True


def is_data(value: Any) -> bool:
    """Whether a value is data, a network or an object of the user's; what others keep may change as they work."""
    kind = type(value)
    if isinstance(value, type | types.ModuleType | types.FunctionType):
        return False
    if isinstance(value, _COLLECTIONS) and kind.__module__ in ("builtins", "collections", "types"):
        return True
    return (
        _is_tensor(value)
        or _is_array(value)
        or hasattr(kind, "state_dict")
        or dataclasses.is_dataclass(kind)
        or is_users(kind)
    )


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "untyped_storage")


def _is_array(value: Any) -> bool:
    return hasattr(value, "tobytes") and hasattr(value, "dtype")


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Give a function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def told_by_itself(function: types.FunctionType) -> list[str]:
    """Return a checksum of a function whose module has no source, and what its names of libraries stand for."""
    try:
        own = sha256(inspect.getsource(function).encode())
    except (OSError, TypeError):  # no notebook has kept it
        own = sha256(repr(_bytes_of(function.__code__)).encode())
    names = sorted({name for code in codes(function.__code__) for name in code.co_names})
    known = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return [own, *(f"{name} {_place(value)}" for name, value in known.items() if _is_library(value))]


def _bytes_of(code: types.CodeType) -> list[object]:
    inner = [_bytes_of(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, inner]


def label_of(thing: Any) -> str:
    """Return what a message calls a thing."""
    named = getattr(thing, "__qualname__", None) or type(thing).__name__
    return f"'{named}'"
