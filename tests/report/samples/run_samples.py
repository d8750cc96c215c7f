"""Run folders as the engine writes them: finished, killed, without a mask, and one whose every text is an attack."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS_PER_EPOCH = 141
LAYERS = [  # name, shape, prunable, reason
    ("features.0.weight", [32, 1, 3, 3], False, "the first convolution"),
    ("features.0.bias", [32], False, "a bias"),
    ("features.1.weight", [32], False, "a norm"),
    ("features.4.weight", [64, 32, 3, 3], True, ""),
    ("features.8.weight", [128, 64, 3, 3], True, ""),
    ("classifier.1.weight", [10, 1152], True, ""),
    ("classifier.1.bias", [10], False, "a bias"),
]
PHASES: list[dict[str, Any]] = [
    {"name": "dense", "kind": "dense", "sparsity": 0.0, "epochs": 12, "lr": 0.02, "test": 11.74},
    {"name": "sparse", "kind": "sparse", "sparsity": 0.3, "epochs": 8, "lr": 0.02, "test": 11.31},
    {"name": "redense", "kind": "dense", "sparsity": 0.0, "epochs": 8, "lr": 0.002, "test": 10.91},
]
RECIPE = """\
name: quickstart
about: a small CNN on Fashion-MNIST, D -> S -> D; no download
task: classification
seed: 0
training:
  batch_size: 64
  optimizer: {name: sgd, lr: 0.02, momentum: 0.9, weight_decay: 0.0005}
dense: {epochs: 12}
sparse: {epochs: 8, sparsity: 0.3}
redense: {epochs: 8, lr: 0.002}
"""
ENVIRONMENT = {
    "redense": "0.1.0",
    "python": "3.11.2",
    "packages": {"torch": "2.13.0", "accelerate": "1.2.0", "numpy": "2.1.0"},
    "hardware": {"cpu": "a processor", "cores": 2, "gpus": []},
    "commit": None,
    "deterministic": True,
}


def fake_run(
    folder: Path,
    *,
    phases: Sequence[dict[str, Any]] = PHASES,
    metric: tuple[str, str, bool] = ("error", "%", True),
    epochs_done: int | None = None,
    recipe: str = RECIPE,
    layers: Sequence[tuple[str, list[int], bool, str]] = LAYERS,
    log_every: int = 10,
) -> Path:
    """Write a run folder; with ``epochs_done`` that of a run which was killed after so many epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    name, unit, lower = metric
    noise = random.Random(0)
    lines: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    step = done = 0
    loss, figure, lr = 1.1, 24.0, 0.0
    for index, phase in enumerate(phases):
        target = phase["test"] if lower else 100 - phase["test"]
        bump = 1.5 if phase["kind"] == "sparse" and phase["sparsity"] else 0.0
        for epoch in range(1, phase["epochs"] + 1):
            if done == epochs_done:
                break
            part = epoch / phase["epochs"]
            figure += (target - figure) * (0.25 + 0.4 * part) + noise.gauss(0, 0.25) * (1 - part) + bump * (epoch == 1)
            start_loss = loss
            loss = max(0.05, 0.018 * figure + noise.gauss(0, 0.004))
            for inside in range(STEPS_PER_EPOCH):
                step += 1
                x = (epoch - 1 + inside / STEPS_PER_EPOCH) / phase["epochs"]
                lr = phase["lr"] * (1 + math.cos(math.pi * x)) / 2
                if step % log_every == 0:
                    mean = start_loss + (loss - start_loss) * inside / STEPS_PER_EPOCH
                    lines.append(
                        {
                            "kind": "step",
                            "phase": phase["name"],
                            "phase_index": index,
                            "step": step,
                            "epoch": round(epoch - 1 + inside / STEPS_PER_EPOCH, 3),
                            "loss": mean * math.exp(noise.gauss(0, 0.25)),
                            "lr": lr,
                        }
                    )
            shown = figure if lower else 100 - figure
            lines.append(
                {
                    "kind": "epoch",
                    "phase": phase["name"],
                    "phase_index": index,
                    "step": step,
                    "epoch": epoch,
                    "train_loss": loss,
                    "validation": {name: round(shown, 2), "loss": loss * 1.2},
                    "lr": lr,
                    "sparsity": phase["sparsity"],
                    "seconds": 5.4 + noise.gauss(0, 0.1),
                }
            )
            done += 1
        rows.append(
            {
                **phase,
                "steps": phase["epochs"] * STEPS_PER_EPOCH,
                "validation": {**(lines[-1].get("validation") or {})} if lines else {},
                "test": {name: phase["test"], "loss": 0.32},
                "seconds": 5.4 * phase["epochs"],
            }
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if epochs_done is None:
        result = {
            "recipe": "quickstart",
            "task": "classification",
            "seed": 0,
            "metric": {"name": name, "unit": unit, "lower_is_better": lower},
            "phases": rows,
            "layers": [
                {
                    "name": layer,
                    "shape": shape,
                    "weights": math.prod(shape),
                    "prunable": prunable,
                    "reason": reason,
                    "sparsity": [phase["sparsity"] if prunable else 0.0 for phase in phases],
                }
                for layer, shape, prunable, reason in layers
            ],
            "test_examples": 10_000,
            "seconds": sum(row["seconds"] for row in rows),
            "redense": "0.1.0",
        }
        (folder / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return folder


def with_tests(*figures: float, sparsity: float = 0.3) -> list[dict[str, Any]]:
    """The phases of the quickstart with other test figures."""
    return [
        {**phase, "test": figure, "sparsity": sparsity if phase["kind"] == "sparse" else 0.0}
        for phase, figure in zip(PHASES, figures, strict=True)
    ]


EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'"


def evil_run(folder: Path) -> Path:
    """A run whose every text is an attack."""
    phases = [{**phase, "name": phase["name"] + EVIL} for phase in PHASES]
    layers = [(name + EVIL, shape, prunable, reason + EVIL) for name, shape, prunable, reason in LAYERS]
    run = fake_run(
        folder, phases=phases, layers=layers, metric=("error" + EVIL, "%" + EVIL, True), recipe=RECIPE + EVIL
    )
    (run / "environment.json").write_text(json.dumps({EVIL: {EVIL: [EVIL]}}))
    result = json.loads((run / "result.json").read_text())
    result |= {"recipe": EVIL, "task": EVIL, "seed": EVIL, "redense": EVIL, "test_examples": 3}
    (run / "result.json").write_text(json.dumps(result))
    return run
