"""The page of a sensitivity scan: its curves with the chosen points, each layer's share, the lines for a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redense.files.markup import Child, h
from redense.lab.headings import heading_of, on_other_data
from redense.lab.runs.scan import read_scan
from redense.report.kit.document import Page, Section, write_page
from redense.report.kit.parts import Cell, Figure, Table, environment_table
from redense.report.kit.plotting import Plot, axis, layer_plot, no_markup, plot, segment
from redense.report.kit.quantities import cell, count, number, percent, share, whole
from redense.scans.allocation import Allocation
from redense.scans.result import Curve, Scan

_MARKS = {"uniform": "line-ns-open", "global": "x-thin-open", "erk": "circle-open"}
_IN_LEGEND = 12  # layers that a legend can name; of more, hovering tells them apart
_NAMES = {"uniform": "uniform", "global": "one magnitude threshold", "erk": "Erdős-Rényi-Kernel"}


def write_sensitivity_page(folder: Path) -> Path:
    """Write ``sensitivity.html`` into the folder of a scan and return its path; it is replaced in one step.

    Raises:
        StateError: the folder holds no scan, or a damaged one.
    """
    return write_page(folder, read_page(folder), "sensitivity")


def read_page(folder: Path) -> Page:
    """Return the page of the scan in a folder."""
    return make_page(*read_scan(folder))


def make_page(scan: Scan, chosen: Allocation, data: dict[str, Any]) -> Page:
    """Return the page of a scan; ``data`` is all of its ``sensitivity.json``."""
    what, recipe, about = _followed(data), str(data["recipe"]), str(data.get("about") or "")
    return Page(
        kind="redense sensitivity scan",
        name=heading_of(recipe, about),
        facts=[
            on_other_data(recipe, about),
            f"seed {data['seed']}",
            count(len(scan.curves), "layer"),
            count(scan.evaluations, "evaluation"),
            count(data["validation_examples"], "validation example"),
        ],
        sections=_sections(scan, chosen, data, what),
    )


def sentence(scan: Scan, chosen: Allocation) -> str:
    """Say which layer bears the least and which the most, and what is shared out."""
    at = {curve.name: _borne(scan, curve) for curve in scan.curves if not curve.gate}
    least, most = min(at, key=lambda name: at[name]), max(at, key=lambda name: at[name])
    spread = (
        f"'{least}' bears the least pruning and '{most}' the most. "
        if at[least] < at[most]
        else "All layers bear about the same. "
    )
    return (
        f"{spread}Removing {percent(chosen.overall)} of these weights where it costs the least takes between "
        f"{percent(min(chosen.values()))} and {percent(max(chosen.values()))} of a layer."
    )


def _borne(scan: Scan, curve: Curve) -> float:
    """The highest measured sparsity whose drop is under a quarter of a hopeless one."""
    limit = scan.hopeless / 4 if math.isfinite(scan.hopeless) else scan.tolerance
    return max((s for s, value in curve.points if scan.drop(value) <= limit), default=0.0)


def _sections(scan: Scan, chosen: Allocation, data: dict[str, Any], what: str) -> list[Section]:
    others = list(chosen.beside)
    heads = [("Layer", False), ("Weights", True), ("Chosen", True), *((_NAMES[other], True) for other in others)]
    shares: list[list[Cell]] = [
        [h("code", name), whole(chosen.weights[name]), share(s), *(share(chosen.beside[o][name]) for o in others)]
        for name, s in chosen.items()
    ]
    drops = (chosen.predicted, *(chosen.predictions[o] for o in others))
    costs = [cell(drop) if drop is not None and math.isfinite(drop) else "not scanned" for drop in drops]
    shares.append(["Sum of the drops alone", "", *costs])
    return [
        Section(
            "verdict",
            "What follows",
            [
                h("p", sentence(scan, chosen), class_="sentence"),
                h(
                    "p",
                    "Pruned one layer at a time, without retraining. "
                    "What all of them cost together is more than the sum.",
                ),
            ],
        ),
        Section(
            "curves",
            "Curves",
            curves_parts(scan, chosen, what),
        ),
        Section(
            "allocation",
            "Sparsity by layer",
            [
                Figure(
                    "shares",
                    "Bar plot: the sparsity chosen for each layer, and by other ways; the table has the numbers.",
                    "Bars: chosen from the curves. Marks: other ways to remove as many weights.",
                    _shares(chosen),
                ),
                Table("Sparsity of each layer", heads, shares, tall=len(shares) > 20),
                h("h3", "For a recipe"),
                h("pre", h("code", chosen.to_yaml())),
            ],
        ),
        Section(
            "provenance",
            "To reproduce it",
            environment_table({"scanned": str(data["source"]), **data["environment"]}),
        ),
    ]


def curves_parts(scan: Scan, chosen: Allocation, what: str) -> list[Child]:
    """Return the plot of the curves, called ``sensitivities``, with the table of what was measured."""
    columns = [("Layer", False), ("Weights", True), *((percent(s), True) for s in scan.sparsities)]
    measured: list[list[Cell]] = []
    for curve in scan.curves:
        values = {sparsity: cell(math.inf if value is None else value) for sparsity, value in curve.points}
        shown = [values.get(sparsity, "") for sparsity in scan.sparsities]
        measured.append([h("code", curve.name), whole(curve.weights), *shown])
    note = f" Layers were computed anew each time: {scan.note}." if scan.note else ""
    title = f"{what[:1].upper()}{what[1:]}"
    return [
        Figure(
            "sensitivities",
            f"Line plot: {what} over the sparsity of each layer, one pruned at a time; the table has the numbers.",
            f"{title} when one layer alone is pruned. Filled points are measured, rings are chosen, the dotted line is "
            "the unpruned network.",
            _curves(scan, chosen, what),
        ),
        Table(f"{title}, unpruned {number(scan.baseline)}", columns, measured, tall=len(measured) > 20),
        h("p", f"Empty: not needed for the decision, and not measured.{note}", class_="note"),
    ]


# --- on the page of a run -------------------------------------------------------------------------------------------


def section_of_run(folder: Path) -> Section:
    """Return the section on the scan in a folder of a run's.

    Raises:
        StateError: the scan is damaged.
    """
    scan, chosen, data = read_scan(folder)
    what = _followed(data)
    about = "Pruned one layer at a time before the first sparse phase, without retraining; the scan's own page is "
    parts: list[Child] = [
        h("p", sentence(scan, chosen)),
        h("p", f"{about}sensitivity/sensitivity.html.", class_="note"),
        *curves_parts(scan, chosen, what),
        h("details", h("summary", "The chosen sparsities, for a recipe"), h("pre", h("code", chosen.to_yaml()))),
    ]
    return Section("sensitivity", "Sensitivity of the layers", parts)


def _followed(data: Mapping[str, Any]) -> str:
    return f"validation {data['follows']}" + (f", {data['unit']}" if data["unit"] else "")


# --- plots ----------------------------------------------------------------------------------------------------------


def _curves(scan: Scan, chosen: Allocation, what: str) -> Plot:
    data: list[Plot] = []
    for index, curve in enumerate(scan.curves):
        points = [(0.0, scan.baseline), *((s, value) for s, value in curve.points if value is not None)]
        color = f"hsl({220 + 160 * index / max(len(scan.curves) - 1, 1):.0f}, 60%, 52%)"  # blue first, orange last
        name = no_markup(curve.name)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [100 * s for s, _ in points],
                "y": [value for _, value in points],
                "line": {"color": color, "width": 1 if curve.gate else 1.5, "dash": "dot" if curve.gate else "solid"},
                "marker": {"color": color, "size": 4},
                "hovertemplate": f"<b>{name}</b><br>%{{x:.4~g}} %: %{{y:.4~g}}<extra></extra>",
            }
        )
        if curve.name in chosen:
            data.append(_ring(curve, points, chosen[curve.name], color))
    highest = scan.baseline + scan.hopeless if scan.lower_is_better else scan.baseline - scan.hopeless
    span = sorted((scan.baseline, highest)) if math.isfinite(highest) else None
    room = 0.06 * (span[1] - span[0]) if span else 0
    return plot(
        data,
        460,
        (56, 16, 24, 48),
        key=len(scan.curves) <= _IN_LEGEND,
        xaxis=axis("sparsity of the one layer, %", range=[0, 100]),
        yaxis=axis(no_markup(what), **({"range": [span[0] - room, span[1] + room]} if span else {})),
        shapes=[segment((0, 100), (scan.baseline, scan.baseline), "--muted", "dot")],
    )


def _ring(curve: Curve, points: Sequence[tuple[float, float]], share: float, color: str) -> Plot:
    left = max((p for p in points if p[0] <= share), key=lambda p: p[0])
    right = min((p for p in points if p[0] >= share), key=lambda p: p[0], default=left)
    part = (share - left[0]) / (right[0] - left[0]) if right[0] > left[0] else 0.0
    name = no_markup(curve.name)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "showlegend": False,
        "x": [100 * share],
        "y": [left[1] + part * (right[1] - left[1])],
        "marker": {"color": color, "size": 11, "symbol": "circle-open", "line": {"width": 2, "color": color}},
        "hovertemplate": f"<b>{name}</b><br>chosen: %{{x:.4~g}} %<extra></extra>",
    }


def _shares(chosen: Allocation) -> Plot:
    names = [no_markup(name) for name in chosen]
    data: list[Plot] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "chosen from the curves",
            "y": names,
            "x": [100 * value for value in chosen.values()],
            "marker": {"color": "--accent"},
            "hovertemplate": "<b>%{y}</b><br>%{x:.4~g} %<extra>%{fullData.name}</extra>",
        }
    ]
    for other, sparsities in chosen.beside.items():
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": _NAMES[other],
                "y": names,
                "x": [100 * sparsities[name] for name in chosen],
                "marker": {"symbol": _MARKS[other], "size": 9, "color": "--ink", "line": {"width": 1.5}},
                "hovertemplate": "<b>%{y}</b><br>%{x:.4~g} %<extra>%{fullData.name}</extra>",
            }
        )
    row = 24 if len(names) <= 30 else 14
    return layer_plot(data, max(180, row * len(names) + 110), row, most=100)
