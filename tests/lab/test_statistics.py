"""The statistics: scipy's numbers, the rates that the verdicts promise, and words that claim no more than that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from redense.errors import DataError
from redense.lab import statistics
from redense.lab.statistics import LEVEL, Paired, Verdict, compare_paired, holm, interval, mcnemar, sentence, verdict

SAMPLES = [  # error in % of an arm and of another, one pair a seed
    ([10.91, 11.02], [11.74, 11.69]),
    ([10.91, 11.02, 10.85], [11.74, 11.69, 11.80]),
    ([10.91, 11.02, 10.85, 11.30, 10.77], [10.89, 11.10, 10.70, 11.31, 10.60]),
    ([23.97, 24.1, 23.5, 24.4, 23.9, 23.2, 24.0, 24.6], [27.66, 27.5, 27.9, 27.1, 28.0, 27.7, 27.2, 27.6]),
]


def paired(mean: float, spread: float, n: int, *, lower_is_better: bool = True) -> Paired:
    """Differences evenly around a mean."""
    differences = mean + spread * np.linspace(-1, 1, n) if n > 1 else [mean]
    return compare_paired(differences, np.zeros(n), lower_is_better=lower_is_better)  # pyright: ignore[reportArgumentType]


# --- the same numbers as scipy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arm", "other"), SAMPLES)
def test_t_test_and_interval_are_those_of_scipy(arm: list[float], other: list[float]):
    ours, scipy = compare_paired(arm, other, lower_is_better=True), stats.ttest_rel(arm, other)
    assert ours.n == len(arm)
    assert ours.mean == pytest.approx(np.mean(arm) - np.mean(other))
    assert ours.differences == pytest.approx(np.subtract(arm, other))
    assert ours.p == ours.p_t == pytest.approx(scipy.pvalue)
    assert ours.interval == pytest.approx(tuple(scipy.confidence_interval(0.95)))


@pytest.mark.parametrize(("arm", "other"), SAMPLES)
def test_sign_flip_test_is_scipys_exact_permutation_test(arm: list[float], other: list[float]):
    ours = compare_paired(arm, other, lower_is_better=True)
    assert ours.p_flip == pytest.approx(scipy_flip_p(arm, other, 2 ** len(arm)))


def test_sign_flip_test_with_many_pairs_draws_the_same_flips_each_time_and_comes_close_to_the_exact_p(
    monkeypatch: pytest.MonkeyPatch,
):
    generator = np.random.default_rng(3)
    other = generator.normal(size=11).tolist()
    arm = (other + generator.normal(0.4, 1, size=11)).tolist()
    exact = compare_paired(arm, other, lower_is_better=True).p_flip
    monkeypatch.setattr(statistics, "EXACT_PAIRS", 10)
    drawn = compare_paired(arm, other, lower_is_better=True).p_flip
    assert exact is not None
    assert 0.005 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / statistics.DRAWS))
    assert drawn != exact
    assert compare_paired(arm, other, lower_is_better=True).p_flip == drawn


def test_sign_flip_p_of_many_pairs_is_never_zero():
    ours = compare_paired([float(i) for i in range(100, 140)], [0.0] * 40, lower_is_better=True)
    assert ours.p_flip == 1 / 100_000


def test_all_sign_flips_are_tried_up_to_16_pairs_and_100000_beyond():
    def p_flip(n: int, difference: float) -> float:
        p = compare_paired([difference] * n, [0.0] * n, lower_is_better=True).p_flip
        assert p is not None
        return p

    assert p_flip(16, 1.0) == 2 / 2**16
    assert p_flip(17, 1.0) * 100_000 == pytest.approx(round(p_flip(17, 1.0) * 100_000), abs=1e-9)
    # Where every flip is as far as what was observed, each draw counts once.
    assert [p_flip(n, 0.0) for n in (2, 3, 16, 17, 30)] == [1.0] * 5


def test_differences_no_further_apart_than_rounding_have_no_spread():
    _, sd, _ = statistics._t_test(np.array([[0.0, 1.0], [0.0, 1.5]]), 1.0)
    assert (sd > 0).tolist() == [False, True]


def test_rounding_is_that_of_the_largest_value():
    differs_by_rounding = compare_paired([1_000_000.3, 0.3], [1_000_000.2, 0.2], lower_is_better=True)
    assert differs_by_rounding.differences[0] != differs_by_rounding.differences[1]
    assert differs_by_rounding.interval is None


def test_interval_of_one_arm_is_scipys():
    values = [10.91, 11.02, 10.85, 11.3]
    mean, ours = interval(values)
    assert mean == pytest.approx(np.mean(values))
    assert ours == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (3, 3), (7, 2), (2, 7), (150, 101), (0, 40)])
def test_mcnemar_is_the_exact_binomial_test_of_the_examples_on_which_the_models_differ(fixed: int, broken: int):
    arm = np.array([False] * fixed + [True] * broken + [True, False, False])
    other = np.array([True] * fixed + [False] * broken + [True, False, False])
    ours = mcnemar(arm, other)
    assert (ours.examples, ours.fixed, ours.broken) == (arm.size, fixed, broken)
    expected = stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert ours.p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16])
def test_detectable_difference_is_found_four_times_in_five(n: int):
    sd = float(np.std(paired(0, 1, n).differences, ddof=1))
    detectable = paired(0, 1, n).detectable
    assert detectable is not None
    experiments = np.random.default_rng(n).normal(detectable / sd, 1, size=(40_000, n))
    _, _, p = statistics._t_test(experiments, 0.0)
    assert (p <= LEVEL).mean() == pytest.approx(0.8, abs=0.007)


def scipy_flip_p(arm: Any, other: Any, flips: int) -> float:
    def mean(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x - y, axis=axis)

    samples = (np.asarray(arm), np.asarray(other))
    result = stats.permutation_test(samples, mean, permutation_type="samples", n_resamples=flips, batch=20_000)
    return float(result.pvalue)


# --- one pair, no spread, what is refused ---------------------------------------------------------------------------


def test_one_pair_has_a_difference_and_nothing_else():
    one = compare_paired([10.9], [11.7], lower_is_better=True)
    assert (one.n, one.differences) == (1, (one.mean,))
    assert one.mean == pytest.approx(-0.8)
    assert (one.interval, one.p_t, one.p_flip, one.p, one.detectable) == (None,) * 5
    assert interval([3.0]) == (3.0, None)
    assert verdict(one, None) == "one seed shows nothing"


def test_an_arm_against_itself_shows_no_difference():
    values = [10.9, 11.2, 10.7, 11.0, 11.1, 10.8]
    same = compare_paired(values, values, lower_is_better=True)
    assert (same.mean, same.p_flip, same.p, same.p_t, same.interval, same.detectable) == (0, 1, 1, None, None, None)
    assert verdict(same, 1.0) == "no difference shown"


def test_equal_differences_leave_it_to_the_sign_flip_test():
    # In floating point the three differences are not quite equal, and a t-test of them gives p = 1e-31.
    equal = compare_paired([10.1, 11.2, 12.4], [10.9, 12.0, 13.2], lower_is_better=True)
    assert len(set(equal.differences)) > 1
    assert (equal.p_t, equal.interval, equal.detectable) == (None, None, None)
    assert equal.p == equal.p_flip == 0.25
    assert verdict(equal, 0.25) == "no difference shown"
    eight = compare_paired([10.0] * 8, [10.5] * 8, lower_is_better=True)
    assert eight.p == 2 / 2**8
    assert verdict(eight, eight.p) == "better"


def test_seeds_of_one_value_have_no_interval():
    assert interval([0.1 + 0.2, 0.3, 0.3])[1] is None


@pytest.mark.parametrize(
    ("arm", "other", "message"),
    [
        ([], [], r"the arm's values must be one number a seed, at least one"),
        ([[1.0]], [[1.0]], r"one number a seed.*shape \(1, 1\)"),
        ([1.0, 2.0], [1.0], r"got 2 values of the arm and 1 of the other, expected one pair for each seed"),
        ([1.0, math.nan], [1.0, 2.0], r"the arm's values must be finite, got nan at index 1; report"),
        ([1.0, 2.0], [math.inf, 2.0], r"the other arm's values must be finite, got inf at index 0"),
        ([1.0, None], [1.0, 2.0], r"the arm's values must be finite, got nan at index 1"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(arm: Any, other: Any, message: str):
    with pytest.raises(DataError, match=message):
        compare_paired(arm, other, lower_is_better=True)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0]])
def test_interval_refuses_what_has_no_mean(values: list[float]):
    with pytest.raises(DataError, match="values must be"):
        interval(values)


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p: float):
    with pytest.raises(DataError, match=r"p-values must be in \[0, 1\], got \[0.5, "):
        holm([0.5, p])


@pytest.mark.parametrize(
    ("arm", "other"),
    [([True], [True, False]), ([1, 0], [True, False]), ([True, False], [1, 0]), ([[True]], [[True]])],
)
def test_mcnemar_refuses_what_is_not_one_boolean_an_example(arm: Any, other: Any):
    with pytest.raises(DataError, match="one boolean for each example, True where wrong, got"):
        mcnemar(arm, other)


@pytest.mark.parametrize("p_adjusted", [None, 0.0001, 1.5, math.nan])
def test_verdict_refuses_an_adjusted_p_that_is_of_another_comparison(p_adjusted: float | None):
    with pytest.raises(DataError, match=r"expected the p-value after holm\(\), from 0\.\d+ to 1, got"):
        verdict(paired(-0.8, 0.1, 3), p_adjusted)


def test_sentence_refuses_another_reading_of_the_metric():
    with pytest.raises(DataError, match="lower_is_better is False here and True in the comparison"):
        sentence("dsd", "restart", paired(-0.8, 0.1, 3), 0.02, "error", "%", False)


# --- properties -----------------------------------------------------------------------------------------------------

# Counts of wrong examples, so that sums and shifts are exact.
counts = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=2, max_size=8)
p_values = st.lists(st.floats(0, 1), max_size=12)


def compare(pairs: list[tuple[int, int]], shift: int = 0) -> Paired:
    return compare_paired([a + shift for a, _ in pairs], [b + shift for _, b in pairs], lower_is_better=True)


def judged(result: Paired) -> Verdict:
    return verdict(result, result.p)


@given(counts)
def test_swapping_the_arms_changes_the_sign_alone(pairs: list[tuple[int, int]]):
    ours, swapped = compare(pairs), compare([(b, a) for a, b in pairs])
    assert swapped.mean == -ours.mean
    assert (swapped.p_t, swapped.p_flip, swapped.detectable) == (ours.p_t, ours.p_flip, ours.detectable)
    if ours.interval:
        assert swapped.interval == (-ours.interval[1], -ours.interval[0])
    opposite = {"better": "worse", "worse": "better"}
    assert judged(swapped) == opposite.get(judged(ours), judged(ours))


@given(counts, st.integers(-5000, 5000))
def test_what_both_arms_share_cancels(pairs: list[tuple[int, int]], shift: int):
    assert compare(pairs, shift) == compare(pairs)


@given(counts)
def test_reading_the_metric_the_other_way_turns_the_verdict_around(pairs: list[tuple[int, int]]):
    arm, other = [a for a, _ in pairs], [b for _, b in pairs]
    score = compare_paired([-a for a in arm], [-b for b in other], lower_is_better=False)
    assert judged(score) == judged(compare(pairs))


@given(counts, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_does_not_matter(pairs: list[tuple[int, int]], random: Any):
    shuffled = random.sample(pairs, len(pairs))
    ours, other = compare(pairs), compare(shuffled)
    assert (other.p, other.p_flip) == (pytest.approx(ours.p, rel=1e-6), ours.p_flip)


@given(counts)
def test_a_verdict_needs_an_interval_without_zero_and_a_sign_flip_p_that_does_not_object(pairs: list[tuple[int, int]]):
    ours = compare(pairs)
    if judged(ours) != "no difference shown":
        assert ours.p_flip is not None
        assert ours.p_flip <= max(LEVEL, 2 ** (1 - ours.n))
        assert ours.interval is None or ours.interval[0] * ours.interval[1] > 0


@given(p_values)
def test_holm_is_its_definition(values: list[float]):
    adjusted = holm(values)
    order = sorted(range(len(values)), key=lambda i: values[i])
    for rank, i in enumerate(order):
        steps = [(len(values) - k) * values[order[k]] for k in range(rank + 1)]
        assert adjusted[i] == pytest.approx(min(1.0, max(steps)))


@given(p_values)
def test_holm_keeps_the_order_and_lowers_no_p(values: list[float]):
    adjusted = [p for p in holm(values) if p is not None]
    assert all(after >= before for before, after in zip(values, adjusted, strict=True))
    ranked = [after for _, after in sorted(zip(values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_holm_of_known_values():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm([None, None]) == [None, None]
    assert holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06)]
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert [type(p) for p in holm([0, 1])] == [float, float]


# --- an arm against itself under other seeds ------------------------------------------------------------------------

EXPERIMENTS = 20_000
ARMS = 4
Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]

METRICS: dict[str, Draw] = {
    "normal": lambda g, size: g.normal(11, 0.3, size),
    "skewed": lambda g, size: g.lognormal(0, 1, size),
    "heavy-tailed": lambda g, size: g.standard_t(2, size),
    "errors of 10,000": lambda g, size: g.binomial(10_000, 0.11, size) / 100,
    "errors of 10,000, seeds alike": lambda g, size: np.rint(g.normal(1100, 4, size)) / 100,
    "errors of 100": lambda g, size: g.binomial(100, 0.11, size),
    "errors of 10": lambda g, size: g.binomial(10, 0.05, size),
}


def families(differences: Any) -> tuple[Any, Any, Any]:
    """Over (experiments, arms, seeds): the signs of the verdicts (0: none) after Holm over arms, p and sign-flip p."""
    rounding = 1e-9
    mean, sd, p_t = statistics._t_test(differences, rounding)
    p_flip = statistics._flip_test(differences, rounding)
    p = np.where(sd > 0, p_t, p_flip)
    shown = statistics._significant(statistics._holm(p), p_flip, differences.shape[-1])
    return np.where(shown, np.sign(mean), 0), p, p_flip


def at_most(rate: float) -> float:
    """The rate and four of its standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / EXPERIMENTS)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize("metric", METRICS)
def test_no_arm_of_the_null_experiment_is_called_better_more_often_than_its_level(metric: str, n: int):
    generator = np.random.default_rng([n, *metric.encode()])
    arms, reference = (
        METRICS[metric](generator, (EXPERIMENTS, ARMS, n)),
        METRICS[metric](generator, (EXPERIMENTS, 1, n)),
    )
    signs, _, _ = families(arms - reference)
    assert (signs != 0).any(axis=1).mean() <= at_most(LEVEL)  # better or worse, any of the four
    assert (signs < 0).any(axis=1).mean() <= at_most(LEVEL / 2)  # better, any of the four
    alone, _, _ = families((arms - reference)[:, :1])  # one arm, nothing to correct
    assert (alone != 0).mean() <= at_most(LEVEL)
    assert (alone < 0).mean() <= at_most(LEVEL / 2)


def test_the_null_experiments_are_judged_as_the_public_functions_do():
    generator = np.random.default_rng(0)
    words = {-1: "better", 0: "no difference shown", 1: "worse"}
    seen = set()
    for n, metric, shift in itertools.product((2, 3, 5, 8), ("normal", "errors of 100"), (0, 0.8, -25)):
        arms, reference = METRICS[metric](generator, (8, ARMS, n)) + shift, METRICS[metric](generator, (8, 1, n))
        signs, p, p_flip = families(arms - reference)
        for e in range(8):
            ours = [compare_paired(arm.tolist(), reference[e, 0].tolist(), lower_is_better=True) for arm in arms[e]]
            assert [x.p for x in ours] == pytest.approx(p[e])
            assert [x.p_flip for x in ours] == pytest.approx(p_flip[e])
            said = [verdict(x, adjusted) for x, adjusted in zip(ours, holm([x.p for x in ours]), strict=True)]
            assert said == [words[int(sign)] for sign in signs[e]]
            seen.update(said)
    assert seen == set(words.values())


@pytest.mark.parametrize("n", [5, 6, 8])
@pytest.mark.parametrize("shape", ["two-valued", "nearly two-valued", "Cauchy", "wins or ties"])
def test_from_five_seeds_on_the_level_of_one_arm_needs_no_normality(shape: str, n: int):
    generator = np.random.default_rng(n)
    size = (EXPERIMENTS, 1, n)
    differences = {
        "two-valued": lambda: generator.choice([-1.0, 1.0], size),
        "nearly two-valued": lambda: generator.choice([-1.0, 1.0], size) + generator.normal(0, 0.05, size),
        "Cauchy": lambda: generator.standard_cauchy(size),
        "wins or ties": lambda: generator.choice([-1.0, 0.0, 1.0], size),
    }[shape]()
    signs, _, _ = families(differences)
    assert (signs < 0).mean() <= at_most(2**-5 if n == 5 else LEVEL / 2)


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
    size = (EXPERIMENTS, 1, n)
    differences = {
        "collapse or not": lambda: generator.choice([-1.0, 1.0], size) + generator.normal(0, 0.05, size),
        "exponential": lambda: generator.exponential(size=size) - 1,
        "skewness 1": lambda: generator.gamma(4, size=size) - 4,
    }[shape]()
    signs, _, _ = families(differences)
    assert least <= (signs < 0).mean() <= at_most(most)


@pytest.mark.parametrize(("shape", "n", "least", "most"), [(1, 5, 0.19, 0.21), (4, 8, 0.07, 0.08)])
def test_with_four_arms_skewed_differences_have_four_chances(shape: int, n: int, least: float, most: float):
    differences = np.random.default_rng(n).gamma(shape, size=(EXPERIMENTS, ARMS, n)) - shape
    signs, _, _ = families(differences)
    assert least <= (signs < 0).any(axis=1).mean() <= at_most(most)


def test_the_veto_costs_at_six_seeds_what_the_module_says():
    signs, p, _ = families(np.random.default_rng(0).normal(-1.5, 1, (EXPERIMENTS, 1, 6)))
    assert (p <= LEVEL).mean() == pytest.approx(0.83, abs=0.015)
    assert (signs < 0).mean() == pytest.approx(0.65, abs=0.015)


def test_a_real_difference_is_found_with_five_seeds_and_four_arms():
    generator = np.random.default_rng(0)
    differences = generator.normal(0, 1, (EXPERIMENTS, ARMS, 5))
    differences[:, 0] -= 4
    signs, _, _ = families(differences)
    assert (signs[:, 0] < 0).mean() > 0.95
    assert (signs[:, 0] > 0).sum() == 0


def test_one_seed_of_the_other_sign_is_enough_for_the_veto_at_five_seeds():
    ours = compare_paired([0.2, -1.0, -1.0, -1.0, -1.0], [0.0] * 5, lower_is_better=True)
    assert ours.p is not None
    assert ours.p < LEVEL
    assert judged(ours) == "no difference shown"
    assert "the seeds do not agree on its sign (sign-flip test: p = 0.12)" in sentence(
        "dsd", "restart", ours, ours.p, "error", "%", True
    )


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "p", "unit", "expected"),
    [
        (
            paired(-0.83, 0.4, 5),
            0.0042999,
            "%",
            "dsd: 0.83 points lower error than its dense baseline "
            "(95 % interval 0.44 to 1.22, n = 5, p = 0.004 after Holm): better.",
        ),
        (
            paired(0.83, 0.4, 5),
            0.0501,
            "%",
            "dsd against its dense baseline: no difference shown: error +0.83 points "
            "(95 % interval 0.44 to 1.22, n = 5, p = 0.0501 after Holm); "
            "the smallest difference that n = 5 finds four times in five is 0.53 points, before Holm.",
        ),
        (
            paired(3.69, 0.4, 8),
            0.0001,
            "%",
            "dsd: 3.69 points higher error than its dense baseline "
            "(95 % interval 3.46 to 3.92, n = 8, p < 0.001 after Holm): worse.",
        ),
        (
            paired(0.83, 0.4, 5),
            0.0042999,
            "%",
            "dsd: 0.83 points higher error than its dense baseline "
            "(95 % interval 0.44 to 1.22, n = 5, p = 0.004 after Holm): worse.",
        ),
        (
            paired(0.05, 0.17, 5),
            1.0,
            "",
            "dsd against its dense baseline: no difference shown: error +0.05 (95 % interval -0.12 to 0.22, n = 5, "
            "p = 1.00 after Holm); the smallest difference that n = 5 finds four times in five is 0.23, before Holm.",
        ),
        (
            paired(-0.8, 0, 8),
            0.0078125,
            "%",
            "dsd: 0.80 points lower error than its dense baseline "
            "(in every pair, n = 8, p = 0.008 after Holm): better.",
        ),
        (
            paired(0, 0, 3),
            1.0,
            "%",
            "dsd against its dense baseline: no difference shown: error +0.00 points "
            "(in every pair, n = 3, p = 1.00 after Holm).",
        ),
        (
            paired(-0.8, 0, 1),
            None,
            "%",
            "dsd against its dense baseline: one seed shows nothing (error -0.80 points).",
        ),
    ],
)
def test_sentences_say_what_is_shown_and_no_more(result: Paired, p: float | None, unit: str, expected: str):
    assert sentence("dsd", "its dense baseline", result, p, "error", unit, True) == expected


def test_at_exactly_its_level_a_p_is_significant_and_said_so():
    ours = paired(-0.8, 0.1, 5)
    assert verdict(ours, LEVEL) == "better"
    split = compare_paired([0.2, -1.0, -1.0, -1.0, -1.0], [0.0] * 5, lower_is_better=True)
    assert "the seeds do not agree on its sign" in sentence("dsd", "restart", split, LEVEL, "error", "%", True)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        *(
            (0.001, "p = 0.001"),
            (0.0009999, "p < 0.001"),
            (0.05, "p = 0.050"),
            (0.1, "p = 0.10"),
            (0.0999, "p = 0.100"),
        ),
        *((math.nextafter(0.05, 1), "p = 0.05000000000000001"), (0.0500001, "p = 0.0500001"), (1.0, "p = 1.00")),
    ],
)
def test_a_p_is_written_on_its_side_of_the_level(p: float, expected: str):
    assert statistics._p_text(p) == expected


@pytest.mark.parametrize(
    ("size", "decimals"),
    [(0.0, 2), (0.8, 2), (1.0, 1), (5.89, 1), (11.8, 0), (100.0, 0), (12_345.0, 0), (1e-7, 8), (1e-8, 9), (1e-12, 9)],
)
def test_numbers_have_the_decimals_that_show_two_digits_of_their_uncertainty(size: float, decimals: int):
    assert statistics._decimals(size) == decimals


def test_decimals_are_those_of_half_the_interval_and_without_one_of_the_difference():
    wide = sentence("dsd", "restart", paired(-20, 6, 5), 0.01, "error", "%", True)
    assert wide.startswith("dsd: 20.0 points lower error than restart (95 % interval 14.1 to 25.9")
    same = sentence("dsd", "restart", paired(-25, 0, 8), 0.01, "error", "%", True)
    assert same.startswith("dsd: 25 points lower error than restart (in every pair")


def test_one_seed_shows_nothing_whatever_p_comes_with_it():
    said = sentence("dsd", "restart", paired(-0.8, 0, 1), 0.5, "error", "%", True)
    assert said == "dsd against restart: one seed shows nothing (error -0.80 points)."


def test_results_cannot_be_changed_afterwards():
    one, test = paired(-0.8, 0.1, 3), mcnemar([True], [False])
    with pytest.raises(FrozenInstanceError):
        one.mean = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        test.p = 0.0  # pyright: ignore[reportAttributeAccessIssue]


def test_a_higher_score_is_better_where_higher_is_better():
    result = paired(1.5, 0.5, 3, lower_is_better=False)
    assert sentence("dsd", "restart", result, 0.036, "score", "BLEU", False) == (
        "dsd: 1.5 BLEU higher score than restart (95 % interval 0.3 to 2.7, n = 3, p = 0.036 after Holm): better."
    )


@given(counts, st.floats(1, 4))
def test_no_sentence_calls_better_what_the_verdict_does_not(pairs: list[tuple[int, int]], factor: float):
    ours = compare(pairs)
    assert ours.p is not None
    p = min(1.0, ours.p * factor)
    text = sentence("dsd", "restart", ours, p, "errors", "", True)
    assert verdict(ours, p) in text
    assert ("better" in text, "worse" in text) == (verdict(ours, p) == "better", verdict(ours, p) == "worse")


@pytest.mark.parametrize(
    ("baseline", "restart", "expected"),
    [
        ("better", "better", "dsd: a gain."),
        ("better", "no difference shown", "dsd: no gain."),
        ("better", "worse", "dsd: no gain."),
        ("no difference shown", "better", "dsd: no gain."),
        ("one seed shows nothing", "one seed shows nothing", "dsd: one seed shows nothing."),
    ],
)
def test_a_gain_is_better_than_baseline_and_restart(baseline: Verdict, restart: Verdict, expected: str):
    assert statistics.conclusion("dsd", baseline, restart).startswith(expected)


def test_without_its_control_nothing_is_a_gain():
    text = statistics.conclusion("dsd", "better", None)
    assert text.startswith("dsd: no gain.")
    assert text.endswith("against restart, the same without a mask: not run, so no gain can be claimed.")


def test_caution_ends_with_the_seeds_at_which_the_sign_flip_test_can_speak():
    assert (statistics.caution(1) or "").startswith("One seed shows nothing")
    assert "no p below 0.25" in (statistics.caution(3) or "")
    assert "no p below 0.062" in (statistics.caution(5) or "")
    assert statistics.caution(6) is None
