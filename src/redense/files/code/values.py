"""Values that code reads and `redense.files.sources.code_of` lacks, as a checksum of their own.

They were added later: the checksum of code stays what it was, and so do the keys of all that reads none of them. They
are what modules hold that are imported when the code runs, slots, partials, namespaces and numbers of libraries that a
module binds, what cached properties read, modules that a function imports which was typed, functions read from standard
input; and the plain values that the functions of a whole module read, as a task's.
"""

from __future__ import annotations

import argparse
import enum
import functools
import importlib
import json
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from redense.files.checksums import sha256
from redense.files.module_values import (
    Value,
    attributes_of,
    attributes_set_by,
    expression_of,
    importable,
    imports_in,
    is_empty_at_first,
    is_in_source,
    names_set_by,
)
from redense.files.modules import file_of
from redense.files.sources import (
    Found,
    codes,
    is_data,
    is_own,
    is_plain,
    is_users,
    is_users_module,
    label_of,
    told_by_itself,
)

from .fixed import slots_of, text_of

_BOUND = (functools.partial, argparse.Namespace, enum.Enum)
_AROUND = (functools.cached_property, functools.partialmethod)


def values_of_code(thing: object) -> str | None:
    """Return a checksum of the values that code reads and `code_of` lacks; None where there are none.

    Modules of the user's that the code imports when it runs are imported for it.

    Args:
        thing: as for `code_of`; or the name of a module, for the plain values that its functions read.

    Raises:
        PluginError: it holds a value whose versions cannot be told apart.
    """
    if is_own(thing):
        return None
    if isinstance(thing, str):
        plain = [f"{module}.{name} {_Texts().value(value, name)}" for module, name, value in _read_in(thing)]
        return sha256(json.dumps(plain).encode())[:32] if plain else None
    before, now = (found.value(thing, label_of(thing)) for found in (_Texts(), _Wide()))
    return sha256(now.encode())[:32] if before != now else None


def values_in(*things: object) -> list[Value]:
    """Return the plain values of the user's modules that count in checksums: another process imports those anew."""
    found = _Wide()
    for thing in things:
        if not is_own(thing) and not isinstance(thing, str):
            found.value(thing, label_of(thing))
    own = (value for thing in things if isinstance(thing, str) and not is_own(thing) for value in _read_in(thing))
    return [*found.values(), *own]


def mentions(thing: object, name: str) -> bool:
    """Whether code of the user's that a thing reaches mentions a name, also as a text."""
    found = _Wide()
    found.strict = False
    found.value(thing, label_of(thing))
    return name in found.names


def _read_in(name: str) -> list[Value]:
    """Return the plain values that functions of a module read, where they are not as its source writes them out.

    A collection counts that is named in capitals, as a constant is, and has something in it at first: a training may
    fill any other. So does no name that a function sets, and no text with the folder that the module lies in.
    """
    found = _Wide()
    found.strict = False
    for thing in list(vars(importlib.import_module(name)).values()):
        if isinstance(thing, types.FunctionType | type) and is_users(thing):
            found.value(thing, name)
    kept = {(home, inside) for home, inside, _ in found.values() if inside.rpartition(".")[2] in found.stored}
    gone = found.set | {place for place in kept if "." in place[1]}
    return [one for one in found.values() if one[:2] not in gone and _counts(*one)]


def _counts(home: str, name: str, value: Any) -> bool:
    module = sys.modules[home]
    if is_in_source(module, name, value):
        return False
    if "." in name and expression_of(module, name) is None:  # a decorator or the like has set it
        return False
    if isinstance(value, Mapping | list | set):
        return name.rpartition(".")[2].isupper() and not is_empty_at_first(module, name)
    return not (isinstance(value, str) and str(Path(str(file_of(home))).parent) in value)


def _imported_by(function: types.FunctionType) -> list[str]:
    """Return the sources of the user's modules that a function imports which was typed, and has no source itself."""
    found = Found()
    for code in codes(function.__code__):
        for name in imports_in(code, function.__globals__.get("__package__")):
            found.module(name)
    return sorted(line for line in found.lines if not line.startswith("package "))


class _Texts(Found):
    """Findings on values alone: no source is read."""

    def module(self, name: str, path: Path | None = None) -> None:
        """Pass it over."""


class _Wide(_Texts):
    """Findings on the code of a thing, with the values that were added later."""

    def __init__(self) -> None:
        super().__init__()
        self.set: set[tuple[str, str]] = set()  # by module and name: what functions set themselves
        self.names: set[str] = set()  # that code of the user's mentions
        self.stored: set[str] = set()  # attributes that functions set of anything

    def values(self) -> list[Value]:
        return [(*place, value) for place, value in sorted(self.read.items(), key=lambda one: one[0])]

    def _text(self, value: Any, label: str) -> str:
        text = super()._text(value, label)
        if isinstance(value, list | tuple | set | frozenset | Mapping) and is_users(type(cast("Any", value))):
            text += f" {self.value(kept, label)}" if (kept := getattr(cast("Any", value), "__dict__", None)) else ""
        return text

    def _function(self, function: types.FunctionType, label: str) -> str:
        text = super()._function(function, label)
        if not is_users(function):
            return text
        around = function.__globals__
        home, late = importable(around), list[str]()
        for code in codes(function.__code__):
            self.set |= {(home, name) for name in names_set_by(code)}
            self.stored |= attributes_set_by(code)
            self.names |= {*code.co_names, *(text for text in code.co_consts if isinstance(text, str))}
            for one in attributes_of(code, around, around.get("__package__"), load=True):
                if one.is_set:
                    self.set.add((one.module.__name__, one.name))
                elif one.is_late and is_users_module(one.module):
                    late += self._late(one.module, one.name, label)
        file = getattr(sys.modules.get(function.__module__), "__file__", None)
        if file is None or not Path(file).is_file():
            late += _imported_by(function)
        if file is not None and not Path(file).is_file():  # <stdin>: `code_of` looks for its source there
            late += told_by_itself(function)
        return f"{text} {late}" if late else text

    def _late(self, module: types.ModuleType, name: str, label: str) -> Iterator[str]:
        """Give what a name of a module that is imported late stands for, where no source writes it out."""
        used = vars(module).get(name)
        texts, new = self._apart(vars(module), name, label, importable(vars(module)))
        if self._is_hidden(new) or (is_data(used) and not is_plain(used)):
            yield from (f"{module.__name__}.{text}" for text in texts)

    def _apart(self, space: Mapping[str, Any], name: str, label: str, home: str) -> tuple[list[str], list[Any]]:
        """Return what a name stands for, and the places of the values that were not read before."""
        before, strict, self.strict = {*self.read}, self.strict, False
        try:
            texts = list(self._read(space, [name], label, home))
        finally:
            self.strict = strict
        return texts, [place for place in self.read if place not in before]

    def _is_hidden(self, places: Iterable[tuple[str, str]]) -> bool:
        """Whether some values are not what the source of their module writes out."""
        return any(not is_in_source(sys.modules[home], name, self.read[home, name]) for home, name in places)

    def _read(self, space: Mapping[str, Any], names: Iterable[str], label: str, home: str) -> Iterator[str]:
        for name in names:
            used = None if name == "__file__" else space.get(name)
            if isinstance(used, _AROUND):
                function = cast("Any", used).func
                texts, new = self._apart({name: function}, name, label, "")
                if self._is_hidden(new):
                    yield from texts
            elif isinstance(used, _BOUND) or text_of(used) is not None:
                before, self.strict = self.strict, False
                try:
                    text = self.value(used, label)
                finally:
                    self.strict = before
                yield f"{name} {text}"
            else:
                yield from super()._read(space, [name], label, home)

    def _object(self, value: Any, label: str) -> str:
        if (text := text_of(value)) is not None:
            return text
        kind = type(value)
        if isinstance(value, enum.Enum) and is_users(kind):
            home, text = sys.modules.get(kind.__module__), super()._object(value, label)
            written = home is None or is_in_source(home, f"{kind.__qualname__}.{value.name}", value.value)
            return text if written else f"{text} {value.value!r}"
        if isinstance(value, argparse.Namespace):
            return f"namespace {self.value(vars(value), label)}"
        if is_users(kind) and (slots := slots_of(value)):
            kept = {**slots, **getattr(value, "__dict__", {})}
            return f"{self.value(kind, label)} {self.value(kept, label)}"
        return super()._object(value, label)
