"""The curves of a comparison: every arm's mean over the steps, above a strip of its phases."""

from __future__ import annotations

from collections.abc import Sequence

from .compare_numbers import decimals
from .compare_reading import Arm, Comparison
from .looks import look
from .names import BASELINE
from .plotting import AXIS, LOOK, Plot, no_markup, no_template, shortened, titled
from .quantities import number

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
        **AXIS,
        "domain": [bottom, top],
        "anchor": "x",
        "title": {"text": no_markup(titled(f"validation {c.metric.label}", c.metric.unit)), **AXIS["title"]},
        "automargin": True,
    }
    if focus:
        metric_axis["range"] = list(focus)
    layout = {
        **LOOK,
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
            **AXIS,
            "anchor": "y2",
            "range": [0, end],
            "title": {"text": "optimizer steps", **AXIS["title"]},
            "separatethousands": True,
            "exponentformat": "none",
            "nticks": 8,
            "showgrid": False,
        },
        "yaxis": metric_axis,
        "yaxis2": {
            **AXIS,
            "domain": [0, strips / inner],
            "anchor": "x",
            "tickvals": list(range(len(arms))),
            "ticktext": [shortened(arm.name) for arm in arms],
            "range": [len(arms) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "automargin": True,
            "fixedrange": True,
        },
    }
    data = [_curve(arm, c) for arm in order] + [_strip(row, arm) for row, arm in enumerate(arms)]
    return {"data": data, "layout": layout, "bands": bands, "paper": {"showlegend": True}}


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
    how, places = look(arm), decimals(c)
    ends = {span.end for span in arm.phases} | {arm.curve[-1].step}
    unit = no_markup(f" {c.metric.unit}" if c.metric.unit else "")
    notes = [
        f"{number(p.mean, places)}{unit}"
        + (f" ({number(p.low, places)} to {number(p.high, places)}, {p.seeds} seeds)" if p.seeds > 1 else "")
        + f"<br>step {p.step:,}, {no_markup(p.phase)}"
        for p in arm.curve
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": no_markup(arm.name),
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
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
        "cliponaxis": False,
        "xaxis": "x",
        "yaxis": "y",
    }


def _strip(row: int, arm: Arm) -> Plot:
    color = look(arm).color
    return {
        "type": "bar",
        "orientation": "h",
        "name": no_markup(arm.name),
        "legendgroup": str(arm.index),
        "showlegend": False,
        "base": [span.start for span in arm.phases],
        "x": [span.end - span.start for span in arm.phases],
        "y": [row] * len(arm.phases),
        "text": [no_markup(f"{span.name}: {span.about}") for span in arm.phases],
        "textposition": "none",
        "marker": {
            "color": [color if span.sparse else "--strip" for span in arm.phases],
            "line": {"color": "--paper", "width": 1},
        },
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>%{{text}}<extra></extra>",
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
        {"start": span.start, "end": span.end, "text": no_markup(span.name), "sparse": span.sparse} for span in spans
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
