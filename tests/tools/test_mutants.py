"""The mutants that `tools/mutate.py` runs: every kind of change is made, one at a time, and taken back."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def mutants() -> Any:
    path = Path(__file__).parents[2] / "tools" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mutants", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def changes(mutants: Any, source: str) -> set[str]:
    return {mutant.name.partition(": ")[2].partition(" in `")[0] for mutant in mutants.mutants(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a):\n return a < 3", {"a < 3 => a <= 3", "a < 3 => a > 3", "3 => 4", "3 => 2"}),
        ("def f(a):\n return a + -1", {"a + -1 => a - -1", "-1 => 1", "1 => 2"}),
        ("def f(a, b):\n return a and b", {"a and b => a or b", "a and b => b", "a and b => a"}),
        ("def f(a):\n return not a", {"not a => a"}),
        ("def f(a):\n return 1 if a else 0", {"1 if a else 0 => 1", "1 if a else 0 => 0", "1 => 2", "0 => 1"}),
        ("def f(a):\n return min(a, key=len)", {"min => max", "min(a, key=len) => min(a)"}),
        ("def f(a):\n return [x for x in a if x]", {"if x => (no condition)"}),
        ("def f(a):\n return a is None", {"a is None => a is not None"}),
    ],
)
def test_a_returned_expression_is_changed_in_every_way(mutants: Any, source: str, expected: set[str]):
    returned = ast.unparse(ast.parse(source).body[0].body[0])  # pyright: ignore[reportAttributeAccessIssue]
    assert changes(mutants, source) == expected | {f"{returned} => return None"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a):\n a.b()", {"a.b() => pass"}),
        ("def f(a):\n a.b = a", {"a.b = a => pass"}),
        ("def f(a):\n a += a", {"a += a => a -= a", "a += a => pass"}),
        ("def f(a):\n raise ValueError('some prose')", {"raise ValueError('some prose') => pass"}),
        ("def f(a):\n if a: b = a", {"if a => if not a"}),
        ("def f(a):\n while a: break", {"while a => while not a", "break => continue"}),
        ("def f(a=True): ...", {"True => False"}),
        ("A = 'x'", {"'x' => ''"}),
        ("@cache\ndef f(): ...", {"definition => (no @cache)"}),
        ("def f(a: int = 0) -> 'x':\n 'prose'", {"0 => 1"}),
        ("if TYPE_CHECKING:\n import x\n y = 1", set()),
        ("A: TypeAlias = Literal['x']", set()),
    ],
)
def test_a_statement_is_changed_in_every_way_and_prose_in_none(mutants: Any, source: str, expected: set[str]):
    assert changes(mutants, source) == expected


SOURCE = """
LIMIT = 3

class Box:
    @property
    def size(self) -> int:
        return min(1, LIMIT) + 1

def outer(a=2):
    def inner():
        return a * 2
    return inner()
"""


def test_each_mutant_is_one_change_and_leaves_the_others_alone(mutants: Any):
    made = mutants.mutants(SOURCE)
    assert len({mutant.name for mutant in made}) == len(made)
    space: dict[str, Any] = {}
    exec(compile(SOURCE, "box.py", "exec"), space)
    usual = (space["LIMIT"], space["Box"]().size, space["outer"]())
    for mutant in [*made, *reversed(made)]:
        space = {}
        exec(mutant.compiled("box.py"), space)
        box = space["Box"]()
        try:
            results = (space["LIMIT"], box.size, space["outer"]())
        except TypeError:
            continue
        assert results != usual, mutant.name


def test_a_mutant_says_how_it_can_be_put_into_a_loaded_module(mutants: Any):
    kinds = {mutant.name.partition(" in `")[0]: mutant for mutant in mutants.mutants(SOURCE)}
    constant, default = kinds["LIMIT: 3 => 4"], kinds["outer: 2 => 3"]
    inner, method = kinds["outer.inner: a * 2 => a / 2"], kinds["Box.size: min => max"]
    assert (constant.kind, constant.function) == ("constant", None)
    assert (default.kind, default.function, default.qualname) == ("default", None, "outer")
    assert (inner.kind, inner.function) == ("body", (9, "outer"))  # the function that is there to be changed
    assert (method.kind, method.function) == ("body", (5, "Box.size"))  # from its decorator on, as Python counts


def test_what_is_explained_is_a_mutant_that_there_is_and_the_tests_of_a_module_are_there(mutants: Any):
    root = Path(__file__).parents[2]
    for module, plan in json.loads((root / "tools" / "mutants.json").read_text(encoding="utf-8")).items():
        source = root.joinpath("src", *module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        names = [mutant.name for mutant in mutants.mutants(source)]
        assert [key for key in plan["explained"] if not any(stands_for(name, key) for name in names)] == [], module
        assert [test for test in plan["tests"] if test[0] != "-" and not (root / test).exists()] == [], module


def stands_for(name: str, key: str) -> bool:
    return name == key or (key.endswith("*") and name.startswith(key[:-1]))
