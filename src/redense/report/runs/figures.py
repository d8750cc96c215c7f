"""The plots as plain data for plotly.js, their colours named by the page's CSS variables, to follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from redense.report.kit.plotting import (
    AXIS,
    Plot,
    band,
    finite,
    layer_plot,
    log_ticks,
    no_markup,
    no_template,
    panel_title,
    plot,
    rates_scale,
    segment,
    steps_axis,
)
from redense.report.kit.quantities import learning_rate, number, percent, titled

from .reading import Run, StepLine
from .words import metric, phase_label

_MOST_POINTS = 3000  # of one thin curve: more cannot be seen, and would make the page heavy

# The panels from top to bottom: (y axis, where it begins and ends of the plot's height).
_PANELS = {
    "loss": ("y", (0.70, 0.945)),
    "metric": ("y2", (0.42, 0.635)),
    "lr": ("y3", (0.21, 0.355)),
    "sparsity": ("y4", (0.0, 0.145)),
}


def curves(run: Run) -> Plot:
    """Return training loss, validation metric, learning rate and sparsity over the optimizer steps of the whole run."""
    titles = {
        "loss": "Training loss",
        "metric": titled(f"Validation {run.metric.label}", run.metric.unit),
        "lr": "Learning rate",
        "sparsity": "Sparsity, %",
    }
    made = plot(
        _traces(run),
        800,
        (46, 12, 32, 48),
        hovermode="x unified",
        hoversubplots="axis",
        shapes=_shapes(run),
        xaxis=steps_axis(
            "optimizer steps",
            run.ends[-1] if run.phases else 1,
            anchor="y4",
            showspikes=True,
            spikemode="across",
            spikethickness=1,
            spikecolor="--muted",
            spikedash="solid",
        ),
        **_axes(run),
        annotations=[panel_title(text, _PANELS[panel][1][1]) for panel, text in titles.items()],
    )
    # The page's script writes the names of the phases that find room along the x axis.
    spans = [{"start": start, "end": end, "text": no_markup(phase_label(phase))} for phase, start, end in run.spans]
    return {**made, "bands": spans}


def layer_bars(run: Run) -> Plot | None:
    """Return each prunable layer's sparsity at the end of each phase that had any; None if there is nothing to show."""
    layers = [layer for layer in run.layers if layer.prunable]
    shown = [
        (index, phase)
        for index, phase in enumerate(run.phases)
        if any(index < len(layer.sparsity) and layer.sparsity[index] > 0 for layer in layers)
    ]
    if not shown:
        return None
    names = [no_markup(layer.name) for layer in layers]
    row = 26 if len(names) <= 30 else 15 if len(names) <= 80 else 9
    opacities = [1.0] if len(shown) == 1 else [0.4 + 0.6 * i / (len(shown) - 1) for i in range(len(shown))]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": no_markup(f"end of {phase.name}"),
            "y": names,
            "x": [100 * layer.sparsity[index] for layer in layers],
            "customdata": [
                f"{round(layer.sparsity[index] * layer.weights):,} of {layer.weights:,} weights" for layer in layers
            ],
            "marker": {"color": "--accent"},
            "opacity": opacity,
            "hovertemplate": "<b>%{y}</b><br>%{x:.2f} % zero: %{customdata}<extra>%{fullData.name}</extra>",
        }
        for (index, phase), opacity in zip(shown, opacities, strict=True)
    ]
    highest = max(100 * value for layer in layers for value in layer.sparsity)
    most = min(100, max(10, math.ceil(highest / 10 + 0.2) * 10))
    height = max(150, row * len(names) * (0.65 + 0.35 * len(shown)) + 90)
    return layer_plot(data, height, row, most=most, key=len(shown) > 1)


def describe_curves(run: Run) -> str:
    """Return what the curves show, phase by phase, for someone who cannot see them."""
    parts = ["Four line plots over the optimizer steps, with the sparse phases shaded."]
    for index, name in sorted(run.log.phases.items()):
        lines = [line for line in run.log.epochs if line.phase == index]
        if lines:
            first, last = lines[0], lines[-1]
            parts.append(
                f"Phase {name}, to step {last.step:,}: training loss {number(first.train_loss, 3)} to "
                f"{number(last.train_loss, 3)}, validation {run.metric.label} "
                f"{metric(run, first.validation.get(run.metric.name))} to "
                f"{metric(run, last.validation.get(run.metric.name))}, learning rate "
                f"{learning_rate(first.lr)} to {learning_rate(last.lr)}, sparsity {percent(last.sparsity)}."
            )
    return " ".join(parts) + " The table below the plots has the numbers."


def curves_caption(run: Run) -> str:
    """Return how to read the curves."""
    scales = "Loss and learning rate are" if _log_ticks(run) else "The learning rate is"
    parts = ["Loss: thin is each logged step, bold the mean of each epoch."]
    if any(phase.sparse for phase in run.phases):
        parts.append("Shaded: a mask holds some weights at zero.")
    if _baseline(run) is not None:
        parts.append("Dotted: where the dense baseline ended.")
    if any(phase.lr is None for phase in run.phases):  # it joins others
        parts.append("Branches are drawn one behind the other; each began from the same network.")
    return " ".join([*parts, f"{scales} on a logarithmic scale."])


# --- traces ---------------------------------------------------------------------------------------------------------


def _traces(run: Run) -> list[Plot]:
    thin, epochs = thinned(run.log.steps, _MOST_POINTS), run.log.epochs
    where = [f"epoch {line.epoch:g} of {line.phase_name}" for line in epochs]
    values = [(line.step, line.validation.get(run.metric.name, math.nan)) for line in epochs]
    rates = [(step, rate if rate > 0 else math.nan) for step, rate in _lr_points(run, thin)]
    suffix = f" {run.metric.unit}" if run.metric.unit else ""
    form = f".{run.decimals}f"
    marked: dict[str, Any] = {"mode": "lines+markers", "marker": {"size": 4, "color": "--accent"}, "cliponaxis": False}
    # The mask is set at a phase's start and logged at each epoch's end: a value holds for the epoch before it.
    sparsity = [(0, 100 * line.sparsity) for line in epochs[:1]] + [(one.step, 100 * one.sparsity) for one in epochs]
    filled: dict[str, Any] = {"shape": "vh", "fill": "tozeroy", "fillcolor": "--band"}
    return [
        _line("loss", "loss, step", [(one.step, one.loss) for one in thin], ".4~g", color="--thin", width=1),
        _line("loss", "loss, epoch mean", [(one.step, one.train_loss) for one in epochs], ".4~g", **marked),
        _line("metric", f"validation {run.metric.label}", values, form, suffix, where, **marked),
        _line("lr", "learning rate", rates, ".3~g"),
        _line("sparsity", "sparsity", sparsity, ".4~g", " %", **filled),
    ]


def _lr_points(run: Run, steps: Sequence[StepLine]) -> list[tuple[int, float]]:
    """The learning rate over the steps, from its first value in each phase on, with a gap where it jumps."""
    points: list[tuple[int, float]] = []
    for index, (phase, start, _) in enumerate(run.spans):
        logged = {line.step: line.lr for line in (*steps, *run.log.epochs) if line.phase == index}
        points += [(start, math.nan), (start, phase.lr or math.nan), *sorted(logged.items())]
    return points


def _line(
    panel: str,
    name: str,
    points: Sequence[tuple[int, float]],
    form: str,
    suffix: str = "",
    note: Sequence[str] | None = None,
    *,
    color: str = "--accent",
    width: float = 2,
    shape: str = "linear",
    **more: Any,
) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": no_markup(name),
        "x": [x for x, _ in points],
        "y": finite(y for _, y in points),
        "xaxis": "x",
        "yaxis": _PANELS[panel][0],
        "line": {"color": color, "width": width, "shape": shape},
        "hovertemplate": f"%{{y:{form}}}{no_template(suffix)}{', %{text}' if note else ''}",
        **({"text": [no_markup(text) for text in note]} if note else {}),
        **more,
    }


def thinned(lines: Sequence[StepLine], most: int) -> list[StepLine]:
    """Return at most so many lines: the lowest and the highest loss of each stretch, so that no spike is lost."""
    if len(lines) <= most:
        return list(lines)
    buckets = most // 2
    kept: list[StepLine] = []
    for index in range(buckets):
        stretch = lines[index * len(lines) // buckets : (index + 1) * len(lines) // buckets]
        known = [line for line in stretch if math.isfinite(line.loss)] or list(stretch[:1])
        loss = attrgetter("loss")
        ends = {id(line): line for line in (min(known, key=loss), max(known, key=loss))}
        kept += sorted(ends.values(), key=attrgetter("step"))
    return kept


def _baseline(run: Run) -> float | None:
    """The validation figure of the dense phase before the first sparse one."""
    first = None if run.arm else run.first_sparse  # an arm may have cut its first phase short
    value = run.phases[first - 1].validation.get(run.metric.name, math.nan) if first else math.nan
    return value if math.isfinite(value) else None


# --- layout ---------------------------------------------------------------------------------------------------------


def _axes(run: Run) -> dict[str, Any]:
    y = {name: {**AXIS, "domain": list(domain), "anchor": "x"} for name, domain in _PANELS.values()}
    if (ticks := _log_ticks(run)) is not None:
        y["y"] |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    # A phase's first rate is in none of the lines: these come after a step.
    rates = [(index, phase.lr) for index, phase in enumerate(run.phases)]
    rates += [(line.phase, line.lr) for line in (*run.log.steps, *run.log.epochs)]
    y["y3"] |= rates_scale(rates)
    highest = max((100 * line.sparsity for line in run.log.epochs), default=0)
    y["y4"] |= {"range": [0, max(10, highest * 1.15)], "nticks": 4}
    return {name.replace("y", "yaxis"): axis for name, axis in y.items()}


def _shapes(run: Run) -> list[Plot]:
    shaded = [band((start, end), (0, 1), xref="x", yref="paper") for phase, start, end in run.spans if phase.sparse]
    edges = [segment((stop, stop), (0, 1), "--line", xref="x", yref="paper", layer="below") for stop in run.ends[:-1]]
    if (baseline := _baseline(run)) is None:
        return [*shaded, *edges]
    return [*shaded, *edges, segment((0, run.ends[-1]), (baseline, baseline), "--muted", "dot", yref="y2")]


def _log_ticks(run: Run) -> list[float] | None:
    return log_ticks([line.loss for line in run.log.steps] + [line.train_loss for line in run.log.epochs])
