"""Every kind of page in a headless Chromium: drawn, silent, alone, readable in both themes, on a phone and on paper.

A page is loaded once, and all tests of it look at that tab: first what toggles, lists and filters do, then the page as
a whole, whose last line is that nothing was said, thrown or asked of anybody in all that time.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import comparison_samples
import pytest
import run_samples
import scan_samples

from redense.report import write_report
from redense.report.comparisons.page import write_compare_report
from redense.report.kit.assets import asset
from redense.report.paper.browser import Browser, BrowserPage
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
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"samples_{name.replace('/', '_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_page(folder: Path) -> Path:
    classes = of("tasks/classification/test_part")
    run = run_samples.fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(classes.told([*classes.CASES, ("fox", "cat", "fox")])))
    (run / "moments.json").write_text(json.dumps({"cycles": [of("runs/test_moments").cycle()]}))
    scan_samples.write_scan(run / "sensitivity")
    return write_report(run)


def comparison_page(folder: Path) -> Path:
    made = comparison_samples.fake_comparison(folder / "comparison", seeds=range(3))
    (made / "diagnosis.json").write_text(json.dumps(comparison_samples.fake_diagnosis()))
    (made / "evidence.json").write_text(json.dumps(of("tasks/classification/test_part").told()))
    return write_compare_report(made)


def scan_page(folder: Path) -> Path:
    return write_sensitivity_page(scan_samples.write_scan(folder / "scan"))


def captions_page(folder: Path) -> Path:
    run = run_samples.fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(of("tasks/captioning/test_part").DATA))
    return write_report(run)


def speech_page(folder: Path) -> Path:
    run = run_samples.fake_run(folder / "run")
    (run / "evidence.json").write_text(json.dumps(of("tasks/speech/test_part").told()))
    return write_report(run)


Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def tab(
    browser: Browser, open_page: Callable[..., BrowserPage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Make], BrowserPage]]:
    """Return the tab of a kind of page; it is loaded when it is first asked for."""
    tabs: dict[Make, BrowserPage] = {}

    def get(make: Make) -> BrowserPage:
        if make not in tabs:
            tabs[make] = open_page(make(tmp_path_factory.mktemp(make.__name__)))
        tabs[make].ask("Page.bringToFront")  # one in the background hears of no other theme
        return tabs[make]

    yield get
    for page in tabs.values():
        page.close()


def test_browser_draws_another_layer_and_keeps_it_when_the_plots_are_drawn_again(tab: Callable[[Make], BrowserPage]):
    script = """(() => {
      const plot = document.getElementById("moments");
      const state = () => [
        plot.layout.xaxis.title.text, plot.data.length, plot.data[0].y.reduce((a, b) => a + b),
        [...document.querySelectorAll("[data-choice]")].map((part) => +!part.hidden).join("")].join(" ");
      const said = [state()];
      const select = document.querySelector("select[data-plot]");
      select.value = "1";
      select.dispatchEvent(new Event("change"));
      said.push(state());
      dispatchEvent(new Event("beforeprint"));
      dispatchEvent(new Event("afterprint"));
      return [...said, state()];
    })()"""
    other = "weight of conv.weight 6 200 0101"
    assert tab(run_page).run(script) == ["weight of fc.weight 6 400 1010", other, other]


def test_browser_shows_the_examples_of_one_class(tab: Callable[[Make], BrowserPage]):
    script = """(() => {
      const shown = () => [...document.querySelectorAll("#changes .changed")].map((list) =>
        [...list.querySelectorAll("li")].filter((card) => card.offsetParent).length
        + (list.querySelector(".none").hidden ? "" : "none"));
      const select = document.querySelector("#changes select");
      const said = [select.offsetParent !== null, shown()];
      for (const value of ["2", "0", ""]) {
        select.value = value;
        select.dispatchEvent(new Event("change"));
        said.push(shown());
      }
      return said.join();
    })()"""
    assert tab(run_page).run(script) == "true,4,1,1,0none,3,1,4,1"


def test_browser_hides_an_arm_and_keeps_it_hidden_when_the_plots_are_drawn_again(tab: Callable[[Make], BrowserPage]):
    script = """(() => {
      const shown = () => document.getElementById("curves").data.filter((t) => t.visible ?? true).length;
      const said = [shown()];
      document.querySelectorAll(".toggles input")[1].click();
      said.push(shown());
      dispatchEvent(new Event("beforeprint"));
      said.push(shown());
      dispatchEvent(new Event("afterprint"));
      said.push(shown());
      document.querySelector(".toggles button[value=none]").click();
      said.push(shown());
      document.querySelector(".toggles button[value=all]").click();
      return [...said, shown()];
    })()"""
    assert tab(comparison_page).run(script) == [30, 25, 25, 25, 0, 30]


def test_browser_sorts_by_who_wins_and_filters_by_words(tab: Callable[[Make], BrowserPage]):
    script = """(() => {
      const shown = () => [...document.querySelectorAll("#captions .gallery > ul > li")]
        .filter((card) => card.offsetParent).map((card) => card.dataset.index).join("")
        + (document.querySelector("#captions .none").hidden ? "" : "none");
      const select = document.querySelector("#captions select"), search = document.querySelector("#captions input");
      const said = [select.offsetParent !== null, select.value, shown()];
      for (const value of ["won", "lost", "different"]) {
        select.value = value;
        select.dispatchEvent(new Event("change"));
        said.push(shown());
      }
      for (const value of ["RED Dog", "animal cat", "zebra", ""]) {
        search.value = value;
        search.dispatchEvent(new Event("input"));
        said.push(shown());
      }
      return said.join();
    })()"""
    assert tab(captions_page).run(script) == "true,random,03,02,1,1023,023,1,none,1023"


def test_browser_finds_transcripts_by_set_and_word(tab: Callable[[Make], BrowserPage]):
    script = """(() => {
      const shown = () => [...document.querySelectorAll("#transcripts .heard-list")].map((list) =>
        [...list.querySelectorAll("li")].filter((clip) => clip.offsetParent).length
        + (list.querySelector(".none").hidden ? "" : "none"));
      const [select, search] = ["select", "input"].map((name) => document.querySelector(`#transcripts ${name}`));
      const said = [select.offsetParent !== null, shown()];
      const set = (element, value) => {
        element.value = value;
        element.dispatchEvent(new Event(element === select ? "change" : "input"));
        said.push(shown());
      };
      set(select, "0"); set(select, "1"); set(search, "PERRO"); set(select, "0"); set(search, ""); set(select, "");
      return said.join();
    })()"""
    expected = "true,2,1,2,1,0none,1,1,1,1,1,0none,0none,0none,0none,0none,1,0none,1,2,1,2"
    assert tab(speech_page).run(script) == expected


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "make",
    [
        run_page,  # with a scan
        comparison_page,
        *(pytest.param(make, marks=pytest.mark.slow) for make in (scan_page, captions_page, speech_page)),
    ],
)
def test_page_is_drawn_says_and_asks_nothing_and_can_be_read_in_both_themes_on_a_phone_and_on_paper(
    make: Make,
    tab: Callable[[Make], BrowserPage],
    in_theme: Callable[[BrowserPage, str], None],
    complaints: Callable[[BrowserPage], list[str]],
    palettes: Callable[..., dict[str, dict[str, str]]],
) -> None:
    page = tab(make)
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
    plots = page.run("[...document.querySelectorAll('.plot')].map((plot) => plot.outerHTML).join('')")
    ink = palettes(asset("kit/page.css"))["dark"]["ink"]
    assert f"fill: rgb({', '.join(str(int(ink[i : i + 2], 16)) for i in (1, 3, 5))})" in plots
    assert set(re.findall(r'data-title="([^"]*)"', plots)) == {"Download plot", "Reset axes"}  # and no upload
    page.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.querySelector('.contents')).display") == "none"
    assert page.run("getComputedStyle(document.body).backgroundColor") == paper["light"]
    assert complaints(page) == []
    in_theme(page, "light")  # as the page was, should a test of what it does come later
    page.ask("Emulation.setDeviceMetricsOverride", width=1100, height=900, deviceScaleFactor=1, mobile=False)


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_browser_runs_no_script_of_what_the_page_is_about(
    kind: str,
    tmp_path: Path,
    look: Callable[..., BrowserPage],
    complaints: Callable[[BrowserPage], list[str]],
    read_page: Callable[..., Any],
) -> None:
    if kind == "run":
        written = write_report(run_samples.evil_run(tmp_path / "run"))
    else:
        made = comparison_samples.fake_comparison(tmp_path / "comparison", seeds=range(2))
        (made / "SHA256SUMS").unlink()  # what is changed by hand
        written = write_compare_report(comparison_samples.evil_comparison(made))
    page = look(written)
    assert complaints(page) == []
    document = page.run("document.documentElement.outerHTML")
    read = read_page(document)
    assert document.count('class="scatterlayer') >= 4
    assert not read.all("img")
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
