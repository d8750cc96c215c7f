"""Draw docs/images/flow.svg, the picture of the README: one weight matrix through dense, sparse, dense."""

from __future__ import annotations

import random
from pathlib import Path

SIZE, CELL, GAP = 9, 18, 96
TOP = 44
OUT = Path(__file__).parent.parent / "docs" / "images" / "flow.svg"


def main() -> None:
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
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    captions = ("trained dense", "smallest 30 % pruned,", "released from zero,")
    below = ("", "trained under the mask", "trained dense, lower rate")
    panels = (("D", dense), ("S", sparse), ("D", regrown))
    for index, (letter, matrix) in enumerate(panels):
        left = 20 + index * (SIZE * CELL + GAP)
        middle = left + SIZE * CELL / 2
        parts.append(_text(middle, 28, letter, 20, "600"))
        for row, values in enumerate(matrix):
            for column, weight in enumerate(values):
                parts.append(
                    _cell(left + column * CELL, TOP + row * CELL, weight, index == 2 and not sparse[row][column])
                )
        parts.append(_text(middle, TOP + SIZE * CELL + 24, captions[index], 13))
        parts.append(_text(middle, TOP + SIZE * CELL + 42, below[index], 13))
        if index < 2:
            start, end, y = left + SIZE * CELL + 18, left + SIZE * CELL + GAP - 18, TOP + SIZE * CELL / 2
            parts.append(f'<path d="M{start} {y}H{end - 8}" stroke="#57606a" stroke-width="2"/>')
            parts.append(f'<path d="M{end - 10} {y - 5}L{end} {y}L{end - 10} {y + 5}Z" fill="#57606a"/>')
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    print(OUT)


def _cell(x: float, y: float, weight: float, regrown: bool) -> str:
    square = f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="2"'
    if not weight:
        return f'{square} fill="#ffffff" stroke="#d0d7de"/>'
    strength = min(1.0, 0.15 + abs(weight) / 2.2)
    colour = "#c2570c" if regrown else "#1f5fa8"
    return f'{square} fill="{colour}" fill-opacity="{strength:.2f}"/>'


def _text(x: float, y: float, text: str, size: int, weight: str = "400") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="#1f2328" text-anchor="middle"'
    return f'<text x="{x}" y="{y}" {style}>{text}</text>'


if __name__ == "__main__":
    main()
