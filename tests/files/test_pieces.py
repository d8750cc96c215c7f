"""What a training is made of, piece by piece: what changes it, and what does not."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redense.files import pieces
from redense.files.pieces import changed_pieces, pieces_of

MINE = """
import enum
import functools
import importlib
import torch
import near_for_pieces
from far_for_pieces import scale
from pathlib import Path
from torch.optim import SGD as Chosen

RATE = 0.1
WIDTHS = [8, 8]
SETTINGS = {"wide": True, "kinds": {"b", "a"}}
MIXED = {"rate": 0.1, "act": torch.relu}
TABLE = Path("a.csv")
PRECISION = torch.float32
calls = []
count = 0

class Kind(enum.Enum):
    LOW = 0.1

class Net(torch.nn.Module):
    depth = 2
    act = torch.relu

    class Inner:
        width = 1

    @functools.cached_property
    def kept(self):
        return 5

    def __init__(self):
        super().__init__()

    @property
    def size(self):
        return 3

def layer(width):
    return width + 1

def unused():
    return 1

def dispatched():
    return 6

makers = {"dispatched": dispatched}

@torch.no_grad()
def train(schedule, seed, momentum=0.9, optimizer=torch.optim.SGD):
    global count
    count += 1
    calls.append(seed)
    from late_for_pieces import late
    importlib.import_module("called_for_pieces")
    kinds = seed in {"x", "y", "z"}
    def inner(x):
        return layer(x) * RATE
    others = MIXED, TABLE, PRECISION, Kind, makers, Chosen
    return [inner(w) for w in WIDTHS], Net().size, near_for_pieces.double(2), scale(1), SETTINGS, late, others

# compare(train, seeds=5)
"""
FILES = {
    "mine_for_pieces": MINE,
    "near_for_pieces": "import far_for_pieces\n\ndef double(x):\n    return 2 * x\n",
    "far_for_pieces": "def scale(x):\n    return x\n\ndef other(x):\n    return x\n",
    "late_for_pieces": "late = 1\n",
    "called_for_pieces": "called = 1\n",
}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Return the pieces of ``train`` after a text of a file was replaced by another."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def changed(file: str = "mine_for_pieces", old: str = "", new: str = "") -> dict[str, str]:
        for name, text in FILES.items():
            assert name != file or old in text
            (tmp_path / f"{name}.py").write_text(text.replace(old, new, 1) if name == file and old else text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        try:
            return pieces_of(importlib.import_module("mine_for_pieces").train)
        finally:
            for name in FILES:
                sys.modules.pop(name, None)

    return changed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# compare(train, seeds=5)", "compare = 10\n\n\n"),
        ("    global count", '    "Train."\n\n    # and count\n    global count'),
        ("    return 1", "    return 2"),
        ("calls = []", "calls = [1, 2]"),
        ("count = 0", "count = 7"),
        ('{"b", "a"}', '{"a", "b"}'),
        ("\nclass Net", "\n\n\nclass Net"),
    ],
)
def test_what_a_training_does_not_use_changes_nothing(read: Callable[..., dict[str, str]], old: str, new: str):
    assert changed_pieces(read(), read("mine_for_pieces", old, new)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("mine_for_pieces", "count += 1", "count += 2", ["train"]),
        ("mine_for_pieces", "layer(x) * RATE", "layer(x) / RATE", ["train"]),
        ("mine_for_pieces", "RATE = 0.1", "RATE = 0.2", ["train"]),
        ("mine_for_pieces", "WIDTHS = [8, 8]", "WIDTHS = [8, 9]", ["train"]),
        ("mine_for_pieces", '"wide": True', '"wide": False', ["train"]),
        ("mine_for_pieces", "momentum=0.9", "momentum=0.8", ["train"]),
        ("mine_for_pieces", '"y", "z"', '"y", "w"', ["train"]),
        ("mine_for_pieces", "return width + 1", "return width + 2", ["layer"]),
        ("mine_for_pieces", "super().__init__()", "super().__init__(); self.a = 1", ["Net.__init__"]),
        ("mine_for_pieces", "depth = 2", "depth = 3", ["Net"]),
        ("mine_for_pieces", "return 3", "return 4", ["Net.size"]),
        ("near_for_pieces", "2 * x", "3 * x", ["double", "near_for_pieces"]),
        ("mine_for_pieces", '"rate": 0.1', '"rate": 0.2', ["names in train"]),
        ("mine_for_pieces", '"act": torch.relu', '"act": torch.tanh', ["names in train"]),
        ("mine_for_pieces", "a.csv", "b.csv", ["names in train"]),
        ("mine_for_pieces", "torch.float32", "torch.float64", ["names in train"]),
        ("mine_for_pieces", "import SGD as", "import Adam as", ["names in train"]),
        ("mine_for_pieces", "optimizer=torch.optim.SGD", "optimizer=torch.optim.Adam", ["names in train"]),
        ("mine_for_pieces", "LOW = 0.1", "LOW = 0.2", ["names in Kind"]),
        ("mine_for_pieces", "    act = torch.relu", "    act = torch.tanh", ["names in Net"]),
        ("mine_for_pieces", "width = 1", "width = 2", ["Net.Inner"]),
        ("mine_for_pieces", "return 5", "return 6", ["Net.kept"]),
        ("mine_for_pieces", "return 6", "return 7", ["dispatched"]),
        ("far_for_pieces", "return x", "return -x", ["far_for_pieces", "scale"]),
        ("late_for_pieces", "late = 1", "late = 2", ["late_for_pieces"]),
        ("called_for_pieces", "called = 1", "called = 2", ["called_for_pieces"]),
    ],
)
def test_what_a_training_uses_is_named_when_it_changes(
    read: Callable[..., dict[str, str]], file: str, old: str, new: str, named: list[str]
):
    assert changed_pieces(read(), read(file, old, new)) == named


def test_values_that_are_bound_count_and_what_an_object_keeps_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def train(schedule: Any, seed: int, rate: float = 0.1) -> float:
        return rate

    def holding(rate: float) -> Callable[..., float]:
        return lambda schedule, seed: rate

    class Kept:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, schedule: Any, seed: int) -> float:
            return self.rate

    partial: Any = functools.partial
    assert pieces_of(partial(train, rate=1)) == pieces_of(partial(train, rate=1))
    assert changed_pieces(pieces_of(partial(train, rate=1)), pieces_of(partial(train, rate=2)))
    assert changed_pieces(pieces_of(partial(train, rate=Path("a"))), pieces_of(partial(train, rate=Path("b"))))
    inside = pieces_of(partial(train, rate=tmp_path / "a"))
    assert changed_pieces(pieces_of(partial(train, rate=Path("a"))), inside)
    monkeypatch.chdir(tmp_path)  # where the work lies does not matter
    assert pieces_of(partial(train, rate=Path("a"))) == pieces_of(partial(train, rate=tmp_path / "a"))
    assert changed_pieces(pieces_of(partial(train, rate=len)), pieces_of(partial(train, rate=holding)))
    assert "train" in " ".join(pieces_of(partial(len, train)))
    assert changed_pieces(pieces_of(holding(1)), pieces_of(holding(2)))
    assert pieces_of(Kept(1)) == pieces_of(Kept(2))
    assert pieces_of(Kept(1).__call__) == pieces_of(Kept(1))
    assert any("Kept" in name for name in pieces_of(Kept(1)))


@pytest.mark.parametrize("act", [None, len], ids=["plain", "with a function"])
def test_a_collection_that_holds_itself_is_told_like_any_other(act: Any):
    def holding(rate: float) -> Callable[[], Any]:
        inner: list[Any] = [rate]
        settings: dict[str, Any] = {"rate": rate, "act": act, "inner": inner}
        settings["all"] = settings
        inner.append(inner)
        return functools.partial(lambda settings: settings, settings)

    assert pieces_of(holding(1)) == pieces_of(holding(1))
    assert changed_pieces(pieces_of(holding(1)), pieces_of(holding(2)))


def test_what_is_of_an_installed_package_or_of_c_has_no_pieces():
    assert list(pieces_of(pytest.approx)) == [pieces.PYTHON, pieces.FORM]
    assert list(pieces_of(len)) == [pieces.PYTHON, pieces.FORM]


def test_pieces_of_an_older_redense_are_compared_as_far_as_they_go():
    now = {"train": "b", "names in train": "c", pieces.FORM: "2"}
    assert changed_pieces({"train": "b"}, now) == []
    assert changed_pieces({"train": "a"}, now) == ["train"]


def test_compiled_code_of_two_versions_of_python_is_not_compared():
    assert changed_pieces({"train": "a", pieces.PYTHON: "3.11"}, {"train": "b", pieces.PYTHON: "3.12"}) == []
    assert changed_pieces(None, {"train": "b"}) == []
