"""The line that tells how far a comparison is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from redense.cli.terminal import grid_progress
from redense.cli.terminal.grid_progress import GridProgress


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A comparison of three arms of ten steps, one of which diverged, and a clock that a test can set."""
    watched = SimpleNamespace(done=0.0, kept={"a", "b", "c"}, tested=set(), clock=0.0)
    cells = [SimpleNamespace(label=key, keys=(key,)) for key in "abcd"]
    store = SimpleNamespace(has=watched.kept.__contains__, is_measured=watched.tested.__contains__)
    grid: Any = SimpleNamespace(cells=cells, store=store, ranks=SimpleNamespace(many=False))
    monkeypatch.setattr(grid_progress, "trained", lambda _: (watched.done, 40))
    monkeypatch.setattr(grid_progress.time, "monotonic", lambda: watched.clock)
    monkeypatch.setattr(GridProgress, "_table", lambda self: "")
    watched.progress = GridProgress(Console(width=200), grid, jobs=1)
    return watched


def test_the_line_tells_steps_and_the_time_that_is_left(watched: Any):
    assert watched.progress._line() == "0% of 40 steps, 0 s so far"
    watched.done, watched.clock = 10.0, 60.0
    assert watched.progress._line() == "25% of 40 steps, 60 s so far, 3 min left"


def test_when_all_is_trained_the_line_tells_how_many_networks_are_tested(watched: Any):
    watched.done, watched.clock = 40.0, 30.0
    assert watched.progress._line() == "all 40 steps are trained; 0 of 3 networks tested, 30 s so far"
    watched.tested.add("b")
    watched.clock = 40.0
    assert watched.progress._line() == "all 40 steps are trained; 1 of 3 networks tested, 20 s left, 40 s so far"
    watched.tested |= {"a", "c"}
    assert watched.progress._line().startswith("all 40 steps are trained; 3 of 3 networks tested")
