"""Signals to whole process groups, and kill -9 of the first process: nothing is lost and no process is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redense import cli
from redense.lab.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the processes of a group are read from /proc"),
]


@pytest.mark.timeout(3600)
def test_a_hundred_groups_that_got_a_signal_end_as_if_they_had_not(tiny: Callable[..., Recipe], tmp_path: Path):
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "groups.json"
    recipe.write_text(tiny(dense={"epochs": 8}, sparse={"epochs": 8}, redense={"epochs": 4}).to_yaml())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    script = Path(__file__).with_name("groups.py")
    words = [sys.executable, str(script), str(recipe), "--times", "100", "--out", str(out)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    assert [one for one in json.loads(out.read_text())["each"] if one["wrong"]] == []
