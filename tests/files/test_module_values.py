"""What a script sets in its modules counts, and another process gets it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redense.files.module_values import put
from redense.files.pieces import changed_pieces, pieces_of, values_of

FILES = {
    "set_for_values": """
NOISE = 0.0
WIDTH = 8
unread = 1
SIZES = {"a": 1}
calls = 0
seen = []
class Options:
    depth = 2
""",
    "inner_for_values": "import os\nRATE = 3\nHERE = os.getpid()\ndef help():\n    return RATE\n",
    "late_for_values": "def train(schedule, seed):\n    import inner_for_values as i\n    return i.RATE, i.help()\n",
    "kit_for_values/__init__.py": "",
    "kit_for_values/inner.py": "RATE = 0.1\nOTHER = 1\n",
    "net_for_values": "import set_for_values as own\ndef width():\n    own.seen.append(1)\n    return own.WIDTH\n",
    "train_for_values": """
import kit_for_values.inner
import net_for_values
import set_for_values
from set_for_values import Options
SCALE = 1.0
def train(schedule, seed):
    from kit_for_values import inner
    from set_for_values import SIZES
    set_for_values.calls += 1
    noise = [set_for_values.NOISE for _ in range(seed)]
    return noise, net_for_values.width(), kit_for_values.inner.RATE, inner.OTHER, SIZES, SCALE, Options.depth
""",
}
READ = {
    ("set_for_values", "NOISE"): 1.0,
    ("set_for_values", "WIDTH"): 9,
    ("set_for_values", "SIZES"): {"a": 2},
    ("set_for_values", "Options.depth"): 3,
    ("kit_for_values.inner", "RATE"): 0.2,
    ("kit_for_values.inner", "OTHER"): 2,
    ("train_for_values", "SCALE"): 2.0,
}
NOT_READ = {
    ("set_for_values", "unread"): 2,
    ("set_for_values", "calls"): 5,
    ("set_for_values", "seen"): [1],
}


@pytest.fixture(name="train")
def _train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in FILES.items():
        path = tmp_path / (name if name.endswith(".py") else f"{name}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()
    yield importlib.import_module("train_for_values").train
    for name in [name for name in sys.modules if "_for_values" in name and not name.startswith("test")]:
        del sys.modules[name]


def as_they_were_imported() -> Any:
    """Import the modules anew, as another process does."""
    for name in [name for name in sys.modules if "_for_values" in name and not name.startswith("test")]:
        del sys.modules[name]
    return importlib.import_module("train_for_values").train


@pytest.mark.parametrize(("place", "value"), READ.items())
def test_what_is_read_counts_and_is_carried(train: Any, place: tuple[str, str], value: Any):
    before, answer = pieces_of(train), train(None, 2)
    put([(*place, value)])
    assert len(changed_pieces(before, pieces_of(train))) == 1
    assert (here := train(None, 2)) != answer
    carried = values_of(train)
    other = as_they_were_imported()
    assert other(None, 2) == answer
    put(carried)
    assert other(None, 2) == here


def test_a_module_that_is_loaded_only_when_it_runs_is_no_change(train: Any):
    late = importlib.import_module("late_for_values")
    sys.modules.pop("inner_for_values", None)
    before = pieces_of(late.train)
    late.train(None, 0)
    assert "inner_for_values" in sys.modules
    assert changed_pieces(before, pieces_of(late.train)) == []
    put([("inner_for_values", "RATE", 7)])
    assert changed_pieces(before, pieces_of(late.train)) == ["settings in inner_for_values"]


@pytest.mark.parametrize(("place", "value"), NOT_READ.items())
def test_what_is_not_read_or_what_a_training_writes_does_not_count(train: Any, place: tuple[str, str], value: Any):
    before = pieces_of(train)
    put([(*place, value)])
    assert changed_pieces(before, pieces_of(train)) == []
    assert place not in {(module, name) for module, name, _ in values_of(train)}


def test_what_has_gone_is_no_matter(train: Any):
    put([("no_such_for_values", "A", 1), ("set_for_values", "Gone.depth", 1)])
    assert train(None, 0)[0] == []


def test_a_value_that_is_equal_stays_the_object_that_it_is(train: Any):
    sizes = sys.modules["set_for_values"].SIZES
    put(values_of(train))
    assert sys.modules["set_for_values"].SIZES is sizes
