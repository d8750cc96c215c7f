"""Is an arm better than another? Paired by seed, corrected over all comparisons, with no assumption hidden.

The null hypothesis is *an arm against itself under other seeds*: within a pair the arms could be swapped, so the
differences are symmetric around zero, however skewed the metric itself is. Two tests of it are made:

- The **paired t-test** decides, after Holm's correction. It can: the sign-flip test gives nothing below 2 / 2^n, 25 %
  with 3 seeds; it takes 6 seeds to reach 5 %, and 9 to reach it after a correction over eight comparisons.
- The exact **sign-flip test** has a veto. It assumes the symmetry alone. Its p, uncorrected, must be at most 5 %
  or, with fewer seeds, its smallest: all on one side. (Were the veto corrected, 5 seeds could show what 8 could not.)

A veto only takes verdicts away, so the t-test's rates hold: 5 % for the family with normal differences, less with heavy
tails. And from 5 seeds on a single arm is called better in at most 2^-5 = 3.1 % of null experiments, for any metric.
The price is power: most at n = 6 (83 % becomes 65 % for a true difference of 1.5 standard deviations), less after Holm.

What this cannot do. A verdict is about this recipe and data under other seeds, not about other data. With 2 to 4 seeds
the bound without normality is only 2^-n an arm, nearly reached where differences are either of two values; `caution`
says so. With 2 seeds, four arms and one run in ten that collapses, 7 % of null experiments show a difference.
If an arm skews the differences and leaves their mean at zero, 11 % are called better for an exponential and 5.5 % at
skewness 1, and among four arms one of them in 21 % and 8 % of experiments; no test of a mean with so few seeds can
exclude that (Bahadur and Savage, 1956). tests/lab/judging/test_statistics.py measures these rates and limits.

Equal differences in every pair, which happen when a metric counts few examples, leave no spread to divide by, and the
t-test would give p = 0. There the sign-flip p stands in, and there is no interval. Differences are equal, too, that
rounding alone can have parted: that of float32 and, below 5 seeds, that of the last digit where figures have few.
Whole numbers are counts, which nothing has rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from redense.errors import DataError

LEVEL = 0.05  # two-sided, for all comparisons of a family together
EXACT_PAIRS = 32  # up to here all 2^n sign flips are counted
DRAWS = 99_999  # beyond: so many random ones
MOST_DRAWN = 2_000  # of the largest differences; the sum of the others, under random signs, is as good as normal
LARGEST = 1e300  # beyond it a difference of two numbers may be infinite
_FLOAT64, _FLOAT32 = 1e-11, 1e-5  # of the largest figure: a thousand times and more what one operation rounds
_STEP32 = 2.0**-23  # of a number in float32: what keeping two of them rounds
_VETO_BOUNDS = 5  # seeds from which on the veto alone bounds how often an arm is called better under the null
_MOST_PLACES = 12  # decimal places; where figures have more, rounding to them is below that of float64

Floats: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Paired:
    """An arm against another, paired by seed; what one pair, or pairs without spread, cannot say is None.

    Attributes:
        mean: of the differences, arm - other, in the metric's unit; with its t intervals, uncorrected.
        sd: standard deviation of the differences.
        interval: of the mean, 95 %.
        interval_90: of the mean, 90 %: inside a margin, both one-sided tests of equivalence are significant at 5 %.
        p_t: of the two-sided paired t-test.
        p_flip: of the two-sided sign-flip permutation test of the mean; None only with one pair.
        rounding: how far two differences may be apart by rounding alone.
    """

    n: int
    mean: float
    sd: float | None
    interval: Interval | None
    interval_90: Interval | None
    p_t: float | None
    p_flip: float | None
    differences: tuple[float, ...]
    rounding: float = 0.0

    @property
    def within(self) -> Interval | None:
        """The interval that must lie inside a margin for the two to be equivalent; None with one pair.

        The 90 % interval; without spread the difference itself, give or take what rounding can hide.
        """
        if self.n > 1 and self.sd is None:
            return self.mean - self.rounding, self.mean + self.rounding
        return self.interval_90

    @property
    def p(self) -> float | None:
        """The p-value for `holm`: the t-test's, without spread the sign-flip test's, with one pair None."""
        return self.p_flip if self.p_t is None else self.p_t

    @property
    def effect(self) -> float | None:
        """The effect size d_z: the mean difference in standard deviations of the differences."""
        return None if self.sd is None else self.mean / self.sd


@dataclass(frozen=True)
class McNemar:
    """Two models on the same examples: how many only the arm gets right (fixed), or wrong (broken), and the exact p."""

    examples: int
    fixed: int
    broken: int
    p: float


def interval(values: Sequence[float]) -> tuple[float, Interval | None]:
    """Return the mean of one arm and its 95 % t interval; no interval with one seed, or without spread.

    >>> interval([10.0, 11.0, 12.0])
    (11.0, (8.51..., 13.48...))

    Raises:
        DataError: no values, or one that is not finite.
    """
    array = _finite(values, "values")
    scaled, exponent = _scaled(array)
    mean, sd, _ = (float(x) for x in _t_test(scaled, _back(_rounding(array), -exponent)))
    return _back(mean, exponent), _t_interval(mean, sd, array.size, LEVEL, exponent)


def compare_paired(arm: Sequence[float], other: Sequence[float]) -> Paired:
    """Return what the pairs say about arm - other; the i-th values of both must be of the same seed.

    >>> pairs = compare_paired([10.1, 10.4, 10.0], [10.9, 11.1, 10.9])
    >>> round(pairs.mean, 3), round(pairs.p_t, 4), pairs.p_flip
    (-0.8, 0.0052, 0.25)

    Raises:
        DataError: no values, not as many on both sides, or one that is not finite.
    """
    a, b = _finite(arm, "the arm's values"), _finite(other, "the other arm's values")
    if a.size != b.size:
        raise DataError(f"got {a.size} values of the arm and {b.size} of the other, expected one pair for each seed")
    differences, n = a - b, a.size
    if n == 1:
        only = float(differences[0]) + 0.0
        return Paired(1, only, None, None, None, None, None, (only,))
    scaled, exponent = _scaled(differences)
    equal = rounding = _rounding(a, b)
    if n < _VETO_BOUNDS:
        equal = max(rounding, _last_place(a, b) * (1 + _FLOAT32))
    rounding = _back(rounding, -exponent)
    mean, sd, p_t = (float(x) for x in _t_test(scaled, _back(equal, -exponent)))
    spread = sd > 0
    return Paired(
        n,
        _back(mean, exponent),
        _back(sd, exponent) if spread else None,
        _t_interval(mean, sd, n, LEVEL, exponent),
        _t_interval(mean, sd, n, 2 * LEVEL, exponent),
        max(p_t, math.ulp(0.0)) if spread else None,  # beyond all that a double can hold it is still not 0
        flip_p(scaled, rounding),
        tuple(differences.tolist()),
        equal,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's step-down adjusted p-values, in the order given.

    Give all comparisons that are printed together. None, of one seed, stays None and is not counted.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = np.array([p for p in p_values if p is not None], dtype=np.float64)
    if not np.all((known >= 0) & (known <= 1)):  # NaN fails both
        raise DataError(f"p-values must be in [0, 1], got {list(p_values)}")
    adjusted = iter(_holm(known).tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def mcnemar(wrong_arm: ArrayLike, wrong_other: ArrayLike, /) -> McNemar:
    """Return McNemar's exact test on one seed: which test examples does the arm fix, which does it break?

    It tells two trained models apart, not two methods: another seed gives other models. So it decides no verdict.

    >>> mcnemar([False, False, True, True], [True, True, True, False])
    McNemar(examples=4, fixed=2, broken=1, p=1.0)

    Raises:
        DataError: the arrays are not one boolean an example, of the same examples.
    """
    arm, other = np.asarray(wrong_arm), np.asarray(wrong_other)
    if arm.dtype != bool or other.dtype != bool or arm.ndim != 1 or arm.shape != other.shape:
        given = f"{arm.dtype} {arm.shape} and {other.dtype} {other.shape}"
        raise DataError(f"expected two arrays with one boolean for each example, True where wrong, got {given}")
    fixed, broken = int((other & ~arm).sum()), int((arm & ~other).sum())
    p = min(1.0, 2 * float(special.bdtr(min(fixed, broken), fixed + broken, 0.5)))
    return McNemar(arm.size, fixed, broken, p)


def veto_limit(n: int) -> float:
    """Return the largest sign-flip p with which a difference of n pairs is still shown.

    >>> veto_limit(20), veto_limit(5), veto_limit(3)
    (0.05, 0.0625, 0.25)
    """
    return max(LEVEL, 2.0 ** (1 - n))


def significant(p_adjusted: Any, p_flip: Any, n: int) -> Any:
    """Return whether a difference is shown: the t-test decides, the sign-flip test has a veto; numbers or arrays."""
    return (p_adjusted <= LEVEL) & (p_flip <= veto_limit(n))


def flip_p(differences: Floats, rounding: float) -> float:
    """Return the two-sided sign-flip p: the share of flips whose mean is as far from zero as the observed, or further.

    Args:
        differences: (n,), one a seed.
        rounding: how far two differences may be apart by floating-point rounding alone; sums that close are ties.
    """
    n = differences.size
    reached = abs(float(differences.sum())) - n * rounding
    if n > EXACT_PAIRS:
        return _drawn_flip_p(differences, reached)
    # A flip and its opposite are equally far, and the last sign is left alone. All sums of the first half are set
    # beside all of the second, which are sorted: 2 * 2^(n / 2) sums instead of 2^n.
    first = _all_sums(differences[: n // 2])
    second = np.sort(_all_sums(differences[n // 2 : -1]) + differences[-1])
    above = second.size - np.searchsorted(second, reached - first, side="left")
    below = np.searchsorted(second, -reached - first, side="right")
    return float(np.minimum(above + below, second.size).sum() / (first.size * second.size))


def _all_sums(values: Floats) -> Floats:
    """Every sum of +-values: (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_flip_p(differences: Floats, reached: float) -> float:
    drawn, spread = differences, 0.0
    if differences.size > MOST_DRAWN:
        by_size = np.argsort(-np.abs(differences), kind="stable")
        drawn = differences[by_size[:MOST_DRAWN]]
        spread = math.sqrt(float((differences[by_size[MOST_DRAWN:]] ** 2).sum()))
    generator, hits = np.random.default_rng(0), 1.0  # the observed signs count as one of the draws
    # Eight differences at a time: a random byte chooses one of the 256 sums that they can have.
    blocks = np.pad(drawn, (0, -drawn.size % 8)).reshape(-1, 8)
    sums = blocks @ (1.0 - 2.0 * ((np.arange(256)[None, :] >> np.arange(8)[:, None]) & 1))
    flat, starts = sums.ravel(), 256 * np.arange(len(sums))[:, None]
    at_once = max(1, min(DRAWS, 2_000_000 // len(sums)))
    for done in range(0, DRAWS, at_once):
        bytes_ = generator.integers(0, 256, size=(len(sums), min(at_once, DRAWS - done)), dtype=np.uint8)
        far = np.abs(flat[starts + bytes_].sum(0))
        if spread > 0:  # the rest may carry a sum over the bound on either side
            hits += float((special.ndtr((far - reached) / spread) + special.ndtr((-far - reached) / spread)).sum())
        else:
            hits += int((far >= reached).sum())
    return min(1.0, hits / (DRAWS + 1))


def _t_test(differences: Floats, rounding: float) -> tuple[Floats, Floats, Floats]:
    """Over the last axis: mean, standard deviation (0 if it is but rounding) and two-sided p (NaN where that is 0)."""
    n, mean = differences.shape[-1], differences.mean(-1)
    sd = np.where(np.ptp(differences, axis=-1) > rounding, differences.std(-1, ddof=min(1, n - 1)), 0.0)
    t = np.divide(np.abs(mean) * math.sqrt(n), sd, out=np.full_like(mean, np.nan), where=sd > 0)
    return mean, sd, 2 * special.stdtr(max(n - 1, 1), -t)


def _holm(p: Floats) -> Floats:
    """Step-down: the k-th smallest of m is multiplied by m - k + 1, and none is below the one before it."""
    order = np.argsort(p, axis=-1, kind="stable")
    scaled = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0), -1)
    return adjusted


def _t_interval(mean: float, sd: float, n: int, level: float, exponent: int) -> Interval | None:
    if sd <= 0:
        return None
    half = -float(special.stdtrit(n - 1, level / 2)) * sd / math.sqrt(n)
    return _back(mean - half, exponent), _back(mean + half, exponent)


def _scaled(values: Floats) -> tuple[Floats, int]:
    """Values near 1 and the power of two that makes them what they were, so that no square over- or underflows."""
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values, -exponent), exponent


def _back(value: float, exponent: int) -> float:
    """Undo `_scaled`; -0.0 becomes 0.0."""
    try:
        return math.ldexp(value, exponent) + 0.0
    except OverflowError:
        return math.copysign(np.finfo(np.float64).max, value)


def _finite(values: Sequence[float], what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise DataError(f"{what} must be one number a seed, at least one, got an array of shape {array.shape}")
    bad = np.flatnonzero(~(np.abs(array) <= LARGEST))
    if bad.size:
        raise DataError(f"{what} must be finite, got {array[bad[0]]} at index {bad[0]}; report a diverged run apart")
    return array


def _rounding(*values: Floats) -> float:
    """Return the distance of two differences that floating-point arithmetic alone can make.

    It is far above the last bit: of ``100 - 100 * accuracy`` the rounding is that of 100. Figures that are whole in
    float32, such as ``(predicted != labels).float().mean()``, have been computed in it. Whole numbers are counts, and
    exact, as long as their format could have shown a fraction.
    """
    figures = np.concatenate(values)
    largest = float(np.abs(figures).max())
    with np.errstate(over="ignore"):
        is_float32 = np.array_equal(figures, figures.astype(np.float32))
    if largest < 2.0 ** (23 if is_float32 else 52) and np.array_equal(figures, np.rint(figures)):
        return 0.0
    if not is_float32:
        return _FLOAT64 * largest
    computed = next((4 * whole for whole in (1.0, 100.0) if largest <= whole), largest)  # a share, a percentage
    return min(_FLOAT32 * largest, _STEP32 * computed)


def _last_place(*values: Floats) -> float:
    """Return 1 in the last decimal place that figures have; 0 of whole numbers, which are counts.

    >>> [_last_place(np.array(figures)) for figures in ([0.5, 0.25], [3.0, 4.0])]
    [0.01, 0.0]
    """
    figures = np.concatenate(values)
    for places in range(_MOST_PLACES + 1):
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond a double has no such place
            whole = figures * 10.0**places
            if np.all(np.abs(whole - np.rint(whole)) <= _FLOAT64 * np.abs(whole)):
                return 10.0**-places if places else 0.0
    return 0.0
