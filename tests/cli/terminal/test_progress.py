"""The lines of a run where there is no terminal."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from rich.console import Console

from redense.cli.terminal import progress
from redense.cli.terminal.progress import RunProgress

PHASE = {"name": "dense", "sparsity": None, "epochs": 2.0, "lr": 0.1, "steps": 2000}


def test_a_line_comes_now_and_then_within_a_long_epoch(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    said = io.StringIO()
    where: dict[str, Any] = {"phase": "dense", "phase_index": 0}
    with RunProgress(Console(width=200, file=said)) as shown:
        shown({"kind": "plan", "phases": [PHASE], "metric": {"name": "error", "unit": "%"}})
        shown({"kind": "phase", **where, "step": 0, "epoch": 0.0, "start": 0, "steps": 2000})
        for step in range(20, 1000, 20):  # a step a second
            clock[0] = float(step)
            shown({"kind": "step", **where, "step": step, "epoch": step / 1000, "loss": 1.5, "lr": 0.1})
    lines = said.getvalue().splitlines()
    assert lines[:2] == [
        "1/1 dense, 2 epochs, lr 0.1",
        "  epoch 0.04 of 2  loss 1.500  33 min left in this phase",
    ]
    steps = [float(line.split()[1]) for line in lines[1:]]
    pauses = [after - before for before, after in itertools.pairwise(steps)]
    assert min(pauses) >= 0.03  # half a minute
    assert 0.08 <= pauses[-1] <= 0.12  # a tenth of what has passed
