"""Draw docs/images/flow.svg, the picture of the README, and flow-dark.svg: one weight matrix through D, S, D."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

SIZE, CELL, GAP = 9, 18, 96
TOP = 44
OUT = Path(__file__).parent.parent / "docs" / "images"


@dataclass(frozen=True)
class Colours:
    """The colours of a drawing: what it stands on, its words, arrows, lines, weights, and weights that have regrown."""

    ground: str
    words: str
    arrow: str
    line: str
    weight: str
    regrown: str


LOOKS = {
    "flow": Colours("#ffffff", "#1f2328", "#57606a", "#d0d7de", "#1f5fa8", "#c2570c"),
    "flow-dark": Colours("#1e2129", "#e2e4e9", "#9aa3b2", "#4a5160", "#6cb0ff", "#ff9a4d"),
}


def main() -> None:
    for name, colours in LOOKS.items():
        path = OUT / f"{name}.svg"
        path.write_text(drawing(colours), encoding="utf-8")
        print(path)


def drawing(colours: Colours) -> str:
    """Return the picture, the same one in any colours."""
    source = random.Random(7)
    dense = [[source.gauss(0, 1) for _ in range(SIZE)] for _ in range(SIZE)]
    order = sorted(abs(w) for row in dense for w in row)
    threshold = order[round(0.3 * SIZE * SIZE)]
    sparse = [[w * source.uniform(0.95, 1.2) if abs(w) >= threshold else 0.0 for w in row] for row in dense]
    regrown = [[w or source.gauss(0, 0.35) for w in row] for row in sparse]
    width, height = 3 * SIZE * CELL + 2 * GAP + 40, TOP + SIZE * CELL + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif">',
        "<title>Dense, sparse, dense: the small weights are pruned, then grow back from zero</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="{colours.ground}"/>',
    ]
    captions = ("trained dense", "smallest 30 % pruned,", "released from zero,")
    below = ("", "trained under the mask", "trained dense, lower rate")
    panels = (("D", dense), ("S", sparse), ("D", regrown))
    for index, (letter, matrix) in enumerate(panels):
        left = 20 + index * (SIZE * CELL + GAP)
        middle = left + SIZE * CELL / 2
        parts.append(_text(colours, middle, 28, letter, 20, "600"))
        for row, values in enumerate(matrix):
            for column, weight in enumerate(values):
                regrew = index == 2 and not sparse[row][column]
                parts.append(_cell(colours, left + column * CELL, TOP + row * CELL, weight, regrew))
        parts.append(_text(colours, middle, TOP + SIZE * CELL + 24, captions[index], 13))
        parts.append(_text(colours, middle, TOP + SIZE * CELL + 42, below[index], 13))
        if index < 2:
            start, end, y = left + SIZE * CELL + 18, left + SIZE * CELL + GAP - 18, TOP + SIZE * CELL / 2
            parts.append(f'<path d="M{start} {y}H{end - 8}" stroke="{colours.arrow}" stroke-width="2"/>')
            parts.append(f'<path d="M{end - 10} {y - 5}L{end} {y}L{end - 10} {y + 5}Z" fill="{colours.arrow}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cell(colours: Colours, x: float, y: float, weight: float, regrown: bool) -> str:
    square = f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="2"'
    if not weight:
        return f'{square} fill="{colours.ground}" stroke="{colours.line}"/>'
    strength = min(1.0, 0.15 + abs(weight) / 2.2)
    colour = colours.regrown if regrown else colours.weight
    return f'{square} fill="{colour}" fill-opacity="{strength:.2f}"/>'


def _text(colours: Colours, x: float, y: float, text: str, size: int, weight: str = "400") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colours.words}" text-anchor="middle"'
    return f'<text x="{x}" y="{y}" {style}>{text}</text>'


if __name__ == "__main__":
    main()
