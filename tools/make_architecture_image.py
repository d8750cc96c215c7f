"""Draw docs/images/architecture.svg from the imports of the package: its parts, and which uses which."""

from __future__ import annotations

import functools
from pathlib import Path

from layers import Tree, layer_of

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images" / "architecture.svg"

# Part -> row, column (of 12), width, and what is in it.
PLACES = {
    "cli": (0, 3, 6, "one function a verb"),
    "report": (1, 0, 4, "pages of runs and comparisons"),
    "lab": (2, 2, 6, "recipes, engine, store, arms, statistics"),
    "tasks": (3, 0, 4, "images, captions, speech"),
    "methods": (3, 4, 4, "techniques around a phase"),
    "integrations": (3, 8, 4, "Lightning, transformers"),
    "core": (4, 2, 8, "criteria, masks, schedule, holding, DSD; torch alone"),
    "files": (5, 3, 6, "errors; writing, checksums, locks, JSON, YAML"),
}
COLUMN, HEIGHT, GAP, MARGIN = 62, 58, 54, 12


@functools.cache
def uses() -> list[tuple[str, str]]:
    """Return which part imports which other; the face of the package gives names of any part, and loads none."""
    pairs = {(_part(one.by), _part(one.of)) for one in Tree(ROOT / "src").own() if "." in one.by and "." in one.of}
    return sorted(pair for pair in pairs if pair[0] != pair[1])


def _part(module: str) -> str:
    layer = layer_of(module)
    return "lab" if module.startswith("redense.lab") else {"masks": "core", "scans": "core"}.get(layer, layer)


def drawing() -> str:
    """Return the picture."""
    width, height = 12 * COLUMN + 2 * MARGIN, 6 * HEIGHT + 5 * GAP + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif">',
        "<title>The parts of redense: cli and report use lab; lab uses tasks and methods; all use files</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
        '<marker id="end" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">'
        '<path d="M0 1L7 4L0 7Z" fill="#57606a"/></marker>',
    ]
    parts += [_arrow(user, used) for user, used in uses()]
    for name in PLACES:
        x, y, w = _box(name)
        parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{HEIGHT}" rx="6" fill="#e7f0fb" stroke="#1f5fa8"/>')
        parts.append(_text(x + w / 2, y + 24, name, 15, "600"))
        parts.append(_text(x + w / 2, y + 44, PLACES[name][3], 12))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(name: str) -> tuple[float, float, float]:
    row, column, width, _ = PLACES[name]
    return MARGIN + column * COLUMN + 4, MARGIN + row * (HEIGHT + GAP), width * COLUMN - 8


def _arrow(user: str, used: str) -> str:
    if PLACES[user][0] >= PLACES[used][0]:
        raise SystemExit(f"{user} imports {used}: imports point one way, down")
    (x1, y1, w1), (x2, y2, w2) = _box(user), _box(used)
    low, high = max(x1, x2), min(x1 + w1, x2 + w2)  # straight down where the boxes overlap
    spread = 0.5 + 0.32 * ((PLACES[used][0] - PLACES[user][0]) % 3 - 1)
    start = end = low + (high - low) * spread
    if low >= high:
        start, end = (x1 + w1 * 0.5, x2 + w2 * 0.5)
    line = f"M{start:.0f} {y1 + HEIGHT}L{end:.0f} {y2 - 3}"
    return f'<path d="{line}" stroke="#57606a" stroke-width="1.5" marker-end="url(#end)"/>'


def _text(x: float, y: float, text: str, size: int, weight: str = "400") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="#1f2328" text-anchor="middle"'
    return f'<text x="{x:g}" y="{y:g}" {style} xml:space="preserve">{text}</text>'


if __name__ == "__main__":
    OUT.write_text(drawing(), encoding="utf-8")
    print(OUT)
