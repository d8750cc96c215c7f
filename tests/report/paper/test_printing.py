"""Figures for a paper: every plot of a page, in ink on white, with its key, and no file left out."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from redense.errors import BrowserError, DataError
from redense.files.markup import h
from redense.report.kit.document import Page, Section
from redense.report.kit.parts import Figure, Table
from redense.report.kit.plotting import AXIS, LOOK
from redense.report.paper import browser, printing

LAYOUT = {**LOOK, "height": 200, "margin": {"l": 8, "r": 8, "t": 20, "b": 40}, "xaxis": AXIS, "yaxis": AXIS}
TRACE = {"type": "scatter", "mode": "lines", "name": "dsd", "x": [0, 1], "y": [1, 2], "line": {"color": "--accent"}}


def page(**plots: Any) -> Page:
    """A page with these plots and a table."""
    figures = [Figure(name, f"{name} shown", f"How to read {name}.", plot) for name, plot in plots.items()]
    parts = [h("div", figures), Table("The numbers", [("Arm", False), ("Error, %", True)], [["dsd", "1.5"]])]
    return Page("a run", "tiny", [], [Section("arms", "Arms", parts)])


def plot(**more: Any) -> dict[str, Any]:
    return {"data": [TRACE], "layout": LAYOUT, "bands": [], **more}


def on_paper(page: Page) -> list[Any]:
    return [printing.on_paper(plot, printing.colours(page.styles)) for plot in page.plots.values()]


def test_a_figure_has_the_colours_of_paper_and_names_no_variable():
    (found,) = on_paper(page(curves=plot()))
    assert found["data"][0]["line"]["color"] == "#0b57a4"  # not the one of the dark theme
    assert found["layout"]["paper_bgcolor"] == "#ffffff"
    assert '"--' not in json.dumps(found)


def test_a_figure_whose_key_is_on_the_page_gets_one_of_its_own_and_room_for_it():
    plain, keyed = on_paper(page(plain=plot(), keyed=plot(paper={"showlegend": True})))
    assert "showlegend" not in plain["layout"]
    assert keyed["layout"]["showlegend"] is True
    assert keyed["layout"]["height"] == plain["layout"]["height"] + 20
    assert keyed["layout"]["margin"]["t"] == plain["layout"]["margin"]["t"] + 20


def test_phases_are_named_where_their_names_find_room():
    bands = [{"start": 0, "end": 990, "text": "dense"}, {"start": 990, "end": 1000, "text": "sparse 30 %"}]
    (found,) = on_paper(page(curves=plot(bands=bands)))
    assert [note["text"] for note in found["layout"]["annotations"]] == ["dense"]


def test_without_a_browser_the_error_says_how_to_get_one_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    with pytest.raises(BrowserError, match="apt-get install chromium"):
        printing.write_figures(page(curves=plot()), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    printing.write_figures(page(), tmp_path / "tables")  # tables alone need none
    names = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert names == ["README.md", "table-arms.csv", "table-arms.md", "table-arms.tex"]


@pytest.mark.parametrize("mine", ["README.md", "table-arms.csv", "table-arms.tex"])
def test_a_file_that_is_not_ours_is_never_replaced(tmp_path: Path, mine: str):
    (tmp_path / mine).write_text("# My table `table-arms.csv`\n")
    with pytest.raises(DataError, match=rf"{mine} is there, and redense report has not written it: name another"):
        printing.write_figures(page(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [mine]
    assert (tmp_path / mine).read_text() == "# My table `table-arms.csv`\n"


def test_figures_are_written_again_beside_what_somebody_has_put_there(tmp_path: Path):
    first = printing.write_figures(page(), tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    first[1].unlink()  # as a kill leaves it
    assert printing.write_figures(page(), tmp_path) == first
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert all(path.stat().st_size for path in first)


def test_a_browser_that_is_named_and_cannot_be_started_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setenv("REDENSE_BROWSER", "no-such-browser")
    with pytest.raises(BrowserError, match=r"REDENSE_BROWSER must name a Chromium or Chrome .*, got 'no-such-browser'"):
        browser.find_browser()


def test_a_browser_that_ends_as_it_begins_is_an_error_and_leaves_no_process(monkeypatch):
    monkeypatch.setenv("REDENSE_BROWSER", "false")
    with pytest.raises(BrowserError, match="ended as it began, with exit code 1"):
        browser.Browser()


@pytest.mark.timeout(600)
def test_browser_draws_every_plot_and_every_choice_of_one_as_svg_pdf_and_png(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = request.getfixturevalue("browser")  # the one of all tests: to start another takes seconds
    monkeypatch.setattr(printing, "Browser", lambda: contextlib.nullcontext(running))
    choices = [
        {"data": [{"y": [1, 2]}], "layout": {"xaxis": {"title": {"text": f"weight of {name}"}}}} for name in "ab"
    ]
    drawn = page(**{"classes-plot": plot(), "moments": plot(choices=choices)})
    written = printing.write_figures(drawn, tmp_path / "figures")
    names = ["figure-classes", "figure-moments-1", "figure-moments-2", "table-arms"]
    assert {path.stem for path in written} == {*names, "README"}
    svg = (tmp_path / "figures" / "figure-moments-2.svg").read_text(encoding="utf-8")
    assert "weight of b" in svg
    assert "rgb(11, 87, 164)" in svg
    assert "modebar" not in svg
    pdf = (tmp_path / "figures" / "figure-classes.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    width, height = (float(value) for value in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)[0])
    assert width == pytest.approx(printing.WIDTH * 0.75, abs=1)  # points
    assert height == pytest.approx(200 * 0.75, abs=1.5)
    png = (tmp_path / "figures" / "figure-classes.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (3 * printing.WIDTH, 600)
    listed = (tmp_path / "figures" / "README.md").read_text(encoding="utf-8")
    assert "How to read moments." in listed
    assert "`figure-moments-2.svg`, `figure-moments-2.pdf`, `figure-moments-2.png`" in listed
