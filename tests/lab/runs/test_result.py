"""A result names phases that diverged; what a task has to show is next to it, and nothing where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.result import (
    _diverged,  # pyright: ignore[reportPrivateUsage]
    write_evidence,
)
from redense.lab.runs.run import new_run, train_run

Tiny = Callable[..., Recipe]

OUTCOME = {"rank": torch.tensor([0, 1])}


def tell(outcomes: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "mine", "networks": list(outcomes)}


def test_what_the_task_tells_is_written_as_it_is(tmp_path: Path):
    write_evidence(tmp_path, cast("Any", SimpleNamespace(evidence=tell)), {"dense": OUTCOME, "redense": OUTCOME})
    assert json.loads((tmp_path / "evidence.json").read_text()) == {"kind": "mine", "networks": ["dense", "redense"]}


def test_one_network_alone_or_a_task_that_tells_nothing_leaves_no_file_not_even_an_old_one(tmp_path: Path):
    both = {"dense": OUTCOME, "redense": OUTCOME}
    for task, outcomes in ((SimpleNamespace(evidence=tell), {"dense": OUTCOME}), (SimpleNamespace(), both)):
        (tmp_path / "evidence.json").write_text("{}")
        write_evidence(tmp_path, cast("Any", task), outcomes)
        assert not (tmp_path / "evidence.json").exists()


def test_a_loss_that_rises_to_a_multiple_is_noted_and_one_that_falls_or_is_nothing_is_not():
    losses = ([2.0, 1.0, 5.9], [1.0, 0.5, 3.1], [9.0, 8.0], [1e-9, 2e-2])
    names = ("dense", "sparse", "redense", "more")
    phases = [{"name": name, "steps": 1} for name in names]
    records = [
        {"kind": "epoch", "phase_index": index, "train_loss": loss} for index, own in enumerate(losses) for loss in own
    ]
    sparse, redense = _diverged(phases, records)
    assert sparse.startswith("phase 'sparse' diverged, its training loss rose from 1 to 3.1")
    assert redense.startswith("phase 'redense' diverged, its training loss rose from 2 to 8")
    assert _diverged([{"name": "given", "steps": 0}, *phases[1:3]], records)[1:] == []  # given weights may have no loss


def test_a_phase_that_diverges_without_becoming_infinite_is_in_the_result(tiny: Tiny, tmp_path: Path):
    training: dict[str, Any] = {"decay": {"kind": "constant"}, "clip_norm": 1.0}
    recipe = tiny(redense={"lr": 8.0}, training=training)
    assert "phase 'redense' diverged" in " ".join(train_run(new_run(recipe, tmp_path / "run"))["notes"])
