"""Seeds and test examples together: all seeds share one test set, and both are samples.

The verdicts are about other seeds on this test set. Here stands what another test set of the same kind adds: McNemar's
test with the answers of all seeds, and an interval that has both seeds and examples in it. Neither decides a verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from redense.errors import DataError

from .statistics import LEVEL, Interval


@dataclass(frozen=True)
class Pooled:
    """An arm against another on the same examples, with the networks of all seeds.

    Attributes:
        seeds: how many.
        examples: how many each of them answers.
        fixed: how often only the arm is right, over seeds and examples.
        broken: how often only the other is.
        p: of McNemar's test with the seeds of an example as one cluster (Durkalski et al. 2003): these networks on
            other examples. None where no answer differs.
        mean: of the difference in the share of wrong answers, arm - other.
        interval: of it, 95 %, for other seeds and other examples; None with one seed, or where no answer differs.
    """

    seeds: int
    examples: int
    fixed: int
    broken: int
    p: float | None
    mean: float
    interval: Interval | None


def pooled(wrong_arm: ArrayLike, wrong_other: ArrayLike, /) -> Pooled:
    """Return what the answers of all seeds say; (seeds, examples) booleans, True where wrong, rows paired by seed.

    The interval is that of a layout crossed in two ways: each difference is a part of its seed's, of its example's and
    of both together. The variances of the means over either add up, less what both have of the third, which would count
    twice. The interval is never narrower than that of the seeds alone.

    >>> arm = [[False, False, True, True], [False, True, False, True]]
    >>> other = [[True, False, True, True], [True, True, True, True]]
    >>> found = pooled(arm, other)
    >>> found.fixed, found.broken, found.mean
    (3, 0, -0.375)

    Raises:
        DataError: the arrays are not booleans of the same seeds and examples.
    """
    arm, other = np.asarray(wrong_arm), np.asarray(wrong_other)
    if arm.dtype != bool or other.dtype != bool or arm.ndim != 2 or arm.shape != other.shape or not arm.size:
        given = f"{arm.dtype} {arm.shape} and {other.dtype} {other.shape}"
        raise DataError(f"expected two arrays (seeds, examples) of booleans, True where wrong, got {given}")
    apart = arm.astype(np.float64) - other
    seeds, examples = apart.shape
    of_example = apart.sum(0)
    spread = float((of_example**2).sum())
    p = None
    if spread > 0:
        p = float(2 * special.ndtr(-abs(float(of_example.sum())) / math.sqrt(spread)))
    fixed, broken = int((other & ~arm).sum()), int((arm & ~other).sum())
    mean = float(apart.mean())
    return Pooled(seeds, examples, fixed, broken, p, mean, _interval(apart, mean))


def _interval(apart: np.ndarray, mean: float) -> Interval | None:
    seeds, examples = apart.shape
    if seeds < 2 or examples < 2:
        return None
    of_seeds, of_examples = apart.mean(1), apart.mean(0)
    by_seeds = float(of_seeds.var(ddof=1)) / seeds
    by_examples = float(of_examples.var(ddof=1)) / examples
    rest = apart - of_seeds[:, None] - of_examples[None, :] + mean
    by_both = float((rest**2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    if by_seeds + by_examples <= 0:
        return None
    # Each part with the quantile of its own degrees of freedom (MOVER; Zou and Donner 2008). What both count stays with
    # the seeds, so that the interval is never narrower than that of the seeds alone.
    seeds_half = float(special.stdtrit(seeds - 1, LEVEL / 2)) ** 2 * by_seeds
    examples_half = float(special.stdtrit(examples - 1, LEVEL / 2)) ** 2 * max(by_examples - by_both, 0.0)
    half = math.sqrt(seeds_half + examples_half)
    return mean - half, mean + half
