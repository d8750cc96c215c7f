"""Few points settle what the whole grid would settle."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.scans import allocation
from redense.scans.points import knee, undecided

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RISES = st.lists(st.floats(0, 1), min_size=10, max_size=10)


def rising(rises: list[float]) -> list[float]:
    total, out = 0.0, list[float]()
    for rise in rises:
        total += rise**4  # mostly flat, with jumps
        out.append(total)
    return out


def convex(rises: list[float]) -> list[float]:
    """A curve that never bends down, also where the grid is finer at its end."""
    slope = total = before = 0.0
    out: list[float] = []
    for level, rise in zip(LEVELS, rises, strict=True):
        slope += rise**4
        total += slope * (level - before)
        before = level
        out.append(total)
    return out


@given(RISES, st.floats(0, 0.5), st.floats(0.5, 3))
def test_the_knee_decides_as_the_whole_grid_does(rises: list[float], tolerance: float, hopeless: float):
    drops = rising(rises)
    seen = knee(10, drops.__getitem__, tolerance, hopeless)
    full = allocation.knots(list(zip(LEVELS, drops, strict=True)), tolerance, hopeless)
    assert allocation.knots([(LEVELS[i], drops[i]) for i in seen], tolerance, hopeless) == full


def test_the_knee_is_found_in_few_measurements_and_measures_none_twice():
    asked: list[int] = []

    def drop(index: int) -> float:
        asked.append(index)
        return 0.0 if index < 70 else 100.0

    assert {69, 70} <= set(knee(100, drop, 0.1, 1.0))
    assert len(asked) == len(set(asked)) <= 8


def test_a_curve_that_is_flat_to_the_end_and_one_that_never_is():
    assert knee(10, lambda index: 0.0, 0.1, 1.0)[-1] == 9
    assert 0 in knee(10, lambda index: 5.0, 0.1, 1.0)
    assert knee(10, lambda index: math.inf, 0.1, 1.0)[0] == 0


@given(st.lists(RISES, min_size=2, max_size=5), st.sampled_from([0.2, 0.4, 0.6, 0.8]))
def test_one_target_is_settled_as_the_whole_grid_settles_it(rises: list[list[float]], overall: float):
    names = [f"layer{i}" for i in range(len(rises))]
    drops = {name: convex(r) for name, r in zip(names, rises, strict=True)}
    weights = {name: 1000 * (i + 1) for i, name in enumerate(names)}
    tolerance, hopeless = 0.01, 1.0
    seen: dict[str, dict[int, float]] = {name: {} for name in names}
    for _ in range(100):
        asked = undecided(seen, weights, LEVELS, tolerance=tolerance, hopeless=hopeless, overall=overall)
        if not asked:
            break
        for name, indices in asked.items():
            assert not set(indices) & set(seen[name])
            seen[name] |= {index: drops[name][index] for index in indices}
    else:
        pytest.fail("it never ends")

    def costs(points: dict[str, dict[int, float]]) -> dict[str, list[tuple[float, float]]]:
        return {
            name: allocation.knots([(LEVELS[i], d) for i, d in points[name].items()], tolerance, hopeless)
            for name in names
        }

    full = costs({name: dict(enumerate(values)) for name, values in drops.items()})
    best = allocation.from_curves(full, weights, overall=overall, highest=0.95)
    found = allocation.from_curves(costs(seen), weights, overall=overall, highest=0.95)

    def cost(sparsities: dict[str, float]) -> float:
        # to whole weights: a share may lie half a weight beyond the last knot
        return sum(allocation.cost_at(full[name], min(s, full[name][-1][0])) for name, s in sparsities.items())

    assert cost(found) <= cost(best) + 0.02 * (1 + cost(best))


def asked(drops: dict[str, dict[int, float]], overall: float, levels: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)) -> Any:
    weights = dict.fromkeys(drops, 1000)
    return undecided(drops, weights, levels, tolerance=0.01, hopeless=1.0, overall=overall)


def test_a_layer_that_nothing_is_known_of_is_asked_for_its_middle():
    assert asked({"a": {}, "b": {}}, 0.5) == {"a": [1], "b": [1]}


def test_a_share_that_sits_on_a_point_needs_both_of_its_neighbours():
    known = {0: 0.0, 1: 0.05, 3: 0.9}
    assert asked({"a": known}, 0.6) == {"a": [2]}
    both = {0: 0.0, 1: 0.02, 2: 0.1, 3: 0.9}
    assert asked({"a": both}, 0.6) == {}
    steep = {0: 0.2, 2: 0.3, 3: 0.9}  # 0.6 is measured, what is below it is not
    assert asked({"a": steep}, 0.6) == {"a": [1]}


def test_a_share_on_the_flat_part_bisects_for_its_end():
    assert asked({"a": {0: 0.0, 3: 0.5}}, 0.3) == {"a": [1]}
    assert asked({"a": {0: 0.0, 1: 0.0, 2: 0.5}}, 0.3) == {}


def test_where_all_is_beyond_hope_the_end_of_hope_is_asked_for():
    assert asked({"a": {0: 0.3, 2: 5.0}}, 0.75) == {"a": [1]}
    assert asked({"a": {0: 0.3, 1: 5.0}}, 0.75) == {}
