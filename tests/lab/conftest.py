"""What the tests of a comparison share: one that is finished, with arms of every kind."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redense.lab.comparison.comparison import Comparison, new_comparison
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.results import write_results
from redense.lab.recipe.recipe import Recipe
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine

from .which_arms import OTHER_ARMS, SOME_ARMS


@dataclass(frozen=True)
class Finished:
    """A comparison that has been trained, what it wrote, and how many phases had to be trained."""

    folder: Path
    grid: Grid
    result: dict[str, Any]
    trained: int

    def row(self, arm: str) -> dict[str, Any]:
        return next(row for row in self.result["rows"] if row["arm"] == arm)

    def raw(self, name: str = "compare.json") -> bytes:
        return (self.folder / name).read_bytes()


def compare(
    folder: Path, store: PhaseStore, recipe: Recipe, arms: Sequence[str], seeds: Sequence[int] = (0, 1), **options: Any
) -> Finished:
    """Make a comparison in ``folder`` and train it in this process, or as ``jobs`` and ``backend`` say."""
    comparison = Comparison(recipe, tuple(arms), tuple(seeds), options.pop("sweep", {}))
    grid = Grid(comparison, store, new_comparison(comparison, folder), save_seconds=options.pop("save_seconds", 30.0))
    trained = grid.run(**{"jobs": 1, **options})
    return Finished(folder, grid, write_results(folder, grid), trained)


@pytest.fixture
def compared(tmp_path: Path, tiny: Callable[..., Recipe]) -> Callable[..., Finished]:
    """Compare in a folder and a store of the test's own; ``into`` names another folder, ``changes`` the recipe's."""

    def run(*arms: str, into: str = "compared", store: PhaseStore | None = None, **options: Any) -> Finished:
        recipe = tiny(**options.pop("changes", {}))
        return compare(tmp_path / into, store or PhaseStore(tmp_path / "store"), recipe, arms, **options)

    return run


@pytest.fixture(scope="session")
def some_arms(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> Finished:
    """A few arms of every kind with two seeds, trained in this process; the tests must not change it."""
    folder = tmp_path_factory.mktemp("some_arms")
    return compare(folder / "compared", PhaseStore(folder / "store"), tiny(), SOME_ARMS)


@pytest.fixture(scope="session")
def other_arms(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> Finished:
    """The other arms, beside `dsd`; for slow tests, because each costs half a second of processor time."""
    folder = tmp_path_factory.mktemp("other_arms")
    return compare(folder / "compared", PhaseStore(folder / "store"), tiny(), ("dsd", *OTHER_ARMS))


@pytest.fixture(params=["fork", pytest.param("loky", marks=pytest.mark.slow)])
def train_elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let nothing be trained in this process from the call on.

    The processes of a comparison are forked, or started as always, each importing PyTorch and redense.
    """
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.backend import context

    gc.collect()
    gc.freeze()  # each collection of a forked worker would go over all that the tests before have left, and copy it
    here, train = os.getpid(), Engine.train

    def elsewhere(engine: Engine) -> None:
        assert os.getpid() != here
        train(engine)

    monkeypatch.setattr(context, "_DEFAULT_START_METHOD", request.param)
    yield lambda: monkeypatch.setattr(Engine, "train", elsewhere)
    executor: Any = get_reusable_executor
    executor(reuse=True).shutdown(kill_workers=True)
