"""A checksum of code changes with all that the code is made of, and with nothing else."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.criteria import get_criterion, magnitude
from redense.errors import PluginError
from redense.files import sources
from redense.files.sources import code_of
from redense.lab.recipe.recipe import entry_of

MODULES = (
    "outer_for_a_test",
    "near_for_a_test",
    "far_for_a_test",
    "lazy_for_a_test",
    "called_for_a_test",
    "package_for_a_test",
)


@pytest.fixture
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A function whose module imports a second one, which imports a third; one import is made when it is called."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "far_for_a_test.py").write_text("LIMIT = 1\n")
    for name in ("lazy_for_a_test.py", "called_for_a_test.py", "by path.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "near_for_a_test.py").write_text("from far_for_a_test import LIMIT\n")
    (tmp_path / "package_for_a_test").mkdir()
    (tmp_path / "package_for_a_test" / "__init__.py").write_text("")
    (tmp_path / "package_for_a_test" / "inner.py").write_text("")
    (tmp_path / "outer_for_a_test.py").write_text(
        "import yaml\nfrom importlib import import_module\nfrom near_for_a_test import LIMIT\n\n"
        "def function(weight, seed, power=2):\n    import lazy_for_a_test\n    from package_for_a_test import inner\n"
        "    return import_module('called_for_a_test'), open('by path.py')\n"
    )
    yield lambda: importlib.import_module("outer_for_a_test").function
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("file", [*MODULES[:-1], "package_for_a_test/inner", "by path"])
def test_an_edited_module_near_or_far_changes_it(file: str, outer: Callable[[], Any], tmp_path: Path):
    before = code_of(outer())
    assert before == code_of(outer())
    (tmp_path / "next_to_it.py").write_text("# which nobody imports\n")
    (tmp_path / "package_for_a_test" / ".#inner.py").symlink_to("somebody@a.host.123")  # an editor's lock
    (tmp_path / "package_for_a_test" / "folder.py").mkdir()
    assert before == code_of(outer())
    path = tmp_path / f"{file}.py"
    path.write_text(f"{path.read_text()}# edited\n")
    for name in MODULES:
        sys.modules.pop(name, None)
    assert code_of(outer()) != before
    assert code_of("outer_for_a_test") != before  # a module by its name is covered as well


def test_another_version_of_an_installed_package_changes_it(outer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch):
    before, own = code_of(outer()), sources.version_of
    asked: list[str] = []

    def version(package: str) -> str:
        asked.append(package)
        return "another" if package == "yaml" else own(package)

    monkeypatch.setattr(sources, "version_of", version)
    assert code_of(outer()) != before
    assert "sys" not in asked
    assert own("yaml") == importlib.import_module("yaml").__version__  # its distribution is called PyYAML


def _power(weight: Any, seed: int, power: float = 1.0, parts: Any = ()) -> Any:
    return weight


_LIMITS = {"low": 0.1}


def _limited(weight: Any, seed: int) -> Any:
    return _LIMITS["low"]


_LOCKED = types.SimpleNamespace(lock=threading.Lock(), meta=torch.empty(2, device="meta"), value=1)


def _locked(weight: Any, seed: int) -> Any:
    return _LOCKED.value


def _held(value: Any) -> Callable[..., Any]:
    return lambda weight, seed: value


class _Scorer:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, weight: Any, seed: int) -> Any: ...


@pytest.mark.parametrize(
    "made",
    [
        lambda value: functools.partial(_power, power=value),
        lambda value: functools.partial(functools.partial(_power, parts=[value]), power=2.0),
        lambda value: functools.partial(_power, parts=torch.full((3,), value, dtype=torch.bfloat16)),
        lambda value: functools.partial(_power, parts=_held(value)),
        lambda value: _held({"deep": [value]}),
        _Scorer,
        lambda value: _Scorer(value).__call__,
        lambda value: torch.no_grad()(_held(value)),
        lambda value: functools.partial(magnitude, seed=int(value)),
    ],
)
def test_what_a_function_holds_changes_it_and_the_same_again_does_not(made: Callable[[float], Any]):
    found = [code_of(made(value)) for value in (1.5, 1.5, 2.5)]
    assert found[0] == found[1] != found[2]
    assert None not in found


def test_a_value_of_its_module_that_it_reads_changes_it(monkeypatch: pytest.MonkeyPatch):
    before = code_of(_limited)
    monkeypatch.setitem(_LIMITS, "low", 0.2)
    assert code_of(_limited) != before
    monkeypatch.setitem(_LIMITS, "all", _LIMITS)  # a collection may hold itself
    assert code_of(_limited) == code_of(_limited) != before


SEEN = "import json, logging, types\nfrom importlib import util\nfrom pathlib import Path\nimport numpy, torch\n"
READ = {
    "a module by its path": (
        "spec = util.spec_from_file_location('lens', Path(__file__).parent / ('le' + 'ns.py'))\n"
        "lens = util.module_from_spec(spec)\nspec.loader.exec_module(lens)\n",
        "lens.scale(weight)",
    ),
    "a tensor": ("TABLE = torch.tensor(VALUE)\n", "TABLE * weight"),
    "an array in a dict": ("TABLE = {'a': [numpy.array(VALUE)]}\n", "TABLE['a']"),
    "a namespace": ("TABLE = types.SimpleNamespace(value=VALUE, log=logging.getLogger('x'))\n", "TABLE.value"),
    "an object": ("class Own:\n    lock = None\nTABLE = Own()\nTABLE.value = VALUE\n", "TABLE.value"),
    "an attribute of a class": ("class Own:\n    value = torch.tensor(VALUE)\n", "Own.value"),
    "what a static method reads": (
        "TABLE = torch.tensor(VALUE)\nclass Own:\n    @staticmethod\n    def of(w):\n        return TABLE * w\n",
        "Own.of(weight)",
    ),
    "what another module reads": ("import lens\n", "lens.scale(weight)"),
    "what another module holds": ("import lens\n", "lens.TABLE"),
    "what a module in a package holds": ("import kit_for_a_test.inner\n", "kit_for_a_test.inner.TABLE"),
}


@pytest.mark.parametrize("kind", READ)
def test_what_a_module_was_filled_with_from_a_file_changes_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    begin = f"{SEEN}VALUE = json.loads((Path(__file__).parent / 'value.json').read_text())\n"
    made, read = READ[kind]
    (tmp_path / "mine_for_a_test.py").write_text(
        f"{begin}{made}\nlog = logging.getLogger('x')\n\n"
        f"def mine(weight, seed):\n    log.debug('x')\n    return {read}\n"
    )
    (tmp_path / "lens.py").write_text(
        f"{begin}TABLE = torch.tensor(VALUE)\n\ndef scale(weight):\n    return weight * TABLE\n"
    )
    (tmp_path / "kit_for_a_test").mkdir()
    (tmp_path / "kit_for_a_test" / "inner.py").write_text("import lens\nTABLE = lens.TABLE\n")
    found: list[str | None] = []
    for value in (1.5, 1.5, 2.5):
        (tmp_path / "value.json").write_text(str(value))
        found.append(code_of(importlib.import_module("mine_for_a_test").mine))
        logging.getLogger("x").debug("which fills what it keeps")
        for name in ("mine_for_a_test", "lens", "kit_for_a_test", "kit_for_a_test.inner"):
            sys.modules.pop(name, None)
    assert found[0] == found[1] != found[2]
    if "by its path" in kind:
        module = importlib.import_module("mine_for_a_test")
        (tmp_path / "lens.py").write_text("# edited\n")
        sys.modules.pop("mine_for_a_test")
        assert code_of(module.mine) != found[2]


def test_a_global_that_cannot_be_told_is_no_error_and_no_part_of_it(monkeypatch: pytest.MonkeyPatch):
    before = code_of(_locked)
    assert before == code_of(_locked)
    monkeypatch.setattr(_LOCKED, "lock", threading.Lock())
    monkeypatch.setattr(_LOCKED, "meta", torch.empty(2, device="meta"))
    assert code_of(_locked) == before
    monkeypatch.setattr(_LOCKED, "value", 2)
    assert code_of(_locked) != before


def test_a_function_that_was_typed_is_told_by_what_it_does():
    found: list[str | None] = []
    for body, used in (
        ("weight.abs()", abs),
        ("weight.abs()", abs),
        ("-weight.abs()", abs),
        ("f()", abs),
        ("f()", len),
    ):
        space: dict[str, Any] = {"__name__": "typed_for_a_test", "f": used}
        exec(f"def typed(weight, seed):\n    return {body}", space)  # as a console does
        found.append(code_of(space["typed"]))
    assert found[0] == found[1] != found[2]
    assert found[3] != found[4]  # what a name stands for


def test_what_cannot_be_told_apart_is_refused_by_name():
    with pytest.raises(PluginError, match=r"_held.* holds generator .*give it numbers, texts, tensors or functions"):
        code_of(_held(number for number in (1, 2)))


def test_redenses_own_code_has_none():
    assert code_of(get_criterion("magnitude")) is None
    assert code_of(entry_of("speech")) is None
    assert code_of(test_redenses_own_code_has_none) is not None
