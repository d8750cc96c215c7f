"""An arm that is interrupted, at a step of each of its phases, ends with the same bits as one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from redense.lab.arms import ARMS, Setting
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.training.engine import Engine, StoppedError
from redense.tasks.classification.task import Classification

from ...trainings import Tiny, same_tree

QUICK = ("dsd-soup", "muon", "lawa")
"""A flow with branches, two optimizers with states of their own, an average."""
RIVALS = ("smooth", "schedule-free", "soup", "decay", "mixup", "augment", "dsd-smooth", "dsd-ema", "sam-sparse",
          "forget", "shrink-perturb", "gce", "self-distill", "early-dropout", "batchnorm")  # fmt: skip
LATE_DEPTH = {"model": {"name": "resnet20", "widths": [4, 4, 4], "dropout": None}}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(pytest.param(name, {}, id=name) for name in QUICK),
        *(pytest.param(name, {}, id=name, marks=pytest.mark.slow) for name in RIVALS),
        pytest.param("late-depth", LATE_DEPTH, id="late-depth", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_arm_ends_with_the_same_bits(name: str, changes: dict[str, Any], tiny: Tiny, tmp_path: Path):
    recipe, path = tiny(**changes), tmp_path / "last.safetensors"

    def begun(events: list[dict[str, Any]], stop_at: float) -> Engine:
        torch.manual_seed(99)  # whatever the process did before must not matter
        flow = ARMS[name].make(Setting(recipe, 11, (0, 1), str))
        task = Classification(flow.recipe.data, flow.recipe.model)
        engine = Engine(
            task, flow.recipe, flow.phases, emit=events.append, save=lambda state: save_tree(path, state),
            stop=lambda: engine.step >= stop_at,
        )  # fmt: skip
        if path.exists():
            engine.restore(load_tree(path))
        return engine

    def ended(engine: Engine, events: list[dict[str, Any]]) -> dict[str, Any]:
        while engine.phase_index < len(engine.plan):
            engine.train()
        told = [{k: v for k, v in e.items() if k != "seconds"} for e in events if e["kind"] in ("step", "epoch")]
        state = engine.snapshot()
        return {"events": told, "outcome": engine.outcome("test"), **{k: state[k] for k in ("model", "optimizer")}}

    expected: list[dict[str, Any]] = []
    straight = ended(begun(expected, float("inf")), expected)
    path.unlink(missing_ok=True)

    events: list[dict[str, Any]] = []
    last = straight["events"][-1]["step"]
    stops = sorted({5, *range(12, last, 9), last})  # inside phases, after the first step of one, at the end
    for at in stops:
        engine = begun(events, at)
        with pytest.raises(StoppedError):
            ended(engine, events)
    assert same_tree(ended(begun(events, float("inf")), events), straight)
