"""Successive halving: many settings with few seeds, the better half with more, until one is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redense.errors import RecipeError
from redense.lab.judging.figures import ROUNDING

Score = Callable[[Sequence[str], Sequence[int]], Mapping[str, Mapping[int, float]]]
"""Settings, seeds -> their validation figures by seed; a setting that failed lacks one."""


@dataclass(frozen=True)
class Rung:
    """A round: how many settings take part, and with how many seeds in all."""

    settings: int
    seeds: int


@dataclass(frozen=True)
class Round:
    """The result of a rung: the seeds, the mean validation figure of each setting, and those that stay."""

    seeds: tuple[int, ...]
    means: Mapping[str, float | None]
    stay: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"seeds": list(self.seeds), "means": dict(self.means), "stay": list(self.stay)}


def plan_rungs(settings: int, runs: int) -> tuple[Rung, ...]:
    """Return the rounds for so many settings whose runs stay within a budget; each round has about the same share.

    >>> [(rung.settings, rung.seeds) for rung in plan_rungs(8, 48)], price(plan_rungs(8, 48))
    ([(8, 3), (4, 6), (2, 12)], 48)

    Raises:
        RecipeError: the budget is below one run a setting.
    """
    if settings < 1 or runs < settings:
        raise RecipeError(f"a search of {settings} settings takes at least {settings} runs, got {runs}")
    counts = [settings]
    while counts[-1] > 2:
        counts.append(math.ceil(counts[-1] / 2))
    if settings == 1:
        return (Rung(1, 1),)
    rungs = _doubled(counts, max(1, runs // price(_doubled(counts, 1))))
    while price(rungs) > runs:  # not even one seed to begin with: the later rounds have fewer
        most = max(rung.seeds for rung in rungs)
        rungs = tuple(Rung(rung.settings, min(rung.seeds, most - 1)) for rung in rungs)
    return rungs


def price(rungs: Sequence[Rung]) -> int:
    """Return how many runs rounds take; a seed that a setting had before is not run again."""
    before, total = 0, 0
    for rung in rungs:
        total += rung.settings * max(0, rung.seeds - before)
        before = max(before, rung.seeds)
    return total


def halve(
    names: Sequence[str],
    rungs: Sequence[Rung],
    seeds: Sequence[int],
    score: Score,
    *,
    is_lower_better: Callable[[], bool],
) -> tuple[str | None, list[Round]]:
    """Return the setting that is left, and every round; None where all have failed.

    Args:
        names: of the settings; of equal ones the first stays.
        rungs: of `plan_rungs`.
        seeds: as many as the last rung has.
        score: trains what is missing.
        is_lower_better: of the figure; asked once there are some, whose name may say it.
    """
    left, rounds = list(names), list[Round]()
    for index, rung in enumerate(rungs):
        used = tuple(seeds[: rung.seeds])
        figures = score(left, used)
        means: dict[str, float | None] = {}
        for name in left:
            values = [figures.get(name, {}).get(seed) for seed in used]
            known = [value for value in values if value is not None]
            means[name] = math.fsum(known) / len(known) if len(known) == len(used) else None
        alive = [(mean, names.index(name)) for name, mean in means.items() if mean is not None]
        sign = 1 if not alive or is_lower_better() else -1
        alive = in_order([(sign * mean, place) for mean, place in alive])
        keep = rungs[index + 1].settings if index + 1 < len(rungs) else 1
        left = [names[place] for place in sorted(place for _, place in alive[:keep])]
        rounds.append(Round(used, means, tuple(left)))
        if not left:
            return None, rounds
    return left[0], rounds


def in_order(figures: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return figures and places, the lowest first; of those that rounding alone can have parted, the first place.

    >>> in_order([(9.5, 0), (100 * 21 / 72, 1), (100 * 4 / 36 / 2 + 100 * 17 / 36 / 2, 2)])[1:]
    [(29.166666666666668, 1), (29.166666666666664, 2)]
    """
    rounding = ROUNDING * max((abs(figure) for figure, _ in figures), default=0.0)
    ordered, left = list[tuple[float, int]](), sorted(figures)
    while left:
        level = [one for one in left if one[0] <= left[0][0] + rounding]
        ordered += sorted(level, key=lambda one: one[1])
        left = left[len(level) :]
    return ordered


def _doubled(counts: Sequence[int], seeds: int) -> tuple[Rung, ...]:
    return tuple(Rung(count, seeds * 2**place) for place, count in enumerate(counts))
