"""Before an experiment: how many seeds does a verdict take?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from redense.errors import DataError
from redense.files.visible import aligned

from .power import POWER, detectable, power, seeds_for
from .verdicts import Family, check_looks

_MOST_ARMS = 10**6
_ROWS = range(3, 31)  # seeds that the table has


@dataclass(frozen=True)
class PlannedSeeds:
    """A row of the plan: the power at the effect, and the difference that is detectable, in the unit of the figures."""

    n: int
    power: float
    detectable: float


@dataclass(frozen=True)
class Plan:
    """The number of seeds that an effect takes, and the effects that other numbers would detect."""

    sd: float
    effect: float
    arms: int
    seeds: int
    power: float
    family: Family
    table: tuple[PlannedSeeds, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``redense judge --plan --json`` prints it."""
        return {
            "seeds": self.seeds,
            "power": self.power,
            "family": vars(self.family).copy(),
            "table": [vars(row).copy() for row in self.table],
        }

    def __str__(self) -> str:
        counted = "one arm against one other is one comparison"
        if self.arms > 1:
            counted = (
                f"{self.arms:,} arms beside the baseline, one of them the control that decides, are "
                f"{self.family.comparisons:,} comparisons"
            )
        looks = f", at a level divided by {self.family.looks:,} looks," if self.family.looks > 1 else ""
        gain = "a gain takes two, against the baseline and the control; " if self.arms > 1 else ""
        rows = [["seeds", "power", "detectable"]]
        rows += [[str(row.n), f"{row.power:.2f}", f"{row.detectable:.3g}"] for row in self.table]
        return "\n".join(
            [
                f"{self.seeds:,} seeds show a true difference of {self.effect:g} "
                f"in {100 * self.power:.15g} % of experiments.",
                "",
                *aligned(rows, left=0),
                "",
                f"Paired differences with a standard deviation of {self.sd:g}; {counted}. Power is that of the verdict "
                f"'better' for one of them, after Holm's correction for all{looks} and with the sign-flip test's veto; "
                f"{gain}detectable is what so many seeds show in {100 * POWER:g} %.",
            ]
        )


def plan(*, sd: float, effect: float, arms: int, wanted: float = POWER, looks: int = 1) -> Plan:
    """Return how many seeds a true difference takes until the verdict is *better* with the power wanted.

    Args:
        sd: standard deviation of the paired differences, in the unit of the figures.
        effect: the true difference in that unit; its sign does not matter.
        arms: beside the baseline, one of them the control that decides: 2 K - 1 comparisons.
        wanted: the power, in (0, 1).
        looks: how often it will be looked at in all.

    >>> plan(sd=0.4, effect=0.4, arms=2).seeds
    14

    Raises:
        DataError: a number is out of its range.
    """
    size = abs(effect)
    for name, value in (("the standard deviation", sd), ("the effect", size)):
        if not 0 < value < math.inf:
            raise DataError(f"{name} must be a number above 0, got {value:g}")
    if not 1 <= arms <= _MOST_ARMS:
        raise DataError(f"a plan needs 1 to {_MOST_ARMS:,} arms beside the baseline, got {arms}")
    if not 0 < wanted < 1:
        raise DataError(f"power must be in (0, 1), got {wanted:g}")
    check_looks(looks)
    comparisons, unit_effect = 2 * arms - 1, size / sd
    if not 0 < unit_effect < math.inf:
        raise DataError(f"an effect of {effect:g} beside a standard deviation of {sd:g} is beyond what can be computed")
    rows: list[PlannedSeeds] = []
    for n in _ROWS:
        seen = (detectable(n, comparisons, looks) or math.nan) * sd
        rows.append(PlannedSeeds(n, round(power(unit_effect, n, comparisons, looks), 6), seen))
    seeds = seeds_for(unit_effect, comparisons, looks, wanted=wanted)
    return Plan(sd, effect, arms, seeds, wanted, Family(comparisons, looks), tuple(rows))
