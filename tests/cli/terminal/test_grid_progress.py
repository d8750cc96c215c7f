"""The line that tells how far a comparison is."""

from __future__ import annotations

import io
import time
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
    grid: Any = SimpleNamespace(cells=cells, store=store, ranks=SimpleNamespace(many=False, is_main=True))
    grid.comparison = SimpleNamespace(seeds=(0,))
    monkeypatch.setattr(grid_progress, "trained", lambda _: (watched.done, 40))
    monkeypatch.setattr(grid_progress.time, "monotonic", lambda: watched.clock)
    monkeypatch.setattr(GridProgress, "_table", lambda self: "")
    monkeypatch.setattr(grid_progress, "_LOOK", 0.01)
    watched.said = io.StringIO()
    watched.progress = GridProgress(Console(width=200, file=watched.said), grid, jobs=1)
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


def lines_after(watched: Any, seconds: float) -> list[str]:
    """Return what is said when no phase ends, from the head on, at a time on the clock."""
    before, watched.clock = watched.said.getvalue(), seconds
    for _ in range(200):
        time.sleep(0.01)
        if watched.said.getvalue() != before and watched.said.getvalue().endswith("\n"):
            break
    return watched.said.getvalue().splitlines()[1:]


def test_where_there_is_no_terminal_a_line_comes_while_one_phase_trains(watched: Any):
    with watched.progress:
        watched.done = 4.0
        assert lines_after(watched, 31.0) == ["10% of 40 steps, 31 s so far, 5 min left"]
        watched.done = 8.0
        assert lines_after(watched, 62.0)[1:] == ["20% of 40 steps, 62 s so far, 4 min left"]
    watched.clock = 1000.0
    time.sleep(0.1)
    assert len(watched.said.getvalue().splitlines()) == 3


def test_lines_come_less_often_the_longer_it_takes(watched: Any):
    with watched.progress:
        watched.done = 4.0
        watched.clock = 36_000.0
        assert len(lines_after(watched, 36_001.0)) == 1
        time.sleep(0.1)
        watched.clock += 599.0
        time.sleep(0.1)
        assert len(watched.said.getvalue().splitlines()) == 2
        assert len(lines_after(watched, 36_601.0)) == 2
