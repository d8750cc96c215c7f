"""Parts that pages are built of: large figures, tables, plots, commands, the environment, files to save."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from redense.files.markup import Child, Element, h

from .plotting import Plot
from .quantities import NBSP, Number

_LONG = 40  # characters of a name that stands in one line
_MOST_EMBEDDED = 16 << 20  # bytes of a raw file that still go into the page


@dataclass(frozen=True)
class BigFigure:
    """One large figure of a verdict: what it is of, the figure, and a word on it."""

    label: str
    value: str
    note: str
    missing: bool = False


def big_figures(figures: Iterable[BigFigure]) -> Element | None:
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


def command_line(line: str) -> Element:
    """Return a command line that breaks between its words where it has to break."""
    spans = [[" " if index else None, h("span", word)] for index, word in enumerate(line.split(" "))]
    return h("pre", h("code", spans), class_="command")


def command_list(commands: Mapping[str, str | None]) -> Element:
    """Return commands with what each is for; those that are None or empty are left out."""
    listed = [[h("dt", text), h("dd", command_line(line))] for text, line in commands.items() if line]
    return h("dl", listed, class_="commands")


@dataclass(frozen=True)
class Figure:
    """A plot with what is said of it.

    Args:
        name: the id of the element that it is drawn in.
        description: what it shows, for someone who cannot see it.
        caption: how to read it.
        plot: what is drawn.
        choices: what its ``choices`` are called, where it has some.
    """

    name: str
    description: str
    caption: str
    plot: Plot
    choices: tuple[str, ...] = ()

    def elements(self) -> Child:
        """Return its place in the page; the page's script draws the plot."""
        place = h("div", id=self.name, class_="plot", role="group", aria_label=self.description)
        without = h("noscript", h("p", "The plot needs JavaScript; the table has its numbers."))
        return h("figure", place, without, h("figcaption", self.caption))


Cell: TypeAlias = Number | Child
"""What stands in a cell: a number that programs can read, or anything else."""
Item = TypeVar("Item")
Column: TypeAlias = tuple[str, bool, Callable[[Item], Cell]]
"""A column: its title, True where it is of numbers, and the cell of an item that a row is about."""


@dataclass(frozen=True)
class Table:
    """A table whose first column heads the rows.

    Args:
        caption: what it shows.
        columns: titles, and True for those of numbers.
        rows: a cell for each column.
        tall: it scrolls.
        class_: of the style sheet.
    """

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]
    tall: bool = False
    class_: str = ""

    def elements(self) -> Child:
        """Return it as it is on the page."""
        classes = ["number" if numeric else "nowrap" if len(self.columns) > 2 else None for _, numeric in self.columns]
        head = [h("th", title, scope="col", class_="number" if numeric else None) for title, numeric in self.columns]
        body = [
            h(
                "tr",
                h("th", shown(row[0]), scope="row", class_="long" if _is_long(row[0]) else None),
                [
                    h("td", shown(cell), class_="long" if c == "nowrap" and _is_long(cell) else c)
                    for cell, c in zip(row[1:], classes[1:], strict=True)
                ],
            )
            for row in self.rows
        ]
        inside = [h("caption", self.caption), h("thead", h("tr", head)), h("tbody", body)]
        return scrolled(h("table", inside, class_=f"wide {self.class_}".strip()), self.caption, tall=self.tall)


def table_of(
    caption: str, items: Sequence[Item], columns: Iterable[Column[Item]], *, tall: bool = False, class_: str = ""
) -> Table:
    """Return a table with a row for each item."""
    columns = list(columns)
    rows = [[cell(item) for _, _, cell in columns] for item in items]
    return Table(caption, [(title, numeric) for title, numeric, _ in columns], rows, tall, class_)


def shown(cell: Cell) -> Child:
    """Return what a cell has on the page."""
    if not isinstance(cell, Number):
        return cell
    return [cell.shown, " ", h("span", cell.word, class_=cell.word)] if cell.word else cell.shown


def _is_long(cell: Cell) -> bool:
    """Whether a name in a cell would push what stands beside it out of sight if it did not break."""
    texts = cell if isinstance(cell, list | tuple) else (cell,)
    return any(isinstance(text, str) and len(text) > _LONG for text in texts)


def scrolled(inside: Child, label: str, *, tall: bool = False, class_: str = "") -> Element:
    """Return what scrolls where it finds no room; it can be reached and scrolled with the keyboard."""
    classes = " ".join(filter(None, ["scroll", "tall" if tall else "", class_]))
    return h("div", inside, class_=classes, tabindex=0, role="region", aria_label=label)


def environment_table(environment: Mapping[str, Any]) -> Child:
    """Return versions and hardware as a table."""
    rows = [[name, value] for name, value in flattened(environment)]
    if not rows:
        return h("p", "There is no environment.json.")
    return Table("What it ran on", [("What", False), ("Value", False)], rows, class_="environment")


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


def downloads(folder: Path, kinds: Mapping[str, str]) -> Element | None:
    """Return links that hold the files themselves; ``kinds``: file name -> media type. None where there is no file."""
    items: list[Element] = []
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
    return f"{size / 1024:,.0f}{NBSP}kB" if size >= 1024 else f"{size}{NBSP}bytes"
