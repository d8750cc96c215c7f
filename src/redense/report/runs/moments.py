"""The distribution of a layer's weights at the five moments of D-S-D: a plot, and a section of a run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.markup import Child, Element, h
from redense.report.kit.loading import load_object
from redense.report.kit.parts import Column, Figure, Table, table_of
from redense.report.kit.plotting import AXIS, Plot, axis, no_markup, no_template, on_panel, plot
from redense.report.kit.quantities import NONE, Number, count, percent, share, significant, whole

LayerMoments = Mapping[str, Any]
"""One layer, with the fields of `redense.lab.diagnosis.moments.FiveMoments` as plain data, or with ``error``."""

_PANEL, _HEADING = 112, 36  # pixels of a panel, and of the two lines above its bars


def moments_plot(row: LayerMoments) -> Plot:
    """Return the histograms from top to bottom as time goes; at the end old and regrown weights apart."""
    panels = _panels(row)
    edges = [float(edge) for edge in row["edges"]]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    lowest = f"y{len(panels)}" if len(panels) > 1 else "y"
    title = no_markup(f"weight of {row.get('name') or row.get('layer')}")
    data: list[Plot] = []
    made = plot(
        data,
        _PANEL * len(panels) + 60,
        (8, 12, 12, 48),
        barmode="stack",
        bargap=0,
        annotations=[],
        xaxis=axis(title, anchor=lowest, range=[edges[0], edges[-1]]),
    )
    layout = made["layout"]
    for place, (moment, parts) in enumerate(panels):
        name = "y" if place == 0 else f"y{place + 1}"
        top = 1 - place / len(panels)
        domain = [max(0.0, top - 1 / len(panels)), top - _HEADING / _PANEL / len(panels)]
        bars = [(n, x) for _, part, _ in parts for n, x in zip(part["counts"], middles, strict=False)]
        # The weights that are exactly zero would flatten everything else.
        spike = sum(n for n, x in bars if abs(x) <= 1e-12)
        highest = max((n for n, x in bars if abs(x) > 1e-12), default=1)
        layout[name.replace("y", "yaxis")] = {
            **AXIS,
            "domain": domain,
            "range": [0, 1.15 * (highest or 1)],
            "showticklabels": False,
            "showgrid": False,
            "fixedrange": True,
        }
        layout["annotations"].append(_heading(moment, parts, domain[1], spike if spike > 1.15 * highest else 0))
        data += [
            {
                "type": "bar",
                "x0": middles[0],
                "dx": middles[1] - middles[0],
                "y": part["counts"],
                "yaxis": name,
                "xaxis": "x",
                "marker": {"color": color, "line": {"width": 0}},
                "hovertemplate": f"{no_template(f'{moment}, {label}')}<br>%{{x:.3~g}}: %{{y:,}} weights<extra></extra>",
            }
            for label, part, color in parts
        ]
    return made


def _panels(row: LayerMoments) -> list[tuple[str, list[tuple[str, LayerMoments, str]]]]:
    """Moment -> what is drawn of it: its name, its histogram, its colour."""
    panels = [(str(moment["moment"]), [("all", moment, "--accent")]) for moment in row["moments"]]
    if panels and isinstance(row.get("old"), Mapping) and isinstance(row.get("regrown"), Mapping):
        panels[-1] = (panels[-1][0], [("old", row["old"], "--accent"), ("regrown", row["regrown"], "--second")])
    return panels


def _heading(moment: str, parts: Sequence[tuple[str, LayerMoments, str]], top: float, spike: int) -> Plot:
    means = [
        f"{label} {size}" if len(parts) > 1 else size
        for label, part, _ in parts
        if (size := significant(part.get("mean_magnitude")).shown) != NONE
    ]
    facts = [f"mean |W| {', '.join(means)}"] if means else []
    if spike:
        facts.append(f"{spike:,} near 0")
    return on_panel(f"<b>{no_markup(moment)}</b><br>{no_markup('; '.join(facts))}", top)


# --- the section of a run -------------------------------------------------------------------------------------------


def read_moments(path: Path) -> list[LayerMoments] | None:
    """Return the layers of ``moments.json``, the one that is shown first at the front; None if there is no file.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    layers: list[LayerMoments] = []
    try:
        cycles = load_object(path)["cycles"]
        for cycle in cycles:
            found = [
                {**layer, "cycle": " → ".join(str(cycle[name]) for name in ("dense", "sparse", "redense"))}
                for layer in cycle["layers"]
            ]
            # The largest of the first cycle is what is seen first; the others follow in the order of the model.
            first = int(cycle["default"])
            layers += [*found[first : first + 1], *found[:first], *found[first + 1 :]] if not layers else found
        for layer in layers:
            if "error" not in layer:  # drawn and written once, so that what is wrong with it is said of the file
                moments_plot(layer)
                _about(layer)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not what redense writes: {error!r}") from None
    return layers


def parts_of(layers: Sequence[LayerMoments]) -> list[Child]:
    """Return the parts of the section; its plot shows one layer and has the others to choose from."""
    known = [layer for layer in layers if "error" not in layer]
    problems = [f"{layer['name']}: {layer['error']}" for layer in layers if "error" in layer]
    said = h("ul", [h("li", f"Not measured: {problem}") for problem in problems], class_="said") if problems else None
    if not known:
        return [h("p", "No layer was pruned, so there are no five moments to show."), said]
    plots = [moments_plot(layer) for layer in known]
    keys = ("x0", "dx", "y", "hovertemplate")
    changing = [key for key in plots[0]["layout"] if key == "annotations" or key.startswith(("xaxis", "yaxis"))]
    plot = {
        **plots[0],
        "choices": [
            {
                "data": [{key: trace[key] for key in keys} for trace in other["data"]],
                "layout": {key: other["layout"][key] for key in changing},
            }
            for other in plots
        ],
    }
    several = len({layer["cycle"] for layer in known}) > 1
    names = tuple(_called(layer, several) for layer in known)
    options = [h("option", name, value=index) for index, name in enumerate(names)]
    chooser = h("p", h("label", "Layer: ", h("select", options, data_plot="moments")), class_="chooser screen")
    sentences, tables = (
        [h("div", _about(layer)[place], data_choice="moments", hidden=index > 0) for index, layer in enumerate(known)]
        for place in (0, 1)
    )
    description = (
        "Five histograms of one layer's weights, before pruning, just pruned, after sparse training, at the re-dense "
        "start and after dense training; the table below has what they come to."
    )
    caption = "In the end, old weights are blue and regrown ones orange. A bar may go on beyond its frame."
    return [
        h("p", fate_sentence(known)),
        chooser if len(known) > 1 else None,
        h("div", sentences),
        Figure("moments", description, caption, plot, names if len(known) > 1 else ()),
        h("div", tables),
        _fates(known, several),
        said,
    ]


def fate_sentence(layers: Sequence[LayerMoments]) -> str:
    """Say of all layers how many of the regrown weights stayed small, and how far the old ones moved."""
    judged = [layer for layer in layers if layer["stayed_small"] is not None]
    regrown = sum(int(layer["regrown"]["weights"]) for layer in judged)
    if not regrown:
        return "No weight was pruned and regrown."
    small = round(sum(layer["stayed_small"] * int(layer["regrown"]["weights"]) for layer in judged))
    where = count(len({layer["name"] for layer in judged}), "layer")
    text = (
        f"Of {count(regrown, 'regrown weight')} in {where}, {small:,} "
        f"({percent(round(small / regrown, 4))}) stayed below the magnitude up to which their layer was pruned"
    )
    moved = [layer["old_moved"] for layer in layers if layer.get("old_moved") is not None]
    if not moved:
        return f"{text}."
    least, most = (percent(round(value, 4)) for value in (min(moved), max(moved)))
    reach = least if least == most else f"between {least} and {most}"
    return f"{text}; the last dense phase moved a layer's old weights by {reach} of their length."


def _fates(layers: Sequence[LayerMoments], several: bool) -> Table:
    columns: list[Column[LayerMoments]] = [
        ("Layer", False, lambda layer: h("code", str(layer["name"]))),
        *([("Cycle", False, lambda layer: str(layer["cycle"]))] if several else []),
        ("Weights", True, lambda layer: whole(int(layer["moments"][0]["weights"]))),
        ("Pruned", True, lambda layer: whole(int(layer["regrown"]["weights"]))),
        ("Regrown that stayed small", True, lambda layer: _share(layer["stayed_small"])),
        ("Mean |W|, regrown", True, lambda layer: significant(layer["regrown"]["mean_magnitude"])),
        ("Mean |W|, old", True, lambda layer: significant(layer["old"]["mean_magnitude"])),
        ("Old weights moved by", True, lambda layer: _share(layer.get("old_moved"))),
    ]
    caption = "What became of the weights of each layer; moved: the length of the change, of the old weights' length"
    return table_of(caption, layers, columns, tall=len(layers) > 20)


def _share(value: float | None) -> Number:
    return share(None if value is None else round(value, 4))


def _called(layer: LayerMoments, several: bool) -> str:
    weights = int(layer["moments"][0]["weights"])
    of = f", {layer['cycle']}" if several else ""
    return f"{layer['name']}, {count(weights, 'weight')}{of}"


def _about(layer: LayerMoments) -> tuple[Element, Element]:
    """The sentence on a layer, and the table of its moments."""
    old, regrown, total = layer["old"], layer["regrown"], int(layer["moments"][0]["weights"])
    pruned = int(regrown["weights"])
    if not pruned:
        text = f"No weight of {layer['name']} was pruned."
    else:
        share, cut = percent(round(pruned / total, 4)), significant(layer["cut"]).shown
        means = [significant(part["mean_magnitude"]).shown for part in (regrown, old)]
        text = (
            f"Of the {total:,} weights of {layer['name']}, {pruned:,} ({share}) were pruned, as many as had |W| up to "
            f"{cut}; at the end the regrown ones have a mean |W| of {means[0]}, the old ones of {means[1]}"
        )
        if layer["stayed_small"] is not None:
            text += f", and {percent(round(layer['stayed_small'], 4))} of the regrown are still below that"
        if (moved := layer.get("old_moved")) is not None:
            text += f"; the last dense phase moved the old ones by {percent(round(moved, 4))} of their length"
        text += "."
    ends = ({**part, "moment": f"in the end, {name}"} for name, part in (("old", old), ("regrown", regrown)))
    numbers = table_of(
        f"The weights of {layer['name']} at each moment",
        [*layer["moments"], *ends],
        [
            ("Moment", False, lambda moment: str(moment["moment"])),
            ("Weights", True, lambda moment: whole(int(moment["weights"]))),
            ("Mean |W|", True, lambda moment: significant(moment["mean_magnitude"])),
            ("Mean", True, lambda moment: significant(moment["mean"])),
            ("Standard deviation", True, lambda moment: significant(moment["deviation"])),
        ],
    )
    return h("p", text), h("details", h("summary", "The moments as a table"), numbers)
