"""What a comparison is to train, and how much of it is trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from redense.lab.comparison.outlook import trained


class Store:
    """A store in which `part` of each phase is trained and these phases diverged."""

    def __init__(self, part: dict[str, float], *diverged: str) -> None:
        self.part, self.diverged = part, diverged

    def done(self, key: str) -> float:
        return self.part.get(key, 0.0)

    def failure(self, keys: tuple[str, ...]) -> str | None:
        return next((f"{key} diverged" for key in keys if key in self.diverged), None)


def grid_of(store: Store, **flows: str) -> Any:
    """Return a grid of arms whose phases have a letter as their key and ten steps each."""
    cells = [
        SimpleNamespace(
            label=label, keys=tuple(keys), flow=SimpleNamespace(phases=[SimpleNamespace(steps=10)] * len(keys))
        )
        for label, keys in flows.items()
    ]
    return SimpleNamespace(cells=cells, store=store)


def test_a_phase_that_several_arms_share_counts_once():
    grid = grid_of(Store({"a": 1.0, "b": 0.5}), dsd="abc", restart="ade")
    assert trained(grid) == (15, 50)


def test_what_diverged_and_what_comes_after_it_is_not_waited_for():
    grid = grid_of(Store({"a": 1.0, "d": 1.0}, "b"), dsd="abc", restart="ad")
    assert trained(grid) == (40, 40)
    assert trained(grid_of(Store({"a": 1.0}, "b"), dsd="abc", restart="ad")) == (30, 40)
