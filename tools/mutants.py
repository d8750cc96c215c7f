"""Mutants: every small change of a module that a test should notice, one at a time, as syntax trees.

A mutant is named by where it is and by what it does, without line numbers, so that a name outlives most edits:
``Schedule.index_at: end <= step => end < step``. What is prose is left alone: docstrings, annotations, the text of
error messages; so is what only a type checker reads.
"""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["body", "default", "constant", "other"]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.MatMult: ast.Mult,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


@dataclass(frozen=True)
class Mutant:
    """One change: ``name`` says it, ``lines`` is where it is, `compiled` the whole module with it.

    ``function`` is the first line, decorators included, and the qualified name of the outermost function whose body is
    changed; ``None`` when the change is outside of bodies: a ``default`` of the function ``qualname``, a ``constant``
    of the module, or some ``other`` thing, such as a decorator or a field of a class.
    """

    name: str
    lines: range
    function: tuple[int, str] | None
    qualname: str
    kind: Kind
    tree: ast.Module
    place: _Place
    new: ast.AST

    @property
    def line(self) -> int:
        """The first line."""
        return self.lines.start

    def compiled(self, filename: str) -> types.CodeType:
        """Return the module's code with the change."""
        self.place.put(self.new)
        try:
            return compile(ast.fix_missing_locations(self.tree), filename, "exec", dont_inherit=True)
        finally:
            self.place.put(self.place.node)


@dataclass
class _Place:
    """A node that may be replaced: how to read it and to put another one there, and where it is."""

    node: ast.AST
    put: Callable[[ast.AST], None]
    qualname: str
    function: tuple[int, str] | None
    prose: bool
    kind: Kind


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines; two of one name are told apart by a number."""
    tree, lines = ast.parse(source), source.splitlines()
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for place in list(_places(tree, "", None, "other", prose=False)):
        for new, before, after in _changes(place):
            name = f"{place.qualname or '<module>'}: {before} => {after}"
            if isinstance(place.node, (ast.Constant, ast.Name)):  # `1 => 2` says too little
                name += f" in `{lines[place.node.lineno - 1].strip()}`"
            seen[name] = seen.get(name, 0) + 1
            label = name if seen[name] == 1 else f"{name} #{seen[name]}"
            start = getattr(place.node, "lineno", 1)
            end = start if isinstance(place.node, ast.stmt) else getattr(place.node, "end_lineno", start)
            lines_of = range(start, end + 1)
            found.append(Mutant(label, lines_of, place.function, place.qualname, place.kind, tree, place, new))
    return sorted(found, key=lambda mutant: mutant.line)


def _places(
    node: ast.AST, qualname: str, function: tuple[int, str] | None, kind: Kind, *, prose: bool
) -> Iterator[_Place]:
    """Yield all nodes that are code, each once, with the means to replace it."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment", "ctx"):
            continue
        where, inside, what = qualname, function, kind
        if _is_function(node) and field in ("args", "decorator_list") and function and function[1] == qualname:
            inside, what = None, "default" if field == "args" else "other"  # evaluated outside of the body
        items = value if isinstance(value, list) else [value]
        for index, item in enumerate(items):
            if not isinstance(item, ast.AST) or _is_prose(item):
                continue

            def put(new: ast.AST, field: str = field, index: int = index, whole: object = value) -> None:
                if isinstance(whole, list):
                    whole[index] = new
                else:
                    setattr(node, field, new)

            talks = prose or isinstance(item, (ast.JoinedStr,)) or _raises(item) or _warns(item)
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{where}.{item.name}".lstrip(".")
                body = inside or ((_first_line(item), name) if _is_function(item) else None)
                yield _Place(item, put, name, inside, prose, "body" if inside else "other")
                yield from _places(item, name, body, "body" if body else "other", prose=prose)
            elif isinstance(node, ast.Module) and (constant := _constant_of(item)):
                yield _Place(item, put, constant, None, prose, "constant")
                yield from _places(item, constant, None, "constant", prose=talks)
            else:
                yield _Place(item, put, where, inside, prose, what)
                yield from _places(item, where, inside, what, prose=talks)


def _constant_of(node: ast.AST) -> str | None:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else None


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _is_prose(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, or an ellipsis
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0]):
        return True
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        return True
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "TypeVar")


def _raises(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise)


def _warns(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("warnings.", "log."))


# --- what a node may become -----------------------------------------------------------------------------------------


def _changes(place: _Place) -> Iterator[tuple[ast.AST, str, str]]:
    node, before = place.node, _short(place.node)
    for new in _expressions(node, prose=place.prose) if isinstance(node, ast.expr) else ():
        yield ast.copy_location(new, node), before, _short(new)
    if isinstance(node, ast.stmt):
        for new, says in _statements(node):
            yield ast.copy_location(new, node), before, says
    if isinstance(node, ast.comprehension):
        for index in range(len(node.ifs)):
            new = copy.deepcopy(node)
            gone = new.ifs.pop(index)
            yield new, f"if {_short(gone)}", "(no condition)"


def _expressions(node: ast.expr, *, prose: bool) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                new = copy.deepcopy(node)
                new.ops[index] = other()
                yield new
    elif isinstance(node, ast.BinOp):
        new = copy.deepcopy(node)
        new.op = OPERATORS[type(node.op)]()
        yield new
    elif isinstance(node, ast.BoolOp):
        new = copy.deepcopy(node)
        new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield new
        for index in range(len(node.values)):
            rest = [value for i, value in enumerate(node.values) if i != index]
            yield copy.deepcopy(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
    elif isinstance(node, ast.UnaryOp):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.IfExp):
        yield copy.deepcopy(node.body)
        yield copy.deepcopy(node.orelse)
    elif isinstance(node, ast.Constant):
        yield from _constants(node, prose=prose)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in NAMES:
        yield ast.Attribute(copy.deepcopy(node.value), NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Call) and not prose:
        for index in range(len(node.keywords)):
            new = copy.deepcopy(node)
            del new.keywords[index]
            yield new


def _constants(node: ast.Constant, *, prose: bool) -> Iterator[ast.expr]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1)
        if value not in (0, 1):
            yield ast.Constant(-value if isinstance(value, float) else value - 1)
    elif isinstance(value, str) and not prose:
        yield ast.Constant("" if value else "x")


def _statements(node: ast.stmt) -> Iterator[tuple[ast.stmt, str]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for index, decorator in enumerate(node.decorator_list):
            if _short(decorator).endswith(("property", "classmethod", "staticmethod", ".setter", "overload")):
                continue
            new = copy.deepcopy(node)
            del new.decorator_list[index]
            yield new, f"(no @{_short(decorator)})"
    elif isinstance(node, ast.Return) and node.value and _short(node.value) != "None":
        yield ast.Return(ast.Constant(None)), "return None"
    elif isinstance(node, (ast.Raise, ast.Delete)) or _acts(node):
        yield ast.Pass(), "pass"
    elif isinstance(node, ast.AugAssign):
        new = copy.deepcopy(node)
        new.op = OPERATORS[type(node.op)]()
        yield new, _short(new)
        yield ast.Pass(), "pass"
    elif isinstance(node, ast.Break):
        yield ast.Continue(), "continue"
    elif isinstance(node, ast.Continue):
        yield ast.Break(), "break"
    elif isinstance(node, (ast.If, ast.While)) and not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
        new = copy.deepcopy(node)
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new, f"{type(node).__name__.lower()} {_short(new.test)}"


def _acts(node: ast.stmt) -> bool:
    """Whether a statement is there for what it does to something."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    return isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await, ast.Yield, ast.YieldFrom))


def _short(node: ast.AST) -> str:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
        return "definition"
    if isinstance(node, (ast.If, ast.While)):
        return f"{type(node).__name__.lower()} {_short(node.test)}"
    text = " ".join(ast.unparse(node).split()) if isinstance(node, (ast.expr, ast.stmt)) else type(node).__name__
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-26:]}"
