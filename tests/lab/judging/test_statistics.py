"""The statistics: scipy's numbers, and the rates that the verdicts promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from redense.errors import DataError
from redense.lab.judging import statistics
from redense.lab.judging.statistics import LEVEL, Paired, compare_paired, holm, interval, mcnemar
from redense.lab.judging.verdicts import Verdict, verdict

SAMPLES = [  # error in % of an arm and of another, one pair a seed
    ([10.91, 11.02], [11.74, 11.69]),
    ([10.91, 11.02, 10.85], [11.74, 11.69, 11.80]),
    ([10.91, 11.02, 10.85, 11.30, 10.77], [10.89, 11.10, 10.70, 11.31, 10.60]),
    ([23.97, 24.1, 23.5, 24.4, 23.9, 23.2, 24.0, 24.6], [27.66, 27.5, 27.9, 27.1, 28.0, 27.7, 27.2, 27.6]),
]


def paired(mean: float, spread: float, n: int) -> Paired:
    """Differences evenly around a mean."""
    differences = mean + spread * np.linspace(-1, 1, n) if n > 1 else [mean]
    return compare_paired(differences, np.zeros(n))  # pyright: ignore[reportArgumentType]


# --- the same numbers as scipy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arm", "other"), SAMPLES)
def test_t_test_and_interval_are_those_of_scipy(arm: list[float], other: list[float]):
    ours, scipy = compare_paired(arm, other), stats.ttest_rel(arm, other)
    assert ours.n == len(arm)
    assert ours.mean == pytest.approx(np.mean(arm) - np.mean(other))
    assert ours.differences == pytest.approx(np.subtract(arm, other))
    assert ours.p == ours.p_t == pytest.approx(scipy.pvalue)
    assert ours.interval == pytest.approx(tuple(scipy.confidence_interval(0.95)))


@pytest.mark.parametrize(("arm", "other"), SAMPLES)
def test_sign_flip_test_is_scipys_exact_permutation_test(arm: list[float], other: list[float]):
    ours = compare_paired(arm, other)
    assert ours.p_flip == pytest.approx(scipy_flip_p(arm, other, 2 ** len(arm)))


def test_sign_flip_test_with_many_pairs_draws_the_same_flips_each_time_and_comes_close_to_the_exact_p(
    monkeypatch: pytest.MonkeyPatch,
):
    generator = np.random.default_rng(3)
    other = generator.normal(size=11).tolist()
    arm = (other + generator.normal(0.4, 1, size=11)).tolist()
    exact = compare_paired(arm, other).p_flip
    monkeypatch.setattr(statistics, "EXACT_PAIRS", 10)
    drawn = compare_paired(arm, other).p_flip
    assert exact is not None
    assert 0.005 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / statistics.DRAWS))
    assert drawn != exact
    assert compare_paired(arm, other).p_flip == drawn


@pytest.mark.parametrize("tail", ["normal", "heavy", "counted"])
def test_of_very_many_pairs_the_largest_are_drawn_and_the_sum_of_the_others_is_normal(
    tail: str, monkeypatch: pytest.MonkeyPatch
):
    generator = np.random.default_rng(11)
    differences = {
        "normal": generator.normal(0.05, 1, 1500),
        "heavy": generator.standard_t(1.2, 1500),
        "counted": generator.choice([-1.0, 0.0, 1.0], 1500, p=[0.3, 0.35, 0.35]),
    }[tail]
    monkeypatch.setattr(statistics, "DRAWS", 9_999)
    whole = compare_paired(differences.tolist(), [0.0] * 1500).p_flip
    monkeypatch.setattr(statistics, "MOST_DRAWN", 400)
    split = compare_paired(differences.tolist(), [0.0] * 1500).p_flip
    assert whole is not None
    assert split != whole
    assert split == pytest.approx(whole, abs=0.025)


def test_sign_flip_test_is_exact_to_32_pairs_and_never_zero_beyond():
    def p_flip(n: int, difference: float) -> float:
        p = compare_paired([difference] * n, [0.0] * n).p_flip
        assert p is not None
        return p

    assert [p_flip(n, 1.0) for n in (2, 16, 20, 32)] == [2 / 2**n for n in (2, 16, 20, 32)]
    assert p_flip(33, 1.0) == 1 / 100_000
    # Where every flip is as far as what was observed, each counts once.
    assert [p_flip(n, 0.0) for n in (2, 3, 32, 33)] == [1.0] * 4


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_sign_flip_p_is_the_share_of_all_flips_that_are_as_far(differences: list[int]):
    flips = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    share = sum(flip >= abs(sum(differences)) for flip in flips) / len(flips)
    assert compare_paired(differences, [0] * len(differences)).p_flip == share


@pytest.mark.parametrize("size", [1e-290, 1e-160, 1e160, 1e290])
def test_numbers_of_any_size_have_the_same_p_and_no_overflow(size: float):
    usual = compare_paired([1.0, 2.5, 3.5], [0.5, 1.0, 3.25])
    scaled = compare_paired([1.0 * size, 2.5 * size, 3.5 * size], [0.5 * size, 1.0 * size, 3.25 * size])
    assert (scaled.p_t, scaled.p_flip) == (pytest.approx(usual.p_t), usual.p_flip)
    assert scaled.effect == pytest.approx(usual.effect)
    assert scaled.interval is not None
    assert usual.interval is not None
    assert [end / size for end in scaled.interval] == pytest.approx(usual.interval)


def test_a_p_beyond_what_a_double_holds_is_still_not_zero():
    generator = np.random.default_rng(0)
    ours = compare_paired(generator.normal(1e9, 1, 300).tolist(), [0.0] * 300)
    assert ours.p_t is not None
    assert 0 < ours.p_t < 1e-300


def test_the_90_percent_interval_lies_inside_and_is_that_of_two_one_sided_tests():
    arm, other = SAMPLES[2]
    ours, scipy = compare_paired(arm, other), stats.ttest_rel(arm, other)
    assert ours.interval_90 == pytest.approx(tuple(scipy.confidence_interval(0.9)))
    upper = ours.interval_90[1] if ours.interval_90 else math.nan
    one_sided = stats.ttest_rel(arm, [value + upper for value in other], alternative="less")
    assert one_sided.pvalue == pytest.approx(0.05)


def test_differences_no_further_apart_than_rounding_have_no_spread():
    _, sd, _ = statistics._t_test(np.array([[0.0, 1.0], [0.0, 1.5]]), 1.0)
    assert (sd > 0).tolist() == [False, True]


def test_rounding_is_that_of_the_largest_value():
    differs_by_rounding = compare_paired([1_000_000.3, 0.3], [1_000_000.2, 0.2])
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


def scipy_flip_p(arm: Any, other: Any, flips: int) -> float:
    def mean(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x - y, axis=axis)

    samples = (np.asarray(arm), np.asarray(other))
    result = stats.permutation_test(samples, mean, permutation_type="samples", n_resamples=flips, batch=20_000)
    return float(result.pvalue)


# --- one pair, no spread, what is refused ---------------------------------------------------------------------------


def test_one_pair_has_a_difference_and_nothing_else():
    one = compare_paired([10.9], [11.7])
    assert (one.n, one.differences) == (1, (one.mean,))
    assert one.mean == pytest.approx(-0.8)
    assert (one.interval, one.interval_90, one.p_t, one.p_flip, one.p, one.sd, one.effect) == (None,) * 7
    assert interval([3.0]) == (3.0, None)
    assert verdict(one, None, lower_is_better=True) == "one seed shows nothing"


def test_an_arm_against_itself_shows_no_difference():
    values = [10.9, 11.2, 10.7, 11.0, 11.1, 10.8]
    same = compare_paired(values, values)
    assert (same.mean, same.p_flip, same.p, same.p_t, same.interval, same.sd) == (0, 1, 1, None, None, None)
    assert verdict(same, 1.0, lower_is_better=True) == "no difference shown"


def test_equal_differences_leave_it_to_the_sign_flip_test():
    # In floating point the three differences are not quite equal, and a t-test of them gives p = 1e-31.
    equal = compare_paired([10.1, 11.2, 12.4], [10.9, 12.0, 13.2])
    assert len(set(equal.differences)) > 1
    assert (equal.p_t, equal.interval, equal.interval_90, equal.sd) == (None, None, None, None)
    assert equal.p == equal.p_flip == 0.25
    assert verdict(equal, 0.25, lower_is_better=True) == "no difference shown"


WRONG = 31, 27, 38  # of 597 test examples, in three seeds: rounded, the last has another difference


@pytest.mark.parametrize(
    "figure",
    [
        lambda wrong: wrong / 597,
        lambda wrong: float(np.float32(wrong) / np.float32(597)),  # (predicted != labels).float().mean()
        lambda wrong: float(np.float32(1) - np.float32((597 - wrong) / 597)),
        lambda wrong: 100 - 100 * ((597 - wrong) / 597),
        lambda wrong: 1 - (597 - wrong) / 597,
        lambda wrong: round(wrong / 597, 4),
        lambda wrong: round(100 * wrong / 597, 2),
    ],
    ids=["exact", "float32", "float32, 1 - accuracy", "100 - accuracy", "1 - accuracy", "4 places", "percent"],
)
def test_differences_that_only_rounding_parts_are_equal(figure: Callable[[float], float]):
    equal = compare_paired([figure(wrong - 2) for wrong in WRONG], [figure(wrong) for wrong in WRONG])
    assert (equal.p_t, equal.p_flip, equal.interval) == (None, 0.25, None)
    # Another example in one seed is a spread.
    apart = compare_paired([figure(wrong - 2 - (wrong == 27)) for wrong in WRONG], [figure(wrong) for wrong in WRONG])
    assert apart.p_t == pytest.approx(0.0198, abs=5e-3)


@pytest.mark.parametrize("start", [0, 38_250, 1_000_000, 4_000_000])
def test_whole_numbers_are_counts_and_exact_however_large(start: int):
    other, fewer = np.array([0, 12, 9, 20, 6, 3, 11, 2]) + start, np.array([5, 6, 5, 7, 6, 8, 5, 6])
    counts = compare_paired((other - fewer).tolist(), other.tolist())
    shares = compare_paired(((other - fewer) / 100).tolist(), (other / 100).tolist())
    assert counts.p_t == pytest.approx(stats.ttest_rel(other - fewer, other).pvalue)
    assert counts.p_flip == shares.p_flip == 2 / 2**8
    mean, bounds = interval((other - fewer).tolist())
    assert bounds == pytest.approx(stats.t.interval(0.95, 7, mean, stats.sem(other - fewer)))


def test_sums_in_float32_round_no_more_than_float32_does():
    # Of sums near 95,430 float32 keeps hundredths: differences of nearly 1 are no rounding.
    other = np.array([0, 1.5, -2.25, 3, 0.75, -1, 2, 4.5, -3, 0.25], dtype=np.float32) + np.float32(95_430)
    arm = other - np.array([0.9, 0.96, 0.58, 0.65, 1.58, 1.37, 0.95, 1.01, 0.84, 0.85], dtype=np.float32)
    pairs = compare_paired(arm.tolist(), other.tolist())
    assert pairs.p_flip == 2 / 2**10
    assert pairs.p_t == pytest.approx(stats.ttest_rel(arm.astype(float), other.astype(float)).pvalue)


@pytest.mark.parametrize(
    ("arm", "is_equivalent"),
    [
        ([10.9, 11.2, 10.7, 11.0, 11.1], True),  # the baseline's very figures
        ([11.15, 11.45, 10.95, 11.25, 11.35], True),
        ([11.25, 11.55, 11.05, 11.35, 11.45], False),
        ([11.1, 11.4, 10.8], True),
        ([11.1, 11.4, 10.9], True),  # 0.2 in every pair, give or take the last digit of three seeds
        ([11.2, 11.5, 11.0], False),  # 0.3, give or take 0.1
    ],
)
def test_differences_without_a_spread_are_equivalent_inside_the_margin(arm: list[float], is_equivalent: bool):
    pairs = compare_paired(arm, [10.9, 11.2, 10.7, 11.0, 11.1][: len(arm)])
    told = verdict(pairs, pairs.p, lower_is_better=True, margin=0.31)
    assert (told == "equivalent") == is_equivalent


def test_the_last_digit_is_a_spread_where_the_sign_flips_bound_the_verdict_or_figures_are_counts():
    few = compare_paired([28.0, 28.1, 28.0, 28.0, 28.0], [29.0] * 5)
    assert compare_paired([28.0, 28.1, 28.0, 28.0], [29.0] * 4).p_t is None
    counts = compare_paired([28, 27, 28], [29] * 3)
    assert few.p_t is not None
    assert counts.p_t is not None
    assert compare_paired([28.0, 28.2, 28.0], [29.0, 29.1, 29.0]).p_t is None
    assert compare_paired([28.0, 28.3, 28.0], [29.0, 29.1, 29.0]).p_t is not None
    assert compare_paired([1e300, 1.5], [1e299, 0.5]).p_t is not None  # which have no last digit to compute with
    eight = compare_paired([10.0] * 8, [10.5] * 8)
    assert eight.p == 2 / 2**8
    assert verdict(eight, eight.p, lower_is_better=True) == "better"


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
        compare_paired(arm, other)


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
        verdict(paired(-0.8, 0.1, 3), p_adjusted, lower_is_better=True)


# --- properties -----------------------------------------------------------------------------------------------------

# Counts of wrong examples, so that sums and shifts are exact.
counts = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=2, max_size=8)
p_values = st.lists(st.floats(0, 1), max_size=12)


def compare(pairs: list[tuple[int, int]], shift: int = 0) -> Paired:
    return compare_paired([a + shift for a, _ in pairs], [b + shift for _, b in pairs])


def judged(result: Paired) -> Verdict:
    return verdict(result, result.p, lower_is_better=True)


@given(counts)
def test_swapping_the_arms_changes_the_sign_alone(pairs: list[tuple[int, int]]):
    ours, swapped = compare(pairs), compare([(b, a) for a, b in pairs])
    assert swapped.mean == -ours.mean
    assert (swapped.p_t, swapped.p_flip, swapped.sd) == (ours.p_t, ours.p_flip, ours.sd)
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
    score = compare_paired([-a for a in arm], [-b for b in other])
    assert verdict(score, score.p, lower_is_better=False) == judged(compare(pairs))


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


def test_results_cannot_be_changed_afterwards():
    one, test = paired(-0.8, 0.1, 3), mcnemar([True], [False])
    with pytest.raises(FrozenInstanceError):
        one.mean = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        test.p = 0.0  # pyright: ignore[reportAttributeAccessIssue]
