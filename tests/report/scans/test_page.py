"""The page of a scan: whole, self-contained, and with the numbers that were measured."""

from __future__ import annotations

import dataclasses
import math
import re
from html import unescape
from pathlib import Path

import pytest
from scan_samples import DATA, scan, write_scan

from redense.report.scans.page import make_page, sentence, write_sensitivity_page


def test_the_page_loads_nothing_and_escapes_every_name():
    found = scan()
    page = make_page(found, found.allocate(0.5), DATA).html()
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in unescape(page)
    assert "<b>tiny</b>" not in page
    assert "first</script>.weight" not in page
    assert "first&lt;/script&gt;.weight" in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["']?https?:""", own)


def test_the_curves_have_every_measured_point_and_a_ring_where_it_was_chosen():
    found = scan()
    chosen = found.allocate(0.5)
    drawn = make_page(found, chosen, DATA).plots
    lines = [trace for trace in drawn["sensitivities"]["data"] if "lines" in trace["mode"]]
    rings = [trace for trace in drawn["sensitivities"]["data"] if trace["mode"] == "markers"]
    assert [trace["y"] for trace in lines] == [[0.5, 0.51, 0.9], [0.5, 0.5, 0.5, 0.53], [0.5, 0.55]]
    assert [trace["x"][0] for trace in rings] == pytest.approx([100 * s for s in chosen.values()])
    bars, *marks = drawn["shares"]["data"]
    assert bars["x"] == pytest.approx([100 * s for s in chosen.values()])
    assert len(marks) == 3


def test_the_tables_have_the_measurements_and_the_lines_for_a_recipe():
    found = scan()
    chosen = found.allocate(0.5)
    page = make_page(found, chosen, DATA).html()
    assert "0.5100" in page
    assert "infinite" in page  # what was not finite
    assert "rnn.weight_hh_l0[i]" in page
    assert "rnn.weight_hh_l0: " in page.partition("For a recipe")[2]


def test_a_share_beyond_what_was_scanned_of_a_layer_has_no_drop_on_the_page():
    found = scan()
    chosen = found.allocate(0.5)
    first = next(iter(chosen.predictions))
    odd = dataclasses.replace(chosen, predictions={**chosen.predictions, first: math.inf})
    row = make_page(found, odd, DATA).html().partition("Sum of the drops alone")[2].partition("</tr>")[0]
    assert "not scanned" in row
    assert "infinite" not in row


def test_the_sentence_names_the_layers_that_bear_least_and_most():
    found = scan()
    said = sentence(found, found.allocate(0.5))
    assert "'first</script>.weight' bears the least pruning and 'rnn.weight_hh_l0' the most" in said
    assert "Removing 50\u00a0%" in said


def test_a_scan_without_a_hopeless_bound_and_one_where_higher_is_better_can_be_drawn():
    for found in (scan(hopeless=math.inf), scan(lower_is_better=False)):
        make_page(found, found.allocate(0.2), DATA).html()


def test_the_page_is_written_beside_the_scan(tmp_path: Path):
    path = write_sensitivity_page(write_scan(tmp_path))
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["sensitivity.html", "sensitivity.json"]
