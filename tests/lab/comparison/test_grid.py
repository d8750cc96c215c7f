"""The grid: every arm trains, phases are shared and trained once, and how it is run changes no bit."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redense.errors import MissingExtraError, RecipeError, RedenseError, ScheduleError, StateError
from redense.lab.arms import ARMS, Setting, arm, get_arms
from redense.lab.comparison import grid as grid_module
from redense.lab.comparison.comparison import read_comparison
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.outlook import trained as trained_steps
from redense.lab.comparison.results import write_results
from redense.lab.events import listening
from redense.lab.recipe.recipe import Recipe
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine, StoppedError, TrainingError
from redense.lab.training.plan import PlannedPhase, plan
from redense.tasks.classification import entry
from redense.variants import restarted

from ..which_arms import OTHER_ARMS, SOME_ARMS

Tiny = Callable[..., Recipe]
Compared = Callable[..., Any]

NAMES = [*SOME_ARMS, *OTHER_ARMS]
ENDS_SPARSE = ["scratch", "scratch-own", "prune", "surgery"]  # prune is of `other_arms`
OWN_DENSE = ["longer", "scratch-own", "early-dropout", "batchnorm", "schedule-free"]
"""Of `some_arms`, those whose first phase is not the baseline's."""


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(engine: Engine) -> None:
        pytest.fail(f"phase {engine.phase_index} was trained")

    monkeypatch.setattr(Engine, "train", train)


# --- every arm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "name"),
    [
        *(("some_arms", name) for name in SOME_ARMS),
        *(pytest.param("other_arms", name, marks=pytest.mark.slow) for name in OTHER_ARMS),
    ],
)
def test_every_arm_trains_to_the_end_on_the_budget_of_dsd_or_says_why_not(
    trained: str, name: str, request: pytest.FixtureRequest
):
    found = request.getfixturevalue(trained)
    row, dsd = found.row(name), found.row("dsd")
    assert row["about"] == ARMS[name].about
    assert row["source"] == ARMS[name].source
    assert (dsd["steps"], dsd["gradients"], dsd["note"]) == (33, 33, "")
    assert sum(p["phase"]["steps"] for p in row["phases"] if not p.get("joins")) == row["steps"]
    if not row["note"]:
        steps = 31 if name == "sam-sparse" else 33  # a step of SAM takes two gradients
        assert (row["steps"], row["gradients"]) == (steps, 33)
    assert row["gradients"] <= 33  # no arm gets more than DSD, whatever its note says
    assert [seed["seed"] for seed in row["seeds"]] == [0, 1]
    for seed in row["seeds"]:
        assert set(seed) == {"seed", "key", "test", "validation", "parameters", "nonzeros"}
        assert 0 <= seed["test"]["error"] <= 60  # four classes: it has learned something
        assert (seed["parameters"] < 556) == (name == "svd")
        assert (seed["parameters"] > 556) == (name in ("batchnorm", "ensemble"))
        assert (seed["nonzeros"] < seed["parameters"]) == (name in ENDS_SPARSE)
    assert json.loads(found.raw("costs.json"))[name] >= 0.0
    curves = json.loads(found.raw("curves.json"))[name]
    assert [curve["seed"] for curve in curves] == [0, 1]
    assert all(curve["points"][-1]["step"] == row["steps"] for curve in curves)


def test_the_rows_are_the_baseline_and_the_arms_in_the_order_given(some_arms: Any):
    assert [row["arm"] for row in some_arms.result["rows"]] == ["baseline", *SOME_ARMS]
    baseline = some_arms.row("baseline")
    assert (baseline["steps"], baseline["gradients"]) == (11, 11)
    assert "fewer steps" in baseline["about"]


def test_arms_share_their_dense_phase_and_no_two_arms_are_the_same(some_arms: Any):
    cells = {cell.label: cell for cell in some_arms.grid.cells if cell.seed == 0}
    dense = cells["baseline"].keys[0]
    assert [label for label, cell in cells.items() if cell.keys[0] != dense] == OWN_DENSE
    assert len({cell.keys[-1] for cell in cells.values()}) == len(cells)
    assert len({cell.keys[1] for cell in (cells["dsd"], cells["restart"], cells["llr"], cells["acdc"])}) == 4


def test_each_shared_phase_was_trained_once(some_arms: Any):
    keys = {key for cell in some_arms.grid.cells for key in cell.keys}
    assert some_arms.trained == len(keys) == len(some_arms.grid.store.phases())
    done, total = trained_steps(some_arms.grid)
    steps = {k: p.steps for c in some_arms.grid.cells for k, p in zip(c.keys, c.flow.phases, strict=True)}
    assert done == total == sum(steps.values())


def test_an_arm_ends_with_the_bits_that_the_engine_gives_alone(some_arms: Any, tiny: Tiny):
    """The grid trains phase by phase, each in a new engine; it must be as one engine that trains through."""
    for name in ("dsd", "surgery", "swa", "dsd-soup", "augment", "schedule-free"):
        cell = next(cell for cell in some_arms.grid.cells if (cell.label, cell.seed) == (name, 1))
        engine = Engine(some_arms.grid.task, cell.flow.recipe, cell.flow.phases)
        while engine.phase_index < len(engine.plan):
            engine.train()
        facts = some_arms.row(name)["seeds"][1]
        assert engine.evaluate("test") == facts["test"], name
        assert engine.evaluate("validation") == facts["validation"]


def test_an_arm_that_is_not_known_or_named_twice_is_refused():
    with pytest.raises(RecipeError, match=r"unknown arm 'restrat'; did you mean 'restart'\? \(see redense arms\)"):
        get_arms(["dsd", "restrat"])
    with pytest.raises(RecipeError, match="named twice: dsd, llr, dsd"):
        get_arms(["dsd", "llr", "dsd"])


@pytest.mark.parametrize(
    ("sparse", "expected"),
    [
        ({"sparsity": 0.4}, 0.4),
        ({"sparsity": {"fc1.weight": 0.2, "fc2.weight": 0.6}}, 0.4),
        ({"pattern": [1, 4]}, 0.75),
    ],
)
def test_the_sparsity_of_a_setting_is_the_part_that_is_removed(
    sparse: dict[str, Any], expected: float, tiny: Tiny, some_arms: Any
):
    recipe = tiny(sparse=sparse)
    assert Setting(recipe, 11, (0,), lambda seed: "").sparsity == pytest.approx(expected)


def test_an_arm_that_a_recipe_does_not_allow_is_named_before_anything_is_trained(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    no_training(monkeypatch)
    with pytest.raises(RecipeError, match="arm 'prune': rising sparsity needs a sparsity, not an N:M pattern"):
        compared("dsd", "prune", changes={"sparse": {"pattern": [2, 4]}})
    with pytest.raises(RedenseError, match=r"sparsity 'fc9\.weight' matches no parameter"):
        compared("dsd", into="b", changes={"sparse": {"sparsity": {"fc9.weight": 0.5}}})
    assert not (tmp_path / "store").exists()


TOO_SHORT = {
    0.1: ["dsd-iter", "dsd-iter3", "prune", "acdc", "soup", "dsd-soup"],
    0.3: ["acdc"],
}  # 1 and 3 steps are fewer than their phases


@pytest.mark.parametrize("epochs", TOO_SHORT)
@pytest.mark.parametrize("name", NAMES)
def test_phases_of_a_few_steps_make_every_arm_or_an_error_that_counts_them(name: str, epochs: float, tiny: Tiny):
    setting = Setting(tiny(sparse={"epochs": epochs}, redense={"epochs": epochs}), 11, (0, 1), str)
    if name in TOO_SHORT[epochs]:
        with pytest.raises(ScheduleError, match="at least one step"):
            ARMS[name].make(setting)
    else:
        flow = ARMS[name].make(setting)
        of_sam = 2 if epochs == 0.3 else 0  # 1 of the 3 steps of a phase is enough for its gradients
        fewer = {"sam": 2 * of_sam, "sam-sparse": of_sam, "ensemble": setting.dsd.total_steps - 11}
        assert sum(planned.steps for planned in flow.phases) == setting.dsd.total_steps - fewer.get(name, 0)


def test_weights_are_averaged_several_times_also_in_a_short_phase(some_arms: Any):
    planned = some_arms.row("swa")["phases"][-1]
    options = planned["options"]
    steps = range(planned["phase"]["steps"])
    taken = [i for i in steps if i >= options["start"] * options["steps"] and (i + 1) % options["every"] == 0]
    assert len(taken) >= 4


# --- nothing twice --------------------------------------------------------------------------------------------------


def test_a_second_comparison_trains_nothing_and_gives_the_same_bytes(
    compared: Compared, monkeypatch: pytest.MonkeyPatch
):
    first = compared("dsd", "restart", "swa")
    no_training(monkeypatch)
    second = compared("dsd", "restart", "swa", into="again")
    assert second.trained == 0
    assert second.raw() == first.raw()
    for name in ("compare.csv", "costs.json", "curves.json"):
        assert second.raw(name) == first.raw(name)


def test_another_arm_or_seed_trains_only_what_is_new(compared: Compared):
    assert compared("dsd", "restart", into="a").trained == 2 * (1 + 2 + 2)
    assert compared("dsd", "restart", "llr", into="b").trained == 2 * 1
    assert compared("dsd", "restart", "llr", into="c", seeds=(0, 1, 2)).trained == 1 + 2 + 2 + 1
    assert compared("llr", into="d", seeds=(2, 0)).trained == 0
    assert compared("scratch-own", into="e", seeds=(0,)).trained == 3


def test_a_sweep_shares_the_dense_phase_and_repeats_only_arms_with_a_mask(compared: Compared):
    found = compared("dsd", "restart", "anneal", sweep={"sparsity": [0.2, 0.5]}, seeds=(0,))
    labels = ["dsd sparsity=0.2", "dsd sparsity=0.5", "restart", "anneal sparsity=0.2", "anneal sparsity=0.5"]
    assert [row["arm"] for row in found.result["rows"]] == ["baseline", *labels]
    assert found.trained == 1 + 2 * 2 + 2 + 2 * 3
    assert [found.row(label)["phases"][1]["phase"]["sparsity"] for label in labels[:2]] == [0.2, 0.5]
    assert all(found.row(label)["about"] for label in labels)
    compared_with = {(item["arm"], item["against"]) for item in found.result["comparisons"]}
    assert ("dsd sparsity=0.2", "restart") in compared_with


def test_a_swept_value_that_is_impossible_is_refused_before_anything_is_trained(compared: Compared):
    with pytest.raises(RecipeError, match=r"--sweep .*sparsity.*1.5"):
        compared("dsd", sweep={"sparsity": [0.3, 1.5]})


# --- how it is run --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)  # and so early: to fork a process that has run many tests costs ten seconds more
@pytest.mark.filterwarnings("ignore:`fork` start method should not be used")  # loky, of its threads: it has none yet
def test_two_processes_at_once_give_the_same_bytes(train_elsewhere: Callable[[], None], compared: Compared):
    one = compared("dsd", "restart", "distill", into="one")
    train_elsewhere()
    heard: list[dict[str, Any]] = []
    with listening(heard.append):
        two = compared("dsd", "restart", "distill", into="two", store=PhaseStore(one.folder.parent / "other"), jobs=2)
    told = {arm for event in heard if event["kind"] == "epoch" for arm in event["arms"]}
    assert told == {"baseline", "dsd", "restart", "distill"}  # by the workers
    assert two.trained == one.trained
    assert two.raw() == one.raw()
    assert two.raw("compare.csv") == one.raw("compare.csv")


def test_a_comparison_makes_one_engine_and_one_task_a_process(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: (made.append(name), real(*given, **named))[1])

    counted(Engine, "__init__")
    counted(entry, "make")
    found = compared("dsd", "restart", changes={"data": {"flip": True}})  # data of no other test's task
    assert found.trained == 10
    assert sorted(made) == ["__init__", "make"]


def stopping(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ask every grid from now on to stop when it has told its progress so many times."""
    progress, told = PhaseStore.progress, 0

    def tell(self: PhaseStore, *what: Any) -> None:
        nonlocal told
        told += 1
        if told == at:
            grids[-1].stop()
        progress(self, *what)

    grids: list[Grid] = []
    made = Grid.__init__

    def make(self: Grid, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        grids.append(self)

    monkeypatch.setattr(PhaseStore, "progress", tell)
    monkeypatch.setattr(Grid, "__init__", make)


@pytest.mark.slow  # the quick tests kill one: test_kill_compare.py
@pytest.mark.parametrize("at", [1, 8])
def test_a_comparison_that_was_stopped_keeps_what_it_did_and_ends_with_the_same_bytes(
    at: int, compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes: dict[str, Any] = {"dense": {"epochs": 3}, "sparse": {"epochs": 2}}
    store = PhaseStore(tmp_path / "stopped-store")
    with monkeypatch.context() as patch:
        stopping(patch, at)
        with pytest.raises(StoppedError):
            compared("dsd", "restart", into="stopped", store=store, changes=changes)
    kept = list(store.root.rglob("partial.safetensors"))
    assert len(kept) == 1
    key = kept[0].parent.name
    trained: list[int] = []
    train = Engine.train

    def watch(engine: Engine) -> None:
        trained.append(engine.position_in_phase)
        train(engine)

    monkeypatch.setattr(Engine, "train", watch)
    folder = tmp_path / "stopped"
    grid = Grid(read_comparison(folder), store, folder)
    done, total = trained_steps(grid)
    assert 0 < done < total
    grid.run(jobs=1)
    assert store.has(key)
    assert sorted(trained)[-1] > 0  # it went on inside the phase
    assert sorted(trained)[:-1] == [0] * (len(trained) - 1)
    write_results(folder, grid)
    straight = compared("dsd", "restart", into="straight", changes=changes)
    assert (folder / "compare.json").read_bytes() == straight.raw()
    assert timeless(grid.store) == timeless(straight.grid.store)


def timeless(store: PhaseStore) -> dict[str, list[dict[str, Any]]]:
    """All that is logged, but for the clock."""
    return {
        folder.name: [{k: v for k, v in r.items() if k != "seconds"} for r in store.records(folder.name)]
        for folder in store.phases()
    }


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error_that_says_how_to_go_on(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_module, "do", die)
    with pytest.raises(StateError, match=r"a worker process died.*--resume .*compared; what was trained is kept"):
        compared("dsd", jobs=2)


def die(job: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_library_that_a_backend_needs_is_named(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[ray\]'"):
        compared("dsd", backend="ray", jobs=2)


# --- divergence -----------------------------------------------------------------------------------------------------


@pytest.fixture
def exploding() -> Iterator[None]:
    """Two more arms: `explode` diverges after the dense phase, `half` for the first seed alone."""
    for name, seeds in (("explode", {0, 1}), ("half", {0})):

        def make(setting: Setting, seeds: set[int] = seeds) -> Any:
            first, second, last = restarted(setting.dsd).phases
            lr = 1e30 if setting.recipe.seed in seeds else 0.9
            return setting.flow([first, replace(second, lr=lr), last])

        arm(name, "diverges", source="these tests")(make)
    yield
    for name in ("explode", "half"):
        del ARMS[name]


def test_an_arm_that_diverges_is_a_row_that_says_so_and_stops_no_other(
    exploding: None, compared: Compared, monkeypatch: pytest.MonkeyPatch
):
    found = compared("explode", "dsd", "half", "restart")
    alone = compared("dsd", "restart", into="alone")
    for seed in found.row("explode")["seeds"]:
        assert set(seed) == {"seed", "key", "failed"}
        assert "phase 'restart'" in seed["failed"]
        assert "lower its learning rate" in seed["failed"]
    assert (found.row("explode")["mean"], found.row("explode")["interval"]) == (None, None)
    assert [("failed" in seed) for seed in found.row("half")["seeds"]] == [True, False]
    assert found.row("dsd") == alone.row("dsd")
    conclusions = found.result["conclusions"]
    assert conclusions["explode"].endswith("2 of 2 runs of explode diverged.")
    assert "a gain" not in conclusions["explode"]
    assert conclusions["half"].endswith("1 of 2 runs of half diverged.")
    arms = [(item["arm"], item["against"], item["n"]) for item in found.result["comparisons"]]
    assert arms == [
        ("dsd", "baseline", 2),
        ("half", "baseline", 1),
        ("restart", "baseline", 2),
        ("dsd", "half", 1),  # it has no mask, so that it is a control
        ("dsd", "restart", 2),
    ]
    csv = found.raw("compare.csv").decode().splitlines()
    assert sum("diverge" in line or "loss became" in line for line in csv) == 3
    no_training(monkeypatch)  # it would diverge again
    again = compared("explode", "dsd", "half", "restart", into="again")
    assert again.raw() == found.raw()


def test_a_teacher_that_diverged_stops_no_other_arm(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    """The teachers of `distill` are the dense models of all seeds; one may have diverged."""
    train = Engine.train

    def explode(engine: Engine) -> None:
        if engine.recipe.seed == 1 and engine.phase_index == 0:
            raise TrainingError("the loss became nan")
        train(engine)

    monkeypatch.setattr(Engine, "train", explode)
    found = compared("distill", "restart")
    assert ["failed" in seed for seed in found.row("restart")["seeds"]] == [False, True]
    failures = [seed["failed"] for seed in found.row("distill")["seeds"]]
    assert failures[0].startswith("another arm's phase that this one needs diverged: the loss became nan")
    assert failures[1] == "the loss became nan"


def test_the_baseline_is_the_first_phase_of_the_recipe(some_arms: Any, tiny: Tiny):
    (cell,) = [cell for cell in some_arms.grid.cells if (cell.label, cell.seed) == ("baseline", 0)]
    assert cell.flow.phases == plan(tiny(), 11)[:1]
    assert cell.flow.phases == (PlannedPhase(cell.flow.phases[0].phase),)


class FakeRay:
    """What `redense.lab.comparison.ray_cluster` uses of Ray, in this process."""

    class exceptions:  # noqa: N801  # its name in Ray
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause: Exception

    def __init__(self, cores: float = 4.0, lose: Exception | None = None) -> None:
        self.cores, self.lose, self.reserved, self.most = cores, lose, list[Any](), 0

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[Any]:
        return [{"Alive": True, "Resources": {"CPU": self.cores / 2}}] * 2 + [
            {"Alive": False, "Resources": {"CPU": 99}}
        ]

    def remote(self, do: Any) -> Any:
        def options(**given: Any) -> Any:
            self.reserved.append(given)
            return SimpleNamespace(remote=lambda job: lambda: do(job))

        return SimpleNamespace(options=options)

    def wait(self, running: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(running))
        return running[:1], running[1:]

    def get(self, one: Any) -> Any:
        if self.lose:
            raise self.lose
        return one()


def test_ray_is_told_what_to_reserve_and_has_so_many_jobs_at_once(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    over_ray = compared("dsd", "random", backend="ray", jobs=2, resources={"num_cpus": 2, "num_gpus": 0.5}, into="ray")
    assert all(given == {"max_retries": 0, "num_cpus": 2, "num_gpus": 0.5} for given in ray.reserved)
    assert ray.most == 2
    assert over_ray.trained == 10


def test_what_ray_loses_is_a_line_that_says_how_to_go_on(compared: Compared, monkeypatch: pytest.MonkeyPatch):
    failed = FakeRay.exceptions.RayTaskError("a long\ntraceback")
    failed.cause = StateError("the disk is full")
    for lost, says in ((FakeRay.exceptions.RayError("its\nactor died"), "Ray lost a job.*its actor died.*--resume"),
                       (failed, "^the disk is full$")):  # fmt: skip
        monkeypatch.setitem(sys.modules, "ray", FakeRay(lose=lost))
        with pytest.raises(StateError, match=says):
            compared("dsd", backend="ray", jobs=1, into=f"lost-{len(says)}")


def test_a_cluster_that_a_job_does_not_fit_is_refused_before_there_is_a_folder(
    redense: Any, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(cores=4.0))
    words = ("compare", recipe_file, "--backend", "ray", "--jobs", 1, "--cpus-per-job", 3, "--out", "new")
    code, _, err = redense(*words)
    assert code == 2
    assert "a job needs 3 processors, and the largest machine of the Ray cluster has 2" in err
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = redense(*words)
    assert (code, err) == (2, "redense: --backend ray needs Ray: pip install 'redense[ray]'\n")
    fresh = FakeRay()
    fresh.is_initialized = lambda: False
    monkeypatch.setitem(sys.modules, "ray", fresh)
    with socket.socket() as closed:  # nobody listens there
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")
        code, _, err = redense(*words)
    assert code == 2
    assert "no Ray cluster answers at 127.0.0.1:" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--gpus-per-job", 1), "give --backend ray beside them"),
        (("--backend", "ray", "--cpus-per-job", -1), "must not be negative"),
    ],
)
def test_what_ray_reserves_is_checked(given: Any, says: str, redense: Any, recipe_file: Path):
    code, _, error = redense("compare", recipe_file, *given)
    assert code == 2
    assert says in error
