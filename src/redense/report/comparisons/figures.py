"""The plots of what a comparison comes to: differences, and cost against the metric; as plain data for plotly.js."""

from __future__ import annotations

from collections.abc import Sequence

from redense.report.kit.plotting import (
    Plot,
    axis,
    band,
    no_markup,
    no_template,
    plot,
    rows_axis,
    segment,
    shortened,
    steps_axis,
    whiskers,
)
from redense.report.kit.quantities import estimate, number, p_value, titled

from .looks import look
from .types import Arm, Comparison, Difference
from .words import sides

# --- differences ----------------------------------------------------------------------------------------------------


def forest(c: Comparison, against: str) -> Plot:
    """Return the differences against the baseline or a control, one row an arm."""
    found = c.against(against)
    unit = c.points
    places = c.decimals
    rows = [(row, item, arm) for row, item in enumerate(found) if (arm := c.arm(item.arm)) is not None]
    low, high = _reach(c.differences)
    limit = max(abs(low), abs(high))
    bands = [
        band((max(-item.detectable, -10 * limit), min(item.detectable, 10 * limit)), (row - 0.36, row + 0.36))
        for row, item, _ in rows
        if item.detectable is not None
    ]
    zero = segment((0, 0), (0, 1), "--ink", yref="paper", layer="below")
    left, right = sides(c)
    title = f"{no_markup(titled(f'difference in {c.figure}', unit))}<br>← {left} · {right} →"
    return plot(
        [trace for row, item, arm in rows for trace in _forest_row(row, item, arm, unit, places)],
        46 * len(rows) + 96,
        (8, 12, 26, 62),
        shapes=[*bands, zero],
        xaxis=axis(title, range=[low, high], nticks=6, fixedrange=True),
        yaxis=rows_axis(_wrapped([item.arm for _, item, _ in rows]), showgrid=False),
    )


def _forest_row(row: int, item: Difference, arm: Arm, unit: str, places: int) -> list[Plot]:
    how = look(arm)
    unit = f" {unit}" if unit else ""
    paired, values = item.paired, item.paired.differences
    shown = str(estimate(paired.mean, paired.interval, places, signed=True))
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": list(values),
        "y": [row + 0.24] * len(values),
        "text": [
            no_markup(f"seed {seed}: {'+' if value > 0 else ''}{number(value, places)}{unit}")
            for seed, value in zip(item.seeds, values, strict=True)
        ],
        "marker": {"color": how.color, "size": 5, "opacity": 0.75},
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
        "cliponaxis": False,
    }
    mean = {
        "type": "scatter",
        "mode": "markers",
        "x": [paired.mean],
        "y": [row - 0.04],
        "marker": {
            "symbol": how.symbol if item.verdict in ("better", "worse") else f"{how.symbol}-open",
            "color": how.color,
            "size": 11,
            "line": {"color": how.color, "width": 2},
        },
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>{no_template(shown + unit)}<br>"
        f"{no_template(f'n = {paired.n}, p = {p_value(item.p_adjusted)} after Holm')}<br>"
        f"{no_template(item.verdict)}<extra></extra>",
        "cliponaxis": False,
    }
    if paired.interval:
        low, high = paired.interval
        mean["error_x"] = whiskers([high - paired.mean], [paired.mean - low], how.color, thickness=2, width=5)
    return [dots, mean]


def _reach(items: Sequence[Difference]) -> tuple[float, float]:
    """The same x range for both forest plots: all intervals and seeds, and zero."""
    values = [0.0, *(value for item in items for value in (item.paired.mean, *(item.paired.interval or ())))]
    values += [value for item in items for value in item.paired.differences]
    pad = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - pad, max(values) + pad


def _wrapped(names: Sequence[str]) -> list[str]:
    """Labels, over several lines where they are long: a swept arm's name and setting."""
    lines = [name.split(" ", 3) if len(name) > 14 else [name] for name in names]
    parts = list(dict.fromkeys(part for one in lines for part in one))
    short = dict(zip(parts, shortened(parts), strict=True))  # of all names together, so that they stay different
    return ["<br>".join(short[part] for part in one) for one in lines]


# --- cost -----------------------------------------------------------------------------------------------------------


def cost(c: Comparison) -> Plot | None:
    """Return gradient evaluations against the mean metric; None if no run came to its end or told them."""
    arms = [(arm, arm.gradients) for arm in c.arms if arm.mean is not None and arm.gradients is not None]
    if not arms:
        return None
    most = 1.1 * max(gradients for _, gradients in arms)
    baseline = c.arm(c.decision.baseline)
    level = baseline.mean if baseline else None
    places = c.decimals
    unit = f" {c.metric.unit}" if c.metric.unit else ""
    dotted = {} if level is None else segment((0, 1), (level, level), "--muted", "dot", xref="paper", layer="below")
    made = plot(
        [_cost_point(arm, x, places, unit) for arm, x in _side_by_side(arms, most)],
        380,
        (8, 14, 14, 50),
        shapes=[dotted] if dotted else [],
        xaxis=steps_axis("gradient evaluations of one run", most, nticks=6),
        yaxis=axis(no_markup(titled(c.figure, c.metric.unit)), automargin=True),
    )
    return {**made, "paper": {"showlegend": True}}


def _cost_point(arm: Arm, x: float, places: int, unit: str) -> Plot:
    how = look(arm)
    shown = f"{estimate(arm.mean, arm.interval, places)}{unit}, {arm.gradients:,} gradients"
    mean = arm.mean or 0.0
    low, high = arm.interval or (mean, mean)
    seen = arm.interval is not None
    return {
        "type": "scatter",
        "mode": "markers",
        "name": no_markup(arm.name),
        "x": [x],
        "y": [arm.mean],
        "error_y": whiskers([high - mean], [mean - low], how.color, thickness=1.5, width=4, visible=seen),
        "marker": {"color": how.color, "symbol": how.symbol, "size": 11},
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>{no_template(shown)}<extra></extra>",
        "cliponaxis": False,
    }


def _side_by_side(arms: Sequence[tuple[Arm, int]], most: float) -> list[tuple[Arm, float]]:
    """Arms of the same cost stand beside each other around it, or they would hide one another."""
    placed: list[tuple[Arm, float]] = []
    for gradients in sorted({gradients for _, gradients in arms}):
        same = [arm for arm, own in arms if own == gradients]
        step = min(0.035, 0.3 / len(same)) * most
        first = min(gradients - step * (len(same) - 1) / 2, 0.97 * most - step * (len(same) - 1))
        placed += [(arm, first + step * place) for place, arm in enumerate(same)]
    return placed
