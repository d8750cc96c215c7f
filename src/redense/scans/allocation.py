"""Shares of one overall sparsity: how much of each layer goes when a given part of all weights is to go.

Every function here is pure, and gives a sparsity for each parameter name. `from_curves` follows measured
sensitivities (see `redense.sensitivity`); `uniform`, `erk` and `global_magnitude` are what it is compared with.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from redense.errors import SparsityError
from redense.files.notebook import html_table
from redense.files.visible import aligned
from redense.masks import check_sparsity, select_global

Method = Literal["sensitivity", "uniform", "erk", "global"]
METHODS: tuple[Method, ...] = ("sensitivity", "uniform", "global", "erk")

_STEPS = 8  # pieces of the cubic below a curve's first knot
_FLOOR = 0.1  # a drop within the tolerance is noise: it counts as at least this part of the tolerance
_DIGITS = 9  # decimals of a sparsity: enough to give back the number of weights, and short enough to read


@dataclass(frozen=True)
class Allocation(Mapping[str, float]):
    """A sparsity for each parameter; give it as ``sparsity`` to a phase or a schedule, or print it.

    Args:
        by: how it was chosen.
        sparsities: parameter name -> fraction removed.
        weights: parameter name -> number of weights.
        predicted: sum of the drops that pruning each layer alone would cost, in the unit of the scan's evaluation.
        beside: other methods' sparsities at the same overall sparsity, for comparison.
        predictions: what each of those would cost.
    """

    by: str
    sparsities: Mapping[str, float]
    weights: Mapping[str, int]
    predicted: float | None = None
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    predictions: Mapping[str, float] = field(default_factory=dict[str, float])

    def __getitem__(self, name: str) -> float:
        return self.sparsities[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sparsities)

    def __len__(self) -> int:
        return len(self.sparsities)

    @property
    def overall(self) -> float:
        """Fraction removed of all these weights together."""
        return overall_of(self.sparsities, self.weights)

    def to_dict(self) -> dict[str, float]:
        """Return plain data: parameter name -> sparsity."""
        return dict(self.sparsities)

    def to_yaml(self) -> str:
        """Return the lines that a recipe takes.

        >>> print(Allocation("uniform", {"fc.weight": 0.4}, {"fc.weight": 10}).to_yaml())
        sparse:
          sparsity:
            fc.weight: 0.4
        """
        plain = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
        keys = [name if plain.fullmatch(name) else json.dumps(name) for name in self]
        lines = [f"    {key}: {value}" for key, value in zip(keys, self.values(), strict=True)]
        return "\n".join(["sparse:", "  sparsity:", *lines])

    def __str__(self) -> str:
        return "\n".join(aligned(self._rows))

    def _repr_html_(self) -> str:
        head, *rows = self._rows
        return html_table(head, rows)

    @property
    def _rows(self) -> list[list[str]]:
        others = list(self.beside)
        rows = [["name", "weights", self.by, *others]]
        for name, value in self.items():
            values = [value, *(self.beside[other].get(name, 0.0) for other in others)]
            rows.append([name, f"{self.weights[name]:,}", *(f"{100 * v:.1f} %" for v in values)])
        overall = [self.overall, *(overall_of(self.beside[other], self.weights) for other in others)]
        rows.append(["overall", f"{sum(self.weights.values()):,}", *(f"{100 * v:.1f} %" for v in overall)])
        costs = [self.predicted, *(self.predictions.get(other) for other in others)]
        if any(cost is not None for cost in costs):
            rows.append(["sum of drops", "", *("-" if cost is None else told_cost(cost) for cost in costs)])
        return rows


def told_cost(cost: float) -> str:
    """Return a sum of drops in words: `cost_at` is infinite where a share lies beyond what was measured of a layer."""
    return f"{cost:.4g}" if math.isfinite(cost) else "not scanned"


def overall_of(sparsities: Mapping[str, float], weights: Mapping[str, int]) -> float:
    """Return the fraction that is removed of all weights together; 0.0 for none.

    >>> overall_of({"a": 0.5, "b": 0.0}, {"a": 30, "b": 10})
    0.375
    """
    total = sum(weights[name] for name in sparsities)
    return sum(round(value * weights[name]) for name, value in sparsities.items()) / total if total else 0.0


# --- without measuring ----------------------------------------------------------------------------------------------


def uniform(weights: Mapping[str, int], overall: float) -> dict[str, float]:
    """Return the same sparsity for every parameter: what ``sparsity=overall`` does."""
    return dict.fromkeys(weights, check_sparsity(overall, "all weights together"))


def global_magnitude(parameters: Mapping[str, Tensor], overall: float) -> dict[str, float]:
    """Return what one common magnitude threshold removes of each parameter: what ``scope="global"`` does.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a weight is NaN or infinite.
    """
    masks = select_global(parameters, overall, absolute=True)
    removed = {name: mask.numel() - int(mask.sum()) for name, mask in masks.items()}
    return _fractions(removed, {name: tensor.numel() for name, tensor in parameters.items()})


def erk(shapes: Mapping[str, Sequence[int]], overall: float) -> dict[str, float]:
    """Return the Erdős-Rényi-Kernel shares: density in proportion to (out + in + kernel) / (out * in * kernel).

    It keeps more of small layers than of large ones. What would be denser than 1 stays dense, and the others make up
    for it (Mocanu et al. 2018; Evci et al. 2020, section 3.1).

    Raises:
        SparsityError: the sparsity is not in [0, 1).

    >>> erk({"small": (10, 10), "large": (100, 100)}, 0.5)
    {'small': 0.0, 'large': 0.505}
    """
    check_sparsity(overall, "all weights together")
    weights = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items() if math.prod(shape)}
    kept = (1 - overall) * sum(weights.values())
    dense: set[str] = set()
    while True:
        others = [name for name in raw if name not in dense]
        mass = sum(raw[name] * weights[name] for name in others)
        scale = (kept - sum(weights[name] for name in dense)) / mass if mass else 0.0
        full = {name for name in others if scale * raw[name] >= 1}
        if not full:
            break
        dense |= full
    sparsities = {name: 0.0 if name in dense else 1 - scale * raw.get(name, 0.0) for name in weights}
    return whole(sparsities, weights, overall)


def from_quantiles(
    quantiles: Mapping[str, Sequence[float]], weights: Mapping[str, int], overall: float
) -> dict[str, float]:
    """Return what `global_magnitude` would, nearly, from evenly spaced quantiles of each parameter's magnitudes."""
    check_sparsity(overall, "all weights together")
    total = sum(weights.values())
    low, high = 0.0, max((values[-1] for values in quantiles.values()), default=0.0)
    for _ in range(60):
        middle = (low + high) / 2
        removed = sum(_part_below(quantiles[name], middle) * weights[name] for name in weights)
        low, high = (middle, high) if removed < overall * total else (low, middle)
    sparsities = {name: _part_below(quantiles[name], high) for name in weights}
    return whole(sparsities, weights, overall)


def _part_below(quantiles: Sequence[float], value: float) -> float:
    above = bisect.bisect_right(quantiles, value)
    if above in (0, len(quantiles)):
        return float(above > 0)
    low, high = quantiles[above - 1], quantiles[above]
    return (above - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)


# --- from curves ----------------------------------------------------------------------------------------------------

Knots = Sequence[tuple[float, float]]
"""A convex cost: (sparsity, drop) in rising order, from (0, 0)."""


def knots(points: Knots, tolerance: float, hopeless: float) -> list[tuple[float, float]]:
    """Return the convex cost of pruning one layer, from its measured (sparsity, drop) points.

    Only what matters for a decision is taken from a curve, so that a scan that measures only that decides alike:

    - the last point that still lies within ``tolerance`` of no drop at all, for what is below it is noise. Down to 0
      the cost falls as the cube of the sparsity: where weights are spread evenly around 0, pruning the smallest part s
      removes the energy ``sum w^2 ~ s^3``, and the loss follows the energy to second order.
    - the points above it up to the first that is ``hopeless``: what is above that is never chosen.

    Curves are noisy, and made to rise first: what more pruning does not cost, less pruning does not cost either.

    Corners that point upwards are cut off (the lower convex hull): the best share of a common budget never lies there.
    """
    rising: list[tuple[float, float]] = []
    for sparsity, drop in sorted(points, reverse=True):
        rising.insert(0, (sparsity, min([drop, *(later for _, later in rising[:1])])))
    flat = sum(drop <= tolerance for _, drop in rising)
    wrong = next((index for index, (_, drop) in enumerate(rising) if not drop < hopeless), len(rising))
    rising = [
        (sparsity, max(min(drop, hopeless), _FLOOR * tolerance))
        for sparsity, drop in rising[max(flat - 1, 0) : wrong + 1]
        if math.isfinite(min(drop, hopeless))
    ]
    if not rising:
        return [(0.0, 0.0)]
    sparsity, drop = rising[0]
    cubic = [(sparsity * i / _STEPS, drop * (i / _STEPS) ** 3) for i in range(_STEPS)]
    return _lower_hull([*cubic, *rising])


def cost_at(curve: Knots, sparsity: float) -> float:
    """Return a cost between its knots; infinite beyond the last one.

    >>> cost_at([(0.0, 0.0), (0.5, 1.0)], 0.25)
    0.5
    """
    for (s0, d0), (s1, d1) in itertools.pairwise(curve):
        if sparsity <= s1:
            return d0 + (d1 - d0) * (sparsity - s0) / (s1 - s0)
    return curve[-1][1] if sparsity <= curve[-1][0] else math.inf


def from_curves(
    curves: Mapping[str, Knots],
    weights: Mapping[str, int],
    *,
    overall: float | None = None,
    max_drop: float | None = None,
    highest: float = 1.0,
) -> dict[str, float]:
    """Return the sparsities of the least summed cost for an overall sparsity, or the highest ones within a summed cost.

    The costs are convex (see `knots`), so the best share is found by taking weights where the next one is cheapest,
    until enough are taken: at the end all layers pay the same for one more weight. If a target can only be reached
    beyond the last knots, what is missing is taken evenly from the room below ``highest``.

    Raises:
        SparsityError: the overall sparsity is above ``highest``, or not in [0, 1).
    """
    total = sum(weights.values())
    if overall is not None:
        check_sparsity(overall, "all weights together")
        if round(overall * total) > sum(round(highest * size) for size in weights.values()):
            raise SparsityError(
                f"an overall sparsity of {overall:g} is above the highest that was measured, {highest:g}: "
                "scan with a higher one in sparsities"
            )
    target = total if overall is None else overall * total
    budget = math.inf if max_drop is None else max_drop
    pieces = sorted(
        ((d1 - d0) / ((s1 - s0) * weights[name]), name, s0, s1)
        for name, curve in curves.items()
        for (s0, d0), (s1, d1) in itertools.pairwise(curve)
        if weights[name]
    )
    chosen = dict.fromkeys(weights, 0.0)
    taken = spent = 0.0
    for slope, name, s0, s1 in pieces:
        size = (s1 - s0) * weights[name]
        part = min(1.0, (target - taken) / size, (budget - spent) / (slope * size) if slope else 1.0)
        if part <= 0:
            break
        chosen[name] = s0 + part * (s1 - s0)
        taken, spent = taken + part * size, spent + part * slope * size
    if overall is None:
        return _fractions({name: math.floor(s * weights[name] + 1e-6) for name, s in chosen.items()}, weights)
    room = sum((highest - s) * weights[name] for name, s in chosen.items())
    more = max(0.0, target - taken) / room if room > 0 else 0.0
    if more > 1e-12:
        chosen = {name: s + min(1.0, more) * (highest - s) for name, s in chosen.items()}
    return whole(chosen, weights, overall)


def whole(sparsities: Mapping[str, float], weights: Mapping[str, int], overall: float) -> dict[str, float]:
    """Round to whole weights so that exactly ``round(overall * N)`` of all N go; at least one of each layer stays.

    The largest remainders are rounded up, as seats are given in a parliament.
    """
    exact = {name: min(max(s, 0.0), 1.0) * weights[name] for name, s in sparsities.items()}
    most = {name: max(0, size - 1) for name, size in weights.items()}
    counts = {name: min(most[name], math.floor(value + 1e-9)) for name, value in exact.items()}
    missing = round(overall * sum(weights.values())) - sum(counts.values())
    order = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    while missing:
        step = 1 if missing > 0 else -1
        movable = [n for n in (order if step > 0 else order[::-1]) if 0 <= counts[n] + step <= most[n]]
        if not movable:
            break
        for name in movable[: abs(missing)]:
            counts[name] += step
            missing -= step
    return _fractions(counts, weights)


def _fractions(counts: Mapping[str, int], weights: Mapping[str, int]) -> dict[str, float]:
    return {name: round(count / weights[name], _DIGITS) if weights[name] else 0.0 for name, count in counts.items()}


def _lower_hull(points: Knots) -> list[tuple[float, float]]:
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _cross(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _cross(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
