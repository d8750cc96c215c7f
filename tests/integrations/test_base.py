"""Which library a callback belongs to, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import redense
from redense.errors import MissingExtraError
from redense.integrations import base

FOLDER = Path(base.__file__).parent
LIGHTNINGS = ("lightning.pytorch", "pytorch_lightning")


def fake(name: str, **attributes: object) -> Any:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


def load(name: str) -> Any:
    """Import a callback's module once more, beside the one that is imported."""
    spec = importlib.util.spec_from_file_location(f"redense.integrations.{name}_again", FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_its_library_a_callback_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    for name in ("lightning", *LIGHTNINGS, "transformers", "transformers.trainer_callback"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pytorch_lightning is not installed: pip install 'redense\[lightn"):
        load("lightning")
    with pytest.raises(MissingExtraError, match=r"not installed: pip install 'redense\[transformers\]'"):
        load("transformers")


def test_a_library_of_another_age_is_not_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", fake("pytorch_lightning", __version__="0.1"))
    says = r"pytorch_lightning 0\.1 is too old: it has no Callback: pip install 'redense\[lightning\]'"
    with pytest.raises(MissingExtraError, match=says):
        load("lightning")


def test_a_library_that_breaks_as_it_is_imported_is_told_from_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "broken_library.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"broken_library does not import \(No module named 'no_such_module"):
        base.require(("broken_library",), "Callback", "lightning")


def test_the_callback_belongs_to_every_lightning_that_is_imported_already(monkeypatch: pytest.MonkeyPatch):
    for name in LIGHTNINGS:
        monkeypatch.setitem(sys.modules, name, fake(name, Callback=type("Callback", (), {})))
    both = load("lightning").DSDCallback
    assert all(issubclass(both, sys.modules[name].Callback) for name in LIGHTNINGS)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    assert issubclass(load("lightning").DSDCallback, sys.modules["pytorch_lightning"].Callback)


def test_a_reading_has_the_phase_and_the_part_that_is_pruned():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity={"0.weight": 0.5, "1.weight": 0.0})
    dsd, reading = redense.DSD(model, optimizer, schedule), base.Reading()
    seen = [reading(dsd)]
    for _ in range(3):
        model(torch.ones(1, 8)).sum().backward()
        optimizer.step()
        seen.append(reading(dsd))
    assert [r["dsd/phase"] for r in seen] == [0, 1, 2, 3]
    assert [r["dsd/sparsity"] for r in seen] == [0, 16 / 40, 0, 0]


def test_a_reading_follows_the_masks_that_surgery_revises():
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 4.0, 8.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = redense.Schedule((redense.Phase.sparse(3, 0.5, surgery=redense.Surgery(power=0)),))
    dsd, reading = redense.DSD(model, optimizer, schedule), base.Reading()
    seen = [reading(dsd)["dsd/sparsity"]]
    model(torch.tensor([[0.0, 0.0, 3.0, 0.0]])).sum().backward()  # 4 -> 1, below the threshold of 2
    optimizer.step()
    assert [*seen, reading(dsd)["dsd/sparsity"]] == [0.5, 0.75]
    dsd.close()
