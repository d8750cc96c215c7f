"""One run: its folder, training and resuming it, its result.

A run folder holds everything and is enough to go on after a kill::

    recipe.yaml            the resolved recipe
    environment.json       versions, hardware, commit
    started.json           fingerprints of data and recipe: a run is never resumed with others
    artifacts/             what the model needs beside its weights where the data is not: a vocabulary, a scale
    metrics.jsonl          one object a line: {"kind": "step", ...} and {"kind": "epoch", ...}
    metrics.sums           the checksum of its lines at every checkpoint
    tensorboard/           the same for live curves
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
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from redense._version import __version__
from redense.errors import CheckpointError, StateError, resuming
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import add_sums, drop_sums, note_sum, read_sums, write_sums
from redense.files.locks import LOCK, locked
from redense.files.writing import write_bytes, write_text
from redense.lab.diagnosis.moments import Cycle, cycle_moments
from redense.lab.environment import environment
from redense.lab.events import Event
from redense.lab.folder import begun, discard_folder
from redense.lab.ranks.memory import keep_freed_memory
from redense.lab.ranks.processes import noticing_lost_helpers
from redense.lab.ranks.ranks import join, noticing_lost_ranks
from redense.lab.recipe.recipe import GIVEN, Recipe, build_recipe, read_run_recipe
from redense.lab.store import PhaseStore, SharedStore, phase_keys
from redense.lab.tasks import data_of, make_task
from redense.lab.training.checkpoint import load_tree, save_tree
from redense.lab.training.engine import Engine
from redense.lab.training.pretrained import tuned
from redense.masks import sparsity_of, unpack
from redense.parameters import summary
from redense.tasks.task import KeepsArtifacts, Task

from .evidence import write_evidence
from .log import Recorder, read_records
from .resume import begin, check_unchanged, last_snapshot, notes_on, phase_path, save

log = logging.getLogger(__name__)

_READ = ("model.safetensors", "outcome.safetensors", "result.json", "evidence.json", "moments.json")
_DIVERGED = 3.0  # times the loss that a phase, or the run, began with
_NO_LOSS = 0.1  # below it a loss is near enough to nothing to rise by any factor


def new_run(recipe: Recipe, out: Path | None = None, *, root: Path = Path("runs")) -> Path:
    """Make the folder of a new run: ``out``, or one named after recipe, seed and time below ``root``.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    left = ("checkpoints", "environment.json", SUMS, LOCK)
    with begun(out, f"{recipe.name}-seed{recipe.seed}", root, left=left) as folder:
        (folder / "checkpoints").mkdir(exist_ok=True)
        write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        text = recipe.to_yaml().encode()
        add_sums(folder, [folder / "environment.json"])
        note_sum(folder, "recipe.yaml", text)
        write_bytes(folder / "recipe.yaml", text)  # the last: what has one can be resumed
    return folder


def discard_unstarted(folder: Path) -> None:
    """Remove the folder of a new run that could not begin, so that the corrected command may use its name."""
    if (folder / "metrics.jsonl").exists():
        return
    discard_folder(folder, (*GIVEN, SUMS, LOCK), ("checkpoints",))


def has_checkpoint(folder: Path) -> bool:
    """Whether anything that was trained is saved in a run folder."""
    return any((folder / "checkpoints").glob("*.safetensors"))


def train_run(
    folder: Path,
    *,
    emit: Callable[[Event], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
    save_seconds: float = 30.0,
    store: PhaseStore | None = None,
) -> dict[str, Any]:
    """Train the run of a folder from where it is, and return its result.

    With a store, a phase that was trained before is taken from there, and what is trained now is kept there.

    In a process that torchrun has started, all ranks call it together: rank 0 alone touches the folder and the store.

    Raises:
        LostRankError: another rank of the job is gone.
        StoppedError: ``stop`` said so; the state is saved.
        StateError: another process trains it, or its data or recipe changed.
        CheckpointError: no checkpoint can be read or written.
    """
    keep_freed_memory()
    ranks = join()
    with noticing_lost_ranks(), noticing_lost_helpers(), ranks.held(lambda: locked(folder)):
        recipe = build_recipe(ranks.main(lambda: read_run_recipe(folder, whole=False).model_dump(mode="json")))
        task = ranks.in_turn(lambda: make_task(recipe))
        ranks.agree("the data", task.fingerprint)
        ranks.main(lambda: begin(folder, recipe, task))
        recipe, tuning = tuned(recipe, task)
        notes = ranks.main(lambda: notes_on(folder))
        if notes:
            store = None  # what a run of two halves gives is no phase that others may share
        shared = SharedStore(store.root, ranks) if store and ranks.many else store
        with Recorder(folder) if ranks.is_main else contextlib.nullcontext() as recorder:

            def record(event: Event) -> None:
                if recorder:
                    recorder(event)
                    emit(event)

            def show(event: Event) -> None:
                if ranks.is_main:
                    emit(event)

            engine = Engine(
                task,
                recipe,
                emit=record,
                stop=stop,
                save=lambda state: ranks.main(lambda: save(folder, engine.plan, state, recorder)),
                save_seconds=save_seconds,
            )
            keys = phase_keys(recipe, task.fingerprint, engine.plan, ranks.world)
            of_task = [*getattr(task, "notes", ()), *tuning]
            show({"kind": "plan", "phases": describe_plan(engine), "metric": vars(task.metric), "notes": of_task})
            snapshot, lost = ranks.main(lambda: last_snapshot(folder, engine.plan, store, keys))
            _train_lost(folder, task, recipe, lost, stop)
            if snapshot is None:
                engine.begin()
            else:
                engine.restore(snapshot)
                show({"kind": "resumed", "step": engine.step, "notes": notes})
            if recorder:
                recorder.begin(None if snapshot is None else engine.step)
            ranks.main(lambda: _keep_artifacts(folder, task))
            with ranks.held(lambda: store.used() if store else contextlib.nullcontext()):
                while engine.phase_index < len(engine.plan):
                    key = keys[engine.phase_index]
                    with shared.locked(key) if shared else contextlib.nullcontext():
                        if shared and not engine.position_in_phase and (found := stored_phase(shared, key)):
                            _take(folder, engine, *found, record, recorder)
                        else:
                            engine.train()
                            if store and ranks.is_main:
                                _keep_in_store(folder, engine, store, key)
        show({"kind": "testing"})
        result = _finish(folder, engine, of_task)
        if "phase" in (kept := result["phases"][-1].get("kept", {})):  # of the whole run
            show({"kind": "kept", **kept})
        return result


def _train_lost(folder: Path, task: Task, recipe: Recipe, lost: list[int], stop: Callable[[], bool]) -> None:
    """Train phases again whose checkpoints are damaged, to the same bits, from the checkpoint before each."""

    def keep(state: dict[str, Any]) -> None:
        index, step = state["position"]["phase"], state["position"]["step"]
        if not step:  # a phase's end
            path = phase_path(folder, index - 1, engine.plan[index - 1])
            engine.ranks.main(lambda: save_tree(path, state))

    if not lost:
        return
    engine = Engine(task, recipe, stop=stop, save=keep)
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


def stored_phase(store: PhaseStore, key: str) -> tuple[dict[str, Any], list[Event]] | None:
    """Return state and events of a phase that the store has whole; a damaged one is trained again in its place."""
    store.mend(key, held=True)
    if not store.has(key):
        return None
    try:
        return store.state(key), store.records(key)
    except CheckpointError as error:
        log.warning("%s; the phase is trained again", error)
        return None


def _take(
    folder: Path,
    engine: Engine,
    state: dict[str, Any],
    events: list[Event],
    record: Callable[[Event], None],
    recorder: Recorder | None,
) -> None:
    index, planned = engine.phase_index, engine.plan[engine.phase_index]
    start = {"phase_index": index, "step": engine.step, "start": engine.step, "steps": planned.steps}
    record({"kind": "phase", **start, "stored": True})
    for event in events:
        record({**event, "phase": planned.phase.name})  # a phase goes by other names in other arms
    engine.restore(state)
    engine.ranks.main(lambda: save(folder, engine.plan, state, recorder))


def _keep_in_store(folder: Path, engine: Engine, store: PhaseStore, key: str) -> None:
    index = engine.phase_index - 1
    records = [event for event in read_records(folder / "metrics.jsonl") if event["phase_index"] == index]
    try:
        store.put(key, load_tree(phase_path(folder, index, engine.plan[index])), records)
    except (StateError, CheckpointError) as error:  # the run has its own checkpoint, and loses nothing
        log.warning("%s; this phase is not in the store, and the run goes on", error)


def describe_plan(engine: Engine) -> list[dict[str, Any]]:
    """Return the phases of a run as plain data, in epochs and learning rates."""
    base = engine.recipe.training.optimizer.lr
    return [
        {
            "name": planned.phase.name,
            "kind": planned.phase.kind,
            "sparsity": planned.phase.sparsity if planned.phase.pattern is None else list(planned.phase.pattern),
            "epochs": round(planned.steps / engine.steps_per_epoch, 4),
            "lr": float(f"{base * planned.phase.lr:.6g}"),
            "steps": planned.steps,
        }
        for planned in engine.plan
    ]


def load_model(folder: Path) -> Engine:
    """Return an engine that holds the final model of a finished run, ready to evaluate.

    Raises:
        StateError: the run is not finished, its recipe or data changed since, or the model does not fit.
        CheckpointError: the model is damaged.
    """
    recipe = read_run_recipe(folder)
    _final_weights(folder)
    task = make_task(recipe)
    check_unchanged(folder, recipe, task)
    return engine_of(folder, recipe, task)


def engine_of(folder: Path, recipe: Recipe, task: Task) -> Engine:
    """Return an engine that holds the final model of a finished run, for a task that is made already.

    Raises:
        StateError: the run is not finished, or the model does not fit.
        CheckpointError: the model is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _final_weights(folder)
    engine = Engine(task, recipe)
    try:
        engine.model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise StateError(f"{path} is damaged or of another model: {' '.join(str(error).split())[:300]}") from None
    return engine


def _final_weights(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise StateError(f"{folder} has no model.safetensors yet: finish it with: {resuming(folder)}")
    return path


# --- result ---------------------------------------------------------------------------------------------------------


def _finish(folder: Path, engine: Engine, notes: list[str]) -> dict[str, Any]:
    """Touch the test split, once; write outcome, model and result; ``notes`` are on data and start."""
    task, ranks = engine.task, engine.ranks
    phases: list[dict[str, Any]] = []
    outcomes: dict[str, dict[str, torch.Tensor]] = {}
    layers: list[dict[str, Any]] = []
    snapshots: deque[dict[str, Any]] = deque(maxlen=3)  # the last three: a D-S-D
    moments: list[dict[str, Any]] = []
    for index, (planned, described) in enumerate(zip(engine.plan, describe_plan(engine), strict=True)):
        engine.give_way()
        path = phase_path(folder, index, planned)
        snapshots.append(ranks.main(lambda path=path: load_tree(path)))
        engine.restore(snapshots[-1])
        engine.end()
        if ranks.is_main:
            names = [other.phase.name for other in engine.plan[max(0, index - 2) : index + 1]]
            moments += _moments(names, list(snapshots))
        outcome = engine.outcome("test")
        outcomes[planned.phase.name] = outcome
        phases.append(
            {
                **described,
                "sparsity": engine.sparsity() if planned.phase.is_sparse else 0.0,
                "validation": engine.evaluate("validation"),
                "test": task.metrics(outcome),
                **({"kept": engine.kept} if engine.kept else {}),
            }
        )
        _add_sparsities(layers, engine)
    return ranks.main(lambda: _write_result(folder, engine, phases, layers, outcomes, moments, notes))


def _add_sparsities(layers: list[dict[str, Any]], engine: Engine) -> None:
    if not layers:
        layers += [
            {
                "name": row.name,
                "shape": list(row.shape),
                "weights": row.weights,
                "prunable": row.prunable,
                "reason": row.reason,
                "sparsity": [],
            }
            for row in summary(engine.model, include=engine.include, exclude=engine.exclude).rows
        ]
    values = dict(engine.model.named_parameters())
    for layer in layers:
        layer["sparsity"].append(round(sparsity_of(values[layer["name"]]), 6))


def _write_result(
    folder: Path,
    engine: Engine,
    phases: list[dict[str, Any]],
    layers: list[dict[str, Any]],
    outcomes: dict[str, dict[str, torch.Tensor]],
    moments: list[dict[str, Any]],
    notes: list[str],
) -> dict[str, Any]:
    task, recipe = engine.task, engine.recipe
    drop_sums(folder, [name for name in read_sums(folder) if name not in GIVEN])
    records = list(read_records(folder / "metrics.jsonl"))
    for index, phase in enumerate(phases):
        epochs = (record for record in records if record["kind"] == "epoch" and record["phase_index"] == index)
        phase["seconds"] = round(sum(record["seconds"] for record in epochs), 1)
    rows = {f"{i}-{p}/{name}": v.contiguous() for i, (p, o) in enumerate(outcomes.items()) for name, v in o.items()}
    write_bytes(folder / "outcome.safetensors", to_bytes(rows))
    write_evidence(folder, task, outcomes)
    write_text(folder / "moments.json", json.dumps({"cycles": moments}) + "\n")
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in engine.model.state_dict().items()}
    write_bytes(folder / "model.safetensors", to_bytes(weights, metadata={"format": "pt"}))
    result = {
        "recipe": recipe.name,
        "task": recipe.task,
        "seed": recipe.seed,
        "metric": vars(task.metric),
        "phases": phases,
        "layers": layers,
        "test_examples": len(task.examples("test")),
        "data": data_of(recipe, task),
        "notes": [*notes, *notes_on(folder), *_diverged(phases, records)],
        "seconds": round(sum(phase["seconds"] for phase in phases), 1),
        "redense": __version__,
    }
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")
    read = [folder / name for name in (*GIVEN, *_READ, "metrics.jsonl")]
    write_sums(folder, [path for path in (*read, *sorted((folder / "artifacts").glob("*"))) if path.is_file()])
    return result


def _diverged(phases: list[dict[str, Any]], records: list[Event]) -> list[str]:
    """Name the phases that end with a multiple of the loss that they, or the run, began with."""
    found: list[str] = []
    began: list[float] = []  # of the run, unless it began with given weights
    for index, phase in enumerate(phases):
        losses = [r["train_loss"] for r in records if r["kind"] == "epoch" and r["phase_index"] == index]
        before = min([*began, *losses[:1]], default=0.0)
        if losses and losses[-1] > max(_DIVERGED * before, _NO_LOSS):
            found.append(
                f"phase '{phase['name']}' diverged, its training loss rose from {before:.4g} to {losses[-1]:.4g}: "
                "lower its learning rate"
            )
        if not index and phase["steps"]:
            began = losses[:1]
    return found


def _moments(names: list[str], snapshots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the five moments of a D-S-D; nothing where the phases are none, or nothing was pruned."""
    if len(snapshots) < 3 or snapshots[0]["masks"] or snapshots[2]["masks"]:
        return []
    masks = {name: unpack(item["bits"], item["shape"]) for name, item in snapshots[1]["masks"].items()}
    masks = {name: mask for name, mask in masks.items() if not mask.all()}  # a control's masks keep everything
    if not masks:
        return []
    states = {name: snapshot["model"] for name, snapshot in zip(names, snapshots, strict=True)}
    return [cycle_moments(states, Cycle(masks, names[0], names[1], names[2]))]
