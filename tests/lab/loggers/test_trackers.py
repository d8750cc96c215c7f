"""W&B offline, MLflow's files and Trackio's database hold what a run has logged, read back with what they ship."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apart import passes_in_an_environment_with

from redense.lab.loggers import trackers
from redense.lab.loggers.offline import offline_records
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.training.engine import StoppedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of packages that are not ours
]

Tiny = Callable[..., Recipe]
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture
def resumed(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, Curves]]:
    """Train with a logger, stopped and resumed; return the folder, and the curves that its metrics.jsonl has."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")

    def page(folder: Path) -> Path:
        (folder / "report.html").write_text("a page")
        return folder / "report.html"

    def train(name: str) -> tuple[Path, Curves]:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
        folder = new_run(tiny(name="tiny/of-tests", dense={"epochs": 4}, log=[name]), tmp_path / "run")
        asked = iter(range(1_000_000))
        with pytest.raises(StoppedError):
            train_run(folder, stop=lambda: next(asked) >= 50)
        result = train_run(folder, report=page)
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        curves: Curves = {
            "train/loss": [(e["step"], e["loss"]) for e in events if e["kind"] == "step"],
            "train/phase": [(e["step"], e["phase_index"] + 1) for e in events if e["kind"] == "epoch"],
            "train/sparsity": [(e["step"], e["sparsity"]) for e in events if e["kind"] == "epoch"],
            "validation/error": [(e["step"], e["validation"]["error"]) for e in events if e["kind"] == "epoch"],
            "result/redense/test_error": [(events[-1]["step"], result["phases"][-1]["test"]["error"])],
        }
        assert all(curves.values())
        return folder, curves

    return train


def test_wandb_offline_has_the_curves_of_a_resumed_run_under_one_id(resumed: Callable[[str], tuple[Path, Curves]]):
    folder, curves = resumed("wandb")
    from wandb.proto import wandb_internal_pb2 as proto  # pyright: ignore[reportMissingImports]

    identity = json.loads((folder / "loggers.json").read_text())["ids"]["wandb"]
    parts = sorted(folder.glob(f"wandb/offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(parts) == 2  # one for each start; `wandb sync` makes one run of them
    found: Curves = {name: [] for name in curves}
    pages, projects, settings = list[str](), set[str](), dict[str, str]()
    for part in parts:
        for data in offline_records(part.read_bytes()):
            record: Any = proto.Record()  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                for item in record.history.item:
                    name = "/".join(item.nested_key) or item.key
                    if name in found:
                        found[name].append((record.history.step.num, json.loads(item.value_json)))
            elif record.WhichOneof("record_type") == "run":
                projects.add(record.run.project)
                settings |= {item.key: item.value_json for item in record.run.config.update}
            elif record.WhichOneof("record_type") == "artifact":
                pages += [content.path for content in record.artifact.manifest.contents]
    assert found == curves
    assert (projects, settings["sparse.sparsity"], pages) == ({"tiny-of-tests"}, "0.3", ["report.html"])


def test_mlflow_has_one_run_with_the_curves_and_the_page(resumed: Callable[[str], tuple[Path, Curves]]):
    _, curves = resumed("mlflow")
    import mlflow  # pyright: ignore[reportMissingImports]

    client: Any = mlflow.MlflowClient()
    (experiment,) = [found for found in client.search_experiments() if found.name == "tiny/of-tests"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params["sparse.sparsity"] == "0.3"
    for name, points in curves.items():
        assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)] == points
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


@pytest.mark.timeout(900)
def test_trackio_has_one_run_with_the_curves_and_the_page(
    resumed: Callable[[str], tuple[Path, Curves]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
):
    if find_spec("trackio") is None:
        passes_in_an_environment_with("trackio", Path(__file__), request.node.name, tmp_path)
        return
    _, curves = resumed("trackio")
    import trackio  # pyright: ignore[reportMissingImports]

    assert capsys.readouterr().out == ""  # what it prints goes to the error output
    (run,) = trackio.Api().runs("tiny-of-tests")
    assert run.name == "run"
    assert run.config["sparse.sparsity"] == 0.3
    rows = trackio.SQLiteStorage.get_logs("tiny-of-tests", "run")
    for name, points in curves.items():
        assert [(row["step"], row[name]) for row in rows if name in row] == points
    blobs = [path for path in (tmp_path / "trackio" / "artifacts").rglob("*") if path.is_file()]
    assert [path.read_text() for path in blobs] == ["a page"]


def test_a_start_waits_for_a_second_that_no_start_before_it_has(monkeypatch: pytest.MonkeyPatch):
    """W&B names the folder of a start by the second: two within one would share their files."""
    now = [99.25]

    def sleep(seconds: float) -> None:
        assert seconds > 0
        now[0] += 0.25

    clock = {"gmtime": lambda: time.gmtime(now[0]), "localtime": lambda: time.gmtime(now[0] + 3600)}
    monkeypatch.setattr(trackers, "time", SimpleNamespace(**clock, sleep=sleep, strftime=time.strftime))
    trackers.await_another_second([])
    assert now == [99.25]
    trackers.await_another_second(["offline-run-19700101_010139-x", "offline-run-19700101_000140-x"])
    assert now == [101.0]
