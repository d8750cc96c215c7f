"""The plain values of the user's modules that code reads, as in ``settings.NOISE``: a script may have set them."""

from __future__ import annotations

import ast
import contextlib
import dis
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from .modules import source_of

Value = tuple[str, str, Any]
"""A module's name, the name in it (of a class's attribute ``Class.name``), and the value."""

_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR")
_IMPORTS = ("IMPORT_NAME", "IMPORT_FROM")
_NOTHING = ("CACHE", "COPY", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")  # what leaves the top of the stack as it is


class Asked(NamedTuple):
    """An attribute of a module that code asks for by name.

    Args:
        module: of it, which is loaded.
        name: in the module.
        is_set: whether the code sets it.
        is_late: the module is imported when the code runs, and may be loaded only since it ran.
    """

    module: types.ModuleType
    name: str
    is_set: bool
    is_late: bool


def attributes_of(code: types.CodeType, known: Mapping[str, Any], package: str | None) -> Iterator[Asked]:
    """Give the attributes of modules that code asks for by name.

    Args:
        code: of a function, without the functions inside of it.
        known: the values that names stand for outside of it; others than modules are passed over.
        package: from which relative imports begin.
    """
    imported: dict[str, types.ModuleType] = {}
    late = False  # whether the top of the stack is from an import here
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
            late = name not in known
            top = imported.get(name) if late else _module(known[name])
        elif kind.startswith("LOAD_FAST"):
            top, late = imported.get(name[-1] if isinstance(name, tuple) else name), True
        elif kind in ("LOAD_ATTR", "LOAD_METHOD") and here:
            yield Asked(here, name, is_set=False, is_late=late)
            read[name] = here
            top = _module(vars(here).get(name))
        elif kind == "STORE_ATTR" and (here or name in read):
            yield Asked(here or read[name], name, is_set=True, is_late=late)
        elif kind == "IMPORT_NAME":
            top = found = _imported(name, before[0], before[1], package)
        elif kind == "IMPORT_FROM" and here:
            yield Asked(here, name, is_set=False, is_late=True)
            top, found = here, _module(vars(here).get(name))
        elif kind.startswith("STORE_") and before[2] in _IMPORTS:
            if found:
                imported[name] = found
            top = here
        before = [before[1], name, kind]


def is_as_written(module: types.ModuleType, name: str) -> bool:
    """Whether a value of a module is what its source writes out, or no value that is written out."""
    path = source_of(module)
    if path is None or not path.is_file():
        return True
    for each in ast.parse(path.read_bytes()).body:
        if not isinstance(each, ast.Assign | ast.AnnAssign) or each.value is None:
            continue
        targets = each.targets if isinstance(each, ast.Assign) else [each.target]
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            try:
                return ast.literal_eval(each.value) == vars(module).get(name)
            except ValueError:
                return True
    return True


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
