"""The look of each arm: one colour, symbol and dash in all plots, keys and tables."""

from __future__ import annotations

from dataclasses import dataclass

from redense.files.markup import Element, h

from .types import Arm

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
DASHES = ("solid", "7px,3px", "2px,2px", "8px,3px,2px,3px", "12px,4px")


@dataclass(frozen=True)
class Look:
    """The look of an arm: six colours, eight symbols and five dashes repeat together after 120 arms."""

    color: str
    symbol: str
    dash: str


def look(arm: Arm) -> Look:
    """Return an arm's look; the baseline is drawn in ink."""
    symbol = list(_SYMBOLS)[arm.index % len(_SYMBOLS)]
    if arm.is_baseline:
        return Look("--ink", symbol, "solid")
    number = arm.index - 1
    return Look(f"--arm-{number % COLOURS + 1}", symbol, DASHES[number % len(DASHES)])


def swatch(arm: Arm) -> Element:
    """Return a piece of an arm's line with its symbol, for keys and tables."""
    how = look(arm)
    dash = None if how.dash == "solid" else how.dash.replace("px", "")
    line = h("path", d="M-14 0H14", stroke="currentColor", stroke_width=2, stroke_dasharray=dash)
    mark = h("path", d=_SYMBOLS[how.symbol], fill="currentColor")
    return h(
        "svg", line, mark, viewBox="-14 -6 28 12", class_="swatch", style=f"color: var({how.color})", aria_hidden="true"
    )
