"""The numbers of a comparison as text, everywhere on its page alike."""

from __future__ import annotations

from redense.report.kit.quantities import NONE, decimals_for, estimate

from .types import Comparison


def decimals(c: Comparison) -> int:
    """Return how many decimals the metric is shown with, everywhere alike."""
    if c.metric.unit == "%":
        return 2
    return decimals_for(max((abs(arm.mean) for arm in c.arms if arm.mean is not None), default=0.0))


def points(c: Comparison) -> str:
    """Return the unit of a difference: points where the metric is a percentage."""
    return "points" if c.metric.unit == "%" else c.metric.unit


def with_interval(
    mean: float | None, interval: tuple[float, float] | None, places: int, *, signed: bool = False
) -> str:
    """Return a mean and half its interval's width, in words."""
    return str(estimate(mean, interval, places, signed=signed))


def p_value(p: float | None) -> str:
    """Return a p-value with as many digits as are of use.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.25), p_value(None)
    ('< 0.001', '0.031', '0.25', '–')
    """
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def has_intervals(c: Comparison) -> bool:
    """Whether any mean has an interval: with one seed none has."""
    return any(arm.interval for arm in c.arms)
