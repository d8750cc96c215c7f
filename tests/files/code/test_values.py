"""Values that code reads count, whatever keeps them; code that reads none has no checksum of them."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.files.code.values import values_in, values_of_code
from redense.files.module_values import put
from redense.files.sources import code_of

BEGIN = "import argparse, collections, decimal, enum, functools, os, re, torch\n"
BEGIN += "V = float(os.environ.get('V_OF_TEST', '0'))\n"
LATE = "import os\nNOISE = float(os.environ.get('V_OF_TEST', '0'))\nPLAIN = 60 * 60\ndef noisy():\n    return NOISE\n"
LATE += "class Own:\n    value = NOISE\n"
READ = {  # what stands in the module, and what the function does
    "a module that is imported late": ("", "import late_of_test\n    return late_of_test.NOISE"),
    "a name that is imported late": ("", "from late_of_test import NOISE\n    return NOISE"),
    "what a late function reads": ("", "from late_of_test import noisy\n    return noisy()"),
    "slots": (
        "class Own:\n    __slots__ = 'noise'\n    def __init__(self): self.noise = V\nTABLE = Own()",
        "return TABLE.noise",
    ),
    "a partial": ("TABLE = functools.partial(torch.full_like, fill_value=V)", "return TABLE(weight)"),
    "a namespace": ("TABLE = argparse.Namespace(noise=V)", "return TABLE.noise"),
    "a cached property": (
        "class Own:\n    @functools.cached_property\n    def noise(self): return V",
        "return Own().noise",
    ),
    "a decimal": ("TABLE = decimal.Decimal(str(V))", "return TABLE"),
    "a range": ("TABLE = range(int(V))", "return TABLE"),
    "a pattern": ("TABLE = re.compile(str(V) * 100)", "return TABLE"),
    "a dtype": ("TABLE = torch.float64 if V > 2 else torch.float32", "return TABLE"),
    "an enum": ("class Own(enum.Enum):\n    A = V\nTABLE = Own.A", "return TABLE.value"),
    "an attribute of a list": ("class Own(list): ...\nTABLE = Own()\nTABLE.noise = V", "return TABLE.noise"),
}
UNCHANGED = {
    "nothing": ("", "return weight"),
    "a constant that is imported late": ("", "from late_of_test import PLAIN\n    return PLAIN"),
    "an enum as it is written": ("class Own(enum.Enum):\n    A = 1\nTABLE = Own.A", "return TABLE"),
    "a cached property of constants": (
        "RATE = 3\nclass Own:\n    @functools.cached_property\n    def noise(self): return RATE",
        "return Own().noise",
    ),
    "a buffer": ("TABLE = collections.deque([1])", "return TABLE"),
    "what code_of has": ("", "return V"),
}
Load = Callable[..., Any]


@pytest.fixture(name="load")
def _load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "late_of_test.py").write_text(LATE)

    def forget() -> None:
        for name in ("mine_of_test", "late_of_test"):
            sys.modules.pop(name, None)

    def load(made: str, does: str, value: float) -> Any:
        forget()
        monkeypatch.setenv("V_OF_TEST", str(value))
        (tmp_path / "mine_of_test.py").write_text(f"{BEGIN}{made}\ndef mine(weight, seed):\n    {does}\n")
        return importlib.import_module("mine_of_test").mine

    yield load
    forget()


@pytest.mark.parametrize("kind", READ)
def test_a_value_counts_whatever_keeps_it(kind: str, load: Load):
    found: list[Any] = []
    for value in (1.5, 1.5, 2.5):
        mine = load(*READ[kind], value)
        before = values_of_code(mine)
        mine(torch.ones(2), 0)
        assert values_of_code(mine) == before  # also when what is imported late is loaded
        found.append((code_of(mine), before))
    assert found[0] == found[1]
    assert found[0][0] == found[2][0]  # the checksum of code stays what it was
    assert found[0][1] != found[2][1]


@pytest.mark.parametrize("kind", UNCHANGED)
def test_code_that_reads_none_has_no_checksum_of_them(kind: str, load: Load):
    assert values_of_code(load(*UNCHANGED[kind], 1.5)) is None


def test_what_is_imported_late_is_carried(load: Load):
    made = READ["a name that is imported late"]
    mine = load(*made, 1.5)
    put([("late_of_test", "NOISE", 7.0)])
    carried = values_in(mine)
    mine = load(*made, 1.5)
    put(carried)
    assert mine(None, 0) == 7.0


IMPORTS = ("from late_of_test import noisy", "import late_of_test", "import_module('late_of_test')", "weight")


@pytest.mark.parametrize("does", IMPORTS)
def test_a_helper_that_a_typed_function_imports_counts(does: str, load: Load, tmp_path: Path):
    found: list[str | None] = []
    for text in ("A = 1\n", "A = 1\n", "A = 2\n"):
        load("", "return weight", 1.0)  # forgets what was loaded
        (tmp_path / "late_of_test.py").write_text(f"{text}def noisy(): ...\n")
        space: dict[str, Any] = {"__name__": "typed_for_a_test", "import_module": importlib.import_module}
        exec(f"def typed(weight, seed):\n    {does}\n", space)  # as a console does
        found.append(values_of_code(space["typed"]))
    assert found[0] == found[1]
    assert (found[0] != found[2]) == (does != "weight")


def test_a_function_of_a_script_on_standard_input_is_told_by_what_it_does(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("stdin_for_a_test")
    module.__file__ = "<stdin>"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found: list[str | None] = []
    for text in ("weight.abs()", "weight.abs()", "-weight.abs()"):
        exec(f"def typed(weight, seed):\n    return {text}\n", vars(module))
        found.append(values_of_code(vars(module)["typed"]))
    assert found[0] == found[1] != found[2]


TASK = """
import os
from importlib import util
from pathlib import Path
from late_of_test import PLAIN
SMOOTH = float(os.environ["V_OF_TEST"])
SIZES = {"a": SMOOTH}
PLACE = str(Path(__file__).parent / "data")
spec = util.spec_from_file_location("by_path_of_test", Path(__file__).parent / "late_of_test.py")
lens = util.module_from_spec(spec)
spec.loader.exec_module(lens)
_CACHE = {}
_READ = dict()
seen = [SMOOTH]
calls = 0
class Options:
    depth = SMOOTH
    uses = 0
    width: int = 64
Options.name = "as a decorator sets it"
def make(settings):
    global calls
    calls += 1
    Options.uses += 1
    one = SMOOTH, PLAIN, SIZES, PLACE, _CACHE, _READ, seen, calls
    return one, Options.depth, Options.width, Options.name, lens.Own.value
"""


def test_of_a_whole_module_what_its_functions_read_counts_and_nothing_that_they_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load
):
    found: list[str | None] = []
    for value in ("1", "1", "2"):
        monkeypatch.setenv("V_OF_TEST", value)
        (tmp_path / "mine_of_test.py").write_text(TASK)
        sys.modules.pop("mine_of_test", None)
        module: Any = importlib.import_module("mine_of_test")
        found.append(values_of_code("mine_of_test"))
        assert [name for _, name, _ in values_in("mine_of_test")] == ["Options.depth", "SIZES", "SMOOTH"]
        module.make(None)
        for filled in (module._CACHE, module._READ):
            filled["a"] = 1
        module.seen.append(2)
        assert values_of_code("mine_of_test") == found[-1]
    assert found[0] == found[1] != found[2]
    (tmp_path / "mine_of_test.py").write_text("RATE = 60 * 60\nSIZES = ('a', -1)\ndef make(s): return RATE, SIZES\n")
    sys.modules.pop("mine_of_test")
    assert values_of_code("mine_of_test") is None
    put([("mine_of_test", "RATE", 1)])
    assert values_of_code("mine_of_test") is not None


def test_redenses_own_code_has_none():
    assert values_of_code("redense.tasks.speech.entry") is None
    assert values_in("redense.tasks.speech.entry") == []
