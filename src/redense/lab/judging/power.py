"""Power of a verdict: how often a true difference is called better, and the smallest that mostly is.

The verdict is the one that is given: the paired t-test after Holm over the family, at a level divided by the looks,
and with the sign-flip test's veto. Differences are taken as normal, and nothing else in the family as different. In
units of the standard deviation of the differences, power depends on n, the family and the looks alone.

The t-test's part is an integral. What the veto takes from it has no formula: ``veto.json`` has it for 5 to 16 pairs,
simulated by tools/make_veto.py. With fewer pairs no t beyond its limit is vetoed, and with more it costs less than
0.01. Nothing is simulated when a table is judged.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from redense.errors import DataError

from .statistics import LEVEL, Floats

POWER = 0.8
_LARGE = 1_000  # pairs from which on Student's t is as good as normal
_Z = np.linspace(-8, 8, 401)
_WEIGHTS = np.exp(-_Z * _Z / 2) / np.exp(-_Z * _Z / 2).sum()


def power(effect: float, n: int, comparisons: int, looks: int = 1) -> float:
    """Return the probability that a true difference is called better.

    Args:
        effect: the true difference in standard deviations of the differences, towards better.
        n: pairs, one a seed.
        comparisons: how many Holm's correction covers.
        looks: how often the table is looked at.

    >>> round(power(1.5, 8, 3), 2), round(power(1.5, 12, 7), 2)
    (0.83, 0.95)
    """
    return _power(effect, n, comparisons, looks, vetoed=_vetoed)


@functools.lru_cache(maxsize=4096)
def detectable(n: int, comparisons: int, looks: int = 1) -> float | None:
    """Return the smallest effect that is called better with a power of 80 %; None with one pair.

    >>> round(detectable(5, 7), 2), round(detectable(20, 3), 2)
    (2.87, 0.78)
    """
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while power(high, n, comparisons, looks) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, comparisons, looks) >= POWER else (middle, high)
    return high


def seeds_for(effect: float, comparisons: int, looks: int = 1, *, wanted: float = POWER) -> int:
    """Return the smallest number of seeds with which an effect is called better with the power wanted.

    >>> seeds_for(1.0, 3), seeds_for(0.5, 3)
    (14, 45)

    Raises:
        DataError: there is no such number below 10^15.
    """

    def t_power(n: int) -> float:
        return _power(effect, n, comparisons, looks, vetoed=lambda shift, n, level: 0.0)

    low, high = 1, 2
    while t_power(high) < wanted:
        low, high = high, 2 * high
        if high > 1e15:
            raise DataError(f"an effect of {effect:.3g} standard deviations is too small: over 10^15 seeds")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if t_power(middle) >= wanted else (middle, high)
    # The t-test's power rises with n; what the veto takes away makes the verdict's fall between some small numbers.
    return next(n for n in range(high, high + 40) if power(effect, n, comparisons, looks) >= wanted)


def _power(effect: float, n: int, comparisons: int, looks: int, vetoed: Callable[[float, int, float], float]) -> float:
    if n < 2:
        return 0.0

    def at(level: float) -> float:
        shift, limit = effect * math.sqrt(n), -float(special.stdtrit(n - 1, level / 2))
        return max(0.0, _t_power(shift, n, limit) - vetoed(shift, n, level))

    level = LEVEL / looks
    strict = at(level / comparisons)
    if comparisons == 1:
        return strict
    # Holm's second step: of the others, which do not differ, one may be significant by chance and leave one less to
    # correct for. A second one is so rare that it is left out.
    chance = -math.expm1((comparisons - 1) * math.log1p(-level / comparisons))
    return strict + chance * (at(level / (comparisons - 1)) - strict)


def _t_power(shift: float, n: int, limit: float) -> float:
    """P(T > limit) of the noncentral t: over the mean z, that the standard deviation stays below (shift + z) / limit.

    scipy's own is not used because it does not come back from some far limits.
    """
    degrees = n - 1
    if n > _LARGE:
        return float(
            special.ndtr((shift - limit * (1 - 1 / (4 * degrees))) / math.hypot(1, limit / math.sqrt(2 * degrees)))
        )
    most = np.clip((shift + _Z) / limit, 0, 1e6)  # beyond, the probability is 1
    return float(_WEIGHTS @ special.gammainc(degrees / 2, degrees * most * most / 2))


def _vetoed(shift: float, n: int, level: float) -> float:
    """Share of experiments that the t-test passes at a level and the sign-flip test does not, from the table."""
    table = _veto_table()
    if n not in table.vetoed or shift >= table.shifts[-1]:
        return 0.0
    divisor = LEVEL / level
    if divisor >= table.divisors[-1]:
        return 0.0
    at_shift = table.vetoed[n]
    place = np.searchsorted(table.shifts, shift, side="right") - 1
    part = (shift - table.shifts[place]) / (table.shifts[place + 1] - table.shifts[place])
    row = at_shift[place] + part * (at_shift[place + 1] - at_shift[place])
    return float(np.interp(math.log(divisor), np.log(table.divisors), row))


class _Veto(NamedTuple):
    shifts: Floats
    divisors: Floats
    vetoed: dict[int, Floats]


@functools.cache
def _veto_table() -> _Veto:
    data = json.loads((Path(__file__).parent / "veto.json").read_text(encoding="utf-8"))
    vetoed = {int(n): np.array(rows, dtype=np.float64) for n, rows in data["vetoed"].items()}
    return _Veto(np.array(data["shifts"]), np.array(data["divisors"], dtype=np.float64), vetoed)
