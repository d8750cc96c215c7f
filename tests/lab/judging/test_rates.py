"""What verdicts promise, simulated: how often *better* is false, and how often a true difference is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redense.lab.judging import statistics
from redense.lab.judging.power import detectable, power, seeds_for
from redense.lab.judging.statistics import LEVEL, compare_paired, holm
from redense.lab.judging.verdicts import verdict

ARMS = 4
Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]

METRICS: dict[str, Draw] = {  # of a run; an arm and its reference have the same distribution
    "normal": lambda g, size: g.normal(11, 0.3, size),
    "skewed": lambda g, size: g.lognormal(0, 1, size),
    "heavy-tailed": lambda g, size: g.standard_t(2, size),
    "tied": lambda g, size: g.binomial(10, 0.05, size).astype(float),
    "collapsing": lambda g, size: g.normal(11, 0.3, size) + 20.0 * (g.random(size) < 0.1),
}


def shown_signs(differences: Any, looks: int = 1) -> Any:
    """Over (experiments, comparisons, seeds): the signs of the differences shown, 0 for none."""
    mean, sd, p_t = statistics._t_test(differences, 1e-9)
    p = np.where(sd > 0, p_t, 1.0)
    for index in np.argwhere(sd == 0):
        p[tuple(index)] = statistics.flip_p(differences[tuple(index)], 1e-9)
    shown = statistics._holm(p) * looks <= LEVEL
    for index in np.argwhere(shown):
        p_flip = statistics.flip_p(differences[tuple(index)], 1e-9)
        shown[tuple(index)] = p_flip <= statistics.veto_limit(differences.shape[-1])
    return np.where(shown, np.sign(mean), 0)


def null(metric: str, n: int, experiments: int, arms: int = ARMS) -> Any:
    generator = np.random.default_rng([n, *metric.encode()])
    runs = METRICS[metric](generator, (experiments, arms, n))
    return runs - METRICS[metric](generator, (experiments, 1, n))


def at_most(rate: float, experiments: int) -> float:
    """The rate and four of its standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / experiments)


def check_null(metric: str, n: int, experiments: int) -> None:
    differences = null(metric, n, experiments)
    signs = shown_signs(differences)
    assert (signs != 0).any(axis=1).mean() <= at_most(LEVEL, experiments)  # better or worse, any of the four
    assert (signs < 0).any(axis=1).mean() <= at_most(LEVEL / 2, experiments)  # better, any of the four
    alone = shown_signs(differences[:, :1])  # one arm, nothing to correct
    assert (alone != 0).mean() <= at_most(LEVEL, experiments)
    assert (alone < 0).mean() <= at_most(LEVEL / 2, experiments)


@pytest.mark.parametrize("metric", METRICS)
def test_no_arm_of_the_null_experiment_is_called_better_more_often_than_its_level(metric: str):
    check_null(metric, 6, 4_000)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", range(2, 21))
def test_the_level_holds_from_2_to_20_seeds(metric: str, n: int):
    if (metric, n) == ("collapsing", 2):  # the limit that the next test records
        pytest.skip("two seeds that both collapse look like a difference without a spread")
    check_null(metric, n, 20_000)


@pytest.mark.slow
def test_with_two_seeds_and_runs_that_collapse_the_level_is_above_5_percent():
    shown = (shown_signs(null("collapsing", 2, 20_000)) != 0).any(axis=1).mean()
    assert 0.055 < shown < 0.08


def false_better(metric: str, first: int, last: int, experiments: int, looks: int) -> float:
    """The share of experiments in which anything is better at any look, with a look after every seed."""
    differences = null(metric, last, experiments)
    found = np.zeros(experiments, dtype=bool)
    for n in range(first, last + 1):
        found |= (shown_signs(differences[..., :n], looks) < 0).any(axis=1)
    return float(found.mean())


def test_with_a_look_after_every_seed_better_is_false_in_at_most_5_percent_and_without_looks_in_more():
    assert false_better("normal", 2, 14, 3_000, looks=13) <= LEVEL
    assert false_better("normal", 2, 14, 3_000, looks=1) > 0.06


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_looks_after_every_seed_from_2_to_20_keep_the_rate(metric: str):
    assert false_better(metric, 2, 20, 20_000, looks=19) <= LEVEL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "n", "least", "most"),
    [
        ("collapse or not", 2, 0.22, 2**-2),
        ("collapse or not", 3, 0.11, 2**-3),
        ("collapse or not", 4, 0.05, 2**-4),
        ("exponential", 3, 0.10, 0.115),
        ("exponential", 5, 0.085, 0.1),
        ("exponential", 8, 0.08, 0.1),
        ("skewness 1", 3, 0.045, 0.057),
        ("skewness 1", 8, 0.04, 0.057),
    ],
)
def test_the_limits_that_the_module_admits_are_what_it_says(shape: str, n: int, least: float, most: float):
    # No promise but a record: how often one arm is called better where the t-test's assumption fails.
    generator = np.random.default_rng(n)
    size = (20_000, 1, n)
    differences = {
        "collapse or not": lambda: generator.choice([-1.0, 1.0], size) + generator.normal(0, 0.05, size),
        "exponential": lambda: generator.exponential(size=size) - 1,
        "skewness 1": lambda: generator.gamma(4, size=size) - 4,
    }[shape]()
    assert least <= (shown_signs(differences) < 0).mean() <= at_most(most, 20_000)


@pytest.mark.parametrize("shape", ["two-valued", "nearly two-valued", "Cauchy", "wins or ties"])
def test_from_five_seeds_on_the_level_of_one_arm_needs_no_normality(shape: str):
    generator = np.random.default_rng(5)
    size = (5_000, 1, 5)
    differences = {
        "two-valued": lambda: generator.choice([-1.0, 1.0], size),
        "nearly two-valued": lambda: generator.choice([-1.0, 1.0], size) + generator.normal(0, 0.05, size),
        "Cauchy": lambda: generator.standard_cauchy(size),
        "wins or ties": lambda: generator.choice([-1.0, 0.0, 1.0], size),
    }[shape]()
    assert (shown_signs(differences) < 0).mean() <= at_most(2**-5, 5_000)


def test_the_null_experiments_are_judged_as_the_public_functions_do():
    generator = np.random.default_rng(0)
    words = {-1: "better", 0: "no difference shown", 1: "worse"}
    seen = set()
    for n, metric, shift in ((2, "tied", -25), (5, "normal", 0.8), (5, "tied", 0), (8, "normal", -0.5), (8, "tied", 8)):
        arms = METRICS[metric](generator, (8, ARMS, n)) + shift
        reference = METRICS[metric](generator, (8, 1, n))
        signs = shown_signs(arms - reference)
        for e in range(8):
            ours = [compare_paired(arm.tolist(), reference[e, 0].tolist()) for arm in arms[e]]
            adjusted = holm([x.p for x in ours])
            said = [verdict(x, p, lower_is_better=True) for x, p in zip(ours, adjusted, strict=True)]
            assert said == [words[int(sign)] for sign in signs[e]]
            seen.update(said)
    assert seen == set(words.values())


# --- power ----------------------------------------------------------------------------------------------------------


def found(n: int, comparisons: int, looks: int, effect: float, experiments: int) -> float:
    """How often the first comparison, alone different, is better."""
    generator = np.random.default_rng([n, comparisons, looks])
    differences = generator.normal(size=(experiments, comparisons, n))
    differences[:, 0] -= effect
    return float((shown_signs(differences, looks)[:, 0] < 0).mean())


@pytest.mark.parametrize(("n", "comparisons", "looks"), [(6, 1, 1), (5, 7, 1), (8, 3, 4)])
def test_the_detectable_difference_is_found_four_times_in_five(n: int, comparisons: int, looks: int):
    effect = detectable(n, comparisons, looks)
    assert effect is not None
    assert found(n, comparisons, looks, effect, 4_000) == pytest.approx(0.8, abs=0.025)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 17, 20])
@pytest.mark.parametrize(("comparisons", "looks"), [(1, 1), (3, 1), (7, 1), (15, 1), (3, 5), (7, 20)])
def test_power_is_what_a_simulation_of_the_verdict_finds(n: int, comparisons: int, looks: int):
    effect = detectable(n, comparisons, looks)
    assert effect is not None
    for part in (0.6, 1.0, 1.3):
        expected = power(part * effect, n, comparisons, looks)
        assert found(n, comparisons, looks, part * effect, 10_000) == pytest.approx(expected, abs=0.02)


def test_an_uncorrected_detectable_difference_would_be_found_half_as_often():
    # What was printed before: n = 5, seven comparisons, 1.68 standard deviations.
    assert power(1.68, 5, 7) < 0.35


def test_power_rises_with_the_effect_and_the_seeds_needed_fall_with_it():
    at = [power(effect, 8, 3) for effect in (0.5, 1.0, 1.5, 2.0, 4.0)]
    assert at == sorted(at)
    assert at[-1] > 0.999
    needed = [seeds_for(effect, 3) for effect in (0.01, 0.5, 1.0, 2.0)]
    assert needed == sorted(needed, reverse=True)
    for effect, seeds in zip((0.5, 1.0, 2.0), needed[1:], strict=True):
        assert power(effect, seeds, 3) >= 0.8
        assert all(power(effect, n, 3) < 0.8 for n in range(2, seeds))


def test_the_veto_costs_at_six_seeds_what_the_module_says():
    assert power(1.5, 6, 1) == pytest.approx(0.65, abs=0.01)


def test_far_limits_and_many_looks_are_computed_too():
    many = detectable(2, 1001, 10**6)
    assert many is not None
    assert 1e8 < many < 1e12
    assert detectable(1, 3) is None
    assert power(1e-3, 10**8, 3) > 0.999
