"""What a page holds, read back from it: its plots, its tables and its colours. So figures are those of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

from .plotting import Plot

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})
_TEXTS = frozenset({"title", "style", "caption", "figcaption", "th", "td", "option"})


@dataclass(frozen=True)
class Drawn:
    """A plot: the name in the page, what it shows in words, its caption, and what can be chosen."""

    name: str
    description: str
    caption: str
    plot: Plot
    choices: Sequence[str] = ()


@dataclass(frozen=True)
class Grid:
    """A table as text: the section it is in; ``numeric`` says of each column whether it holds numbers."""

    section: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]


@dataclass(frozen=True)
class Contents:
    """The title of a page, its plots, its tables, and its colours on paper: name of a CSS variable -> colour."""

    title: str
    figures: Sequence[Drawn]
    tables: Sequence[Grid]
    colours: Mapping[str, str]


def read_contents(page: str) -> Contents:
    """Return what a page holds that `redense` has written."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    plots: Mapping[str, Plot] = json.loads(reader.plots) if reader.plots else {}
    figures = [
        Drawn(name, said, caption, plots[name], tuple(reader.choices.get(name, ())))
        for name, said, caption in reader.figures
        if name in plots
    ]
    return Contents(" ".join(reader.title.split()), figures, reader.tables, colours(reader.style))


def colours(style: str) -> dict[str, str]:
    """Return the colours of a style sheet: those of dark screens are defined after the others, and are left out.

    >>> colours(":root { --ink: #16191f; } @media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; } }")
    {'--ink': '#16191f'}
    """
    found: dict[str, str] = {}
    for name, colour in re.findall(r"(--[\w-]+): (#[0-9a-f]{6})\b", style):
        found.setdefault(name, colour)
    return found


@dataclass
class _Table:
    caption: str = ""
    head: list[str] = field(default_factory=list[str])
    numeric: list[bool] = field(default_factory=list[bool])
    rows: list[list[str]] = field(default_factory=list[list[str]])


class _Reader(HTMLParser):
    """Walks through a page; ``_taking`` collects the text of the element that is read now."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.style, self.plots = "", "", ""
        self.figures: list[tuple[str, str, str]] = []
        self.tables: list[Grid] = []
        self.choices: dict[str, list[str]] = {}
        self._taking: list[str] | None = None
        self._table: _Table | None = None
        self._section = ""
        self._figure: list[str] | None = None
        self._chooser: str | None = None
        self._open: list[tuple[str, str]] = []  # elements, and what closes each in text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "br":
            self._take("; ")
        if tag in _VOID:
            return
        classes = given.get("class", "").split()
        closing = ""
        if tag == "small":  # an interval below its figure
            self._take(" [")
            closing = "]"
        elif {"under", "about"} & set(classes):
            self._take(", ")
        self._open.append((tag, closing))
        if tag in _TEXTS or (tag == "script" and given.get("id") == "plots"):
            self._taking = []
        elif tag == "section":
            self._section = given.get("id", "")
        elif tag == "table":
            self._table = _Table()
        elif tag == "tr" and self._table:
            self._table.rows.append([])
        elif tag == "figure":
            self._figure = ["", ""]
        elif self._figure and "plot" in classes:
            self._figure = [given.get("id", ""), given.get("aria-label", "")]
        elif tag == "select" and "data-plot" in given:
            self._chooser = given["data-plot"]
        if tag == "th" and self._table and len(self._table.rows) == 1:
            self._table.numeric.append("number" in classes)

    def handle_endtag(self, tag: str) -> None:
        while self._open:  # what HTML lets one leave out, as `</p>`, closes with what it is in
            name, closing = self._open.pop()
            self._take(closing)
            if name == tag:
                break
        text = self._taken()
        if tag == "title":
            self.title = text
        elif tag == "style":
            self.style = self.style or text
        elif tag == "script":
            self.plots = self.plots or text
        elif tag in ("th", "td") and self._table and self._table.rows:
            self._table.rows[-1].append(_one_line(text))
        elif tag == "caption" and self._table:
            self._table.caption = _one_line(text)
        elif tag == "figcaption" and self._figure:
            self.figures.append((self._figure[0], self._figure[1], _one_line(text)))
        elif tag == "option" and self._chooser:
            self.choices.setdefault(self._chooser, []).append(_one_line(text))
        elif tag == "select":
            self._chooser = None
        elif tag == "table" and self._table:
            self._keep(self._table)
            self._table = None
        if tag in _TEXTS or tag == "script":
            self._taking = None

    def handle_data(self, data: str) -> None:
        self._take(data)

    def _take(self, text: str) -> None:
        if self._taking is not None:
            self._taking.append(text)

    def _taken(self) -> str:
        return "".join(self._taking or ())

    def _keep(self, table: _Table) -> None:
        head, *rows = table.rows or [[]]
        numeric = [*table.numeric, *[True] * len(head)][: len(head)]
        self.tables.append(Grid(self._section, table.caption, head, rows, numeric))


def _one_line(text: str) -> str:
    """Text as one line, whose spaces that do not break stay what they are."""
    return re.sub(r"[ \t\r\n]+", " ", text).strip().removesuffix(";").removeprefix(", ")
