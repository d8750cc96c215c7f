"""Going on with a run: what is kept of it, what is whole of that, and whether recipe, data and machine are the same."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redense.errors import CheckpointError, StateError
from redense.files.checksums import add_sums, drop_sums
from redense.files.writing import sweep, write_again, write_text
from redense.lab.arms.of_recipe import code_of_arms, masters_of
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.environment import arithmetic, differences, environment, note_on_ranks
from redense.lab.folder import STARTED, read_json, refuse_changed
from redense.lab.keys import code_used
from redense.lab.recipe.recipe import WHEREABOUTS, Recipe
from redense.lab.store import PhaseStore, store_of
from redense.lab.tasks import fingerprints_of
from redense.lab.training.plan import PlannedPhase
from redense.lab.training.pretrained import start_used
from redense.tasks.task import Task

from .log import Recorder, check_records

log = logging.getLogger(__name__)


def begin(folder: Path, recipe: Recipe, task: Task) -> str:
    """Make sure that a run goes on as what it was begun as, sweep up after a kill, and note where it is trained.

    Returns:
        The fingerprint that the run knows its data by: what it trains is kept under that, also if it is an older one.

    Raises:
        StateError: its recipe, its data, the weights that it starts from or code of the user's that trains it changed;
            or it is no run folder.
    """
    path = folder / "environment.json"
    if not path.is_file():
        raise StateError(f"{folder} has no environment.json, as an export has none: only the run folder can go on")
    for place in (folder, folder / "checkpoints", folder / "artifacts"):
        sweep(place)
    check_unchanged(folder, recipe, task)
    used = code_used(recipe) | start_used(recipe) | code_of_arms(masters_of(recipe))
    refuse_changed(folder, used, "bring it back as it was, or start a new run", old=True)
    if not (folder / STARTED).exists():
        now = {"data": task.fingerprint, "recipe": _digest(recipe)}
        write_text(folder / STARTED, json.dumps(now | used) + "\n")
        add_sums(folder, [folder / STARTED])
    made = read_json(path)
    if all(_differences(then) for then in _trained_in(made)):
        made["resumed"] = [*made.get("resumed", []), environment()]
        drop_sums(folder, [path.name])  # a kill in between leaves it without a checksum, and not with a wrong one
        write_text(path, json.dumps(made, indent=2) + "\n")
        add_sums(folder, [path])
    return trained_on(folder) or task.fingerprint


def store_again(folder: Path, given: Path | None, default: Path | None) -> tuple[str, str]:
    """Return the store that a run goes on with, empty for none, and a note where it is another than it began with."""
    path = folder / "environment.json"
    kept = read_json(path).get("store") if path.is_file() else None  # an older run does not say
    if kept == "" and given is None:
        return "", ""
    root, note = store_of(given, kept, default)
    return str(root or ""), note


def phase_path(folder: Path, index: int, planned: PlannedPhase) -> Path:
    """Return where the checkpoint of a phase's end lies."""
    return folder / "checkpoints" / f"{index}-{planned.phase.name}.safetensors"


def save(folder: Path, phases: Sequence[PlannedPhase], snapshot: dict[str, Any], recorder: Recorder | None) -> None:
    """Keep a snapshot of a run of these phases: as the last one, and at the end of a phase as that phase's.

    Raises:
        CheckpointError: it cannot be written; the one before it is still there.
    """
    if recorder:  # first the log: a checkpoint is of what was logged before it
        recorder.mark(step_of(phases, snapshot))
    last = folder / "checkpoints" / "last.safetensors"
    index = snapshot["position"]["phase"]
    if snapshot["position"]["step"] or not index:
        save_tree(last, snapshot)
        return
    path = phase_path(folder, index - 1, phases[index - 1])
    save_tree(path, snapshot)
    write_again(last, path)


def step_of(phases: Sequence[PlannedPhase], snapshot: Mapping[str, Any]) -> int:
    """Return the optimizer steps from the start of the run to a snapshot."""
    position = snapshot["position"]
    return sum(phase.steps for phase in phases[: position["phase"]]) + position["step"]


def last_snapshot(
    folder: Path, phases: Sequence[PlannedPhase], store: PhaseStore | None, keys: Sequence[str]
) -> tuple[dict[str, Any] | None, list[int]]:
    """Return the newest checkpoint that is whole, and the phases before it whose own checkpoints are lost.

    A damaged one of an earlier phase is taken from the store again; what the store has not is to be trained again. No
    checkpoint at all is a run that begins.

    Raises:
        CheckpointError: there are checkpoints, and none is whole.
    """
    paths = [phase_path(folder, index, phase) for index, phase in enumerate(phases)]
    last = folder / "checkpoints" / "last.safetensors"
    problem = None
    for done in (None, *range(len(phases), 0, -1)):
        path = last if done is None else paths[done - 1]
        if not path.exists():
            continue
        try:
            if done is not None:
                _mend(path, store, keys[done - 1])
            snapshot = load_tree(path)
            check_records(folder, step_of(phases, snapshot))
        except CheckpointError as error:
            log.warning("%s; trying the checkpoint before it", error)
            problem = error
            continue
        done_phases = range(snapshot["position"]["phase"])
        return snapshot, [i for i in done_phases if not _is_mended(paths[i], store, keys[i])]
    if problem:
        raise CheckpointError(f"{problem}, and there is no whole one before it: start a new run") from None
    return None, []


def _mend(path: Path, store: PhaseStore | None, key: str) -> None:
    try:
        load_tree(path)
    except CheckpointError as error:
        if not store or not store.has(key):
            raise
        log.warning("%s; it is taken from the store again", error)
        save_tree(path, store.state(key))


def _is_mended(path: Path, store: PhaseStore | None, key: str) -> bool:
    try:
        _mend(path, store, key)
    except CheckpointError as error:
        log.warning("%s", error)
        return False
    return True


def _digest(recipe: Recipe) -> str:
    unsaid = {} if recipe.tune else {"tune": True}  # runs that are older than this setting can be resumed
    settings = recipe.model_dump_json(
        exclude={"name": True, "about": True, "log": True, "data": set(WHEREABOUTS)} | unsaid
    )
    return hashlib.sha256(settings.encode()).hexdigest()


def check_unchanged(folder: Path, recipe: Recipe, task: Task) -> None:
    """Raise unless recipe and data are those that a run was started with, or the data that an export was trained on.

    Raises:
        StateError: they are not.
    """
    known = fingerprints_of(task)
    refuse_changed(folder, {"data": known, "recipe": _digest(recipe)}, "its result would mean nothing; start anew")
    if trained_on(folder) not in (None, *known):
        raise StateError(
            f"the data of {folder} is not what it was trained on any more: `redense evaluate --data` takes where that "
            "lies now, or other data"
        )


def trained_on(folder: Path) -> str | None:
    """Return the fingerprint of the data of a run, an export or a network of the zoo; None where nothing says it."""
    if (folder / STARTED).is_file():
        return read_json(folder / STARTED).get("data")
    if (folder / "zoo.json").is_file():
        return read_json(folder / "zoo.json").get("data")
    if (folder / "result.json").is_file():
        return (read_json(folder / "result.json").get("data") or {}).get("fingerprint")
    return None


def notes_on(folder: Path) -> list[str]:
    """Say where else than here parts of a run were trained."""
    made = read_json(folder / "environment.json")
    return list(dict.fromkeys(note for then in _trained_in(made) for note in _differences(then)))


def _trained_in(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [made, *made.get("resumed", [])]


def _differences(then: dict[str, Any]) -> list[str]:
    now = arithmetic()
    notes = [f"{change}: the result may differ in its last digits" for change in differences(then, now)]
    before = then.get("ranks", 1)
    return notes if before == now["ranks"] else [*notes, note_on_ranks(before, now["ranks"])]
