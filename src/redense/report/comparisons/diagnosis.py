"""The diagnosis of a comparison as tables and plots, as far as it was measured; see `redense.lab.diagnosis.report`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redense.files.markup import Child, Element, h
from redense.lab.judging.words import listed
from redense.report.kit.names import CONTROL
from redense.report.kit.parts import Cell, Figure, Table
from redense.report.kit.plotting import KEY, Plot, axis, no_markup, no_template, plot
from redense.report.kit.quantities import NONE, NOTHING, Number, cell, count, number, share, titled, whole
from redense.report.runs.moments import moments_plot
from redense.report.runs.reading import Metric

from .looks import COLOURS, DASHES, look
from .types import Comparison


@dataclass(frozen=True)
class _Flow:
    """The measurements of one flow: section -> rows."""

    label: str
    color: str
    sections: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class _Column:
    title: str
    path: str
    kind: str = "number"  # or text, percent, yes


@dataclass(frozen=True)
class _Section:
    title: str
    about: str
    columns: tuple[_Column, ...]


_SECTIONS = {
    "levels": _Section(
        "Loss and metric of the solutions",
        "What is measured below, before anything is changed.",
        (_Column("Loss", "loss"), _Column("Metric", "metric")),
    ),
    "line": _Section(
        "Loss along the straight line",
        "Where a barrier stands between two solutions they lie in different basins; without one, in the same.",
        (
            _Column("Barrier", "barrier"),
            _Column("Barrier at", "barrier_at", "percent"),
            _Column("Lowest at", "lowest_at", "percent"),
            _Column("Running statistics", "buffers", "text"),
        ),
    ),
    "sharpness": _Section(
        "Sharpness",
        "The two ends of the Hessian's spectrum: large at the top is sharp; negative at the bottom curves down, which "
        "makes a saddle of a point without gradient, and few trained networks are such points.",
        (
            _Column("Top eigenvalue", "top"),
            _Column("Bottom eigenvalue", "bottom"),
            _Column("Kind", "kind", "text"),
            _Column("Gradient norm", "gradient_norm"),
            _Column("Products", "products", "count"),
            _Column("Converged", "converged", "yes"),
        ),
    ),
    "weight_noise": _Section(
        "Noise on the weights",
        "The metric when every tensor is disturbed in proportion to its own size; the flatter, the more robust.",
        (_Column("Without noise", "clean"), _Column("At each scale", "means", "list")),
    ),
    "input_noise": _Section(
        "Noise on the input",
        "The metric when the input is disturbed; the flatter, the more robust.",
        (_Column("Without noise", "clean"), _Column("At each scale", "means", "list")),
    ),
    "distance": _Section(
        "Distance travelled",
        "How far the weights moved, relative to where they started, and the length itself.",
        (
            _Column("All weights", "total.relative", "percent"),
            _Column("Length", "total.length"),
            _Column("Kept weights", "kept.relative", "percent"),
            _Column("Length of kept", "kept.length"),
            _Column("Length of regrown", "regrown.length"),
        ),
    ),
    "similarity": _Section(
        "Similarity of the hidden units",
        "1 is alike. Far below the best partner in the same place, units have changed roles.",
        (
            _Column("CKA", "cka"),
            _Column("Best partner", "best"),
            _Column("Best one-to-one", "matched"),
            _Column("Same place", "same"),
            _Column("Partner in place", "in_place", "percent"),
        ),
    ),
    "five_moments": _Section(
        "Weights at five moments",
        "One layer's weights before pruning, just pruned, after sparse training, at the re-dense start and at the end.",
        (
            _Column("Layer", "layer", "text"),
            _Column("Cut", "cut"),
            _Column("Regrown that stayed small", "stayed_small", "percent"),
            _Column("Mean size, regrown", "regrown.mean_magnitude"),
            _Column("Mean size, old", "old.mean_magnitude"),
            _Column("Old weights moved", "old_moved", "percent"),
        ),
    ),
}  # fmt: skip
_NAMES = ("state", "from", "to", "layer")  # what says which solution a row is of


def _coloured(c: Comparison) -> list[_Flow]:
    """Every flow of the diagnosis, each with its arm's colour."""
    found = list(_flows(c.diagnosis))
    arms = [c.arm(name) for name, _ in found]
    colors = [look(arm).color if arm else f"--arm-{i % COLOURS + 1}" for i, arm in enumerate(arms)]
    return [_Flow(name, color, sections) for (name, sections), color in zip(found, colors, strict=True)]


def _flows(data: Any, name: str = "") -> Iterator[tuple[str, dict[str, list[Mapping[str, Any]]]]]:
    """Give name and sections of every flow: of a single one, or of several below their names.

    >>> [name for name, _ in _flows({"seed": 0, "arms": {"dsd": {"states": []}, "restart": {"states": []}}})]
    ['dsd', 'restart']
    """
    if not isinstance(data, Mapping):
        return
    if isinstance(data.get("states"), list):
        rows = {
            str(key): [r for r in value if isinstance(r, Mapping)] for key, value in data.items() if _is_rows(value)
        }
        yield name, rows
        return
    for key, part in data.items():
        yield from _flows(part, name if key in ("arms", "seeds") else f"{name}, {key}".removeprefix(", "))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)


def _sentence(data: Any, found: Sequence[_Flow]) -> str:
    """Say whose the diagnosis is, and what it was measured on."""
    names = [flow.label for flow in found if flow.label]
    whose = f" of {listed(names)}" if names else ""
    facts = data if isinstance(data, Mapping) else {}
    seed = f", seed {facts['seed']}" if isinstance(facts.get("seed"), int) else ""
    sizes = [
        count(facts[key], f"{split} example") + what
        for key, split, what in (
            ("loss_examples", "training", " behind the losses"),
            ("metric_examples", "validation", " behind the metric"),
        )
        if isinstance(facts.get(key), int)
    ]
    measured = f"; {listed(sizes)}" if sizes else ""
    return (
        f"What training did to the network{whose}{seed}, at the end of each phase{measured}. "
        f"What an arm shows and {CONTROL} shows too is not the mask's doing."
    )


def parts_of(c: Comparison) -> list[Child]:
    """Return the parts of the section; none where nothing was measured."""
    found, metric = _coloured(c), c.metric
    parts: list[Child] = [h("p", _sentence(c.diagnosis, found))] if found else []
    names = list(dict.fromkeys(name for flow in found for name in flow.sections))
    for name in [*(known for known in _SECTIONS if known in names), *(name for name in names if name not in _SECTIONS)]:
        about = _SECTIONS.get(name) or _unknown(name, found)
        parts += [h("h3", about.title), h("p", about.about) if about.about else None]
        plot = _PLOTS[name](found, name, metric) if name in _PLOTS else None
        if plot is not None:
            said = f"{about.title}: line plots. {about.about}"
            parts.append(Figure(f"diagnosis-{name}", said, _CAPTIONS[name], plot))
        parts.append(_rows(name, about, found, metric))
    return parts


def _rows(name: str, about: _Section, found: Sequence[_Flow], metric: Metric) -> Element:
    rows: list[list[Cell]] = []
    errors: list[str] = []
    for flow in found:
        for row in flow.sections.get(name, ()):
            which = _which(row)
            if "error" in row:
                errors.append(f"{flow.label}, {which}: {row['error']}".removeprefix(", "))
                continue
            rows.append([flow.label or "this flow", which, *(_cell(row, column) for column in about.columns)])
    columns = [
        ("Flow", False),
        ("Solution", False),
        *((_title(c, name, metric), c.kind not in ("text", "yes")) for c in about.columns),
    ]
    problems = h("ul", [h("li", f"Not measured: {error}") for error in errors], class_="said") if errors else None
    shown = Table(about.title, columns, rows, tall=len(rows) > 20) if rows else None
    return h("div", shown, problems)


def _title(column: _Column, section_name: str, metric: Metric) -> str:
    of_metric = column.path == "metric" or (section_name.endswith("noise") and column.path in ("clean", "means"))
    if column.path == "metric":
        return titled(metric.label.capitalize(), metric.unit)
    return titled(column.title, metric.unit) if of_metric else column.title


def _which(row: Mapping[str, Any]) -> str:
    if "from" in row and "to" in row:
        return f"{row['from']} → {row['to']}"
    return next((str(row[name]) for name in _NAMES if name in row), "")


def _cell(row: Mapping[str, Any], column: _Column) -> Cell:
    value: Any = row
    for key in column.path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        return NOTHING
    if column.kind == "yes":
        return "yes" if value else "no"
    if column.kind == "list" and isinstance(value, list):
        return ", ".join(number(one) if isinstance(one, int | float) else NONE for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if column.kind == "percent":
        return share(value)
    return whole(value) if isinstance(value, int) else _short(value)


def _short(value: float) -> Number:
    """Small and large numbers in powers of ten: eigenvalues span many."""
    if value and math.isfinite(value) and not 1e-3 <= abs(value) < 1e6:
        digits = f"{value:.2e}"
        return Number(digits.replace("-", "−"), digits)
    return cell(value)


def _unknown(name: str, found: Sequence[_Flow]) -> _Section:
    """A section that this page does not know: every plain value of its rows."""
    rows = [row for flow in found for row in flow.sections.get(name, ())]
    plain = (int, float, str, bool)
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, plain))
    columns = [_Column(key.replace("_", " "), key) for key in keys if key not in (*_NAMES, "error") and "." not in key]
    return _Section(name.replace("_", " ").capitalize(), "", tuple(columns))


# --- plots ----------------------------------------------------------------------------------------------------------

_CAPTIONS = {
    "line": "The loss from one solution to the other. A colour for each flow, a dash for each pair.",
    "weight_noise": "Mean over draws, ± one standard deviation. A colour for each flow, a dash for each solution.",
    "input_noise": "Mean over draws, ± one standard deviation. A colour for each flow, a dash for each solution.",
    "five_moments": "From top to bottom as time goes; in the end old and regrown weights apart. The bins are shared.",
}


def _line_plot(found: Sequence[_Flow], name: str, metric: Metric) -> Plot | None:
    data = [
        _trace(place, flow, row, row["alphas"], row["losses"])
        for flow in found
        for place, row in enumerate(flow.sections.get(name, ()))
        if isinstance(row.get("alphas"), list) and isinstance(row.get("losses"), list)
    ]
    return _plot(data, "part of the way", "loss")


def _noise_plot(found: Sequence[_Flow], name: str, metric: Metric) -> Plot | None:
    data: list[Plot] = []
    for flow in found:
        for place, row in enumerate(flow.sections.get(name, ())):
            if not isinstance(row.get("scales"), list) or not isinstance(row.get("means"), list):
                continue
            trace = _trace(place, flow, row, [0, *row["scales"]], [row.get("clean"), *row["means"]])
            deviations = [0, *(one or 0 for one in row.get("deviations") or [0] * len(row["scales"]))]
            trace["error_y"] = {"type": "data", "array": deviations, "thickness": 1, "width": 3}
            trace["error_y"]["color"] = trace["line"]["color"]
            data.append(trace)
    scale = "noise relative to each tensor's own size" if name == "weight_noise" else "scale of the noise"
    return _plot(data, scale, titled(metric.label, metric.unit))


def _moments_plot(found: Sequence[_Flow], name: str, metric: Metric) -> Plot | None:
    rows = [row for flow in found for row in flow.sections.get(name, ()) if isinstance(row.get("edges"), list)]
    return moments_plot(rows[0]) if rows else None


def _trace(place: int, flow: _Flow, row: Mapping[str, Any], x: list[Any], y: list[Any]) -> Plot:
    name = f"{flow.label}, {_which(row)}".removeprefix(", ")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": no_markup(name),
        "x": x,
        "y": [value if isinstance(value, int | float) and math.isfinite(value) else None for value in y],
        "line": {"color": flow.color, "width": 2, "dash": DASHES[place % len(DASHES)]},
        "marker": {"color": flow.color, "size": 4},
        "hovertemplate": f"<b>{no_template(name)}</b><br>at %{{x:.3~g}}: %{{y:.4~g}}<extra></extra>",
    }


def _plot(data: list[Plot], x: str, y: str) -> Plot | None:
    if not data:
        return None
    axes = {"xaxis": axis(x), "yaxis": axis(no_markup(y), automargin=True)}
    height = 330 + 20 * ((len(data) + 1) // 2)
    return plot(data, height, (8, 12, 12, 46), key=True, legend={**KEY, "y": 1.02}, **axes)


_PLOTS = {"line": _line_plot, "weight_noise": _noise_plot, "input_noise": _noise_plot, "five_moments": _moments_plot}
