"""Seeds and examples together: McNemar over all seeds, and an interval that covers both sources of chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from redense.errors import DataError
from redense.lab.judging.examples import pooled


def answers(seeds: int, examples: int, spread: float, generator: np.random.Generator) -> tuple[Any, Any]:
    """Wrong answers of two arms: what is hard for both, what is hard for one, and the luck of each seed."""
    hard, own = generator.normal(0, 1.5, examples), generator.normal(0, 0.75, examples)
    luck = generator.normal(0, spread, (2, seeds, 1))
    noise = generator.normal(size=(2, seeds, examples))
    return hard + own + luck[0] + noise[0] > 1.6, hard + luck[1] + noise[1] > 1.5


def truth(spread: float) -> float:
    """The difference in the share of wrong answers over all seeds and all examples."""
    arm, other = 1 + 1.5**2 + 0.75**2 + spread**2, 1 + 1.5**2 + spread**2
    return float(special.ndtr(-1.6 / np.sqrt(arm)) - special.ndtr(-1.5 / np.sqrt(other)))


def covered(seeds: int, examples: int, spread: float, experiments: int) -> float:
    generator, hits = np.random.default_rng([seeds, examples]), 0
    for _ in range(experiments):
        found = pooled(*answers(seeds, examples, spread, generator)).interval
        hits += found is not None and found[0] <= truth(spread) <= found[1]
    return hits / experiments


def test_the_interval_covers_the_difference_over_other_seeds_and_other_examples():
    assert 0.92 <= covered(5, 400, 0.05, 400) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_the_interval_covers_wherever_chance_comes_from(seeds: int, spread: float):
    assert 0.93 <= covered(seeds, 500, spread, 2_000) <= 0.99


def test_the_seeds_alone_would_not_cover_another_test_set():
    generator, hits = np.random.default_rng(1), 0
    for _ in range(400):
        arm, other = answers(40, 100, 0.02, generator)
        apart = arm.mean(1) - other.mean(1)
        low, high = stats.t.interval(0.95, 39, apart.mean(), stats.sem(apart))
        hits += low <= truth(0.02) <= high
    assert hits / 400 < 0.8


def test_with_one_seed_the_pooled_p_is_mcnemars_without_a_continuity_correction():
    arm = np.array([[False] * 20 + [True] * 9 + [True, False] * 10])
    other = np.array([[True] * 20 + [False] * 9 + [True, False] * 10])
    found = pooled(arm, other)
    assert (found.fixed, found.broken, found.interval) == (20, 9, None)
    assert found.p == pytest.approx(stats.chi2.sf((20 - 9) ** 2 / 29, 1))


def test_answers_of_seeds_that_repeat_each_other_are_no_new_evidence():
    generator = np.random.default_rng(0)
    arm, other = answers(1, 300, 0.0, generator)
    once, often = pooled(arm, other), pooled(np.repeat(arm, 8, 0), np.repeat(other, 8, 0))
    assert often.p == pytest.approx(once.p)
    assert (often.fixed, often.broken) == (8 * once.fixed, 8 * once.broken)


def test_the_interval_is_never_narrower_than_that_of_the_seeds():
    generator = np.random.default_rng(3)
    arm, other = answers(4, 50, 1.0, generator)
    found, apart = pooled(arm, other), arm.mean(1) - other.mean(1)
    assert found.interval is not None
    seeds_alone = stats.sem(apart)
    assert (found.interval[1] - found.interval[0]) / 2 >= 1.96 * seeds_alone
    assert found.mean == pytest.approx(apart.mean())


def test_answers_that_do_not_differ_have_neither_p_nor_interval():
    same = np.zeros((3, 5), dtype=bool)
    found = pooled(same, same)
    assert (found.p, found.interval, found.mean, found.fixed) == (None, None, 0.0, 0)


@pytest.mark.parametrize(
    ("arm", "other"), [([[1, 0]], [[True, False]]), ([True], [False]), ([[True]], [[True, False]]), ([[]], [[]])]
)
def test_what_are_no_answers_of_the_same_seeds_and_examples_is_refused(arm: Any, other: Any):
    with pytest.raises(DataError, match="two arrays \\(seeds, examples\\) of booleans"):
        pooled(arm, other)
