"""The plain values of the user's modules that code reads, as in ``settings.NOISE``: a script may have set them."""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from .modules import file_of, place_of, source_of

Value = tuple[str, str, Any]
"""A module's name, the name in it (of a class's attribute ``Class.name``), and the value."""

UNWRITTEN: Any = object()
"""Stands for a value that a source computes."""

_FAR = 8  # modules that hand a name on
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


def attributes_of(
    code: types.CodeType, known: Mapping[str, Any], package: str | None, *, load: bool = False
) -> Iterator[Asked]:
    """Give the attributes of modules that code asks for by name.

    Args:
        code: of a function, without the functions inside of it.
        known: the values that names stand for outside of it; others than modules are passed over.
        package: from which relative imports begin.
        load: import the user's modules that the code imports when it runs; without it they are told once it has run.
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
            top = found = _imported(name, before[0], before[1], package, load=load)
        elif kind == "IMPORT_FROM" and here:
            yield Asked(here, name, is_set=False, is_late=True)
            top, found = here, _module(vars(here).get(name)) or (_loaded(f"{here.__name__}.{name}") if load else None)
        elif kind.startswith("STORE_") and before[2] in _IMPORTS:
            if found:
                imported[name] = found
            top = here
        before = [before[1], name, kind]


def imports_in(code: types.CodeType, package: str | None) -> Iterator[str]:
    """Give the names of the modules that code imports when it runs, those that it names in a text included."""
    before: list[Any] = [0, None]
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            try:
                base = importlib.util.resolve_name("." * cast("int", before[0] or 0) + each.argval, package)
            except (ImportError, TypeError):
                continue
            yield from (base, *(f"{base}.{name}" for name in cast("tuple[str, ...]", before[1] or ())))
        before = [before[1], each.argval]
    if {"import_module", "__import__"} & {*code.co_names}:
        yield from (text for text in code.co_consts if isinstance(text, str) and text.isidentifier())


def is_as_written(module: types.ModuleType, name: str) -> bool:
    """Whether a value of a module is what its source writes out, or no value that is written out."""
    there = written(module, name)
    return there is UNWRITTEN or there == vars(module).get(name)


def is_in_source(module: types.ModuleType, name: str, value: Any) -> bool:
    """Whether a module's source writes out this very value for a name: whoever has the source has the value."""
    there = written(module, name)
    return type(there) is type(value) and there == value


def names_set_by(code: types.CodeType) -> set[str]:
    """Return the names of its module that code sets."""
    return {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_GLOBAL"}


def attributes_set_by(code: types.CodeType) -> set[str]:
    """Return the names of the attributes that code sets, of whatever object."""
    return {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}


def written(module: types.ModuleType, name: str) -> Any:
    """Return what a module's source writes out for a name, or for ``Class.name``; `UNWRITTEN` where it computes it."""
    if (node := expression_of(module, name)) is None:
        return UNWRITTEN
    with contextlib.suppress(ValueError, TypeError):
        return ast.literal_eval(node)
    code = compile(ast.Expression(node), "", "eval")
    steps = [each for each in dis.get_instructions(code) if each.opname != "RESUME"]
    is_constant = all(each.opname in ("LOAD_CONST", "RETURN_CONST", "RETURN_VALUE") for each in steps)  # 60 * 60
    return steps[0].argval if is_constant else UNWRITTEN


def is_empty_at_first(module: types.ModuleType, name: str) -> bool:
    """Whether a module's source begins a collection with nothing in it: whoever uses it fills it."""
    node = expression_of(module, name)
    if isinstance(node, ast.Call):
        return not node.args or getattr(node.func, "attr", getattr(node.func, "id", "")) == "defaultdict"
    return (isinstance(node, ast.List) and not node.elts) or (isinstance(node, ast.Dict) and not node.keys)


def expression_of(module: types.ModuleType, name: str) -> ast.expr | None:
    """Return what a source sets a name to, ``Class.name`` too, in the module that the name is imported from."""
    for _ in range(_FAR):
        path = source_of(module)
        node = _assigned(path.read_bytes()).get(name) if path is not None and path.suffix == ".py" else None
        if not isinstance(node, tuple):
            return node
        before, name = node
        origin = _imported(before.module or "", before.level, names=True, package=module.__package__, load=False)
        if origin is None:
            return None
        module = origin
    return None


@functools.lru_cache(maxsize=16)
def _assigned(source: bytes) -> dict[str, ast.expr | tuple[ast.ImportFrom, str]]:
    """Return what a source sets the names of its module and of its classes to, or where it imports them from."""
    found: dict[str, ast.expr | tuple[ast.ImportFrom, str]] = {}
    try:
        left: list[tuple[str, ast.stmt]] = [("", each) for each in ast.parse(source).body]
    except (SyntaxError, ValueError):
        return found
    while left:
        inside, each = left.pop(0)
        if isinstance(each, ast.ClassDef):
            left += [(f"{inside}{each.name}.", one) for one in each.body]
        elif isinstance(each, ast.ImportFrom):
            found |= {f"{inside}{one.asname or one.name}": (each, one.name) for one in each.names}
        elif isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            pairs = [(one, each.value) for one in (each.targets if isinstance(each, ast.Assign) else [each.target])]
            for target, value in pairs:
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    pairs += zip(target.elts, value.elts, strict=False)
                elif isinstance(target, ast.Name):
                    found[f"{inside}{target.id}"] = value
    return found


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


def _imported(name: str, level: Any, names: Any, package: str | None, *, load: bool) -> types.ModuleType | None:
    """Return what an import gives, if it is loaded: the package that the name begins with, unless names are taken."""
    try:
        whole = importlib.util.resolve_name("." * cast("int", level or 0) + name, package)
    except (ImportError, TypeError):
        return None
    if load:
        _loaded(whole)
    return sys.modules.get(whole if names else whole.partition(".")[0])


def _loaded(name: str) -> types.ModuleType | None:
    """Return a module of the user's, which is imported if it is not; None for what is not the user's, or fails."""
    path = None if name.partition(".")[0] == __name__.partition(".")[0] else file_of(name)
    if name not in sys.modules and path is not None and place_of(path) == "own":
        with contextlib.suppress(Exception, SystemExit):  # whoever runs the code is told
            importlib.import_module(name)
    return sys.modules.get(name)
