"""Killed at a seeded moment, resumed, often killed again: a run ends with the bytes of one that nobody disturbed.

`killing.py` does it and explains it; the raw result of the hundred lies in ``results/crash/``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

from redense.lab.recipe.recipe import Recipe

Tiny = Callable[..., Recipe]

HARNESS = Path(__file__).with_name("killing.py")


@pytest.fixture
def killed(tiny: Tiny, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(number: int, *options: object) -> dict[str, Any]:
        recipe, out = tmp_path / "tiny.yaml", tmp_path / "kills.json"
        changes: dict[str, Any] = {"data": {"flip": True, "crop": 1}, "training": {"keep": "best"}}
        recipe.write_text(tiny(**changes, sparse={"epochs": 2}).to_yaml())
        said, errors = forked.start(HARNESS, recipe, "--runs", number, "--out", out, *options).communicate()
        assert out.exists(), errors
        sys.stdout.write(said)
        return json.loads(out.read_text())

    return run


def test_two_killed_runs_end_as_if_they_had_not_been(killed: Callable[..., dict[str, Any]]):
    result = killed(2)
    assert len(result["moments"]) >= 2  # each run is killed first at a kind of moment of its own
    assert [one for one in result["each"] if one["wrong"]] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", [[], ["--cut"]], ids=["kill", "power cut"])
def test_a_hundred_killed_runs_end_as_if_they_had_not_been(how: list[str], killed: Callable[..., dict[str, Any]]):
    result = killed(100, *how)
    assert result["kills"] > 150
    assert min(result["moments"].values()) >= 5
    assert [one for one in result["each"] if one["wrong"]] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "how",
    [["no sync", "--cut"], ["in place"], ["no generator"], ["no log", "--cut"]],
    ids=lambda how: how[0],
)
def test_the_harness_notices_when_redense_is_broken(how: list[str], killed: Callable[..., dict[str, Any]]):
    result = killed(27, "--broken", *how)
    assert result["identical"] < result["runs"]
