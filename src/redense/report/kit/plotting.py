"""The look that all plots share, and texts that plotly.js cannot take for markup or for a template."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Plot = dict[str, Any]
"""A plot as `document.document` embeds it: ``data`` and ``layout`` for plotly.js, with the names of CSS variables for
colours; ``bands``, the names along the x axis that the page's script writes where they find room; ``choices``, what
differs between the plots that can be chosen; ``paper``, what its layout has on paper, where the page's key is not."""

AXIS: Plot = {
    "gridcolor": "--grid",
    "linecolor": "--line",
    "zeroline": False,
    "tickfont": {"color": "--muted", "size": 12},
    "title": {"font": {"color": "--muted", "size": 12}},
}
LOOK: Plot = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "--ink", "family": "system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif", "size": 12},
    "hoverlabel": {"bgcolor": "--raised", "bordercolor": "--line", "font": {"color": "--ink", "size": 12}},
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--muted", "activecolor": "--ink"},
}


KEY: Plot = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
"""A key in a row above the plot."""


def plot(
    data: list[Plot], height: float, margin: tuple[int, int, int, int], *, key: bool | None = None, **layout: Any
) -> Plot:
    """Return a plot.

    Args:
        data: its traces.
        height: in pixels.
        margin: pixels at the left, the right, the top and the bottom.
        key: whether its key is shown; None where it has none.
        layout: what else plotly.js is told of it.
    """
    sides = dict(zip("lrtb", margin, strict=True))
    named = {"showlegend": bool(key), **({} if key is None else {"legend": KEY})}
    look = {**LOOK, "height": height, "margin": sides, **named, "hovermode": "closest"}
    return {"data": data, "layout": {**look, **layout}, "bands": []}


def layer_plot(data: list[Plot], height: float, row: int, *, most: float, key: bool = True) -> Plot:
    """Return a plot with bars for each layer, in a row of so many pixels, on an axis that ends at ``most`` %."""
    layers = {"autorange": "reversed", "automargin": True, "showgrid": False, "fixedrange": True, "type": "category"}
    layout = {
        **LOOK,
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 56 if key else 32, "b": 44},
        "bargap": 0.35,
        "showlegend": key,
        "legend": KEY,
        "hovermode": "closest",
        "xaxis": axis("sparsity, %", range=[0, most], fixedrange=True),
        "yaxis": {**AXIS, **layers, "ticks": "", "tickfont": {"size": 12 if row > 20 else 9}},
    }
    return {"data": data, "layout": layout, "bands": []}


def axis(title: str = "", **more: Any) -> Plot:
    """Return an axis with its title, which has been through `no_markup` where it comes from elsewhere."""
    named = {"title": {"text": title, **AXIS["title"]}} if title else {}
    return {**AXIS, **named, **more}


def rows_axis(labels: Sequence[str], **more: Any) -> Plot:
    """Return an axis of named rows, from top to bottom."""
    return {
        **AXIS,
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "tickfont": {"color": "--ink", "size": 12},
        "range": [len(labels) - 0.5, -0.5],
        "ticks": "outside",  # not seen: room between a name and a mark at the left end
        "ticklen": 8,
        "tickcolor": "rgba(0,0,0,0)",
        "automargin": True,
        "fixedrange": True,
        **more,
    }


def steps_axis(title: str, end: float, **more: Any) -> Plot:
    """Return an axis of whole numbers from 0 to an end: steps, gradient evaluations."""
    first = {"anchor": more.pop("anchor")} if "anchor" in more else {}
    return axis(title, **first, range=[0, end], separatethousands=True, exponentformat="none", **more)


def rates_scale(rates: Iterable[tuple[object, float | None]]) -> Plot:
    """Return the scale of an axis of learning rates, each with the phase that it is of."""
    highest: dict[object, float] = {}
    for phase, rate in rates:
        if rate and rate > 0 and math.isfinite(rate):
            highest[phase] = max(rate, highest.get(phase, 0.0))
    # A decay may end close to zero: a hundredth of the lowest phase's highest rate is low enough to see it fall.
    least, most = min(highest.values(), default=1.0) / 100, max(highest.values(), default=1.0)
    ends = {"range": [math.log10(least), math.log10(most) + 0.15]} if highest else {}
    return {"type": "log", "dtick": 1, "exponentformat": "power", "minexponent": 2, **ends}


def whiskers(up: list[Any], down: list[Any], color: str, thickness: float, width: int, **more: Any) -> Plot:
    """Return error bars: how far each reaches up, or to the right, and down."""
    pen = {"color": color, "thickness": thickness, "width": width}
    return {"type": "data", "symmetric": False, **more, "array": up, "arrayminus": down, **pen}


def segment(x: tuple[float, float], y: tuple[float, float], color: str, dash: str = "", **more: Any) -> Plot:
    """Return a thin straight line from the first to the second of two points."""
    (x0, x1), (y0, y1) = x, y
    pen = {"color": color, "width": 1, **({"dash": dash} if dash else {})}
    return {"type": "line", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "line": pen, **more}


def band(x: tuple[float, float], y: tuple[float, float], **more: Any) -> Plot:
    """Return a shaded stretch below everything else."""
    (x0, x1), (y0, y1) = x, y
    look = {"fillcolor": "--band", "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, **look, **more}


def log_ticks(values: Iterable[float]) -> list[float] | None:
    """Return 1, 2, 5 in each decade of some values, or 1 alone in many; None where a logarithm has no place.

    Where fewer than two of these lie between the values, the ticks are two to five round numbers that do.

    >>> log_ticks([0.64, 0.7]), log_ticks([66.2, 42.9])
    ([0.64, 0.66, 0.68, 0.7], [45.0, 50.0, 55.0, 60.0, 65.0])
    """
    known = [value for value in values if math.isfinite(value)]
    if not known or min(known) <= 0:
        return None
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    digits = (1, 2, 5) if last - first < 3 else (1,)
    ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
    if sum(min(known) <= tick <= max(known) for tick in ticks) >= 2 or min(known) == max(known):
        return ticks
    return _round_numbers(min(known), max(known))


def _round_numbers(low: float, high: float) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten between two numbers, two to five of them."""
    power = math.floor(math.log10(high - low))
    steps = [digit * 10.0**exponent for exponent in (power - 1, power, power + 1) for digit in (1, 2, 5)]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < 5:
            return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return [low, high]


def panel_title(text: str, top: float) -> Plot:
    """Return the title of a panel, which stands on it."""
    return on_panel(no_markup(text), top)


def on_panel(markup: str, top: float) -> Plot:
    """Return lines that stand on a panel; what comes from elsewhere in them has been through `no_markup`."""
    return {
        "text": markup,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": top,
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "align": "left",
        "font": {"color": "--muted", "size": 12},
    }


def finite(values: Iterable[float]) -> list[float | None]:
    """Return the values as JSON can hold them: a gap for what is no finite number."""
    return [value if math.isfinite(value) else None for value in values]


def no_markup(text: str) -> str:
    """Plotly reads a little HTML in its texts: say it in entities, which it shows as they are."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def no_template(text: str) -> str:
    """The same where ``%{`` would begin a variable.

    >>> no_template("%{x} < {1}")
    '%&#123;x&#125; &lt; &#123;1&#125;'
    """
    return no_markup(text).replace("{", "&#123;").replace("}", "&#125;")


def shortened(names: Sequence[str], most: int = 22) -> list[str]:
    """Return labels for an axis, cut where they are long; names that differ have labels that differ.

    >>> shortened(["dsd", "dsd-momentum sparsity=0.3", "dsd-momentum sparsity=0.6", "restart at a rate of 0.1"])
    ['dsd', 'dsd-momentu…arsity=0.3', 'dsd-momentu…arsity=0.6', 'restart at a rate of …']
    """
    return [no_markup(label) for label in told_apart(names, most)]


def told_apart(names: Sequence[str], most: int) -> list[str]:
    """Return names of at most so many characters: cut at the end, or in the middle, or numbered, until they differ.

    >>> told_apart(["1234567a", "1234567b", "12xxxxx67", "12yyyyy67"], 6)
    ['123…7a', '123…7b', '12xxx…', '12yyy…']
    >>> told_apart(["123aaaa78", "123aabb78", "123aa…"], 6)
    ['123… 1', '123… 2', '123aa…']
    """
    labels = {name: name if len(name) <= most else f"{name[: most - 1]}…" for name in names}
    for name in _alike(labels, most):
        labels[name] = f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"
    alike = _alike(labels, most)
    used = {label for name, label in labels.items() if name not in alike}
    for name in alike:
        endings = (f"… {number}" for number in itertools.count(1))
        label = next(one for end in endings if (one := f"{name[: most - len(end)]}{end}") not in used)
        labels[name] = label
        used.add(label)
    return [labels[name] for name in names]


def _alike(labels: Mapping[str, str], most: int) -> list[str]:
    """Return the long names whose label is another's, too."""
    counts = Counter(labels.values())
    return [name for name, label in labels.items() if counts[label] > 1 and len(name) > most]
