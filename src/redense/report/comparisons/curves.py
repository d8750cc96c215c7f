"""The curves of a comparison: every arm's means over the steps, panel below panel, above a strip of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redense.report.kit.plotting import (
    AXIS,
    Plot,
    axis,
    band,
    log_ticks,
    no_markup,
    no_template,
    panel_title,
    plot,
    rates_scale,
    rows_axis,
    shortened,
    steps_axis,
)
from redense.report.kit.quantities import between, number, titled

from .looks import look
from .types import Arm, Comparison, Point

_STRIP = 20  # pixels of an arm's strip of phases
_CURVES = 380
_GAP = 34
_NAMES = 22  # of the phases, above the curves


@dataclass(frozen=True)
class _Panel:
    """A plot below the metric's: what it shows, its y axis, its height in pixels, and the form of its values."""

    field: str
    title: str
    axis: str
    height: int
    form: str

    def value(self, point: Point) -> float | None:
        """Return what is drawn of a point."""
        found: float | None = getattr(point, self.field)
        return 100 * found if found is not None and self.field == "sparsity" else found

    def values(self, arms: Sequence[Arm]) -> list[float]:
        """Return the values of the arms that are drawn, at every point of their curves."""
        return [value for arm in arms for point in arm.curve if (value := self.value(point)) is not None]


_PANELS = (
    _Panel("loss", "Training loss, mean of each epoch", "y3", 150, ".4~g"),
    _Panel("lr", "Learning rate", "y4", 90, ".3~g"),
    _Panel("sparsity", "Sparsity, %", "y5", 80, ".4~g"),
)


def curves(c: Comparison) -> Plot | None:
    """Return every arm's mean validation metric over the steps, above a strip of its phases; None without curves."""
    arms = [arm for arm in c.arms if arm.curve]
    if not arms:
        return None
    strips = _STRIP * len(arms)
    panels = [panel for panel in _PANELS if panel.values(arms)]
    inner = strips + _GAP + _CURVES + _NAMES + sum(panel.height + _GAP for panel in panels)
    top = 1 - _NAMES / inner
    bottom = top - _CURVES / inner
    tops = [bottom - (_GAP * (i + 1) + sum(p.height for p in panels[:i])) / inner for i in range(len(panels))]
    end = max(arm.steps or 0 for arm in arms)
    bands = _bands(arms)
    # The baseline's curve is a part of the others': on top, so that what they share is drawn as the baseline.
    order = sorted(arms, key=lambda arm: arm.is_baseline)
    focus = _focus(arms)
    metric_axis = axis(
        no_markup(titled(f"validation {c.metric.label}", c.metric.unit)),
        domain=[bottom, top],
        anchor="x",
        automargin=True,
        **({"range": list(focus)} if focus else {}),
    )
    data = [_curve(arm, c) for arm in order] + [_strip(row, arm) for row, arm in enumerate(arms)]
    data += [_beside(panel, arm) for panel in panels for arm in order]
    axes: dict[str, Any] = {
        panel.axis.replace("y", "yaxis"): _axis(panel, arms, high - panel.height / inner, high)
        for panel, high in zip(panels, tops, strict=True)
    }
    made = plot(
        data,
        inner + 76,
        (8, 14, 26, 50),
        barmode="overlay",
        bargap=0.3,
        shapes=[
            band((span["start"], span["end"]), ((strips + _GAP) / inner, 1), xref="x", yref="paper")
            for span in bands
            if span["sparse"]
        ],
        xaxis=steps_axis("optimizer steps", end, anchor="y2", nticks=8, showgrid=False),
        yaxis=metric_axis,
        yaxis2=rows_axis(
            shortened([arm.name for arm in arms]),
            domain=[0, strips / inner],
            anchor="x",
            tickfont=AXIS["tickfont"],
            showgrid=False,
        ),
        annotations=[panel_title(panel.title, high) for panel, high in zip(panels, tops, strict=True)],
        **axes,
    )
    return {**made, "bands": bands, "paper": {"showlegend": True}}


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
        parts.append("The first steps lie outside the uppermost frame.")
    if any(arm.diverged for arm in arms):
        parts.append("Runs that diverged are left out.")
    return " ".join(parts)


def _curve(arm: Arm, c: Comparison) -> Plot:
    how, places = look(arm), c.decimals
    ends = {span.end for span in arm.phases} | {arm.curve[-1].step}
    unit = no_markup(f" {c.metric.unit}" if c.metric.unit else "")
    notes = [
        f"{number(p.mean, places)}{unit}"
        + (f" ({between((p.low, p.high), places)}, {p.seeds} seeds)" if p.seeds > 1 else "")
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


def _axis(panel: _Panel, arms: Sequence[Arm], low: float, high: float) -> Plot:
    made = axis(domain=[max(0.0, low), high], anchor="x")
    values = panel.values(arms)
    if panel.field == "loss" and (ticks := log_ticks(values)) is not None:
        made |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    if panel.field == "lr" and any(value > 0 for value in values):
        made |= rates_scale(((arm.index, point.phase), point.lr) for arm in arms for point in arm.curve)
    if panel.field == "sparsity":
        made |= {"range": [0, max(10.0, 1.15 * max(values))], "nticks": 4}
    return made


def _beside(panel: _Panel, arm: Arm) -> Plot:
    how = look(arm)
    values = [panel.value(point) for point in arm.curve]
    if panel.field == "lr":
        values = [value if value else None for value in values]  # a logarithm of no rate
    return {
        "type": "scatter",
        "mode": "lines",
        "name": no_markup(arm.name),
        "legendgroup": str(arm.index),
        "showlegend": False,
        "x": [point.step for point in arm.curve],
        "y": values,
        # The mask is set at a phase's start and logged at each epoch's end: a value holds for the epoch before it.
        "line": {
            "color": how.color,
            "width": 1.5,
            "dash": how.dash,
            "shape": "vh" if panel.field == "sparsity" else "linear",
        },
        "hovertemplate": f"<b>{no_template(arm.name)}</b><br>%{{y:{panel.form}}}<br>step %{{x:,}}<extra></extra>",
        "xaxis": "x",
        "yaxis": panel.axis,
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
