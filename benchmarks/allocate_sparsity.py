"""Sharing out an overall sparsity over a trained ResNet: the error right after pruning, without retraining.

    python benchmarks/allocate_sparsity.py [--check] [--seeds 3] [--depth 14] [--width 8] [--epochs 5]

Trains one ResNet a seed on the Fashion-MNIST sample that redense ships, scans it for sensitivity on the validation
images, and prunes it in one shot by magnitude: the same share of every layer (uniform), one magnitude threshold for all
(global), Erdős-Rényi-Kernel shares (erk), and shares from a scan that follows the loss (sensitivity) or the error.
All of them remove the same number of weights. The scan sees the validation images; the test images are seen once, here.
With ``--check`` the exit status is 1 if uniform pruning has the lower mean test error at any overall sparsity.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from common import finish, parser
from rich.console import Console
from rich.table import Table
from scan_sensitivity import BATCH, batches, evaluation, sample, trained
from torch import nn

import redense
from redense import masks
from redense.scans import allocation

OVERALL = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
METHODS = ("uniform", "global", "erk", "by error", "sensitivity")

Measured = dict[str, dict[str, float]]  # method -> overall sparsity reached, loss and error on both splits


def shares(model: nn.Module, scans: Mapping[str, Any], overall: float) -> dict[str, Mapping[str, float]]:
    parameters = redense.prunable(model)
    weights = {name: parameter.numel() for name, parameter in parameters.items()}
    return {
        "uniform": allocation.whole(allocation.uniform(weights, overall), weights, overall),
        "global": allocation.global_magnitude(parameters, overall),
        "erk": allocation.erk({name: parameter.shape for name, parameter in parameters.items()}, overall),
        "by error": scans["error"].allocate(overall),
        "sensitivity": scans["loss"].allocate(overall),
    }


def pruned(model: nn.Module, sparsities: Mapping[str, float], splits: Mapping[str, Any]) -> dict[str, float]:
    """Prune, measure, and put the weights back."""
    parameters = redense.prunable(model)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for name, sparsity in sparsities.items():
        masks.apply_(masks.select(parameters[name], sparsity, absolute=True), parameters[name])
    out = {"overall": masks.sparsity_of(*parameters.values())}
    for split, evaluate in splits.items():
        out[f"{split} loss"], out[f"{split} error"] = evaluate(model)
    for name, values in before.items():
        parameters[name].detach().copy_(values)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Train, scan, prune in every way, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--seeds", type=int, default=3, help="networks to train")
    options.add_argument("--depth", type=int, default=14, help="layers of the ResNet, 6n + 2")
    options.add_argument("--width", type=int, default=8, help="channels of its first stage")
    options.add_argument("--epochs", type=float, default=5, help="to train each for")
    options.add_argument("--examples", type=int, default=10_000, help="most images of a split")
    given = options.parse_args(arguments)

    task = sample()
    splits = {}
    for split in ("validation", "test"):
        size = min(BATCH, given.examples)
        splits[split] = evaluation([*batches(task, split, size)][: given.examples // size])
    runs: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        model = trained(task, depth=given.depth, width=given.width, epochs=given.epochs, seed=seed)
        dense = pruned(model, {}, splits)
        print(f"seed {seed}: test error {dense['test error']:.2f} % before pruning")
        scans = {
            "loss": redense.sensitivity(model, lambda model: splits["validation"](model)[0]),
            "error": redense.sensitivity(model, lambda model: splits["validation"](model)[1]),
        }
        measured = {
            f"{overall:g}": {name: pruned(model, s, splits) for name, s in shares(model, scans, overall).items()}
            for overall in OVERALL
        }
        runs.append({"seed": seed, "dense": dense, "pruned": measured, "scan": scans["loss"].to_dict()})

    worse = show(runs)
    status = finish(
        "allocate_sparsity",
        given,
        settings={"depth": given.depth, "width": given.width, "epochs": given.epochs, "seeds": given.seeds},
        seconds={},
        ratios=[],
        bars=[],
        facts={"runs": runs, "uniform_is_better_at": worse},
    )
    return int(status or (given.check and bool(worse)))


def show(runs: list[dict[str, Any]]) -> list[str]:
    """Print mean and deviation over the seeds; return where uniform pruning has the lower mean test error."""
    worse: list[str] = []
    for what in ("validation error", "test error", "test loss"):
        dense = mean(run["dense"][what] for run in runs)
        out = Table(title=f"{what} right after pruning (dense: {dense:.2f})", title_justify="left", box=None)
        for heading in ("overall", *METHODS):
            out.add_column(heading, justify="right")
        for overall in OVERALL:
            cells: list[str] = []
            means: dict[str, float] = {}
            for name in METHODS:
                values = [run["pruned"][f"{overall:g}"][name][what] for run in runs]
                means[name] = mean(values)
                cells.append(f"{means[name]:.2f} ± {stdev(values) if len(values) > 1 else 0.0:.2f}")
            out.add_row(f"{overall:.0%}", *cells)
            if what == "test error" and means["uniform"] < means["sensitivity"]:
                worse.append(f"{overall:g}")
        Console(width=140, highlight=False).print(out)
    return worse


if __name__ == "__main__":
    sys.exit(main())
