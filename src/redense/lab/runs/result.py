"""The result of a run: its test figures, its network, and what the report shows of it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from redense._version import __version__
from redense.files.checksums import drop_sums, read_sums, write_sums
from redense.files.writing import write_bytes, write_text
from redense.lab.arms.of_recipe import about
from redense.lab.checkpoint import load_tree
from redense.lab.diagnosis.moments import Cycle, cycle_moments
from redense.lab.events import Event
from redense.lab.recipe.recipe import GIVEN
from redense.lab.tasks import data_of
from redense.lab.training.engine import Engine
from redense.lab.training.plan import PlannedPhase
from redense.masks import sparsity_of, unpack
from redense.parameters import summary
from redense.tasks.task import ShowsEvidence, Task

from .log import read_records
from .resume import notes_on, phase_path

_READ = ("model.safetensors", "outcome.safetensors", "result.json", "evidence.json", "moments.json")
_DIVERGED = 3.0  # times the loss that a phase, or the run, began with
_NO_LOSS = 0.1  # below it a loss is near enough to nothing to rise by any factor


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
            **({"joins": len(planned.joins)} if planned.joins is not None else {}),
        }
        for planned in engine.plan
    ]


def finish(folder: Path, engine: Engine, notes: list[str]) -> dict[str, Any]:
    """Touch the test split, once; write outcome, model and result; ``notes`` are on data and start."""
    task, ranks = engine.task, engine.ranks
    phases: list[dict[str, Any]] = []
    outcomes: dict[str, dict[str, torch.Tensor]] = {}
    layers: list[dict[str, Any]] = []
    snapshots: deque[dict[str, Any]] = deque(maxlen=3)  # the last three: a D-S-D, unless a branch begins among them
    moments: list[dict[str, Any]] = []
    for index, (planned, described) in enumerate(zip(engine.plan, describe_plan(engine), strict=True)):
        engine.give_way()
        path = phase_path(folder, index, planned)
        snapshots.append(ranks.main(lambda path=path: load_tree(path)))
        engine.restore(snapshots[-1])
        engine.end()
        if ranks.is_main:
            last = engine.plan[max(0, index - 2) : index + 1]
            if _is_cycle(last):
                moments += _moments([other.phase.name for other in last], list(snapshots))
        outcome = engine.outcome("test")
        has_zeros = planned.phase.is_sparse or "phase" in (engine.kept or {})  # perhaps the weights of a sparse phase
        outcomes[planned.phase.name] = outcome
        phases.append(
            {
                **described,
                "sparsity": engine.network.sparsity() if has_zeros else 0.0,
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
            for row in summary(engine.model, include=engine.network.include, exclude=engine.network.exclude).rows
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
        # What the arm is stands there also for where the plugin is not loaded that it is of.
        **({"arm": {"label": recipe.arm, "about": about(recipe.arm)}} if recipe.arm else {}),
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


def _is_cycle(phases: Sequence[PlannedPhase]) -> bool:
    """Whether phases follow each other, and what the second one prunes restarts from zero, as the moments show it."""
    return not any(p.after is not None or p.joins is not None for p in phases[1:]) and not (
        len(phases) == 3 and phases[1].method
    )


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


def write_evidence(folder: Path, task: Task, outcomes: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write ``evidence.json``, unless there is nothing to compare or the task has nothing to show.

    ``outcomes``: network -> outcome of all test examples, in order; the first network is the baseline, the last the one
    that is judged.
    """
    path = folder / "evidence.json"
    if len(outcomes) > 1 and isinstance(task, ShowsEvidence):
        told = task.evidence(outcomes)
        data = told if isinstance(told, Mapping) else told.to_dict()
        write_text(path, json.dumps(data, allow_nan=False) + "\n")
    else:
        path.unlink(missing_ok=True)
