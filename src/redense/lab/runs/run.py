"""One run: its folder, training and resuming it, its result.

A run folder holds everything and is enough to go on after a kill:

    recipe.yaml            the resolved recipe
    environment.json       versions, hardware, commit
    started.json           fingerprints of data, recipe and plugins' code: a run is never resumed with others
    artifacts/             what the model needs beside its weights where the data is not: a vocabulary, a scale
    metrics.jsonl          one object a line: {"kind": "step", ...} and {"kind": "epoch", ...}
    metrics.sums           the checksum of its lines at every checkpoint
    tensorboard/           the same for live curves, and log.csv, unless `log` of the recipe names other loggers
    loggers.json           what other loggers call the run, for a resumed one to go on in theirs
    checkpoints/           last.safetensors, and one a phase: 0-dense.safetensors, 1-sparse.safetensors, ...
    outcome.safetensors    what each phase's network answered for every test example
    evidence.json          what they did class by class and example by example, for the report
    moments.json           how the weights of each pruned layer were distributed, for the report
    model.safetensors      the final weights: load_state_dict(load_file(...), strict=True) into the plain model
    result.json            the table, per-layer sparsity
    SHA256SUMS             of all that a finished run is read from; `sha256sum -c` checks it too
    report.html            something to look at, written by the command line
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

from redense.errors import StateError
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import add_sums, note_sum
from redense.files.locks import LOCK, locked
from redense.files.writing import write_bytes, write_text
from redense.lab.arms import Flow
from redense.lab.arms.of_recipe import masters_of, naming, run_flow
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.environment import environment, needed_plugins
from redense.lab.events import Event, Wiring, tell
from redense.lab.flow import Flow as PhaseFlow
from redense.lab.folder import begun, discard_folder
from redense.lab.keys import phase_keys
from redense.lab.pairs.defaults import held
from redense.lab.ranks.memory import keep_freed_memory
from redense.lab.ranks.processes import noticing_lost_helpers
from redense.lab.ranks.ranks import join, noticing_lost_ranks
from redense.lab.recipe.recipe import GIVEN, Recipe, build_recipe, names_in, read_run_recipe, untrained
from redense.lab.store import PhaseStore, SharedStore
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine, steps_per_epoch
from redense.lab.training.pretrained import tuned
from redense.tasks.task import KeepsArtifacts, Task
from redense.tasks.weights import final_weights, verify_finite

from .log import read_records, recorder_of
from .result import describe_plan, finish
from .resume import begin, check_unchanged, last_snapshot, notes_on, phase_path, save

log = logging.getLogger(__name__)


def new_run(recipe: Recipe, out: Path | None = None, *, root: Path = Path("runs"), store: str | None = None) -> Path:
    """Make the folder of a new run: ``out``, or one named after recipe, seed and time below ``root``.

    It notes the store, with which the run is to go on; an empty text says that there is none.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    left = ("checkpoints", "environment.json", SUMS, LOCK)
    arm = "-".join(re.findall(r"[\w.]+", recipe.arm)) + "-" if recipe.arm else ""
    with begun(out, f"{recipe.name}-{arm}seed{recipe.seed}", root, left=left) as folder:
        (folder / "checkpoints").mkdir(exist_ok=True)
        kept = {} if store is None else {"store": store}
        used = {**names_in(recipe), "arm": masters_of(recipe)}
        made = {**environment(threads=_threads(recipe)), **needed_plugins(used), **kept}
        write_text(folder / "environment.json", json.dumps(made, indent=2) + "\n")
        text = recipe.to_yaml().encode()
        add_sums(folder, [folder / "environment.json"])
        note_sum(folder, "recipe.yaml", text)
        write_bytes(folder / "recipe.yaml", text)  # the last: what has one can be resumed
    return folder


def discard_unstarted(folder: Path) -> None:
    """Remove the folder of a new run that could not begin, so that the corrected command may use its name."""
    if (folder / "metrics.jsonl").exists():
        return
    for name in ("tensorboard", "wandb"):  # of a logger that could begin, before another that could not
        shutil.rmtree(folder / name, ignore_errors=True)
    discard_folder(folder, (*GIVEN, SUMS, LOCK, "log.csv"), ("checkpoints",))


def has_checkpoint(folder: Path) -> bool:
    """Whether anything that was trained is saved in a run folder."""
    return any((folder / "checkpoints").glob("*.safetensors"))


def train_run(
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    save_seconds: float = 30.0,
    store: PhaseStore | None = None,
    report: Callable[[Path], Path | None] | None = None,
) -> dict[str, Any]:
    """Train the run of a folder from where it is, and return its result.

    Who wants to see it listens to its events (`redense.lab.events`), as the terminal and the loggers of its recipe do.
    With a store, a phase that was trained before is taken from there, and what is trained now is kept there. ``report``
    writes the page of the finished run, on rank 0; the loggers of the recipe get it, unless it gives None.

    In a process that torchrun has started, all ranks call it together: rank 0 alone touches the folder and the store.

    Raises:
        LostRankError: another rank of the job is gone.
        StoppedError: ``stop`` said so; the state is saved.
        StateError: another process trains it, or its data or recipe changed.
        CheckpointError: no checkpoint can be read or written.
    """
    keep_freed_memory()
    ranks = join()
    with contextlib.ExitStack() as stack:
        stack.enter_context(noticing_lost_ranks())
        stack.enter_context(noticing_lost_helpers())
        stack.enter_context(ranks.held(lambda: locked(folder)))
        recipe = build_recipe(ranks.main(lambda: read_run_recipe(folder, whole=False).model_dump(mode="json")))
        if recipe.arm:
            stack.enter_context(held(threads=_threads(recipe)))
        task = ranks.in_turn(lambda: make_task(recipe))
        ranks.agree("the data", task.fingerprint)
        data = ranks.main(lambda: begin(folder, recipe, task))
        recipe, tuning = tuned(recipe, task)
        arm = run_flow(recipe, steps_per_epoch(task, recipe))
        task = ranks.in_turn(lambda: _task_of(arm, recipe, task))
        notes = ranks.main(lambda: notes_on(folder))
        if notes:
            store = None  # what a run of two halves gives is no phase that others may share
        shared = SharedStore(store.root, ranks) if store and ranks.many else store
        with recorder_of(folder, recipe, task) if ranks.is_main else contextlib.nullcontext() as recorder:

            def record(event: Event) -> None:
                if recorder:
                    recorder(event)
                show(event)

            def show(event: Event) -> None:
                if ranks.is_main:
                    tell(event, folder=str(folder))

            with naming(recipe.arm):
                engine = _engine(folder, task, arm, stop=stop, save_seconds=save_seconds)
            keys = phase_keys(arm.recipe, data, engine.plan, ranks.world)

            def keep(state: dict[str, Any]) -> None:
                ranks.main(lambda: save(folder, engine.plan, state, recorder))

            flow = PhaseFlow(engine, shared, keys, emit=record, keep=keep)
            of_task = [*getattr(task, "notes", ()), *tuning, *([f"{recipe.arm}: {arm.note}"] if arm.note else [])]
            show({"kind": "plan", "phases": describe_plan(engine), "metric": vars(task.metric), "notes": of_task})
            snapshot, lost = ranks.main(lambda: last_snapshot(folder, engine.plan, store, keys))
            _train_lost(folder, task, arm, lost, stop)
            if snapshot is None:
                with naming(recipe.arm):
                    engine.begin()
            else:
                engine.restore(snapshot)
                show({"kind": "resumed", "step": engine.step, "notes": notes})
            ranks.main(lambda: recorder.begin(None if snapshot is None else engine.step) if recorder else None)
            if recorder:
                flow.resume(e for e in read_records(folder / "metrics.jsonl") if e["phase_index"] == engine.phase_index)
            ranks.main(lambda: _keep_artifacts(folder, task))
            with ranks.held(lambda: store.used() if store else contextlib.nullcontext()):
                while (index := engine.phase_index) < len(engine.plan):
                    if taken := flow.advance():
                        for event in taken.events:  # a phase goes by other names in other arms
                            record({**event, "phase": engine.plan[index].phase.name})
                        if kept := engine.kept:
                            where = {"phase": engine.plan[index].phase.name, "phase_index": index, "step": engine.step}
                            show({"kind": "kept", **where, **kept})
                        keep(taken.state)
            show({"kind": "testing"})
            result = finish(folder, engine, of_task)

            def pages() -> list[Path]:
                page = report(folder) if report else None
                return [] if page is None else [page]

            ranks.main(lambda: recorder.finish(result, pages()) if recorder else None)
        if "phase" in (kept := result["phases"][-1].get("kept", {})):  # of the whole run
            show({"kind": "kept", **kept})
        return result


def _threads(recipe: Recipe) -> int | None:
    """Return the threads that a run trains with; None for those of the process.

    An arm has one, as a phase of a comparison has: the last digits depend on it, and with them the keys of the store.
    """
    return 1 if recipe.arm else None


def _task_of(arm: Flow, recipe: Recipe, task: Task) -> Task:
    """Return the task of an arm: another one where it changes how the recipe trains, but for the optimizer."""
    own = arm.recipe.training.model_copy(update={"optimizer": recipe.training.optimizer})
    return task if own == recipe.training else make_task(arm.recipe)


def _engine(folder: Path, task: Task, arm: Flow, **wiring: Unpack[Wiring]) -> Engine:
    """Return the engine of a run, whose branches begin from the checkpoints of its folder."""

    def ended(index: int) -> dict[str, Any]:
        return engine.ranks.main(lambda: load_tree(phase_path(folder, index, engine.plan[index])))

    wiring["ended"] = ended
    engine = Engine(task, arm.recipe, arm.phases, **wiring)
    return engine


def _train_lost(folder: Path, task: Task, arm: Flow, lost: list[int], stop: Callable[[], bool]) -> None:
    """Train phases again whose checkpoints are damaged, to the same bits, from the checkpoint before each."""

    def keep(state: dict[str, Any]) -> None:
        index, step = state["position"]["phase"], state["position"]["step"]
        if not step:  # a phase's end
            path = phase_path(folder, index - 1, engine.plan[index - 1])
            engine.ranks.main(lambda: save_tree(path, state))

    if not lost:
        return
    engine = _engine(folder, task, arm, stop=stop, save=keep)
    for index in lost:
        log.warning("phase %d is trained again: its checkpoint is damaged", index + 1)
        if index:
            before = phase_path(folder, index - 1, engine.plan[index - 1])
            engine.restore(engine.ranks.main(lambda before=before: load_tree(before)))
        engine.train()


def _keep_artifacts(folder: Path, task: Task) -> None:
    if isinstance(task, KeepsArtifacts):
        (folder / "artifacts").mkdir(exist_ok=True)
        for name, text in task.artifacts().items():
            write_text(folder / "artifacts" / name, text)


def load_model(folder: Path) -> Engine:
    """Return an engine that holds the final model of a finished run, ready to evaluate.

    Raises:
        StateError: the run is not finished, its recipe or data changed since, or the model does not fit.
        CheckpointError: the model is damaged.
    """
    recipe = read_run_recipe(folder)
    final_weights(folder)
    task = make_task(recipe)
    check_unchanged(folder, recipe, task)
    return engine_of(folder, recipe, task)


def engine_of(folder: Path, recipe: Recipe, task: Task) -> Engine:
    """Return an engine that holds the final model of a finished run, for a task that is made already.

    Raises:
        StateError: the run is not finished, or the model does not fit, or has numbers that are not finite.
        CheckpointError: the model is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = final_weights(folder)
    engine = Engine(task, untrained(recipe))
    try:
        engine.model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise StateError(f"{path} is damaged or of another model: {' '.join(str(error).split())[:300]}") from None
    verify_finite(engine.model.state_dict(), path)
    return engine
