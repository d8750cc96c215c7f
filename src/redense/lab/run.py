"""One run: its folder, training and resuming it, its result.

A run folder holds everything and is enough to go on after a kill::

    recipe.yaml            the resolved recipe
    environment.json       versions, hardware, commit
    started.json           fingerprints of data and recipe: a run is never resumed with others
    artifacts/             what the model needs beside its weights where the data is not: a vocabulary, a scale
    metrics.jsonl          one object a line: {"kind": "step", ...} and {"kind": "epoch", ...}
    tensorboard/           the same for live curves
    checkpoints/           last.safetensors, and one a phase: 0-dense.safetensors, 1-sparse.safetensors, ...
    outcome.safetensors    what each phase's network answered for every test example
    evidence.json          what they did class by class and example by example, for the report
    moments.json           how the weights of each pruned layer were distributed, for the report
    model.safetensors      the final weights: load_state_dict(load_file(...), strict=True) into the plain model
    result.json            the table, per-layer sparsity
    report.html            something to look at, written by the command line
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from .. import __version__
from ..errors import CheckpointError, StateError
from ..masks import sparsity_of, unpack
from ..parameters import summary
from ..tasks.task import KeepsArtifacts, Task
from .allocator import keep_freed_memory
from .checkpoint import load_tree, save_tree, write_bytes, write_text
from .engine import Engine, Event
from .environment import differences, environment, note_on_ranks
from .evidence import write_evidence
from .folder import discard_folder, new_folder, read_json
from .moments import Cycle, cycle_moments
from .plan import PlannedPhase
from .ranks import join, noticing_lost_ranks, world
from .recipe import Recipe, build_recipe, read_run_recipe
from .records import Recorder, read_records
from .store import PhaseStore, SharedStore, phase_keys
from .tasks import make_task

log = logging.getLogger(__name__)


def new_run(recipe: Recipe, out: Path | None = None, *, root: Path = Path("runs")) -> Path:
    """Make the folder of a new run: ``out``, or one named after recipe, seed and time below ``root``.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    folder = new_folder(out, f"{recipe.name}-seed{recipe.seed}", root)
    (folder / "checkpoints").mkdir()
    write_text(folder / "recipe.yaml", recipe.to_yaml())
    write_text(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
    return folder


def discard_unstarted(folder: Path) -> None:
    """Remove the folder of a new run that could not begin, so that the corrected command may use its name."""
    if (folder / "metrics.jsonl").exists():
        return
    discard_folder(folder, ("recipe.yaml", "environment.json", "started.json", ".lock"), ("checkpoints",))


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
    with noticing_lost_ranks(), ranks.held(lambda: _locked(folder)):
        recipe = build_recipe(ranks.main(lambda: read_run_recipe(folder).model_dump(mode="json")))
        task = ranks.in_turn(lambda: make_task(recipe))
        ranks.agree("the data", task.fingerprint)
        ranks.main(lambda: _begin(folder, recipe, task))
        if ranks.main(lambda: _ranks_before(folder)) != ranks.world:
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
                save=lambda state: ranks.main(lambda: _save(folder, engine, state)),
                save_seconds=save_seconds,
            )
            of_task = list(getattr(task, "notes", ()))
            show({"kind": "plan", "phases": describe_plan(engine), "metric": vars(task.metric), "notes": of_task})
            snapshot = ranks.main(lambda: _last_snapshot(folder, engine.plan))
            if snapshot is not None:
                engine.restore(snapshot)
                show({"kind": "resumed", "step": engine.step, "notes": ranks.main(lambda: _notes(folder))})
            if recorder:
                recorder.begin(engine.step)
            ranks.main(lambda: _keep_artifacts(folder, task))
            keys = phase_keys(recipe, task.fingerprint, engine.plan, ranks.world)
            while engine.phase_index < len(engine.plan):
                key = keys[engine.phase_index]
                with shared.locked(key) if shared else contextlib.nullcontext():
                    if shared and not engine.position_in_phase and shared.has(key):
                        _take_from_store(folder, engine, shared, key, record)
                    else:
                        engine.train()
                        if store and ranks.is_main:
                            _keep_in_store(folder, engine, store, key)
        show({"kind": "testing"})
        return _finish(folder, engine)


def _begin(folder: Path, recipe: Recipe, task: Task) -> None:
    for left in (folder / "checkpoints").glob(".*"):  # of a process that was killed while it wrote
        left.unlink()
    _check_unchanged(folder, recipe, task)


def _keep_artifacts(folder: Path, task: Task) -> None:
    if isinstance(task, KeepsArtifacts):
        (folder / "artifacts").mkdir(exist_ok=True)
        for name, text in task.artifacts().items():
            write_text(folder / "artifacts" / name, text)


def _take_from_store(
    folder: Path, engine: Engine, store: PhaseStore, key: str, record: Callable[[Event], None]
) -> None:
    index, planned, state = engine.phase_index, engine.plan[engine.phase_index], store.state(key)
    start = {"phase_index": index, "step": engine.step, "start": engine.step, "steps": planned.steps}
    record({"kind": "phase", **start, "stored": True})
    for event in store.records(key):
        record({**event, "phase": planned.phase.name})  # a phase goes by other names in other arms
    engine.restore(state)
    engine.ranks.main(lambda: _save(folder, engine, state))


def _keep_in_store(folder: Path, engine: Engine, store: PhaseStore, key: str) -> None:
    index = engine.phase_index - 1
    records = [event for event in read_records(folder / "metrics.jsonl") if event["phase_index"] == index]
    store.put(key, load_tree(_phase_path(folder, index, engine.plan[index])), records)


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
        StateError: the run is not finished, or the model does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    recipe = read_run_recipe(folder)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise StateError(f"{folder} has no model.safetensors yet: finish it with `redense run --resume {folder}`")
    engine = Engine(make_task(recipe), recipe)
    try:
        engine.model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise StateError(f"{path} is damaged or of another model: {' '.join(str(error).split())[:300]}") from None
    return engine


# --- checkpoints ----------------------------------------------------------------------------------------------------


def _phase_path(folder: Path, index: int, planned: PlannedPhase) -> Path:
    return folder / "checkpoints" / f"{index}-{planned.phase.name}.safetensors"


def _save(folder: Path, engine: Engine, snapshot: dict[str, Any]) -> None:
    last = folder / "checkpoints" / "last.safetensors"
    index = snapshot["position"]["phase"]
    if snapshot["position"]["step"] or not index:
        save_tree(last, snapshot)
        return
    path = _phase_path(folder, index - 1, engine.plan[index - 1])
    save_tree(path, snapshot)
    aside = last.with_suffix(".link")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, aside)
    aside.replace(last)


def _last_snapshot(folder: Path, phases: tuple[PlannedPhase, ...]) -> dict[str, Any] | None:
    """Return the newest checkpoint that is whole; None for a run that has none."""
    paths = [_phase_path(folder, index, phase) for index, phase in enumerate(phases)]
    candidates = [p for p in (folder / "checkpoints" / "last.safetensors", *reversed(paths)) if p.exists()]
    problem: CheckpointError | None = None
    for path in candidates:
        try:
            snapshot = load_tree(path)
        except CheckpointError as error:
            log.warning("%s; trying the checkpoint before it", error)
            problem = error
        else:
            return snapshot
    if problem:
        raise problem
    return None


def _check_unchanged(folder: Path, recipe: Recipe, task: Task) -> None:
    # Where the data lies may change, and who reads it; what it is may not.
    data = {"source", "workers", "expected", "broken"}
    settings = recipe.model_dump_json(exclude={"name": True, "about": True, "data": data})
    now = {"data": task.fingerprint, "recipe": hashlib.sha256(settings.encode()).hexdigest()}
    path = folder / "started.json"
    if not path.exists():
        write_text(path, json.dumps(now) + "\n")
        return
    then = read_json(path)
    for what, fingerprint in now.items():
        if not isinstance(then, dict) or then.get(what) != fingerprint:
            raise StateError(
                f"the {what} of {folder} changed since it was started: its result would mean nothing; start anew"
            )


def _notes(folder: Path) -> list[str]:
    then = read_json(folder / "environment.json")
    changed = differences(then, environment())
    notes = [f"{change}: the result may differ in its last digits" for change in changed]
    before = _ranks_before(folder)
    return notes if before == world() else [*notes, note_on_ranks(before, world())]


def _ranks_before(folder: Path) -> int:
    return read_json(folder / "environment.json").get("ranks", 1)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Refuse a second process in one run folder; the lock goes with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks of this kind
        yield
        return
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise StateError(f"cannot write to {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"another process is training {folder}: wait for it, or stop it first") from None
        yield


# --- result ---------------------------------------------------------------------------------------------------------


def _finish(folder: Path, engine: Engine) -> dict[str, Any]:
    """Touch the test split, once; write outcome, model and result."""
    task, ranks = engine.task, engine.ranks
    phases: list[dict[str, Any]] = []
    outcomes: dict[str, dict[str, torch.Tensor]] = {}
    layers: list[dict[str, Any]] = []
    snapshots: deque[dict[str, Any]] = deque(maxlen=3)  # the last three: a D-S-D
    moments: list[dict[str, Any]] = []
    for index, (planned, described) in enumerate(zip(engine.plan, describe_plan(engine), strict=True)):
        path = _phase_path(folder, index, planned)
        snapshots.append(ranks.main(lambda path=path: load_tree(path)))
        engine.restore(snapshots[-1])
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
            }
        )
        _add_sparsities(layers, engine)
    return ranks.main(lambda: _write_result(folder, engine, phases, layers, outcomes, moments))


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
) -> dict[str, Any]:
    task, recipe = engine.task, engine.recipe
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
        "notes": list(getattr(task, "notes", ())),
        "seconds": round(sum(phase["seconds"] for phase in phases), 1),
        "redense": __version__,
    }
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


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
