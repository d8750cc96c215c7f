"""What the tests of the pages share: reading a page with and without a browser, and the colours of a style sheet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from redense.report.comparisons.page import write_compare_report
from redense.report.paper.browser import Browser, BrowserPage, find_browser
from redense.report.runs.page import write_report

sys.path.insert(0, str(Path(__file__).parent / "samples"))  # folders that several tests make


class Page(HTMLParser):
    """The elements, the visible text and the scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.shown: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(f"{part}\n" for part in self.shown).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def plots(self) -> dict[str, Any]:
        index = [attributes.get("id") for attributes in self.all("script")].index("plots")
        return json.loads(self.scripts[index])


@pytest.fixture
def read_page() -> Callable[[str], Page]:
    """Read the text of a page."""
    return Page


@pytest.fixture
def page_of() -> Callable[[Path], Page]:
    """Write the page of a run or of a comparison, and read it."""

    def page(folder: Path) -> Page:
        write = write_compare_report if (folder / "compare.json").exists() else write_report
        return Page(write(folder).read_text(encoding="utf-8"))

    return page


@pytest.fixture
def small_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a finished run without phases: ``small_run({"moments.json": {...}}, task="captioning")``."""

    def make(files: Mapping[str, Any] | None = None, **result: Any) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        metric = {"name": "error", "unit": "%", "lower_is_better": True}
        plain = {"recipe": "small", "task": "classification", "seed": 0, "metric": metric, "phases": [], "layers": []}
        for name, content in {"result.json": plain | result, **(files or {})}.items():
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def evil() -> str:
    """A text that is an attack wherever it becomes markup, a script, an attribute, or a template of plotly.js."""
    return "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'%{x}"


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; one for all tests of a process."""
    if find_browser() is None:
        pytest.skip("needs Chromium or Chrome (Debian: apt-get install chromium)")
    with Browser(patience=280) as running:
        yield running


@pytest.fixture(scope="session")
def open_page(browser: Browser) -> Callable[..., BrowserPage]:
    """Load a page in a theme, at a width, in a tab of its own."""

    def load(address: str | Path, *, theme: str = "light", width: int = 1100) -> BrowserPage:
        page = browser.page()
        _in_theme(page, theme)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        page.ask("Emulation.setDeviceMetricsOverride", **size)
        page.go(address if isinstance(address, str) else address.as_uri())
        return page

    return load


@pytest.fixture
def look(open_page: Callable[..., BrowserPage]) -> Iterator[Callable[..., BrowserPage]]:
    """Load a page in a theme, at a width; it is closed after the test."""
    opened: list[BrowserPage] = []

    def load(address: str | Path, **how: Any) -> BrowserPage:
        opened.append(open_page(address, **how))
        return opened[-1]

    yield load
    for page in opened:
        page.close()


@pytest.fixture
def in_theme() -> Callable[[BrowserPage, str], None]:
    """Turn a page light or dark, as the system's setting would."""
    return _in_theme


@pytest.fixture
def complaints() -> Callable[[BrowserPage], list[str]]:
    """Return what a page has said on the console, thrown, or asked of anybody but itself."""
    return _complaints


def _in_theme(page: BrowserPage, theme: str) -> None:
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])


def _complaints(page: BrowserPage) -> list[str]:
    said: list[str] = []
    for event in page.events:
        method, about = event["method"], event["params"]
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            said.append(json.dumps(about)[:1000])
        elif method == "Network.requestWillBeSent" and about["request"]["url"] != about["documentURL"]:
            said += [url for url in [about["request"]["url"]] if not url.startswith(("data:", "blob:"))]
    return said


# --- colours --------------------------------------------------------------------------------------------------------


@pytest.fixture
def palettes() -> Callable[..., dict[str, dict[str, str]]]:
    """Return the colours of style sheets: theme -> name -> #rrggbb."""

    def colours(*sheets: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {"light": {}, "dark": {}}
        for sheet in sheets:
            for theme, text in zip(found, sheet.split("prefers-color-scheme: dark", 1), strict=True):
                found[theme] |= dict(re.findall(r"--([\w-]+): (#\w{6})", text))
        return found

    return colours


@pytest.fixture
def contrast() -> Callable[[str, str], float]:
    """Return the contrast of two colours after WCAG, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def ratio(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    return ratio
