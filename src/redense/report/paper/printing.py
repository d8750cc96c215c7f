"""Figures and tables for a paper: every plot of a page as SVG, PDF and PNG, every table as CSV, Markdown and LaTeX."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.opening import read_bytes
from redense.files.visible import markdown
from redense.files.writing import write_bytes
from redense.report.kit.document import Page
from redense.report.kit.parts import Figure
from redense.report.kit.plotting import Plot

from .browser import Browser, BrowserPage
from .tabular import to_csv, to_latex, to_markdown

WIDTH = 624  # CSS pixels: 6.5 inches, the text of a page; 12 pixels of type are 9 points
_LIST = "README.md"
_LARGEST = 1 << 24  # bytes of that list
_NAMES = re.compile(r"`(figure|table)-[\w-]+\.\w+`(, `(figure|table)-[\w-]+\.\w+`){2}")  # a line of the list
_SHARP = 3  # pixels of PNG for one of CSS: 288 to the inch
_FONT = "Helvetica, Arial, 'Liberation Sans', 'Nimbus Sans', sans-serif"
_LEGEND: Plot = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"}
_ROW = 20  # pixels of a row of the legend


def write_figures(page: Page, out: Path) -> list[Path]:
    """Write all plots and tables of a page into a folder, which may exist, and return the files.

    Raises:
        BrowserError: there are plots, and no Chromium or Chrome to draw them.
        DataError: a file of such a name lies there that this has not written.
    """
    files: dict[str, bytes] = {}
    listed = [f"# {markdown(page.title)}"]
    plots = list(_plots(page))
    if plots:
        with Browser() as browser:
            tab = _prepared(browser)
            for name, heading, drawn, plot in plots:
                files |= {f"{name}.{kind}": data for kind, data in _images(tab, plot).items()}
                listed += [
                    f"## {markdown(heading)}",
                    markdown(drawn.caption),
                    f"`{name}.svg`, `{name}.pdf`, `{name}.png`",
                ]
                listed += [f"In words: {markdown(drawn.description)}"]
    used: set[str] = set()
    for section, table in ((one, table) for one in page.sections for table in one.tables):
        name = _unused(f"table-{_slug(section.name.removesuffix('-section')) or 'page'}", used)
        made = {"csv": to_csv(table), "md": to_markdown(table), "tex": to_latex(table, name.removeprefix("table-"))}
        files |= {f"{name}.{kind}": text.encode() for kind, text in made.items()}
        listed += [f"## {markdown(table.caption)}", f"`{name}.csv`, `{name}.md`, `{name}.tex`"]
    _refuse_others(out, files)
    files = {_LIST: ("\n\n".join(listed) + "\n").encode(), **files}  # first, so that it names what a kill leaves
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(out / name, data)
    return [out / name for name in files]


def _refuse_others(out: Path, names: Iterable[str]) -> None:
    """Raise where a file is in the way that this has not written: the list that it writes does not name it.

    Raises:
        DataError: there is one, or the list is not ours.
    """
    try:
        there = read_bytes(out / _LIST, _LARGEST).decode("utf-8", errors="replace")
    except OSError:
        there = ""
    ours = {name for line in there.split("\n") if _NAMES.fullmatch(line) for name in re.findall("`([^`]+)`", line)}
    for name in (*names, *(() if ours else (_LIST,))):
        if name not in ours and os.path.lexists(out / name):
            raise DataError(f"{out / name} is there, and redense report has not written it: name another folder")


def _slug(text: str) -> str:
    r"""Return text as part of a file's name.

    >>> _slug("The weights of features.4.weight at each moment")
    'the-weights-of-features-4-weight-at-each-moment'
    """
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words if len(words) <= 64 else words[:64].rpartition("-")[0]


def _unused(name: str, used: set[str]) -> str:
    number, free = 1, name
    while free in used:
        number += 1
        free = f"{name}-{number}"
    used.add(free)
    return free


# --- plots on paper -------------------------------------------------------------------------------------------------


def _plots(page: Page) -> Iterator[tuple[str, str, Figure, Plot]]:
    """Give file name, heading and plot of every plot, and of every choice of one that has several."""
    used: set[str] = set()
    paper = colours(page.styles)
    for drawn in (figure for section in page.sections for figure in section.figures):
        choices, short = drawn.plot.get("choices"), _slug(drawn.name.removesuffix("-plot"))
        if not choices:
            name = _unused(f"figure-{short}", used)
            yield name, drawn.name, drawn, on_paper(drawn.plot, paper)
            continue
        for index, choice in enumerate(choices):
            called = drawn.choices[index] if index < len(drawn.choices) else str(index + 1)
            data = [{**trace, **other} for trace, other in zip(drawn.plot["data"], choice["data"], strict=True)]
            plot = {**drawn.plot, "data": data, "layout": {**drawn.plot["layout"], **choice["layout"]}}
            name = _unused(f"figure-{short}-{_slug(called.partition(',')[0])}", used)
            yield name, f"{drawn.name}: {called}", drawn, on_paper(plot, paper)


def colours(style: str) -> dict[str, str]:
    """Return the colours of a style sheet: those of dark screens are defined after the others, and are left out.

    >>> colours(":root { --ink: #16191f; } @media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; } }")
    {'--ink': '#16191f'}
    """
    found: dict[str, str] = {}
    for name, colour in re.findall(r"(--[\w-]+): (#[0-9a-f]{6})\b", style):
        found.setdefault(name, colour)
    return found


def on_paper(plot: Plot, colours: Mapping[str, str]) -> Plot:
    """Return a plot for `Plotly.newPlot` on white paper: its colours painted in, its names and its key drawn in."""
    layout = {**plot["layout"], **plot.get("paper", {}), "width": WIDTH}
    margin = dict(layout["margin"])
    layout["annotations"] = [*layout.get("annotations", ()), *_band_names(plot, WIDTH - margin["l"] - margin["r"])]
    layout["font"] = {**layout.get("font", {}), "family": _FONT}
    layout["paper_bgcolor"] = layout["plot_bgcolor"] = "#ffffff"
    if "paper" in plot and layout.get("showlegend"):
        rows = _legend_rows([str(trace.get("name")) for trace in plot["data"] if trace.get("showlegend", True)])
        layout["legend"] = _LEGEND
        margin["t"] += _ROW * rows
        layout["height"] += _ROW * rows
    layout["margin"] = margin
    return {"data": _painted(plot["data"], "", colours), "layout": _painted(layout, "", colours)}


def _legend_rows(names: list[str]) -> int:
    """Return the number of rows of entries that plotly.js makes: all are as wide as the widest."""
    widest = max((7 * len(name) + 46 for name in names), default=1)
    return -(-len(names) // max(1, (WIDTH - 60) // widest))


def _painted(value: Any, key: str, colours: Mapping[str, str]) -> Any:
    """Colours are given as names of CSS variables, alone or as one for each point."""
    if isinstance(value, str):
        return colours.get(value, value) if key.lower().endswith("color") else value
    if isinstance(value, list):
        return [_painted(item, key, colours) for item in value]
    if isinstance(value, Mapping):
        return {name: _painted(item, name, colours) for name, item in value.items()}
    return value


def _band_names(plot: Plot, width: float) -> Iterator[Plot]:
    """The names of the phases, as the page's script writes them where they find room."""
    bands = plot.get("bands") or []
    total = max([1, *(band["end"] for band in bands)])
    for band in bands:
        room = (band["end"] - band["start"]) / total * width - 6
        text = next((t for t in (band["text"], band["text"].split(" ")[0]) if 6.6 * len(t) <= room), None)
        if text is not None:
            middle = (band["start"] + band["end"]) / 2
            place = {"x": middle, "xref": "x", "y": 1, "yref": "paper", "yanchor": "top", "showarrow": False}
            yield {"text": text, **place, "font": {"color": "--ink", "size": 12}}


# --- in the browser -------------------------------------------------------------------------------------------------

_DRAW = """(async () => {
  const {data, layout} = %s;
  const size = {width: layout.width, height: layout.height};
  const svg = await Plotly.toImage({data, layout}, {format: "svg", ...size});
  const png = await Plotly.toImage({data, layout}, {format: "png", scale: %d, ...size});
  const text = decodeURIComponent(svg.slice(svg.indexOf(",") + 1));
  document.body.innerHTML = text;
  return {svg: text, png: png.slice(png.indexOf(",") + 1)};
})()"""


def _prepared(browser: Browser) -> BrowserPage:
    from plotly.offline import get_plotlyjs

    tab = browser.page()
    tab.run(f"{get_plotlyjs()}; document.body.style.margin = 0; true")
    return tab


def _images(tab: BrowserPage, plot: Plot) -> dict[str, bytes]:
    drawn = tab.run(_DRAW % (json.dumps(plot), _SHARP))
    paper = {"paperWidth": plot["layout"]["width"] / 96, "paperHeight": (plot["layout"]["height"] + 1) / 96}
    margins = {f"margin{side}": 0 for side in ("Top", "Bottom", "Left", "Right")}
    pdf = tab.ask("Page.printToPDF", **paper, **margins, printBackground=True, pageRanges="1")["data"]
    return {"svg": drawn["svg"].encode(), "pdf": base64.b64decode(pdf), "png": base64.b64decode(drawn["png"])}
