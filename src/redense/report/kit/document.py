"""A page as an object: sections with their tables and figures. HTML, and files for a paper, are made from it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from redense._version import __version__
from redense.errors import CheckpointError, StateError, command
from redense.files.markup import Child, Element, blocks, h, html
from redense.files.writing import write_text

from .assets import asset
from .parts import Figure, Table
from .plotting import Plot


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Args:
        name: its anchor.
        title: its heading.
        parts: what is in it.
        class_: its class in the style sheet.
        style: what it adds to the style sheet of the page.
        script: what it adds to the script that draws the plots; it runs after that.
    """

    name: str
    title: str
    parts: Child
    class_: str | None = None
    style: str = ""
    script: str = ""

    @property
    def tables(self) -> list[Table]:
        """The tables in it."""
        return [block for block in blocks(self.parts) if isinstance(block, Table)]

    @property
    def figures(self) -> list[Figure]:
        """The plots in it."""
        return [block for block in blocks(self.parts) if isinstance(block, Figure)]

    def element(self) -> Element:
        """Return it as it is on the page."""
        label = f"{self.name}-heading"
        heading = h("h2", self.title, id=label)
        return h("section", heading, self.parts, id=self.name, class_=self.class_, aria_labelledby=label)


@dataclass(frozen=True)
class About:
    """Facts about the networks whose evidence a section shows.

    Args:
        recipe: its name; empty where it is not known.
        sparsities: of the prunable weights of each network, by its name; None where it is not known.
        of: whose networks these are, for a title: ``, seed 0``.
    """

    recipe: str = ""
    sparsities: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    of: str = ""


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        kind: what it is: ``redense run report``.
        name: of what it is about; the heading.
        facts: short ones, for the line below; empty ones are left out.
        sections: in order.
        style: what this page adds to the style sheet.
        live: it may ask the server that it comes from for what is new, and nobody else.
    """

    kind: str
    name: str
    facts: Sequence[str]
    sections: Sequence[Section]
    style: str = ""
    live: bool = False

    @property
    def title(self) -> str:
        """The title in a browser."""
        return f"{self.name}: {self.kind}"

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """All plots, by the id of the element that each is drawn in."""
        return {figure.name: figure.plot for section in self.sections for figure in section.figures}

    @property
    def styles(self) -> str:
        """Its style sheet."""
        live = asset("kit/live.css") if self.live else ""
        return "".join(
            dict.fromkeys([asset("kit/page.css"), live, self.style, *(section.style for section in self.sections)])
        )

    def html(self) -> str:
        """Return it as one HTML file that asks nothing of any network."""
        return f"<!doctype html>\n{h('html', self._head(), self._body(), lang='en')}\n"

    def header(self) -> Element:
        """Return what stands above the sections."""
        links = [h("li", h("a", section.title, href=f"#{section.name}")) for section in self.sections]
        return h(
            "header",
            h("p", self.kind, class_="eyebrow"),
            h("h1", self.name),
            h("p", " · ".join(filter(None, self.facts)), class_="facts"),
            h("nav", h("ul", links), class_="contents", aria_label="Sections"),
        )

    @cached_property
    def _all_scripts(self) -> list[str]:
        from plotly.offline import get_plotlyjs

        live = [asset("kit/live.js")] if self.live else []
        own = dict.fromkeys(filter(None, [*(section.script for section in self.sections), *live]))
        return [*([get_plotlyjs().replace("\r", ""), asset("kit/page.js")] if self.plots else []), *own]

    def _head(self) -> Element:
        return h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=_policy(self._all_scripts, self.live)),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("link", rel="icon", href="data:,"),
            h("title", self.title),
            h("style", self.styles),
        )

    def _body(self) -> Element:
        plots = h("script", script_json(self.plots), type="application/json", id="plots") if self.plots else None
        return h(
            "body",
            self.header(),
            h("main", [section.element() for section in self.sections]),
            h("footer", f"Made by redense {__version__}. {_LIVE if self.live else _STILL}"),
            plots,
            [h("script", script) for script in self._all_scripts],
        )


class PageError(StateError):
    """A page that cannot be written where it belongs; what it shows is not harmed."""


def write_page(folder: Path, page: Page, name: str = "report") -> Path:
    """Write ``report.html`` into a folder and return its path. It is replaced in one step: nobody reads half of it.

    Raises:
        PageError: it cannot be written (full disk, read-only folder).
    """
    target = folder / f"{name}.html"
    try:
        write_text(target, page.html())
    except CheckpointError as error:
        again = command("redense", "report", folder)
        raise PageError(f"{error}; once that can be written, or with a copy of the folder: {again}") from None
    return target


def changes(page: Page, version: str, over: bool) -> str:
    """Return what a live page that follows has to know, as JSON: its header, its sections and its plots.

    Args:
        page: as it is now.
        version: of it.
        over: it changes no more.
    """
    sections = {section.name: html(section.element()) for section in page.sections}
    told = {"version": version, "over": over, "header": str(page.header()), "sections": sections, "plots": page.plots}
    return json.dumps(told, allow_nan=False)


def script_json(data: Any) -> str:
    r"""Return JSON that no HTML parser can take for markup.

    >>> script_json({"name": "</script><b>&"})
    '{"name":"\\u003c/script\\u003e\\u003cb\\u003e\\u0026"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


_STILL = "This page loads nothing."
_LIVE = "This page asks the redense that serves it for what is new, and nobody else."


def _policy(scripts: Sequence[str], live: bool) -> str:
    """The page may run these scripts, and neither load nor send anything; a live one asks where it comes from."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    connect = " connect-src 'self';" if live else ""
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; media-src data:;{connect} base-uri 'none'; form-action 'none'"
    )
