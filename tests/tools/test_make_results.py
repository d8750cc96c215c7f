"""The commands of `tools/make_results.py`: the raw results are theirs, and no folder of another is taken for one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made() -> Any:
    spec = importlib.util.spec_from_file_location("make_results", ROOT / "tools" / "make_results.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_results", module)
        spec.loader.exec_module(module)
    return module


def test_every_folder_of_results_was_made_with_the_command_that_is_told(made: Any):
    told = {name: one for name, one in made.EXPERIMENTS.items() if not one.program}
    begun = {name: command for name in told if (command := made.command_of(ROOT / "results" / name))}
    assert len(begun) > 30
    assert [name for name, command in begun.items() if not made.tells(command, told[name])] == []


def test_what_another_command_has_begun_is_not_taken_for_the_experiment(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(made, "ROOT", tmp_path)
    out = tmp_path / "runs" / "results" / "small"
    out.mkdir(parents=True)
    for name in made.RAW:
        (out / name).write_text(json.dumps({"command": "python -m redense.cli compare quickstart --seeds 5 --out x"}))
    experiment = made.Experiment("quickstart --arms dsd --seeds 5")
    assert made.make("small", experiment) == 2
    assert "small: runs/results/small was begun with another command: move it away" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    assert made.make("small", made.Experiment("quickstart --seeds 5")) == 0
    assert sorted(path.name for path in (tmp_path / "results" / "small").iterdir()) == sorted(made.RAW)
