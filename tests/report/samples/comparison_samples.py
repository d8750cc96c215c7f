"""Folders of comparisons as `redense compare` writes them: real arms and real statistics over made-up runs."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from redense.lab.comparison.comparison import Comparison, cells
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.results import write_results
from redense.lab.recipe.recipe import load_recipe
from redense.lab.store import PhaseStore
from redense.tasks.metrics import Metric

ERROR = Metric("error", "%", lower_is_better=True)
# Arm -> mean test figure.
USUAL = {"baseline": 11.7, "dsd": 10.9, "restart": 11.0, "llr": 11.3, "random": 11.05, "scratch": 12.6}
GAIN = {"baseline": 11.7, "dsd": 10.2, "restart": 11.0, "llr": 11.3}
EXAMPLES = 400


def fake_comparison(
    folder: Path,
    figures: Mapping[str, float] = USUAL,
    *,
    seeds: Sequence[int] = range(5),
    metric: Metric = ERROR,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    failed: Mapping[str, Sequence[int]] | None = None,
    outcomes: bool = True,
    store: Path | None = None,
) -> Path:
    """Write a comparison whose arms come out at these figures; ``failed`` names arms and seeds that diverge."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("quickstart")
    arms = tuple(dict.fromkeys(name.split(" ")[0] for name in figures if name != "baseline"))
    comparison = Comparison(recipe, arms, tuple(seeds), sweep or {})
    task = SimpleNamespace(metric=metric, fingerprint="0" * 64, examples=lambda split: range(9000))
    phases = PhaseStore(store or folder.parent / f"{folder.name}-store")
    grid = SimpleNamespace(
        comparison=comparison, task=task, store=phases, cells=cells(comparison, cast("Any", task)), notes=[]
    )
    for cell in grid.cells:
        noise = random.Random(f"{cell.label}/{cell.seed}")
        luck = random.Random(cell.seed).gauss(0, 0.25)
        end = figures[cell.label] + luck + noise.gauss(0, 0.12)
        step, best = 0, 22.0 if metric.lower_is_better else end - 12
        for index, (key, planned) in enumerate(zip(cell.keys, cell.flow.phases, strict=True)):
            place = phases.folder(key)
            place.mkdir(parents=True, exist_ok=True)
            dense = figures["baseline"] + luck
            target = end if index == len(cell.keys) - 1 else (dense if index == 0 else (dense + end) / 2 + 0.4)
            lines = []
            epochs = max(1, planned.phase.steps // 140)
            for epoch in range(1, epochs + 1):
                drawn = random.Random(f"{key}/{epoch}").gauss(0, 0.3) * (1 - epoch / epochs)
                best += (target - best) * (0.2 + 0.8 * epoch / epochs)
                lines.append(
                    {
                        "kind": "epoch",
                        "phase": planned.phase.name,
                        "phase_index": index,
                        "step": step + planned.phase.steps * epoch // epochs,
                        "validation": {metric.name: best + drawn, "loss": 0.3},
                        "train_loss": 0.4,
                        "lr": 0.01,
                        "sparsity": 0.3 if planned.phase.is_sparse else 0.0,
                        "seconds": 5.4,
                    }
                )
            step += planned.phase.steps
            (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        last = phases.folder(cell.keys[-1])
        if cell.seed in (failed or {}).get(cell.label, ()):
            (last / "failed.json").write_text(json.dumps({"error": "the loss is nan at step 1801 of phase <b>"}))
            continue
        facts = {
            "test": {metric.name: end, "loss": 0.3},
            "validation": {metric.name: end + 0.1, "loss": 0.3},
            "parameters": 29_066,
            "nonzeros": 20_460 if cell.label == "scratch" else 29_066,
        }
        (last / "facts.json").write_text(json.dumps(facts))
        if outcomes:
            ranks = torch.tensor([int(100 * noise.random() < end) for _ in range(EXAMPLES)])
            phases.put_outcome(cell.keys[-1], "test", {"rank": ranks})
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict()))
    environment = {"redense": "0.1.0", "cores": 2, "accelerators": [], "command": "redense compare quickstart"}
    (folder / "environment.json").write_text(json.dumps(environment))
    write_results(folder, cast("Grid", grid))
    return folder


def fake_diagnosis() -> dict[str, Any]:
    """What `redense compare --diagnose` writes."""
    alphas = [i / 10 for i in range(11)]

    def counts(width: float, spike: int = 0) -> list[int]:
        out = [int(900 * math.exp(-(((i - 20) / width) ** 2))) for i in range(41)]
        out[20] += spike
        return out

    def flow(states: list[str], masked: bool) -> dict[str, Any]:
        pairs = [*itertools.pairwise(states), (states[0], states[-1])]
        travel = {"weights": 100, "length": 1.5, "start": 9.0, "relative": 1.5 / 9}
        moments = ["before pruning", "just pruned", "after sparse training", "re-dense start", "after dense training"]
        weights = [
            {"moment": name, "weights": 100, "counts": counts(6 + i, 9000 * (i == 3)), "mean_magnitude": 0.03}
            for i, name in enumerate(moments)
        ]
        out: dict[str, Any] = {
            "states": states,
            "settings": {"points": 11},
            "levels": [{"state": name, "loss": 0.3, "metric": 11.0} for name in states],
            "line": [
                {
                    "from": a,
                    "to": b,
                    "alphas": alphas,
                    "losses": [0.3 + 0.2 * t * (1 - t) for t in alphas],
                    "barrier": 0.05,
                    "barrier_at": 0.5,
                    "lowest_at": 1.0,
                    "buffers": "interpolated",
                }
                for a, b in pairs
            ],
            "sharpness": [
                {
                    "state": states[0],
                    "top": 31.2,
                    "bottom": -0.0004,
                    "kind": "saddle",
                    "products": 54,
                    "converged": True,
                },
                {"state": states[-1], "error": "the loss is nan: <i>diverged</i>"},
            ],
            "weight_noise": [
                {
                    "state": name,
                    "clean": 11.0,
                    "scales": [0.1, 0.2],
                    "means": [12.0, None],
                    "deviations": [0.2, None],
                    "draws": 5,
                }
                for name in states
            ],
            "similarity": [{"from": a, "to": b, "cka": 0.9, "best": 0.8, "in_place": 0.7} for a, b in pairs],
            "distance": [
                {"from": a, "to": b, "total": travel, "kept": travel if masked else None, "tensors": {}}
                for a, b in pairs
            ],
            "curiosity": [{"state": states[0], "whatever it is": 3.25}],
        }
        if masked:
            out["five_moments"] = [
                {
                    "layer": "features.8.weight",
                    "edges": [(i - 20.5) / 100 for i in range(42)],
                    "moments": weights,
                    "old": {**weights[4], "moment": "old"},
                    "regrown": {**weights[4], "moment": "regrown", "counts": counts(2)},
                    "cut": 0.021,
                    "stayed_small": 0.81,
                    "old_moved": 0.12,
                }
            ]
        return out

    arms = {
        "dsd": flow(["dense", "sparse", "redense"], True),
        "restart": flow(["dense", "restart", "redense"], False),
    }
    return {"seed": 0, "loss_examples": 512, "metric_examples": 1000, "arms": arms}


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'%{x}"


def evil_comparison(folder: Path) -> Path:
    """Every text in the folder is an attack; names that are looked up keep their place."""
    kept = {"baseline", "restart", "better", "worse", "no difference shown", "arm", "against"}
    keys = {
        "arm",
        "about",
        "source",
        "note",
        "name",
        "unit",
        "sentence",
        "recipe",
        "task",
        "caution",
        "phase",
        "failed",
    }

    def attack(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                (k + EVIL if key in ("conclusions", "curves") and k not in kept else k): attack(v, k)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [attack(item, key) for item in value]
        if isinstance(value, str) and (key in keys or key not in ("against", "verdict")):
            return value if value in kept else value + EVIL
        return value

    result = attack(json.loads((folder / "compare.json").read_text()))
    for row in result["rows"]:
        for seed in row["seeds"]:
            for split in ("test", "validation"):
                if split in seed:
                    seed[split][result["metric"]["name"]] = 11.0
    result["rows"][1]["seeds"][0] = {"seed": 0, "key": "", "failed": EVIL}
    (folder / "compare.json").write_text(json.dumps(result))
    (folder / "curves.json").write_text(json.dumps(attack(json.loads((folder / "curves.json").read_text()), "curves")))
    (folder / "diagnosis.json").write_text(json.dumps(attack({"arms": {EVIL: fake_diagnosis()["arms"]["dsd"]}})))
    asked = json.loads((folder / "comparison.json").read_text())
    asked["recipe"]["about"], asked["arms"], asked["sweep"] = EVIL, [EVIL], {EVIL: [EVIL]}
    (folder / "comparison.json").write_text(json.dumps(asked))
    (folder / "environment.json").write_text(json.dumps({EVIL: {EVIL: [EVIL]}, "command": EVIL}))
    return folder
