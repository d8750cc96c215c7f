"""Check which module of the package may import which: layers, no circles, and what needs no torch.

Every import counts: relative and absolute ones, those inside functions, those that are for type checkers only, and
those by a string, ``import_module("redense.criteria")`` or ``check="redense.tasks.speech.data.inspecting:check"``.
`make check` runs it. A new folder of ``src/redense`` needs a line in ``LAYERS``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"

# A layer, and the layers that its modules may import, beside their own. Whatever is at the top of the package and has
# no line of its own is of the core.
LAYERS: dict[str, frozenset[str]] = {}


def _layer(name: str, *below: str) -> None:
    LAYERS[name] = frozenset({*below, *(deeper for one in below for deeper in LAYERS[one])})


_layer("files")
_layer("masks", "files")
_layer("core", "masks")
_layer("scans", "core")
_layer("methods", "core")
_layer("integrations", "core")
_layer("tasks", "core")
_layer("judging", "files")
_layer("ranks", "tasks")
_layer("recipe", "ranks")
_layer("training", "recipe", "methods", "scans")
_layer("flow", "training")
_layer("arms", "training")
_layer("runs", "flow", "judging", "arms")
_layer("comparison", "runs")
_layer("report", "comparison")
_layer("cli", "report")
_layer("face", "cli", "integrations")  # `redense` itself gives names of any part, and loads none

# The longest of these that a module's name begins with decides its layer.
PLACES = {
    "redense": "core",
    "redense._version": "files",
    "redense.errors": "files",
    "redense.files": "files",
    "redense.schedules.numeric": "masks",
    "redense.masks": "masks",
    "redense.scans": "scans",
    "redense.methods": "methods",
    "redense.integrations": "integrations",
    "redense.tasks": "tasks",
    "redense.tasks.metrics": "files",
    "redense.lab": "comparison",
    "redense.lab.arms": "arms",
    "redense.lab.carried": "training",
    "redense.lab.diagnosis": "training",
    "redense.lab.doctor": "runs",
    "redense.lab.environment": "ranks",
    "redense.lab.events": "ranks",
    "redense.lab.guests": "ranks",
    "redense.lab.flow": "flow",
    "redense.lab.folder": "ranks",
    "redense.lab.headings": "ranks",
    "redense.lab.judging": "judging",
    "redense.lab.keys": "training",
    "redense.lab.loggers": "runs",
    "redense.lab.loggers.base": "recipe",
    "redense.lab.loggers.compared": "comparison",
    "redense.lab.pairs.defaults": "ranks",
    "redense.lab.pairs.named": "arms",
    "redense.lab.ranks": "ranks",
    "redense.lab.recipe": "recipe",
    "redense.lab.runs": "runs",
    "redense.lab.store": "training",
    "redense.lab.tasks": "training",
    "redense.lab.training": "training",
    "redense.lab.checkpoint": "ranks",
    "redense.lab.zoo": "runs",
    "redense.report": "report",
    "redense.cli": "cli",
}

# Modules above that a layer names in a string and does not import: whoever needs them does. Any other module that is
# named counts as imported, but for the packages around the one that names it and the modules of its own package.
NAMED = {
    "tasks": "redense.report.tasks",  # a registration says which sections the report shows; the report loads them
    "training": "redense.lab.arms.rivals",  # the registry of techniques finds ours there when it is first asked
}

# What a layer may import of others' packages; the layers that are not here may import whatever is declared.
PACKAGES = {"files": {"yaml"}, "masks": {"torch"}, "core": {"torch"}, "scans": {"torch"}}

# Modules that no torch comes with, whoever imports them.
LIGHT = (
    "redense.cli",
    "redense.lab.recipe.recipe",
    "redense.lab.judging.judge",
    "redense.phase",
    "redense.schedule",
    "redense.surgery",
    "redense.tasks.catalog",
    "redense.variants",
)


@dataclass(frozen=True)
class Import:
    """One import: by a module, of a module or package, in a line; ``now``: it is made as the module is imported."""

    by: str
    of: str
    line: int
    now: bool


class Tree:
    """The modules of a package and their imports.

    Args:
        source: the folder that the package's folder is in.
        package: its name.
    """

    def __init__(self, source: Path, package: str = "redense") -> None:
        self.package, self.files = package, dict(_modules(source, package))
        self.imports = [one for name in self.files for one in self._imports_of(name)]

    def _imports_of(self, name: str) -> Iterator[Import]:
        path = self.files[name]
        home = name if path.name == "__init__.py" else name.rpartition(".")[0]
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        names_one = "import_module" in text or re.search(rf"[\"']{self.package}", text)
        for line, of in _named(tree, home) if names_one else ():
            above = NAMED.get(layer_of(name), "-") if self.package == "redense" else "-"
            apart = not f"{of}.".startswith((f"{above}.", f"{name}.")) and not name.startswith(f"{of}.")
            if of in self.files and apart:
                yield Import(name, of, line, now=False)
        for node, now in imports_of(tree):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                base = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
                start = ".".join([*base, *([node.module] if node.module else [])])
                # `from . import masks` imports a module; `from .masks import select` a name of one.
                found = [f"{start}.{alias.name}" for alias in node.names]
                found = list(dict.fromkeys(one if one in self.files else start for one in found))
            for of in found:
                if of != name:
                    yield Import(name, of, node.lineno, now)

    def own(self) -> list[Import]:
        """Return the imports of the package's own modules; what is not there is left to the type checker."""
        return [one for one in self.imports if one.of in self.files]

    def at(self, one: Import) -> str:
        """Return where an import is made."""
        return f"{self.files[one.by]}:{one.line}"

    def circles(self) -> list[list[str]]:
        """Return the sets of modules that import each other around a corner, in alphabetical order."""
        users: dict[str, set[str]] = {name: set() for name in self.files}
        for one in self.own():
            users[one.by].add(one.of)
        return sorted(sorted(part) for part in _knots(users))

    def brings(self, name: str, package: str) -> list[str] | None:
        """Return the modules by which importing ``name`` imports ``package``; None if it does not."""
        seen: dict[str, str | None] = {}
        waiting: list[tuple[str, str | None]] = [(name, None)]
        while waiting:
            module, before = waiting.pop(0)
            if module in seen:
                continue
            seen[module] = before
            if module.partition(".")[0] == package:
                way = [module]
                while (step := seen[way[-1]]) is not None:
                    way.append(step)
                return way[::-1]
            parents = [module.rsplit(".", count)[0] for count in range(1, module.count(".") + 1)]
            waiting += [(parent, module) for parent in parents if parent in self.files]
            waiting += [(one.of, module) for one in self.imports if one.by == module and one.now]
        return None


def layer_of(name: str) -> str:
    """Return the layer of a module."""
    if name == "redense":
        return "face"
    return PLACES[max((place for place in PLACES if f"{name}.".startswith(f"{place}.")), key=len)]


def faults(tree: Tree) -> Iterator[str]:
    """Give a sentence on everything that is not as it should be."""
    for one in tree.own():
        by, of = layer_of(one.by), layer_of(one.of)
        if by != of and of not in LAYERS[by]:
            yield f"{tree.at(one)}: {one.by} ({by}) imports {one.of} ({of}), which is no layer below it"
    for one in tree.imports:
        allowed, root = PACKAGES.get(layer_of(one.by)), one.of.partition(".")[0]
        if allowed is not None and root not in {tree.package, *allowed, *sys.stdlib_module_names}:
            yield f"{tree.at(one)}: {one.by} ({layer_of(one.by)}) imports {root}; there it may be {sorted(allowed)}"
    for circle in tree.circles():
        yield f"import circle: {', '.join(circle)}"
    for name in LIGHT:
        if name in tree.files and (way := tree.brings(name, "torch")):
            yield f"{name} brings torch: {' -> '.join(way)}"


def _modules(source: Path, package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((source / package).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(tree: ast.AST, *, now: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Give every import below a node, and whether it is made as the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, now
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_of(node, now=False)
        elif not isinstance(node, ast.expr):  # no import is in an expression
            yield from imports_of(node, now=now and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _named(tree: ast.AST, home: str) -> Iterator[tuple[int, str]]:
    """Give the line and the module of every string that may name one; in a call of ``import_module``, relative too."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node).endswith("import_module") and node.args:
            name = getattr(node.args[0], "value", None)
            if isinstance(name, str) and name.startswith("."):
                above = home.split(".")[: len(home.split(".")) - (len(name) - len(name.lstrip("."))) + 1]
                yield node.lineno, ".".join([*above, name.lstrip(".")])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value.partition(":")[0]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _knots(users: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Give the strongly connected components of more than one node (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in users[node]:
            if other not in number:
                yield from visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            knot = path[path.index(node) :]
            del path[path.index(node) :]
            if len(knot) > 1:
                yield knot

    for node in users:
        if node not in number:
            yield from visit(node)


def main() -> int:
    """Print what is wrong, and return 1 if anything is."""
    tree = Tree(SOURCE)
    found = list(faults(tree))
    print("\n".join(found) or f"{len(tree.files)} modules, {len(tree.own())} imports: layers hold, no circle")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
