"""Runs with a logger that a real SIGKILL ends, resumed: every point is there, once; and runs of two ranks."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of packages that are not ours
]

Tiny = Callable[..., Recipe]
Curves = dict[str, list[tuple[int, float]]]

# The process ends in the middle of the second phase, at the end of an epoch whose numbers were sent a moment before.
KILLED = """
import os, signal, sys
from pathlib import Path
from redense.lab.events import listen
from redense.lab.runs.run import train_run

def kill(event):
    if event["kind"] == "epoch" and event["step"] == 55:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    listen(kill)
    train_run(Path(sys.argv[1]), save_seconds=0)
"""
SENT_LAST = (40, 55)  # steps of the numbers that were sent last before the kill


def of_csv(folder: Path, curves: Curves) -> Curves:
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in curves}


def of_tensorboard(folder: Path, curves: Curves) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    near: Any = pytest.approx
    return {name: [(p.step, near(p.value, rel=1e-5)) for p in events.Scalars(name)] for name in curves}


def of_mlflow(folder: Path, curves: Curves) -> Curves:
    import mlflow  # pyright: ignore[reportMissingImports]

    client: Any = mlflow.MlflowClient()
    (experiment,) = [found for found in client.search_experiments() if found.name == "tiny/of-tests"]
    (run,) = client.search_runs([experiment.experiment_id])
    history = {name: client.get_metric_history(run.info.run_id, name) for name in curves}
    return {name: [(point.step, point.value) for point in points] for name, points in history.items()}


READERS = {"csv": of_csv, "tensorboard": of_tensorboard, "mlflow": of_mlflow}


@pytest.mark.parametrize("name", READERS)
def test_a_run_that_was_killed_and_resumed_is_one_run_with_every_point_once(
    name: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if name == "mlflow":
        pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    folder = new_run(
        tiny(name="tiny/of-tests", dense={"epochs": 4}, sparse={"epochs": 3}, log=[name]), tmp_path / "run"
    )
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run([sys.executable, str(tmp_path / "killed.py"), str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    result = train_run(folder)
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["kind"] == "epoch"]
    assert [event["step"] for event in epochs] == list(range(11, 89, 11))
    curves: Curves = {
        "train/loss": [(e["step"], e["loss"]) for e in events if e["kind"] == "step"],
        "train/phase": [(e["step"], e["phase_index"] + 1) for e in epochs],
        "validation/error": [(e["step"], e["validation"]["error"]) for e in epochs],
        "result/redense/test_error": [(events[-1]["step"], result["phases"][-1]["test"]["error"])],
    }
    found = READERS[name](folder, curves)
    for one, points in curves.items():
        kept = [point for point in points if name != "mlflow" or point in found[one]]
        assert kept == found[one], one
        assert all(step in SENT_LAST for step, _ in points if (step, _) not in kept), one


def test_of_two_ranks_one_logs_and_every_point_once(tiny: Tiny, tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(tiny(log=["csv", "tensorboard"]).to_yaml())
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "redense.cli", "run", "tiny.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", *words, "--out", "run"], cwd=tmp_path, env=environment, check=True, timeout=300
    )
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == len(events) + 1  # and the figures at the end
    assert [int(row["step"]) for row in rows[:-1]] == [event["step"] for event in events]
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
