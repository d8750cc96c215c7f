"""Runs with a logger that a real SIGKILL ends, resumed: every point is there, once; and runs of two ranks."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from apart import passes_in_an_environment_with

from redense.lab.loggers.offline import offline_records
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of packages that are not ours
]

Tiny = Callable[..., Recipe]
Curves = dict[str, list[tuple[int, float]]]

# The process ends in the middle of the second phase, at the end of an epoch, whose numbers the loggers have been sent
# a moment before, or have not.
KILLED = """
import os, signal, sys
from pathlib import Path
from redense.lab.events import listen
from redense.lab.runs.run import train_run

def kill(event):
    if event["kind"] == "epoch" and event["step"] == 55:
        os.kill(os.getpid(), signal.SIGKILL)

def after_the_loggers(event):
    if event["kind"] == "epoch" and event["step"] == 11:
        listen(kill)

if __name__ == "__main__":
    listen(kill if sys.argv[2] == "unsent" else after_the_loggers)
    train_run(Path(sys.argv[1]), save_seconds=0)
"""


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


def of_wandb(folder: Path, curves: Curves) -> Curves:
    from wandb.proto import wandb_internal_pb2 as proto  # pyright: ignore[reportMissingImports]

    found: Curves = {name: [] for name in curves}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in offline_records(path.read_bytes()):
            record: Any = proto.Record()  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
            record.ParseFromString(data)
            for item in record.history.item:
                name = "/".join(item.nested_key) or item.key
                if name in found:
                    found[name].append((record.history.step.num, json.loads(item.value_json)))
    return found


def of_trackio(folder: Path, curves: Curves) -> Curves:
    import trackio  # pyright: ignore[reportMissingImports]

    (run,) = trackio.Api().runs("tiny-of-tests")
    rows = trackio.SQLiteStorage.get_logs("tiny-of-tests", run.name)
    return {name: [(row["step"], row[name]) for row in rows if name in row] for name in curves}


READERS = {"csv": of_csv, "tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb, "trackio": of_trackio}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["unsent", "sent"])
@pytest.mark.parametrize("name", READERS)
def test_a_run_that_was_killed_and_resumed_is_one_run_with_every_point_once(
    name: str,
    moment: str,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    if name == "trackio" and find_spec(name) is None:
        passes_in_an_environment_with(name, Path(__file__), request.node.name, tmp_path)
        return
    if name in ("mlflow", "wandb"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder = new_run(
        tiny(name="tiny/of-tests", dense={"epochs": 4}, sparse={"epochs": 3}, log=[name]), tmp_path / "run"
    )
    (tmp_path / "killed.py").write_text(KILLED)
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # a process of W&B is shared
    done = subprocess.run([sys.executable, str(tmp_path / "killed.py"), str(folder), moment], env=alone, check=False)
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
    until = time.monotonic() + 120
    while (found := READERS[name](folder, curves)) != curves and name == "wandb" and time.monotonic() < until:
        time.sleep(1)  # a process of W&B's own writes what it was sent, and lives on when the run is killed
    assert found == curves


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
