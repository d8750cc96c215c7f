"""The result of a scan: what pruning each parameter alone costs, and the sparsities that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from redense.errors import SparsityError, StateError
from redense.files.notebook import html_table
from redense.files.visible import aligned, visible_line
from redense.schedules.numeric import as_float

from . import allocation
from .allocation import Allocation, Method


@dataclass(frozen=True)
class Curve:
    """The cost of pruning one parameter alone.

    Args:
        name: of the parameter; of a gate ``lstm.weight_hh_l0[f]``.
        shape: of the parameter.
        points: measured (sparsity, value of the evaluation), in rising sparsity; a value that is not finite is None.
        magnitudes: 201 evenly spaced quantiles of its absolute weights.
        gate: whether it is one gate of a recurrent matrix, which is shown and never allocated.
    """

    name: str
    shape: tuple[int, ...]
    points: tuple[tuple[float, float | None], ...]
    magnitudes: tuple[float, ...]
    gate: bool = False

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Scan:
    """The sensitivities of a model: print it, `allocate`, or keep it with `to_dict`.

    Args:
        baseline: value of the unpruned model.
        curves: one a parameter, in the order in which the model uses them.
        sparsities: the grid.
        tolerance: a drop that counts as none.
        hopeless: a drop beyond which nothing is measured.
        lower_is_better: of the value.
        evaluations: how often the call evaluated the model; the plain grid takes ``1 + curves * sparsities``.
        note: why the layers before a pruned one were computed anew each time, if they were.
    """

    baseline: float
    curves: tuple[Curve, ...]
    sparsities: tuple[float, ...]
    tolerance: float
    hopeless: float
    lower_is_better: bool = True
    evaluations: int = 0
    note: str = ""

    def drop(self, value: float | None) -> float:
        """Return how much worse a value is than the baseline; infinite for None, negative for better."""
        if value is None:
            return math.inf
        return value - self.baseline if self.lower_is_better else self.baseline - value

    @property
    def weights(self) -> dict[str, int]:
        """Number of weights of every parameter that was scanned."""
        return {curve.name: curve.weights for curve in self._whole}

    def allocate(
        self, overall: float | None = None, *, max_drop: float | None = None, by: Method = "sensitivity"
    ) -> Allocation:
        """Return a sparsity for each parameter.

        Give one of the two targets. Drops are predicted as the sum of what each layer alone costs: good for choosing
        between layers, too low for what they cost together at high sparsity.

        Args:
            overall: fraction to remove of all scanned weights together, in [0, 1): hit to the weight; ``uniform``
                rounds in each parameter instead.
            max_drop: highest predicted drop, in the evaluation's unit; the highest sparsities within it are chosen.
            by: ``sensitivity``, or what it is compared with: ``uniform``, ``global`` (one magnitude threshold, from
                quantiles) or ``erk``; these need ``overall``.

        Raises:
            SparsityError: not exactly one target, or one that cannot be met.
        """
        if (overall is None) == (max_drop is None):
            raise SparsityError("give allocate one target: overall=0.4, or max_drop=0.5")
        if by not in allocation.METHODS:
            raise SparsityError(f"by must be one of {', '.join(allocation.METHODS)}, got {by!r}")
        weights, costs = self.weights, self._costs()
        if max_drop is not None:
            if by != "sensitivity":
                raise SparsityError(f"max_drop needs the curves: by must be 'sensitivity', got '{by}'")
            most = as_float(max_drop)
            if most is None or not most >= 0:
                raise SparsityError(f"max_drop must be at least 0, got {max_drop!r}")
            chosen = allocation.from_curves(costs, weights, max_drop=most)
            overall = allocation.overall_of(chosen, weights)
        else:
            chosen = self._by(by, cast("float", overall))
        others: list[Method] = [m for m in allocation.METHODS if m not in (by, "sensitivity")]
        beside = {other: self._by(other, overall) for other in others} if overall is not None else {}
        predictions = {other: self.predict(sparsities) for other, sparsities in beside.items()}
        return Allocation(by, chosen, weights, self.predict(chosen), beside, predictions)

    def predict(self, sparsities: Mapping[str, float]) -> float:
        """Return the sum of the drops that these cost each layer alone; infinite beyond what was measured."""
        costs, weights = self._costs(), self.weights
        total = 0.0
        for name, value in sparsities.items():
            last = costs[name][-1][0]
            rounded = last if last < value <= last + 0.5 / weights[name] else value  # to whole weights
            total += allocation.cost_at(costs[name], rounded)
        return total

    def _by(self, method: Method, overall: float) -> dict[str, float]:
        if method == "uniform":
            return allocation.uniform(self.weights, overall)
        if method == "erk":
            return allocation.erk({curve.name: curve.shape for curve in self._whole}, overall)
        if method == "global":
            magnitudes = {curve.name: curve.magnitudes for curve in self._whole}
            return allocation.from_quantiles(magnitudes, self.weights, overall)
        return allocation.from_curves(self._costs(), self.weights, overall=overall, highest=max(self.sparsities))

    @property
    def _whole(self) -> list[Curve]:
        return [curve for curve in self.curves if not curve.gate]

    def _costs(self) -> dict[str, list[tuple[float, float]]]:
        return {
            curve.name: allocation.knots(
                [(s, self.drop(value)) for s, value in curve.points], self.tolerance, self.hopeless
            )
            for curve in self._whole
        }

    def __str__(self) -> str:
        return "\n".join([*aligned(self._rows), visible_line(self._said)])

    def _repr_html_(self) -> str:
        """The table of the text, each cell tinted by its part of the drop beyond which nothing is measured."""
        head, *rows = self._rows
        found = [[dict(curve.points).get(s, self.baseline) for s in self.sparsities] for curve in self.curves]
        worst = self.hopeless
        if not math.isfinite(worst):
            known = [self.drop(value) for row in found for value in row]
            worst = max((drop for drop in known if math.isfinite(drop)), default=0.0)
        tints = [[0.0, 0.0, *(self.drop(value) / worst if worst > 0 else 0.0 for value in row)] for row in found]
        return html_table(head, rows, said=[self._said], tints=tints)

    @property
    def _rows(self) -> list[list[str]]:
        rows = [["name", "weights", *(f"{100 * s:g} %" for s in self.sparsities)]]
        for curve in self.curves:
            values = dict(curve.points)
            shown = [_shown(values[s]) if s in values else "" for s in self.sparsities]
            rows.append([curve.name, f"{curve.weights:,}", *shown])
        return rows

    @property
    def _said(self) -> str:
        full = 1 + len(self.curves) * len(self.sparsities)
        note = f"; {self.note}" if self.note else ""
        return f"unpruned: {_shown(self.baseline)}; {self.evaluations} evaluations, the plain grid takes {full}{note}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without NaN or infinity."""
        data = asdict(self)
        data["hopeless"] = self.hopeless if math.isfinite(self.hopeless) else None
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scan:
        """Return the scan that `to_dict` gave, also by way of JSON.

        Raises:
            StateError: it is none.
        """
        try:
            curves = tuple(
                Curve(
                    str(c["name"]),
                    tuple(c["shape"]),
                    tuple((float(s), None if value is None else float(value)) for s, value in c["points"]),
                    tuple(map(float, c["magnitudes"])),
                    bool(c["gate"]),
                )
                for c in data["curves"]
            )
            return cls(
                float(data["baseline"]),
                curves,
                tuple(map(float, data["sparsities"])),
                float(data["tolerance"]),
                math.inf if data["hopeless"] is None else float(data["hopeless"]),
                bool(data["lower_is_better"]),
                int(data["evaluations"]),
                str(data["note"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"this is no scan of redense: {type(error).__name__} {error}") from None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
