"""What each arm takes in memory while it trains, in units of the dense baseline: counted, not timed.

    python benchmarks/memory_of_arms.py [--check] [--arms dsd,sam]

Every arm that a recipe allows is trained for a few steps by redense's own engine, a phase at a time in a new engine.
Counted are the bytes of all tensor storages that its operators have made and that are alive, after each operator, as in
``measure_memory.py``: weights, gradients, states, copies, masks, activations; data in memory is not among them. The
figure of an arm is the greatest of its phases. Batches to evaluate are as large as those to train, so that training
decides.

Two networks: quickstart's CNN, whose activations are most of it, and the MLP of ``noisy-labels-early``, whose weights
are. There is no bar: docs/which-method.md shows the ratios. Some of them change by up to 0.1 with the other arms that
are asked for (`gce` with few others takes 1.00 of the CNN's memory, among all arms 1.08); why is not known.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch
from common import Ratio, finish, parser
from measure_memory import counting

from redense.errors import RecipeError, ScheduleError
from redense.lab.arms import ARMS
from redense.lab.comparison.comparison import Comparison
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.jobs import do
from redense.lab.flow import release_engine
from redense.lab.recipe import Recipe, load_recipe
from redense.lab.store import PhaseStore

SMALL = ("--data.limit", "300", "--dense.epochs", "3", "--sparse.epochs", "2", "--redense.epochs", "2")
RECIPES = {"quickstart's CNN": "quickstart", "MLP": "fashion-mnist/noisy-labels-early"}
BASELINE = "baseline"


def grid_of(recipe: Recipe, arms: Sequence[str], folder: Path) -> Grid:
    """Return what is to be trained for one seed.

    Raises:
        RecipeError, ScheduleError: the recipe cannot have one of the arms.
    """
    folder.mkdir(exist_ok=True)
    comparison = Comparison(recipe, tuple(arms), (0,), {})
    # A snapshot is a copy, and would fall to whatever trains when its time has come.
    return Grid(comparison, PhaseStore(folder / "store"), folder, save_seconds=math.inf)


def possible(recipe: Recipe, arms: Sequence[str], folder: Path) -> list[str]:
    """Return the arms that the recipe can have; the others are named."""
    kept: list[str] = []
    for arm in arms:
        try:
            grid_of(recipe, [arm], folder / arm)
            kept.append(arm)
        except (RecipeError, ScheduleError) as error:
            print(f"{recipe.name} has no {arm}: {error}")
    return kept


def of_arms(recipe: Recipe, arms: Sequence[str]) -> dict[str, int]:
    """Return the bytes at the peak of each arm, the baseline among them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = grid_of(recipe, possible(recipe, arms, folder), folder / "all")
        peaks: dict[str, int] = {}
        with mock.patch.object(type(grid.task), "evaluation_batch", recipe.training.batch_size):
            for job in (job for wave in grid.jobs() for job in wave if job.index >= 0):
                release_engine()
                with counting() as counted:
                    do(job)
                peaks[job.keys[job.index]] = counted.peak
        release_engine()
        return {cell.label: max(peaks[key] for key in cell.keys) for cell in grid.cells}


def main(arguments: list[str] | None = None) -> int:
    """Count, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--arms", default=",".join(ARMS), help="with commas between (default: all)")
    given = options.parse_args(arguments)
    torch.set_num_threads(1)
    ratios: list[Ratio] = []
    facts: dict[str, dict[str, int]] = {}
    for label, recipe in RECIPES.items():
        facts[label] = of_arms(load_recipe(recipe, SMALL), given.arms.split(","))
        base = facts[label][BASELINE]
        print(f"{label}: the dense baseline takes {base / 2**20:.1f} MiB at its peak")
        for arm, peak in sorted(facts[label].items(), key=lambda item: item[1]):
            share = peak / base
            ratios.append(Ratio(f"{label}: {arm}", f"{label}: {BASELINE}", share, share, share))
            print(f"  {arm:16} {share:.2f}")
    settings = {"recipes": RECIPES, "overrides": list(SMALL), "counted": "bytes"}
    return finish("memory_of_arms", given, settings=settings, seconds={}, ratios=ratios, bars=[], facts=facts)


if __name__ == "__main__":
    sys.exit(main())
