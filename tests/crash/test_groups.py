"""Signals to processes and to whole groups, and kill -9: nothing is lost, a line says so, and no process is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redense import cli
from redense.lab.recipe.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the processes of a group are read from /proc"),
]


@pytest.mark.timeout(7200)
def test_a_hundred_that_got_a_signal_end_as_if_they_had_not(tiny: Callable[..., Recipe], tmp_path: Path):
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "groups.json"
    recipe.write_text(tiny(dense={"epochs": 5}, sparse={"epochs": 5}, redense={"epochs": 3}).to_yaml())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    script = Path(__file__).with_name("groups.py")
    words = [sys.executable, str(script), str(recipe), "--times", "100", "--out", str(out)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    result = json.loads(out.read_text())
    assert [one for one in result["each"] if one["wrong"]] == []
    met = [one for one in result["each"] if one["met"] not in ("its end", "nobody")]
    assert len(met) > 80  # the others had ended before
