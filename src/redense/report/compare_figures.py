"""The plots of a comparison as plain data for plotly.js; every arm has one colour, symbol and dash in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import compare_words as words
from .compare_reading import BASELINE, CONTROL, Arm, Comparison, Difference
from .figures import _AXIS, _LOOK, Plot, _no_markup, _no_template
from .markup import Html, h
from .quantities import number

COLOURS = 6  # --arm-1 to --arm-6 of the style sheet
_SYMBOLS = {  # plotly.js's name: the same as a path around 0, 0
    "circle": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
    "square": "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "diamond": "M0 -5L5 0L0 5L-5 0Z",
    "triangle-up": "M0 -4.6L4.6 3.5H-4.6Z",
    "cross": "M-1.6 -4.6H1.6V-1.6H4.6V1.6H1.6V4.6H-1.6V1.6H-4.6V-1.6H-1.6Z",
    "triangle-down": "M0 4.6L4.6 -3.5H-4.6Z",
    "hexagon": "M0 -4.6L4 -2.3V2.3L0 4.6L-4 2.3V-2.3Z",
    "x": "M0 -2.2L2.5 -4.7L4.7 -2.5L2.2 0L4.7 2.5L2.5 4.7L0 2.2L-2.5 4.7L-4.7 2.5L-2.2 0L-4.7 -2.5L-2.5 -4.7Z",
}
_DASHES = ("solid", "7px,3px", "2px,2px", "8px,3px,2px,3px", "12px,4px")


@dataclass(frozen=True)
class Look:
    """How an arm looks: six colours, eight symbols and five dashes repeat together after 120 arms."""

    color: str
    symbol: str
    dash: str


def look(arm: Arm) -> Look:
    """Return an arm's look; the baseline is drawn in ink."""
    symbol = list(_SYMBOLS)[arm.index % len(_SYMBOLS)]
    if arm.name == BASELINE:
        return Look("--ink", symbol, "solid")
    number = arm.index - 1
    return Look(f"--arm-{number % COLOURS + 1}", symbol, _DASHES[number % len(_DASHES)])


def swatch(arm: Arm) -> Html:
    """Return a piece of an arm's line with its symbol, for keys and tables."""
    how = look(arm)
    dash = None if how.dash == "solid" else how.dash.replace("px", "")
    line = h("path", d="M-14 0H14", stroke="currentColor", stroke_width=2, stroke_dasharray=dash)
    mark = h("path", d=_SYMBOLS[how.symbol], fill="currentColor")
    return h(
        "svg", line, mark, viewBox="-14 -6 28 12", class_="swatch", style=f"color: var({how.color})", aria_hidden="true"
    )


# --- differences ----------------------------------------------------------------------------------------------------


def forest(c: Comparison, against: str) -> Plot | None:
    """Return the differences against the baseline or the control, one row an arm; None if there are none."""
    found = c.against(against)
    if not found:
        return None
    unit = words.points(c)
    places = words.decimals(c)
    rows = [(row, item, arm) for row, item in enumerate(found) if (arm := c.arm(item.arm)) is not None]
    low, high = _reach(c.differences)
    limit = max(abs(low), abs(high))
    bands = [
        {
            "type": "rect",
            "x0": max(-item.detectable, -10 * limit),
            "x1": min(item.detectable, 10 * limit),
            "y0": row - 0.36,
            "y1": row + 0.36,
            "fillcolor": "--band",
            "line": {"width": 0},
            "layer": "below",
        }
        for row, item, _ in rows
        if item.detectable is not None
    ]
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "--ink", "width": 1},
        "layer": "below",
    }
    left, right = words.sides(c)
    layout = {
        **_LOOK,
        "height": 46 * len(rows) + 96,
        "margin": {"l": 8, "r": 12, "t": 26, "b": 62},
        "showlegend": False,
        "hovermode": "closest",
        "shapes": [*bands, zero],
        "xaxis": {
            **_AXIS,
            "title": {
                "text": f"{_no_markup(_titled(f'difference in test {c.metric.label}', unit))}<br>← {left} · {right} →",
                **_AXIS["title"],
            },
            "range": [low, high],
            "nticks": 6,
            "fixedrange": True,
        },
        "yaxis": {
            **_AXIS,
            "tickvals": [row for row, *_ in rows],
            "ticktext": [_wrapped(item.arm) for _, item, _ in rows],
            "tickfont": {"color": "--ink", "size": 12},
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "automargin": True,
            "fixedrange": True,
        },
    }
    data = [trace for row, item, arm in rows for trace in _forest_row(row, item, arm, unit, places)]
    return {"data": data, "layout": layout, "bands": []}


def _forest_row(row: int, item: Difference, arm: Arm, unit: str, places: int) -> list[Plot]:
    how = look(arm)
    unit = f" {unit}" if unit else ""
    values = [value for _, value in item.by_seed]
    shown = words.with_interval(item.mean, item.interval, places, signed=True)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": [row + 0.24] * len(values),
        "text": [
            _no_markup(f"seed {seed}: {'+' if value > 0 else ''}{number(value, places)}{unit}")
            for seed, value in item.by_seed
        ],
        "marker": {"color": how.color, "size": 5, "opacity": 0.75},
        "hovertemplate": f"<b>{_no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
        "cliponaxis": False,
    }
    mean = {
        "type": "scatter",
        "mode": "markers",
        "x": [item.mean],
        "y": [row - 0.04],
        "marker": {
            "symbol": how.symbol if item.verdict in ("better", "worse") else f"{how.symbol}-open",
            "color": how.color,
            "size": 11,
            "line": {"color": how.color, "width": 2},
        },
        "hovertemplate": f"<b>{_no_template(arm.name)}</b><br>{_no_template(shown + unit)}<br>"
        f"{_no_template(f'n = {item.n}, p = {words.p_value(item.p_adjusted)} after Holm')}<br>"
        f"{_no_template(item.verdict)}<extra></extra>",
        "cliponaxis": False,
    }
    if item.interval:
        mean["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [item.interval[1] - item.mean],
            "arrayminus": [item.mean - item.interval[0]],
            "color": how.color,
            "thickness": 2,
            "width": 5,
        }
    return [dots, mean]


def _reach(items: Sequence[Difference]) -> tuple[float, float]:
    """The same x range for both forest plots: all intervals and seeds, and zero."""
    values = [0.0, *(value for item in items for value in (item.mean, *(item.interval or ())))]
    values += [value for item in items for _, value in item.by_seed]
    pad = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - pad, max(values) + pad


# --- curves ---------------------------------------------------------------------------------------------------------

_STRIP = 20  # pixels of an arm's strip of phases
_CURVES = 380
_GAP = 34
_NAMES = 22  # of the phases, above the curves


def curves(c: Comparison) -> Plot | None:
    """Return every arm's mean validation metric over the steps, above a strip of its phases; None without curves."""
    arms = [arm for arm in c.arms if arm.curve]
    if not arms:
        return None
    strips = _STRIP * len(arms)
    inner = strips + _GAP + _CURVES + _NAMES
    bottom, top = (strips + _GAP) / inner, 1 - _NAMES / inner
    end = max(arm.steps for arm in arms)
    bands = _bands(arms)
    # The baseline's curve is a part of the others': on top, so that what they share is drawn as the baseline.
    order = sorted(arms, key=lambda arm: arm.name == BASELINE)
    focus = _focus(arms)
    metric_axis = {
        **_AXIS,
        "domain": [bottom, top],
        "anchor": "x",
        "title": {"text": _no_markup(_titled(f"validation {c.metric.label}", c.metric.unit)), **_AXIS["title"]},
        "automargin": True,
    }
    if focus:
        metric_axis["range"] = list(focus)
    layout = {
        **_LOOK,
        "height": inner + 76,
        "margin": {"l": 8, "r": 14, "t": 26, "b": 50},
        "showlegend": False,
        "hovermode": "closest",
        "barmode": "overlay",
        "bargap": 0.3,
        "shapes": [
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": band["start"],
                "x1": band["end"],
                "y0": bottom,
                "y1": 1,
                "fillcolor": "--band",
                "line": {"width": 0},
                "layer": "below",
            }
            for band in bands
            if band["sparse"]
        ],
        "xaxis": {
            **_AXIS,
            "anchor": "y2",
            "range": [0, end],
            "title": {"text": "optimizer steps", **_AXIS["title"]},
            "separatethousands": True,
            "exponentformat": "none",
            "nticks": 8,
            "showgrid": False,
        },
        "yaxis": metric_axis,
        "yaxis2": {
            **_AXIS,
            "domain": [0, strips / inner],
            "anchor": "x",
            "tickvals": list(range(len(arms))),
            "ticktext": [_shortened(arm.name) for arm in arms],
            "range": [len(arms) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "automargin": True,
            "fixedrange": True,
        },
    }
    data = [_curve(arm, c) for arm in order] + [_strip(row, arm) for row, arm in enumerate(arms)]
    return {"data": data, "layout": layout, "bands": bands}


def curves_caption(c: Comparison) -> str:
    """Return how to read the curves."""
    arms = [arm for arm in c.arms if arm.curve]
    parts = ["Mean over seeds, with a symbol at the end of each phase; what the arms share is drawn as the baseline."]
    if bands := _bands(arms):
        whose = _shader(arms)
        shaded = (
            f" Shaded above: the sparse phases of {whose.name}." if whose and any(b["sparse"] for b in bands) else ""
        )
        parts.append(
            "Below, the phases of each arm: full where a mask holds some weights at zero, pale where none does."
            + shaded
        )
    if _focus(arms):
        parts.append("The first steps lie outside the frame.")
    if any(arm.diverged for arm in arms):
        parts.append("Runs that diverged are left out.")
    return " ".join(parts)


def _curve(arm: Arm, c: Comparison) -> Plot:
    how, places = look(arm), words.decimals(c)
    ends = {span.end for span in arm.phases} | {arm.curve[-1].step}
    unit = _no_markup(f" {c.metric.unit}" if c.metric.unit else "")
    notes = [
        f"{number(p.mean, places)}{unit}"
        + (f" ({number(p.low, places)} to {number(p.high, places)}, {p.seeds} seeds)" if p.seeds > 1 else "")
        + f"<br>step {p.step:,}, {_no_markup(p.phase)}"
        for p in arm.curve
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _no_markup(arm.name),
        "legendgroup": str(arm.index),
        "x": [p.step for p in arm.curve],
        "y": [p.mean for p in arm.curve],
        "text": notes,
        "line": {"color": how.color, "width": 2, "dash": how.dash},
        "marker": {
            "color": how.color,
            "symbol": how.symbol,
            "size": [9 if p.step in ends else 0 for p in arm.curve],
            "opacity": 1,
            "line": {"width": 0},
        },
        "hovertemplate": f"<b>{_no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
        "cliponaxis": False,
        "xaxis": "x",
        "yaxis": "y",
    }


def _strip(row: int, arm: Arm) -> Plot:
    color = look(arm).color
    return {
        "type": "bar",
        "orientation": "h",
        "name": _no_markup(arm.name),
        "legendgroup": str(arm.index),
        "base": [span.start for span in arm.phases],
        "x": [span.end - span.start for span in arm.phases],
        "y": [row] * len(arm.phases),
        "text": [_no_markup(f"{span.name}: {span.about}") for span in arm.phases],
        "textposition": "none",
        "marker": {
            "color": [color if span.sparse else "--strip" for span in arm.phases],
            "line": {"color": "--paper", "width": 1},
        },
        "hovertemplate": f"<b>{_no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
        "xaxis": "x",
        "yaxis": "y2",
    }


def _shader(arms: Sequence[Arm]) -> Arm | None:
    """The arm whose phases shade the plot: DSD where it was run, else the first with a mask."""
    masked = [arm for arm in arms if any(span.sparse for span in arm.phases)]
    return next((arm for arm in masked if arm.name.split(" ")[0] == "dsd"), masked[0] if masked else None)


def _bands(arms: Sequence[Arm]) -> list[Plot]:
    arm = _shader(arms)
    spans = arm.phases if arm else ()
    return [
        {"start": span.start, "end": span.end, "text": _no_markup(span.name), "sparse": span.sparse} for span in spans
    ]


def _focus(arms: Sequence[Arm]) -> tuple[float, float] | None:
    """A y range that shows where the arms differ; None where the first steps do not dwarf that."""
    fork = min((arm.phases[0].end for arm in arms if arm.phases), default=0)
    every = [p.mean for arm in arms for p in arm.curve]
    late = [p.mean for arm in arms for p in arm.curve if p.step >= fork / 2]
    if not late:
        return None
    pad = 0.06 * (max(late) - min(late)) or 1.0
    low, high = min(late) - pad, max(late) + pad
    return (low, high) if max(every) - min(every) > 1.3 * (high - low) else None


# --- cost -----------------------------------------------------------------------------------------------------------


def cost(c: Comparison) -> Plot | None:
    """Return gradient evaluations against the mean test metric; None if no run came to its end."""
    arms = [arm for arm in c.arms if arm.mean is not None]
    if not arms:
        return None
    most = 1.1 * max(arm.gradients for arm in arms)
    baseline = c.arm(BASELINE)
    level = baseline.mean if baseline else None
    places = words.decimals(c)
    unit = f" {c.metric.unit}" if c.metric.unit else ""
    data = [_cost_point(arm, x, places, unit) for arm, x in _side_by_side(arms, most)]
    layout = {
        **_LOOK,
        "height": 380,
        "margin": {"l": 8, "r": 14, "t": 14, "b": 50},
        "showlegend": False,
        "hovermode": "closest",
        "shapes": []
        if level is None
        else [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "line": {"color": "--muted", "width": 1, "dash": "dot"},
                "layer": "below",
            }
        ],
        "xaxis": {
            **_AXIS,
            "title": {"text": "gradient evaluations of one run", **_AXIS["title"]},
            "range": [0, most],
            "separatethousands": True,
            "exponentformat": "none",
            "nticks": 6,
        },
        "yaxis": {
            **_AXIS,
            "title": {"text": _no_markup(_titled(f"test {c.metric.label}", c.metric.unit)), **_AXIS["title"]},
            "automargin": True,
        },
    }
    return {"data": data, "layout": layout, "bands": []}


def _cost_point(arm: Arm, x: float, places: int, unit: str) -> Plot:
    how = look(arm)
    shown = f"{words.with_interval(arm.mean, arm.interval, places)}{unit}, {arm.gradients:,} gradients"
    low, high = arm.interval or (arm.mean or 0.0, arm.mean or 0.0)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _no_markup(arm.name),
        "x": [x],
        "y": [arm.mean],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "visible": arm.interval is not None,
            "array": [high - (arm.mean or 0.0)],
            "arrayminus": [(arm.mean or 0.0) - low],
            "color": how.color,
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {"color": how.color, "symbol": how.symbol, "size": 11},
        "hovertemplate": f"<b>{_no_template(arm.name)}</b><br>{_no_template(shown)}<extra></extra>",
        "cliponaxis": False,
    }


def _side_by_side(arms: Sequence[Arm], most: float) -> list[tuple[Arm, float]]:
    """Arms of the same cost stand beside each other around it, or they would hide one another."""
    placed: list[tuple[Arm, float]] = []
    for gradients in sorted({arm.gradients for arm in arms}):
        same = [arm for arm in arms if arm.gradients == gradients]
        step = min(0.035, 0.3 / len(same)) * most
        first = min(gradients - step * (len(same) - 1) / 2, 0.97 * most - step * (len(same) - 1))
        placed += [(arm, first + step * place) for place, arm in enumerate(same)]
    return placed


# --- texts ----------------------------------------------------------------------------------------------------------


def _titled(text: str, unit: str) -> str:
    return f"{text}, {unit}" if unit else text


def _shortened(name: str, most: int = 22) -> str:
    return _no_markup(name if len(name) <= most else f"{name[: most - 1]}…")


def _wrapped(name: str) -> str:
    """A long label over several lines: a swept arm's name and setting."""
    return "<br>".join(_shortened(part) for part in name.split(" ", 3)) if len(name) > 14 else _no_markup(name)


def names_of_forests(c: Comparison) -> dict[str, str]:
    """Return the forest plots that there are: the name in the page -> what the arms are compared with."""
    return {f"forest-{against}": against for against in (BASELINE, CONTROL) if c.against(against)}
