"""The page of a comparison for everyone: headings and labels, and arms that can be told apart without their colours."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace

import pytest
from comparison_samples import (
    USUAL,
    fake_diagnosis,
)

from redense.report.comparisons.looks import look
from redense.report.comparisons.reading import read_comparison
from redense.report.kit.assets import asset

STYLE = asset("kit/page.css")
COMPARE_STYLE = asset("comparisons/comparison.css")


def test_page_has_language_title_ordered_headings_labels_and_text_for_every_plot(usual, page_of):
    (usual / "diagnosis.json").write_text(json.dumps(fake_diagnosis()))
    page = page_of(usual)
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>quickstart: redense comparison</title>" in page.source
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    plots = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    assert {plot["id"] for plot in plots} == set(page.plots())
    assert all(plot["role"] == "group" and len(plot["aria-label"]) > 40 for plot in plots)
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert len(page.all("input")) == len(USUAL) == page.source.count("<label>")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(links) <= set(ids)


def linear(colour: str) -> list[float]:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


SIGHT = {  # Machado, Oliveira and Fernandes 2009, severity 1; rows of the matrix on linear RGB
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def lab(colour: str, sight: str) -> list[float]:
    seen = [min(1, max(0, sum(a * b for a, b in zip(row, linear(colour), strict=True)))) for row in SIGHT[sight]]
    to_xyz = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]  # over the white point
    xyz = [sum(a * b for a, b in zip(row, seen, strict=True)) for row in to_xyz]
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_the_arms_can_be_told_apart(theme, sight, palettes):
    palette = palettes(STYLE, COMPARE_STYLE)[theme]
    colours = [palette["ink"], *(palette[f"arm-{i}"] for i in range(1, 7))]
    for one, other in itertools.combinations(colours, 2):
        assert math.dist(lab(one, sight), lab(other, sight)) >= 20


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_the_arms_stand_out_from_the_paper(theme, palettes, contrast):
    palette = palettes(STYLE, COMPARE_STYLE)[theme]
    for i in range(1, 7):
        assert contrast(palette["paper"], palette[f"arm-{i}"]) >= 3


def test_no_two_arms_look_alike_and_neighbours_differ_without_colour_too(made):
    model = read_comparison(made).arm("dsd")
    assert model is not None
    looks = [look(replace(model, index=index)) for index in range(1, 40)]
    assert len({(one.color, one.symbol, one.dash) for one in looks}) == len(looks)
    for first in range(len(looks) - 5):
        assert len({one.symbol for one in looks[first : first + 6]}) == 6
