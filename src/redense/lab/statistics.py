"""Is an arm better than another? Paired by seed, corrected over arms, and said in words that claim no more.

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
the bound without normality is only 2^-n an arm, nearly reached where runs either collapse or do not; `caution` says so.
If an arm skews the differences and leaves their mean at zero, 11 % are called better for an exponential and 5.5 % at
skewness 1, and among four arms one of them in 21 % and 8 % of experiments; no test of a mean with so few seeds can
exclude that (Bahadur and Savage, 1956). tests/lab/test_statistics.py measures these rates and limits.

Equal differences in every pair, which happen when a metric counts few examples, leave no spread to divide by, and the
t-test would give p = 0. There the sign-flip p stands in, and there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..errors import DataError

LEVEL = 0.05  # two-sided, for the arms together
POWER = 0.8
EXACT_PAIRS = 16  # up to here all 2^n sign flips are tried
DRAWS = 99_999  # beyond: so many random ones

Floats: TypeAlias = NDArray[np.float64]
Verdict: TypeAlias = Literal["better", "worse", "no difference shown", "one seed shows nothing"]


@dataclass(frozen=True)
class Paired:
    """An arm against another, paired by seed; what one pair, or pairs without spread, cannot say is None.

    Attributes:
        mean: of the differences, arm - other, in the metric's unit; with its 95 % t interval, uncorrected.
        p_t: of the two-sided paired t-test.
        p_flip: of the two-sided sign-flip permutation test of the mean; None only with one pair.
        detectable: the smallest true difference that an uncorrected two-sided 5 % t-test of n pairs finds with 80 %
            probability, if the differences have the standard deviation observed.
    """

    n: int
    mean: float
    interval: tuple[float, float] | None
    p_t: float | None
    p_flip: float | None
    detectable: float | None
    differences: tuple[float, ...]
    lower_is_better: bool

    @property
    def p(self) -> float | None:
        """The p-value for `holm`: the t-test's, without spread the sign-flip test's, with one pair None."""
        return self.p_flip if self.p_t is None else self.p_t


@dataclass(frozen=True)
class McNemar:
    """Two models on the same examples: how many only the arm gets right (fixed), or wrong (broken), and the exact p."""

    examples: int
    fixed: int
    broken: int
    p: float


def interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of one arm and its 95 % t interval; no interval with one seed, or without spread.

    >>> interval([10.0, 11.0, 12.0])
    (11.0, (8.51..., 13.48...))

    Raises:
        DataError: no values, or one that is not finite.
    """
    array = _finite(values, "values")
    mean, sd, _ = _t_test(array, _rounding(array))
    return float(mean), _t_interval(float(mean), float(sd), array.size)


def compare_paired(arm: Sequence[float], other: Sequence[float], *, lower_is_better: bool) -> Paired:
    """Return what the pairs say about arm - other; the i-th values of both must be of the same seed.

    >>> pairs = compare_paired([10.1, 10.4, 10.0], [10.9, 11.1, 10.9], lower_is_better=True)
    >>> round(pairs.mean, 3), round(pairs.p_t, 4), pairs.p_flip
    (-0.8, 0.0052, 0.25)

    Raises:
        DataError: no values, not as many on both sides, or one that is not finite.
    """
    a, b = _finite(arm, "the arm's values"), _finite(other, "the other arm's values")
    if a.size != b.size:
        raise DataError(f"got {a.size} values of the arm and {b.size} of the other, expected one pair for each seed")
    differences, rounding = a - b, _rounding(a, b)
    n, (mean, sd, p_t) = a.size, (float(x) for x in _t_test(differences, rounding))
    p_flip = float(_flip_test(differences, rounding)) if n > 1 else None
    t_test = (p_t, p_flip, _detectable(sd, n)) if sd > 0 else (None, p_flip, None)
    return Paired(n, mean, _t_interval(mean, sd, n), *t_test, tuple(differences.tolist()), lower_is_better)


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


def verdict(paired: Paired, p_adjusted: float | None) -> Verdict:
    """Return what may be said of the arm; `p_adjusted` is ``paired.p`` after `holm` over all comparisons.

    Raises:
        DataError: `p_adjusted` cannot be of this comparison: it is missing, or below its p.
    """
    if paired.p is None or paired.p_flip is None:
        return "one seed shows nothing"
    if p_adjusted is None or not paired.p <= p_adjusted <= 1:
        raise DataError(f"expected the p-value after holm(), from {paired.p:.3g} to 1, got {p_adjusted}")
    if not _significant(p_adjusted, paired.p_flip, paired.n):
        return "no difference shown"
    return "better" if (paired.mean < 0) == paired.lower_is_better else "worse"


def sentence(
    arm: str, against: str, paired: Paired, p_adjusted: float | None, metric_name: str, unit: str, lower_is_better: bool
) -> str:
    """Return the verdict with its numbers, as one sentence. A difference of percentages is in points.

    >>> pairs = compare_paired([10.1, 10.4, 10.0], [10.9, 11.1, 10.9], lower_is_better=True)
    >>> print(sentence("dsd", "restart", pairs, 0.0104, "error", "%", True))
    dsd: 0.80 points lower error than restart (95 % interval 0.55 to 1.05, n = 3, p = 0.010 after Holm): better.
    """
    if lower_is_better != paired.lower_is_better:
        raise DataError(f"lower_is_better is {lower_is_better} here and {paired.lower_is_better} in the comparison")
    word = verdict(paired, p_adjusted)
    unit = f" {'points' if unit == '%' else unit}".rstrip()
    low, high = paired.interval or (paired.mean, paired.mean)
    point = f".{_decimals((high - low) / 2 or abs(paired.mean))}f"
    shift = f"{metric_name} {paired.mean:+z{point}}{unit}"
    if p_adjusted is None or paired.p_flip is None:
        return f"{arm} against {against}: {word} ({shift})."
    better_or_worse = word != "no difference shown"
    near, far = sorted((abs(low), abs(high))) if better_or_worse else (low, high)
    spread = f"95 % interval {near:z{point}} to {far:z{point}}" if paired.interval else "in every pair"
    numbers = f"({spread}, n = {paired.n}, {_p_text(p_adjusted)} after Holm)"
    if better_or_worse:
        side = "lower" if paired.mean < 0 else "higher"
        return f"{arm}: {abs(paired.mean):{point}}{unit} {side} {metric_name} than {against} {numbers}: {word}."
    text = f"{arm} against {against}: {word}: {shift} {numbers}"
    if p_adjusted <= LEVEL:
        text += f"; the seeds do not agree on its sign (sign-flip test: {_p_text(paired.p_flip)})"
    if paired.detectable is not None:
        seen = f"{paired.detectable:{point}}{unit}"
        text += f"; the smallest difference that n = {paired.n} finds four times in five is {seen}, before Holm"
    return f"{text}."


def conclusion(arm: str, against_baseline: Verdict, against_restart: Verdict | None) -> str:
    """Return both verdicts as one. A gain needs both, and that `restart`, the equal-budget control, was run.

    >>> print(conclusion("dsd", "better", "no difference shown"))
    dsd: no gain. Against its dense baseline: better; against restart, the same without a mask: no difference shown.
    """
    if against_baseline == "one seed shows nothing":
        return f"{arm}: {against_baseline}."
    gain = "a gain" if against_baseline == against_restart == "better" else "no gain"
    control = f"against restart, the same without a mask: {against_restart or 'not run, so no gain can be claimed'}"
    return f"{arm}: {gain}. Against its dense baseline: {against_baseline}; {control}."


def caution(n: int) -> str | None:
    """Return what has to be said once beside verdicts from `n` seeds; None from six on, when both tests can speak."""
    if n == 1:
        return "One seed shows nothing: how much of a difference is chance, only further seeds can say."
    if (smallest := 2 ** (1 - n)) <= LEVEL:
        return None
    test = f"With {n} seeds the sign-flip test gives no p below {smallest:.2g}, so the verdicts rest on the t-test"
    return f"{test}: they hold if the differences between seeds are roughly normal."


def _t_test(differences: Floats, rounding: float) -> tuple[Floats, Floats, Floats]:
    """Over the last axis: mean, standard deviation (0 if it is but rounding) and two-sided p (NaN where that is 0)."""
    n, mean = differences.shape[-1], differences.mean(-1)
    sd = np.where(np.ptp(differences, axis=-1) > rounding, differences.std(-1, ddof=min(1, n - 1)), 0.0)
    t = np.divide(np.abs(mean) * math.sqrt(n), sd, out=np.full_like(mean, np.nan), where=sd > 0)
    return mean, sd, 2 * special.stdtr(max(n - 1, 1), -t)


def _flip_test(differences: Floats, rounding: float) -> Floats:
    """Two-sided p: the share of sign flips whose mean is as far from zero as the observed one, or further."""
    n = differences.shape[-1]
    reached = np.abs(differences.sum(-1))[..., None] - n * rounding  # sums that differ by rounding alone are ties
    if n <= EXACT_PAIRS:
        # A flip and its opposite are equally far, so the last sign is left alone.
        signs = 1.0 - 2.0 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)
        return (np.abs(differences @ signs.T) >= reached).mean(-1)
    generator, hits = np.random.default_rng(0), 1  # the observed signs count as one of the draws
    for drawn in range(0, DRAWS, 10_000):
        signs = generator.choice((-1.0, 1.0), size=(min(10_000, DRAWS - drawn), n))
        hits = hits + (np.abs(differences @ signs.T) >= reached).sum(-1)
    return np.asarray(hits / (DRAWS + 1))


def _holm(p: Floats) -> Floats:
    """Step-down: the k-th smallest of m is multiplied by m - k + 1, and none is below the one before it."""
    order = np.argsort(p, axis=-1, kind="stable")
    scaled = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0), -1)
    return adjusted


def _significant(p_adjusted: Any, p_flip: Any, n: int) -> Any:
    """The t-test decides, the sign-flip test has a veto; numbers or arrays."""
    return (p_adjusted <= LEVEL) & (p_flip <= max(LEVEL, 2.0 ** (1 - n)))


def _t_interval(mean: float, sd: float, n: int) -> tuple[float, float] | None:
    half = float(special.stdtrit(n - 1, 1 - LEVEL / 2)) * sd / math.sqrt(n) if sd > 0 else 0.0
    return (mean - half, mean + half) if half else None


def _detectable(sd: float, n: int) -> float:
    """The difference whose noncentral t passes the critical value with the power; the far tail is below 1e-6."""
    return float(special.nctdtrinc(n - 1, 1 - POWER, special.stdtrit(n - 1, 1 - LEVEL / 2))) * sd / math.sqrt(n)


def _finite(values: Sequence[float], what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise DataError(f"{what} must be one number a seed, at least one, got an array of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise DataError(f"{what} must be finite, got {array[bad[0]]} at index {bad[0]}; report a diverged run apart")
    return array


def _rounding(*values: Floats) -> float:
    """How far apart two differences can be by floating-point rounding alone."""
    return 8 * float(np.finfo(np.float64).eps * np.abs(values).max())


def _decimals(size: float) -> int:
    """Decimals that show a number of that size to two digits."""
    return min(max(1 - math.floor(math.log10(size)), 0), 9) if size > 0 else 2


def _p_text(p: float) -> str:
    """``p = 0.004``, with as many decimals as it takes to stay on its side of the level."""
    if p < 0.001:
        return "p < 0.001"
    shown = (f"{p:.{decimals}f}" for decimals in range(3 if p < 0.1 else 2, 18))
    return "p = " + next(text for text in shown if (float(text) <= LEVEL) == (p <= LEVEL))
