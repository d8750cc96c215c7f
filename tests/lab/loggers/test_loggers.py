"""Loggers of runs and comparisons: what they get, once, also when a run is resumed, and what they can do no harm to."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch

import redense
from redense.errors import MissingExtraError, RecipeError
from redense.lab.comparison.comparison import Comparison, comparison_digest, new_comparison
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.results import write_results
from redense.lab.loggers.base import LOGGERS, LoggedRun, LoggerError, check_loggers, register_logger
from redense.lab.loggers.compared import log_comparison
from redense.lab.loggers.sending import RunSenders, Senders
from redense.lab.loggers.trackers import MlflowLogger
from redense.lab.recipe.recipe import Recipe, build_recipe, load_recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.store import PhaseStore
from redense.lab.training.engine import StoppedError

from ...trainings import stop_after

Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[int, str, str]]


class Fake:
    """A logger that keeps what it is given, under the name of each run; it draws random numbers all the time."""

    runs: ClassVar[dict[str, LoggedRun]]
    points: ClassVar[dict[str, list[tuple[int, dict[str, float]]]]]
    files: ClassVar[dict[str, list[str]]]
    closed: ClassVar[list[str]]
    fails_at: ClassVar[int]

    @classmethod
    def forget(cls) -> None:
        cls.runs, cls.points, cls.files, cls.closed, cls.fails_at = {}, {}, {}, [], -1

    def begin(self, run: LoggedRun) -> str:
        self.name = run.identity or f"id of {run.name}"
        assert (self.name in self.runs) == (run.identity is not None)
        self.runs[self.name] = run
        disturb()
        return self.name

    def log(self, values: Mapping[str, float], step: int) -> None:
        if step == self.fails_at:
            raise ConnectionError("no\nnetwork")
        self.points.setdefault(self.name, []).append((step, dict(values)))
        disturb()

    def attach(self, path: Path) -> None:
        assert path.is_file()
        self.files.setdefault(self.name, []).append(path.name)

    def close(self) -> None:
        self.closed.append(self.name)
        disturb()


def disturb() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # what others may do
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    torch.set_num_threads(3)


@pytest.fixture(autouse=True)
def fake() -> Iterator[type[Fake]]:
    Fake.forget()
    register_logger("fake")(Fake)
    yield Fake
    LOGGERS.pop("fake")


@pytest.fixture(name="redense_run")
def _redense_run(request: pytest.FixtureRequest) -> Run:
    """The shared fixture under a name that does not hide the package."""
    return request.getfixturevalue("redense")


def page(folder: Path) -> Path:
    (folder / "report.html").write_text("a page")
    return folder / "report.html"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_logs_curves_phases_figures_and_its_page(tiny: Tiny, tmp_path: Path, fake: type[Fake]):
    recipe = tiny(dense={"epochs": 2}, log=["csv", "fake"])
    result = train_run(new_run(recipe, tmp_path / "run"), report=page)
    told = fake.runs["id of run"]
    assert (told.project, told.step, told.settings["sparse.sparsity"]) == ("tiny", 0, 0.3)
    assert told.settings["redense"] == redense.__version__
    *curves, (last, figures) = fake.points["id of run"]
    assert [step for step, _ in curves] == [event["step"] for event in events(tmp_path / "run")]
    for (_, values), event in zip(curves, events(tmp_path / "run"), strict=True):
        if event["kind"] == "step":
            assert values == {"train/loss": event["loss"], "train/lr": event["lr"]}
        else:
            assert (values["train/phase"], values["train/sparsity"]) == (event["phase_index"] + 1, event["sparsity"])
            assert values["validation/error"] == event["validation"]["error"]
    assert {event["kind"] for event in events(tmp_path / "run")} == {"step", "epoch"}
    assert last == sum(phase["steps"] for phase in result["phases"])
    assert {name: figures[f"result/{name}/test_error"] for name in ("dense", "sparse", "redense")} == {
        phase["name"]: phase["test"]["error"] for phase in result["phases"]
    }
    assert figures["result/sparse/sparsity"] == pytest.approx(0.3, abs=0.01)
    assert fake.files == {"id of run": ["report.html"]}
    assert fake.closed == ["id of run"]
    # The table has the same, a row for each time that something was logged.
    table = rows(tmp_path / "run" / "log.csv")
    assert [int(row.pop("step")) for row in table] == [step for step, _ in fake.points["id of run"]]
    assert [{k: float(v) for k, v in row.items() if v} for row in table] == [v for _, v in fake.points["id of run"]]
    assert not (tmp_path / "run" / "tensorboard").exists()  # the default was replaced


def test_a_resumed_run_goes_on_in_the_same_run_and_logs_nothing_twice(tiny: Tiny, tmp_path: Path, fake: type[Fake]):
    recipe = tiny(dense={"epochs": 4}, log=["csv", "fake"])
    train_run(new_run(recipe, tmp_path / "whole"), report=page)

    folder = new_run(recipe, tmp_path / "cut")
    with pytest.raises(StoppedError):
        train_run(folder, stop=stop_after(15))
    saved = {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    with pytest.raises(StoppedError):
        train_run(folder, stop=stop_after(20))
    reached = len(fake.points["id of cut"])
    for name, data in saved.items():  # as if a kill had come after what was logged, and before it was saved
        (folder / "checkpoints" / name).write_bytes(data)
    (folder / "log.csv").write_text((folder / "log.csv").read_text() + "39,0.1")  # and in the middle of a row
    with pytest.raises(StoppedError):
        train_run(folder, stop=stop_after(3))
    assert len(fake.points["id of cut"]) == reached  # it is behind what was logged
    train_run(folder, report=page)
    assert fake.runs["id of cut"].identity == "id of cut"
    assert timeless(fake.points["id of cut"]) == timeless(fake.points["id of whole"])
    assert (folder / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()

    train_run(folder, report=page)  # finished: there is nothing to add
    assert timeless(fake.points["id of cut"]) == timeless(fake.points["id of whole"])
    assert fake.files["id of cut"] == ["report.html"]
    assert (folder / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


@pytest.mark.parametrize("names_it", [True, False])
def test_a_finished_run_that_is_resumed_sends_nothing_again_whether_its_logger_names_it_or_not(
    names_it: bool, tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
):
    began = fake.begin
    monkeypatch.setattr(fake, "begin", lambda self, run: began(self, run) if names_it else setattr(self, "name", "it"))
    (tmp_path / "page").touch()
    point: dict[str, Any] = {"kind": "step", "loss": 1.0, "lr": 0.1, "folder": str(tmp_path), "step": 20}
    for last in (None, point):  # as `Recorder` resumes it
        with RunSenders(tmp_path, ["fake"], 0 if last is None else 20, last, {}) as senders:
            senders(point)
            senders.finish(
                {"phases": [{"name": "dense", "sparsity": 0.0, "validation": {}, "test": {}}]}, [tmp_path / "page"]
            )
    ((name, points),) = fake.points.items()
    assert [step for step, _ in points] == [20, 20]  # the point, and the figures
    assert fake.files[name] == ["page"]


def timeless(points: list[tuple[int, dict[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    return [(step, {name: value for name, value in values.items() if "seconds" not in name}) for step, values in points]


@pytest.mark.parametrize(("skips", "steps"), [(True, [20, 40, 40, 60]), (False, [60])])
def test_a_logger_that_passes_over_what_it_has_is_sent_all_points_of_a_resumed_run(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, skips: bool, steps: list[int]
):
    monkeypatch.setattr(fake, "skips", skips, raising=False)
    fake.runs["known"] = LoggedRun("run", "of tests", tmp_path)
    with Senders(["fake"], LoggedRun("run", "of tests", tmp_path, step=20), {"fake": "known"}, sent=(40, 0)) as senders:
        senders.send_again({"kind": "step", "step": step, "loss": 1.0, "lr": 0.1} for step in (20, 40))
        senders.send({"train/loss": 1.0}, (40, 0))
        senders.send({"train/loss": 1.0}, (60, 0))
    assert [step for step, _ in fake.points["known"]] == steps


def test_a_logger_changes_no_bit_and_no_key(tiny: Tiny, tmp_path: Path, fake: type[Fake]):
    store = PhaseStore(tmp_path / "store")
    train_run(new_run(tiny(), tmp_path / "plain"), store=store)
    kept = {path.name for path in store.phases()}
    logged = new_run(tiny(log=["fake", "tensorboard"]), tmp_path / "logged")
    train_run(logged)  # without the store: it draws every random number itself
    assert (logged / "model.safetensors").read_bytes() == (tmp_path / "plain" / "model.safetensors").read_bytes()
    train_run(new_run(tiny(log=["fake"]), tmp_path / "stored"), store=store)
    assert {path.name for path in store.phases()} == kept
    # What came out of the store is logged as what is trained.
    assert timeless(fake.points["id of stored"]) == timeless(fake.points["id of logged"])


def test_a_logger_that_fails_is_named_and_the_run_goes_on(tiny: Tiny, tmp_path: Path, fake: type[Fake], caplog: Any):
    fake.fails_at = 11
    result = train_run(new_run(tiny(log=["fake", "csv"]), tmp_path / "run"))
    assert len(result["phases"]) == 3
    assert [record.message for record in caplog.records] == [
        "log: fake failed, and the run goes on without it: no network"
    ]
    assert len(rows(tmp_path / "run" / "log.csv")) == 4


def test_a_logger_that_writes_into_what_it_is_given_or_leaves_the_program_harms_no_other(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, caplog: Any
):
    def log(self: Fake, values: dict[str, float], step: int) -> None:
        values["step"] = values.pop("loss")
        if step == 2:
            raise SystemExit("no quota")

    def begin(self: Fake, run: LoggedRun) -> str:
        cast("dict[str, Any]", run.settings).clear()
        return "fake"

    monkeypatch.setattr(fake, "log", log)
    monkeypatch.setattr(fake, "begin", begin)
    run = LoggedRun("r", "p", tmp_path, {"seed": 3})
    with Senders(["fake", "csv"], run) as senders:
        for step in (1, 2, 3):
            senders.send({"loss": 0.5}, (step, 0))
    assert rows(tmp_path / "log.csv") == [{"step": str(step), "loss": "0.5"} for step in (1, 2, 3)]
    assert run.settings == {"seed": 3}
    assert "log: fake failed, and the run goes on without it: no quota" in caplog.text


@pytest.mark.parametrize(("given", "says"), [(object(), "a text or None, and not a object"), (None, "no account")])
def test_a_logger_that_begins_with_what_cannot_be_kept_or_leaves_is_one_line(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, given: Any, says: str
):
    def begin(self: Fake, run: LoggedRun) -> Any:
        if given is None:
            raise SystemExit("no account")
        return given

    monkeypatch.setattr(fake, "begin", begin)
    with pytest.raises(LoggerError, match=f"log: fake cannot begin: .*{says}"):
        Senders(["fake"], LoggedRun("r", "p", tmp_path))


def test_what_cannot_begin_is_refused_and_leaves_no_folder(
    redense_run: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: type[Fake]
):
    def begin(self: Fake, run: LoggedRun) -> str:
        raise ConnectionError("nobody\nis logged in")

    monkeypatch.setattr(fake, "begin", begin)
    code, _, err = redense_run("run", recipe_file, "--log", "tensorboard,fake", "--out", "run")
    assert (code, err.splitlines()[-1]) == (2, "redense: log: fake cannot begin: nobody is logged in")
    assert not (tmp_path / "run").exists()
    with pytest.raises(LoggerError):
        train_run(new_run(load_recipe(recipe_file, ["--log", "fake"]), tmp_path / "run"))


@pytest.mark.parametrize(
    ("verb", "names", "said"),
    [
        ("run", "wandbb", "no logger is called 'wandbb'; did you mean 'wandb'? (known: "),
        ("compare", "csv,needy", "log: needy needs the package a_package_of_nobody: pip install a_package_of_nobody"),
        ("search", "csv", "--log is for run and compare: a search logs nothing"),
        ("sensitivity", "csv", "--log is for run and compare: a scan logs nothing"),
    ],
)
def test_a_mistake_is_one_line_before_there_is_a_folder(
    redense_run: Run, recipe_file: Path, tmp_path: Path, verb: str, names: str, said: str
):
    register_logger("needy")(type("Needy", (Fake,), {"needs": "a_package_of_nobody"}))
    try:
        code, out, err = redense_run(verb, recipe_file, "--log", names, "--out", "out")
    finally:
        LOGGERS.pop("needy")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_names_no_logger_is_what_it_was_and_one_that_does_is_the_same_training(tiny: Tiny):
    plain, logged = tiny(), tiny(log="csv, wandb")
    assert logged.log == ["csv", "wandb"]
    assert "log" not in plain.model_dump(mode="json")
    assert build_recipe(plain.model_dump(mode="json")) == plain
    digests = {comparison_digest(Comparison(recipe, ("dsd",), (0,), {})) for recipe in (plain, logged)}
    assert len(digests) == 1
    # A run that was logged can be read where its logger is not; it is looked for where the recipe is given.
    assert build_recipe({**plain.model_dump(mode="json"), "log": ["nobody's"]}).log == ["nobody's"]
    with pytest.raises(RecipeError, match=r"log: no logger is called 'nobody's'"):
        check_loggers(["nobody's"])


def test_a_package_that_is_missing_is_named_with_its_install(monkeypatch: pytest.MonkeyPatch):
    from importlib import util

    monkeypatch.setattr(util, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow", "trackio"):
        with pytest.raises(MissingExtraError, match=f"log: {name} needs the package {name}: pip install {name}"):
            check_loggers(["csv", name])


# --- comparisons ----------------------------------------------------------------------------------------------------


def test_mlflow_without_its_database_says_what_to_install_or_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def without(logger: Any, run: LoggedRun) -> Any:
        raise ModuleNotFoundError("No module named 'alembic'", name="alembic")

    monkeypatch.setattr(MlflowLogger, "make", without)
    with pytest.raises(MissingExtraError, match="needs the package alembic: pip install mlflow, or name a server"):
        MlflowLogger().begin(LoggedRun("run", "of tests", tmp_path))


def test_a_comparison_logs_each_arm_and_seed_as_a_run_and_only_what_is_new(
    tiny: Tiny, tmp_path: Path, fake: type[Fake]
):
    def compared(seeds: tuple[int, ...], folder: Path) -> dict[str, Any]:
        comparison = Comparison(tiny(log=["fake", "csv"]), ("dsd",), seeds, {})
        grid = Grid(comparison, PhaseStore(tmp_path / "store"), folder)
        grid.run(jobs=1)
        result = write_results(folder, grid)
        log_comparison(folder, grid, result, page(folder))
        return result

    folder = new_comparison(Comparison(tiny(log=["fake", "csv"]), ("dsd",), (0, 1), {}), tmp_path / "c")
    result = compared((0, 1), folder)
    names = [f"id of {arm} seed {seed}" for arm in ("baseline", "dsd") for seed in (0, 1)]
    assert list(fake.runs) == [*names, "id of c"]
    assert {run.group for run in fake.runs.values()} == {"c"}
    assert [step for step, _ in fake.points["id of dsd seed 0"]] == [11, 22, 33, 33]
    assert fake.points["id of c"] == [
        (2, {f"{row['arm']}/test_error_{what}": value for row in result["rows"] for what, value in ends(row).items()})
    ]
    assert fake.files == {"id of c": ["report.html"]}
    # The table that a tracker gives of its runs is judged as the comparison was.
    table = [
        {f"config.{name}": value for name, value in run.settings.items() if name in ("arm", "seed")}
        | fake.points[name][-1][1]
        for name, run in fake.runs.items()
        if name != "id of c"
    ]
    judged = redense.judge(table, metric="error", lower_is_better=True).to_dict()["comparisons"]
    assert [item["difference"] for item in judged] == [item["difference"] for item in result["comparisons"]]
    assert float(rows(folder / "logs" / "dsd-seed-0" / "log.csv")[-1]["test_error"]) == table[2]["test_error"]

    (folder / "started.json").unlink()
    compared((0, 1, 2), folder)
    assert list(fake.runs)[5:] == ["id of baseline seed 2", "id of dsd seed 2"]
    assert fake.runs["id of c"].identity == "id of c"
    assert [step for step, _ in fake.points["id of c"]] == [2, 3]
    assert [row["step"] for row in rows(folder / "logs" / "comparison" / "log.csv")] == ["2", "3"]


def ends(row: dict[str, Any]) -> dict[str, float]:
    return {"mean": row["mean"], **dict(zip(("low", "high"), row["interval"] or (), strict=False))}
