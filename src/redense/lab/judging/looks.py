"""Looks at results, and the price of adding seeds after one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .statistics import LEVEL
from .verdicts import MOST_LOOKS


@dataclass(frozen=True)
class Looks:
    """The number of looks at results.

    Args:
        planned: looks that were planned before the first.
        margin: differences within it are of no interest.
        looked: seeds and arms at each look before the present one.
        now: seeds and arms at the present one.
    """

    planned: int = 1
    margin: float | None = None
    looked: tuple[tuple[int, int], ...] = ()
    now: tuple[int, int] = (0, 0)

    @property
    def correction(self) -> int:
        """The factor of p-values: the planned looks, and twice as much at each look beyond them."""
        beyond = max(0, len(self.looked) + 1 - self.planned)
        return min(self.planned * 2 ** min(beyond, 64), MOST_LOOKS)

    @property
    def judged(self) -> dict[str, Any]:
        """The margin, the correction, and what was added, by their names as arguments of `verdicts.decide`."""
        return {"margin": self.margin, "looks": self.correction, "added": self.added}

    @property
    def added(self) -> str:
        """A sentence on what was added after looking, and its price; empty where nothing was."""
        if not self.looked:
            return ""
        steps = [*self.looked, self.now]
        parts: list[str] = []
        if len({seeds for seeds, _ in steps}) > 1:
            parts.append(f"seeds ({_then(seeds for seeds, _ in steps)})")
        if len({arms for _, arms in steps}) > 1:
            parts.append(f"arms ({_then(arms for _, arms in steps)}; all are judged as one family)")
        what = f"{' and '.join(parts) or 'results'} were added after looking"
        what = what[:1].upper() + what[1:]
        beyond = len(steps) - self.planned
        if beyond <= 0:
            return f"{what}. The correction is that of the {self.planned} looks that were planned."
        worst = 100 * LEVEL * (1 + (1 - 0.5**beyond) / self.planned)
        planned = "no further look was planned" if self.planned == 1 else f"{self.planned} looks were planned"
        return (
            f"{what}, and {planned}: p-values are multiplied by {self.correction:,} now. Over all looks a "
            f"difference is shown by chance in up to {worst:.3g} % of experiments, not {100 * LEVEL:g} %; "
            "--looks, given beforehand, keeps that."
        )


def _then(counts: Iterable[int]) -> str:
    return ", then ".join(str(count) for count, _ in groupby(counts))
