"""Every kind of page in a headless Chromium: drawn, silent, alone, readable in both themes, on a phone and on paper.

What toggles, lists and filters do is tested beside the part of the page that has them.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from redense.report import write_report
from redense.report.comparisons.page import write_compare_report
from redense.report.paper.browser import BrowserPage
from redense.report.scans.page import write_sensitivity_page

AXE = Path(__file__).with_name("axe") / "axe.min.js.gz"
DRAWN = """
  Object.fromEntries([...document.querySelectorAll(".plot")].map((plot) =>
    [plot.id, plot.querySelectorAll(".trace, .points path, .bars path").length]))
"""
# What is folded away is read by somebody who unfolds it. Plots are hidden from a reader, who has a label and a table.
CHECKED = """(async () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const {violations, passes} = await axe.run({exclude: [["svg.main-svg"]]}, {runOnly: RULES});
  const rules = passes.map((rule) => rule.id);
  return {rules, wrong: violations.map((rule) => [rule.id, ...rule.nodes.slice(0, 3).map((node) => node.html)])};
})()"""

# By theme: what is wrong in one and not in the other is a colour.
RULES = {"light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "dark": ["color-contrast"]}


def of(name: str) -> ModuleType:
    """The tests of a page, for its samples: pytest gives test modules no name to import them by."""
    spec = importlib.util.spec_from_file_location(f"samples_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_page(folder: Path) -> Path:
    run = of("runs/test_page").fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(of("tasks/classification/test_part").told()))
    (run / "moments.json").write_text(json.dumps({"cycles": [of("runs/test_moments").cycle()]}))
    of("scans/test_page").write(run / "sensitivity")
    return write_report(run)


def comparison_page(folder: Path) -> Path:
    module = of("comparisons/test_page")
    made = module.fake_comparison(folder / "comparison", seeds=range(3))
    (made / "diagnosis.json").write_text(json.dumps(module.fake_diagnosis()))
    (made / "evidence.json").write_text(json.dumps(of("tasks/classification/test_part").told()))
    return write_compare_report(made)


def scan_page(folder: Path) -> Path:
    return write_sensitivity_page(of("scans/test_page").write(folder / "scan"))


def captions_page(folder: Path) -> Path:
    module = of("tasks/captioning/test_part")
    run = of("runs/test_page").fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(module.DATA))
    return write_report(run)


def speech_page(folder: Path) -> Path:
    run = of("runs/test_page").fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(of("tasks/speech/test_part").told()))
    return write_report(run)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "make",
    [
        run_page,  # with a scan
        comparison_page,
        pytest.param(scan_page, marks=pytest.mark.slow),
        captions_page,
        speech_page,
    ],
)
def test_page_is_drawn_says_and_asks_nothing_and_can_be_read_in_both_themes_on_a_phone_and_on_paper(
    make: Callable[[Path], Path],
    tmp_path: Path,
    look: Callable[..., BrowserPage],
    in_theme: Callable[[BrowserPage, str], None],
    complaints: Callable[[BrowserPage], list[str]],
) -> None:
    page = look(make(tmp_path))
    drawn = page.run(DRAWN)
    assert set(drawn) == set(json.loads(page.run('document.getElementById("plots").textContent')))
    assert all(drawn.values()), drawn
    page.run(gzip.decompress(AXE.read_bytes()).decode() + "; 0")
    paper = {}
    for theme, rules in RULES.items():
        in_theme(page, theme)
        found = page.run(CHECKED.replace("RULES", json.dumps(rules)))
        assert found["wrong"] == [], theme
        assert "color-contrast" in found["rules"]
        paper[theme] = page.run("getComputedStyle(document.body).backgroundColor")
    assert paper["light"] != paper["dark"]
    page.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.querySelector('.contents')).display") == "none"
    assert page.run("getComputedStyle(document.body).backgroundColor") == paper["light"]
    assert complaints(page) == []
