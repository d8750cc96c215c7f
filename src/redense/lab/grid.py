"""The grid of a comparison: arms times seeds, as phases that are trained once and shared.

A comparison is a folder that says what is compared (``comparison.json``). What is trained lies in the phase store. So a
comparison that was killed goes on where it was, and a second one that adds an arm or a seed trains only what is new.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingExtraError, RecipeError, RedenseError, StateError, nearest
from ..masks import sparsity_of
from ..tasks.task import Task
from .arms import Arm, Flow, Setting, get_arms
from .checkpoint import write_text
from .engine import Engine, StoppedError, TrainingError, steps_per_epoch
from .environment import environment
from .plan import PlannedPhase, plan
from .recipe import Recipe, SparseRecipe, build_recipe, parse_yaml
from .run import make_task, read_json
from .store import PhaseStore, phase_keys

BASELINE = "baseline"
CONTROL = "restart"
_NOT_SWEPT = ("epochs", "lr", "decay")  # settings of the sparse phase that the control shares


@dataclass(frozen=True)
class Comparison:
    """What is compared: a recipe, arms, seeds, and settings of the sparse phase that are swept."""

    recipe: Recipe
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    sweep: Mapping[str, Sequence[Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "arms": list(self.arms),
            "seeds": list(self.seeds),
            "sweep": {key: list(values) for key, values in self.sweep.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Comparison:
        """Return the comparison that `to_dict` gave."""
        recipe = build_recipe(data["recipe"], "comparison.json")
        return cls(recipe, tuple(data["arms"]), tuple(data["seeds"]), data["sweep"])


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: what it trains, and under which keys it lies."""

    label: str
    seed: int
    flow: Flow
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One phase to train or to evaluate, as plain data for any process on any machine."""

    store: str
    recipe: dict[str, Any]
    phases: tuple[dict[str, Any], ...]
    keys: tuple[str, ...]
    index: int
    stop: str
    main: int
    save_seconds: float


# --- what is to be trained ------------------------------------------------------------------------------------------


def cells(comparison: Comparison, task: Task) -> list[Cell]:
    """Return every arm with every seed, the baseline first; arms that a sweep does not change appear once.

    Raises:
        RecipeError: an arm is unknown, or a swept setting is.
    """
    out: list[Cell] = []
    arms = get_arms(comparison.arms)
    for label, arm, recipe in _rows(comparison, arms):
        for seed in comparison.seeds:
            setting = _setting(recipe.model_copy(update={"seed": seed}), comparison, task)
            try:
                flow = arm.make(setting) if arm else Flow(setting.flow(setting.dsd).phases[:1], setting.recipe)
            except RedenseError as error:  # an arm cannot be made of every recipe
                raise RecipeError(f"arm '{label}': {error}") from None
            out.append(Cell(label, seed, flow, tuple(phase_keys(flow.recipe, task.fingerprint, flow.phases))))
    return out


def _rows(comparison: Comparison, arms: Sequence[Arm]) -> Iterator[tuple[str, Arm | None, Recipe]]:
    yield BASELINE, None, comparison.recipe
    settings = list(_sweep_points(comparison.sweep))
    for arm in arms:
        if not arm.masked or settings == [{}]:
            yield arm.name, arm, comparison.recipe
            continue
        for point in settings:
            data = comparison.recipe.model_dump(mode="json")
            data["sparse"] = {**data["sparse"], **point}
            label = " ".join([arm.name, *(f"{key}={value}" for key, value in point.items())])
            yield label, arm, build_recipe(data, f"--sweep {point}")


def _sweep_points(sweep: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    points: list[dict[str, Any]] = [{}]
    for key, values in sweep.items():
        points = [{**point, key: value} for point in points for value in values]
    yield from points


def _setting(recipe: Recipe, comparison: Comparison, task: Task) -> Setting:
    steps = steps_per_epoch(task, recipe)

    def dense_key(seed: int) -> str:
        own = recipe.model_copy(update={"seed": seed})
        return phase_keys(own, task.fingerprint, plan(own, steps)[:1])[0]

    return Setting(recipe, steps, comparison.seeds, dense_key)


def parse_sweep(text: str | None) -> dict[str, list[Any]]:
    """Return ``{"sparsity": [0.2, 0.3]}`` from ``sparsity=0.2,0.3``; several are parted by spaces.

    Raises:
        RecipeError: not of that form, or no setting of the sparse phase.
    """
    sweep: dict[str, list[Any]] = {}
    for part in (text or "").split():
        key, equals, values = part.partition("=")
        if key not in SparseRecipe.model_fields:
            known = list(SparseRecipe.model_fields)
            raise RecipeError(f"--sweep {part}: the sparse phase has no setting '{key}'{nearest(key, known)}")
        if key in _NOT_SWEPT:
            raise RecipeError(f"--sweep {part}: the control would have another budget: make one comparison for each")
        if not equals or not values:
            raise RecipeError(f"--sweep {part}: give values, as in --sweep {key}=0.2,0.3,0.5")
        found = [parse_yaml(value, f"--sweep {part}") for value in values.split(",")]
        if key in sweep or any(value in found[:index] for index, value in enumerate(found)):
            raise RecipeError(f"--sweep {text}: '{key}' or one of its values is given twice")
        sweep[key] = found
    return sweep


# --- training -------------------------------------------------------------------------------------------------------


def new_comparison(comparison: Comparison, out: Path | None = None, *, root: Path = Path("runs")) -> Path:
    """Make the folder of a new comparison.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")  # noqa: DTZ005  # a name for the user, in the user's time
    folder = out or root / f"compare-{comparison.recipe.name.replace('/', '-')}-{stamp}"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StateError(f"{folder} exists and is not empty: name another, or go on with --resume {folder}")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder {folder}: {error.strerror}") from None
    write_text(folder / "comparison.json", json.dumps(comparison.to_dict(), indent=2) + "\n")
    write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
    return folder


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison of a folder.

    Raises:
        StateError: it is no folder of a comparison.
    """
    if not (folder / "comparison.json").is_file():
        raise StateError(f"{folder} is no comparison: it has no comparison.json")
    try:
        return Comparison.from_dict(read_json(folder / "comparison.json"))
    except (KeyError, TypeError, AttributeError):
        raise StateError(f"{folder / 'comparison.json'} is damaged: it is none that redense writes") from None


def discard_comparison(folder: Path) -> None:
    """Remove the folder of a new comparison that could not begin, so that the corrected command may use its name."""
    for name in ("comparison.json", "environment.json"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or where the user is
        folder.rmdir()


class Grid:
    """The phases that a comparison needs, wave by wave: all first phases, all second ones, and so on."""

    def __init__(self, comparison: Comparison, store: PhaseStore, folder: Path, *, save_seconds: float = 30.0) -> None:
        self.comparison, self.store, self.folder = comparison, store, folder
        torch.set_num_threads(1)  # as in every job, for the keys
        self.task = make_task(comparison.recipe)
        self.cells = cells(comparison, self.task)
        self._save_seconds = save_seconds
        self._stop = folder / ".stop"
        self._stop.unlink(missing_ok=True)
        # What is wrong with an arm is said before anything is trained.
        for cell in self.cells:
            if cell.seed == comparison.seeds[0]:
                Engine(self.task, cell.flow.recipe, cell.flow.phases)

    def stop(self) -> None:
        """Ask every worker to save and stop."""
        self._stop.touch()

    def jobs(self) -> Iterator[list[Job]]:
        """Give the phases that are still to be trained, in waves that can run at once; then those to evaluate."""
        depth = max(len(cell.keys) for cell in self.cells)
        for index in range(depth):
            wave = {cell.keys[index]: cell for cell in self.cells if index < len(cell.keys)}
            yield [
                self._job(cell, index)
                for key, cell in wave.items()
                if not self.store.has(key) and not failure(self.store, cell.keys[: index + 1])
            ]
        final = {cell.keys[-1]: cell for cell in self.cells}
        yield [
            self._job(cell, -1)
            for key, cell in final.items()
            if self.store.has(key) and not (self.store.folder(key) / "facts.json").exists()
        ]

    def _job(self, cell: Cell, index: int) -> Job:
        return Job(
            str(self.store.root.resolve()),
            cell.flow.recipe.model_dump(mode="json"),
            tuple(planned.to_dict() for planned in cell.flow.phases),
            cell.keys,
            index,
            str(self._stop.resolve()),
            os.getpid(),
            self._save_seconds,
        )

    def done(self) -> tuple[float, int]:
        """Return the optimizer steps that are done and that there are, each shared phase counted once."""
        steps: dict[str, int] = {}
        for cell in self.cells:
            steps |= {key: planned.steps for key, planned in zip(cell.keys, cell.flow.phases, strict=True)}
        return sum(self.store.done(key) * count for key, count in steps.items()), sum(steps.values())

    def run(self, *, jobs: int, backend: str = "loky", tick: Callable[[], None] = lambda: None) -> int:
        """Train and evaluate everything; return the number of phases that had to be trained.

        Raises:
            StoppedError: `stop` was called; what was done is kept.
            StateError: a worker process died.
        """
        from joblib import Parallel, delayed, parallel_config

        if backend == "ray":
            _register_ray()
        trained = 0
        returned = "list" if backend == "ray" else "generator_unordered"  # Ray gives nothing before all are done
        try:
            with parallel_config(backend=backend, n_jobs=jobs):
                for wave in self.jobs():
                    work = (delayed(do)(job) for job in wave)
                    stopped = False
                    for was_trained in Parallel(return_as=returned)(work):
                        stopped |= was_trained is None
                        trained += bool(was_trained)
                        tick()
                    if stopped:
                        raise StoppedError("stopped; the state is saved")
        except BrokenProcessPool:
            if self._stop.exists():  # the signal reached a worker that was not up yet
                raise StoppedError("stopped; the state is saved") from None
            raise StateError(
                "a worker process died, perhaps for lack of memory: go on with fewer --jobs and "
                f"--resume {self.folder}; what was trained is kept"
            ) from None
        return trained


def do(job: Job) -> bool | None:
    """Train or evaluate one phase, in whatever process; return whether anything was trained, None if it was stopped."""
    if os.getpid() != job.main and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches all processes, and so may SIGTERM: the main one asks us to stop.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    # One thread a job, whatever the number of jobs: two times two threads on two cores are far slower than two times
    # one, and the last digits would depend on it.
    torch.set_num_threads(1)
    recipe = build_recipe(job.recipe)
    phases = [PlannedPhase.from_dict(phase) for phase in job.phases]
    store, task = PhaseStore(Path(job.store)), _task(json.dumps(job.recipe, sort_keys=True))
    if job.index < 0:
        _evaluate(store, task, recipe, phases, job.keys)
        return False
    try:
        return _train(store, task, recipe, phases, job)
    except StoppedError:  # raised from here, joblib would kill the other jobs before they have saved
        return None
    except TrainingError as error:  # a diverged run is a result, and no reason to stop the others
        write_text(store.folder(job.keys[job.index]) / "failed.json", json.dumps({"error": str(error)}) + "\n")
        return True


@functools.lru_cache(maxsize=4)
def _task(recipe: str) -> Task:
    return make_task(build_recipe(json.loads(recipe)))


def _train(store: PhaseStore, task: Task, recipe: Recipe, phases: Sequence[PlannedPhase], job: Job) -> bool:
    key, stop = job.keys[job.index], Path(job.stop)
    with store.locked(key):
        if store.has(key):
            return False
        records: list[dict[str, Any]] = []

        def emit(event: dict[str, Any]) -> None:
            if event["kind"] in ("step", "epoch"):
                records.append(event)
                store.progress(key, engine.position_in_phase, phases[job.index].steps)

        def save(snapshot: dict[str, Any]) -> None:
            if snapshot["position"]["phase"] > job.index:
                store.put(key, snapshot, records)
            else:
                store.put_partial(key, snapshot, records)

        engine = Engine(
            task,
            recipe,
            phases,
            emit=emit,
            stop=stop.exists,
            save=save,
            save_seconds=job.save_seconds,
            resolve=lambda other: _weights(store, other),
        )
        partial = store.partial(key)
        if partial:
            snapshot, kept = partial
            engine.restore(snapshot)
            records.extend(kept)
        elif job.index:
            engine.restore(store.state(job.keys[job.index - 1]))
        if stop.exists():
            raise StoppedError("stopped; the state is saved")
        engine.train()
    return True


def _weights(store: PhaseStore, key: str) -> dict[str, Tensor]:
    """Return the weights that another arm's phase ended with."""
    reason = failure(store, [key])
    if reason:
        raise TrainingError(f"another arm's phase that this one needs diverged: {reason}")
    return store.state(key)["model"]


def _evaluate(
    store: PhaseStore, task: Task, recipe: Recipe, phases: Sequence[PlannedPhase], keys: Sequence[str]
) -> None:
    """Touch the test split with the network that a flow ends with, and count its weights."""
    engine = Engine(task, recipe, phases)
    engine.restore(store.state(keys[-1]))
    outcome = engine.outcome("test")
    store.put_outcome(keys[-1], "test", outcome)
    parameters = list(engine.model.parameters())
    weights = sum(parameter.numel() for parameter in parameters)
    facts = {
        "test": task.metrics(outcome),
        "validation": engine.evaluate("validation"),
        "parameters": weights,
        "nonzeros": weights - round(sparsity_of(*parameters) * weights),
    }
    write_text(store.folder(keys[-1]) / "facts.json", json.dumps(facts) + "\n")


def failure(store: PhaseStore, keys: Sequence[str]) -> str | None:
    """Return why a flow cannot be finished: the first of its phases that diverged says it."""
    for key in keys:
        path = store.folder(key) / "failed.json"
        if path.exists():
            return read_json(path)["error"]
    return None


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError("--backend ray needs Ray: pip install 'redense[ray]'") from None
    register_ray()


def seed_list(text: str) -> tuple[int, ...]:
    """Return seeds from ``5`` (0 to 4) or from ``3,7,11``.

    Raises:
        RecipeError: neither a number nor a list of different ones.
    """
    try:
        seeds = tuple(int(part) for part in text.split(",")) if "," in text else tuple(range(int(text)))
    except ValueError:
        raise RecipeError(f"--seeds is a number of seeds, or a list such as 3,7,11; got '{text}'") from None
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise RecipeError(f"--seeds needs at least one seed, all different and in [0, 2^31); got '{text}'")
    return seeds
