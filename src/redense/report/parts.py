"""Parts that pages are built of: large figures, tables, plots, commands, the environment, files to save."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .markup import Child, Html, h, join

_MOST_EMBEDDED = 16 << 20  # bytes of a raw file that still go into the page


@dataclass(frozen=True)
class BigFigure:
    """One large figure of a verdict: what it is of, the figure, and a word on it."""

    label: str
    value: str
    note: str
    missing: bool = False


def big_figures(figures: Iterable[BigFigure]) -> Html | None:
    """Return large figures beside each other; None for none."""
    shown = [
        h(
            "div",
            h("dt", figure.label),
            h("dd", figure.value, class_="value"),
            h("dd", figure.note, class_="note"),
            class_="missing" if figure.missing else None,
        )
        for figure in figures
    ]
    return h("dl", shown, class_="figures") if shown else None


def command_line(line: str) -> Html:
    """Return a command line that breaks between its words where it has to break."""
    spans = [join(" " if index else None, h("span", word)) for index, word in enumerate(line.split(" "))]
    return h("pre", h("code", spans), class_="command")


def command_list(commands: Mapping[str, str | None]) -> Html:
    """Return commands with what each is for; those that are None or empty are left out."""
    listed = [join(h("dt", text), h("dd", command_line(line))) for text, line in commands.items() if line]
    return h("dl", listed, class_="commands")


def plot_figure(name: str, description: str, caption: str) -> Html:
    """Return the place of the plot called ``name``, with what it shows for someone who cannot see it."""
    plot = h("div", id=name, class_="plot", role="group", aria_label=description)
    without = h("noscript", h("p", "The plot needs JavaScript; the table has its numbers."))
    return h("figure", plot, without, h("figcaption", caption))


def table(
    caption: str,
    columns: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[Child]],
    *,
    tall: bool = False,
    class_: str = "",
) -> Html:
    """Return a table whose first column heads the rows; ``columns`` are titles, and True for those of numbers."""
    classes = ["number" if numeric else "nowrap" if len(columns) > 2 else None for _, numeric in columns]
    head = [h("th", text, scope="col", class_="number" if numeric else None) for text, numeric in columns]
    body = [
        h("tr", h("th", row[0], scope="row"), [h("td", cell, class_=c) for cell, c in _cells(row, classes)])
        for row in rows
    ]
    shown = h(
        "table", h("caption", caption), h("thead", h("tr", head)), h("tbody", body), class_=f"wide {class_}".strip()
    )
    # What scrolls can be reached and scrolled with the keyboard.
    return h("div", shown, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=caption)


def _cells(row: Sequence[Child], classes: Sequence[str | None]) -> Iterator[tuple[Child, str | None]]:
    return zip(row[1:], classes[1:], strict=True)


def environment_table(environment: Mapping[str, Any]) -> Html:
    """Return versions and hardware as a table."""
    rows = [[name, value] for name, value in flattened(environment)]
    if not rows:
        return h("p", "There is no environment.json.")
    return table("What it ran on", [("What", False), ("Value", False)], rows, class_="environment")


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names and text.

    >>> list(flattened({"cpu": {"cores": 2}, "gpus": [], "packages": ["torch", "numpy"]}))
    [('cpu.cores', '2'), ('gpus', 'none'), ('packages', 'torch, numpy')]
    """
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif isinstance(value, list):
            yield name, ", ".join(str(item) for item in value) or "none"
        elif value is None:
            yield name, "none"
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, str(value)


def downloads(folder: Path, kinds: Mapping[str, str]) -> Html | None:
    """Return links that hold the files themselves; ``kinds``: file name -> media type. None where there is no file."""
    items: list[Html] = []
    for name, kind in kinds.items():
        path = folder / name
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size > _MOST_EMBEDDED:
            items.append(h("li", f"{name}, {_size(size)}, too large for this page: it lies beside it"))
            continue
        link = h("a", name, href=data_link(path.read_bytes(), kind), download=name)
        items.append(h("li", link, f", {_size(size)}, is in this page"))
    return h("ul", items) if items else None


def data_link(data: bytes, kind: str) -> str:
    """Return an address that is the data."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _size(size: int) -> str:
    return f"{size / 1024:,.0f}\u00a0kB" if size >= 1024 else f"{size}\u00a0bytes"
