"""A page as one HTML file that asks nothing of any network: its head, its sections, its plots and scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import CheckpointError, StateError
from ..files.writing import write_text
from .assets import SCRIPT, STYLE
from .markup import Child, Html, h
from .plotting import Plot


@dataclass(frozen=True)
class Section:
    """A section of a page: its anchor, its heading, what is in it, and its class in the style sheet."""

    name: str
    title: str
    parts: Child
    class_: str | None = None


def write_document(folder: Path, text: str, name: str = "report") -> Path:
    """Write ``report.html`` into a folder and return its path. It is replaced in one step: nobody reads half of it.

    Raises:
        StateError: it cannot be written (full disk, read-only folder).
    """
    target = folder / f"{name}.html"
    try:
        write_text(target, text)
    except CheckpointError as error:
        command = f"redense report {shlex.quote(str(folder))}"
        raise StateError(f"{error}; write it with: {command}") from None
    return target


def document(
    *,
    kind: str,
    name: str,
    facts: Iterable[str],
    sections: Sequence[Section],
    plots: Mapping[str, Plot],
    style: str = "",
    scripts: Sequence[str] = (),
    live: bool = False,
) -> str:
    """Return a page.

    Args:
        kind: what it is: ``redense run report``.
        name: of what it is about; the heading.
        facts: short ones, for the line below; empty ones are left out.
        sections: in order.
        plots: by the id of the element that each is drawn in.
        style: what this page adds to the style sheet.
        scripts: what it adds to the script that draws the plots; they run after it.
        live: it may ask the server that it comes from for what is new, and nobody else.
    """
    from plotly.offline import get_plotlyjs

    all_scripts = [*([get_plotlyjs().replace("\r", ""), SCRIPT] if plots else []), *scripts]
    body = h(
        "body",
        _header(kind, name, facts, sections),
        h("main", [_section(section) for section in sections]),
        h("footer", f"Made by redense {__version__}. {_LIVE if live else _STILL}"),
        h("script", script_json(plots), type="application/json", id="plots") if plots else None,
        [h("script", Html(script)) for script in all_scripts],
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_policy(all_scripts, live)),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("link", rel="icon", href="data:,"),
        h("title", f"{name}: {kind}"),
        h("style", Html(STYLE + style)),
    )
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def _header(kind: str, name: str, facts: Iterable[str], sections: Sequence[Section]) -> Html:
    links = [h("li", h("a", section.title, href=f"#{section.name}")) for section in sections]
    return h(
        "header",
        h("p", kind, class_="eyebrow"),
        h("h1", name),
        h("p", " · ".join(filter(None, facts)), class_="facts"),
        h("nav", h("ul", links), class_="contents", aria_label="Sections"),
    )


def _section(section: Section) -> Html:
    heading = h("h2", section.title, id=f"{section.name}-heading")
    label = f"{section.name}-heading"
    return h("section", heading, section.parts, id=section.name, class_=section.class_, aria_labelledby=label)


def script_json(data: Any) -> Html:
    r"""Return JSON that no HTML parser can take for markup.

    >>> script_json({"name": "</script><b>&"})
    '{"name":"\\u003c/script\\u003e\\u003cb\\u003e\\u0026"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


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
