"""The plain values of the user's modules that code reads, as in ``settings.NOISE``: a script may have set them."""

from __future__ import annotations

import contextlib
import dis
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

Value = tuple[str, str, Any]
"""A module's name, the name in it (of a class's attribute ``Class.name``), and the value."""

_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR")
_IMPORTS = ("IMPORT_NAME", "IMPORT_FROM")
_NOTHING = ("CACHE", "COPY", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")  # what leaves the top of the stack as it is


def attributes_of(
    code: types.CodeType, known: Mapping[str, Any], package: str | None
) -> Iterator[tuple[types.ModuleType, str, bool]]:
    """Give the attributes of modules that code asks for by name, each with whether it is set.

    Args:
        code: of a function, without the functions inside of it.
        known: the values that names stand for outside of it; others than modules are passed over.
        package: from which relative imports begin.
    """
    imported: dict[str, types.ModuleType] = {}
    read: dict[str, types.ModuleType] = {}  # by the attribute: where ``module.name += 1`` has it from
    top: types.ModuleType | None = None  # of the stack, if it is a module
    found: types.ModuleType | None = None  # by the latest import
    before: list[Any] = [0, None, ""]  # the two latest arguments, and the latest instruction
    for each in dis.get_instructions(code):
        kind, name = each.opname, each.argval
        if kind in _NOTHING:
            continue
        here, top = top, None
        if kind.startswith(_GLOBALS):
            top = _module(known.get(name, imported.get(name)))
        elif kind.startswith("LOAD_FAST"):
            top = imported.get(name[-1] if isinstance(name, tuple) else name)
        elif kind in ("LOAD_ATTR", "LOAD_METHOD") and here:
            yield here, name, False
            read[name] = here
            top = _module(vars(here).get(name))
        elif kind == "STORE_ATTR" and (here or name in read):
            yield here or read[name], name, True
        elif kind == "IMPORT_NAME":
            top = found = _imported(name, before[0], before[1], package)
        elif kind == "IMPORT_FROM" and here:
            yield here, name, False
            top, found = here, _module(vars(here).get(name))
        elif kind.startswith("STORE_") and before[2] in _IMPORTS:
            if found:
                imported[name] = found
            top = here
        before = [before[1], name, kind]


def importable(names: Mapping[str, Any]) -> str:
    """Return the name of the module whose names these are, if another process can import it; else an empty one."""
    home = str(names.get("__name__", ""))
    return home if home != "__main__" and getattr(sys.modules.get(home), "__dict__", None) is names else ""


def put(values: Iterable[Value]) -> None:
    """Set values in their modules, which are imported, where they are others than those that are there."""
    for module, path, value in values:
        with contextlib.suppress(ImportError, AttributeError):  # what needs it says so itself
            holder: Any = importlib.import_module(module)
            *outer, name = path.split(".")
            for one in outer:
                holder = getattr(holder, one)
            there = vars(holder).get(name)
            if type(there) is not type(value) or there != value:
                setattr(holder, name, value)


def _module(value: Any) -> types.ModuleType | None:
    return value if isinstance(value, types.ModuleType) else None


def _imported(name: str, level: Any, names: Any, package: str | None) -> types.ModuleType | None:
    """Return what an import gives, if it is loaded: the package that the name begins with, unless names are taken."""
    try:
        whole = importlib.util.resolve_name("." * cast("int", level or 0) + name, package)
    except (ImportError, TypeError):
        return None
    return sys.modules.get(whole if names else whole.partition(".")[0])
