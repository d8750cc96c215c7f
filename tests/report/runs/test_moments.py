"""The weight distribution: five panels, every pruned layer to choose from, and no name becomes markup."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from redense.errors import DataError
from redense.lab.diagnosis.moments import Cycle, cycle_moments
from redense.report.kit.assets import asset
from redense.report.runs.moments import moments_plot

STYLE = asset("kit/page.css")


def cycle(names: tuple[str, ...] = ("conv.weight", "fc.weight"), **how: Any) -> dict[str, Any]:
    """A D-S-D of made-up weights, measured by the lab's own code, so that the format is the real one."""
    random = torch.Generator().manual_seed(how.get("seed", 0))
    dense = {name: 0.1 * torch.randn(200 * (place + 1), generator=random) for place, name in enumerate(names)}
    masks = {name: w.abs() > w.abs().quantile(0.3) for name, w in dense.items()}
    sparse = {name: w * masks[name] for name, w in dense.items()}
    noise = {name: 0.01 * torch.randn(w.shape, generator=random) for name, w in dense.items()}
    end = {name: w + noise[name] * ~masks[name] for name, w in sparse.items()}
    states = [f"{name}{how.get('suffix', '')}" for name in ("dense", "sparse", "redense")]
    return cycle_moments(dict(zip(states, (dense, sparse, end), strict=True)), Cycle(masks, *states[:3]))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def page(small_run, page_of):
    def make(*cycles: Any) -> Any:
        return page_of(small_run({"moments.json": {"cycles": list(cycles)}}))

    return make


def test_five_panels_with_the_spike_at_zero_beyond_the_frame_and_old_and_regrown_apart():
    layer = cycle()["layers"][0]
    plot = moments_plot(layer)
    colours = [trace["marker"]["color"] for trace in plot["data"]]
    assert colours == ["--accent"] * 5 + ["--second"]
    assert [trace["y"] for trace in plot["data"][:4]] == [moment["counts"] for moment in layer["moments"][:4]]
    assert [trace["y"] for trace in plot["data"][4:]] == [layer["old"]["counts"], layer["regrown"]["counts"]]
    headings = [note["text"] for note in plot["layout"]["annotations"]]
    assert headings[3] == f"<b>re-dense start</b><br>mean |W| {layer['moments'][3]['mean_magnitude']:.3g}; 60 near 0"
    assert plot["layout"]["yaxis4"]["range"][1] < 60  # cut off, or nothing else could be seen
    assert f"old {layer['old']['mean_magnitude']:.3g}, regrown {layer['regrown']['mean_magnitude']:.3g}" in headings[4]


def test_bars_stand_where_the_bins_are():
    layer = cycle()["layers"][0]
    trace, edges = moments_plot(layer)["data"][0], layer["edges"]
    for index in (0, 50, 100):
        assert trace["x0"] + index * trace["dx"] == pytest.approx((edges[index] + edges[index + 1]) / 2)


def test_the_largest_layer_is_seen_first_and_all_can_be_chosen(page):
    found = page(cycle(("a", "b", "largest")))
    options = re.findall(r'<option value="(\d)">([^<]*)</option>', found.source.partition('data-plot="moments"')[2])
    assert [(value, name.partition(",")[0]) for value, name in options[:3]] == [
        ("0", "largest"),
        ("1", "a"),
        ("2", "b"),
    ]
    assert "largest, 600\u00a0weights" in options[0][1]
    plot = found.plots()["moments"]
    assert len(plot["choices"]) == 3
    assert "weight of largest" in plot["layout"]["xaxis"]["title"]["text"]
    assert "weight of a" in plot["choices"][1]["layout"]["xaxis"]["title"]["text"]
    shown = [a for a in found.all("div") if a.get("data-choice") == "moments"]
    assert ["hidden" in a for a in shown] == [False, True, True] * 2


def test_the_sentence_says_how_many_were_pruned_and_how_large_old_and_regrown_are(page):
    data = cycle(("one",))
    layer = data["layers"][0]
    text = page(data).text
    assert f"Of the 200 weights of one, 60 (30 %) were pruned, as many as had |W| up to {layer['cut']:.3g};" in text
    assert f"the regrown ones have a mean |W| of {layer['regrown']['mean_magnitude']:.3g}, the old ones of" in text
    assert "<select" not in page(data).source  # there is nothing to choose


def test_layers_of_every_cycle_are_told_apart(page):
    found = page(cycle(("w",), suffix="-1"), cycle(("w",), suffix="-2"))
    assert "w, 200 weights, dense-1 → sparse-1 → redense-1" in found.text
    assert "w, 200 weights, dense-2 → sparse-2 → redense-2" in found.text


def test_a_layer_that_was_not_measured_says_why(page):
    data = cycle()
    data["layers"][0] = {"name": "conv.weight", "error": "it has diverged"}
    assert "Not measured: conv.weight: it has diverged" in page(data).text
    alone = page({**data, "layers": data["layers"][:1], "default": 0})
    assert "No layer was pruned" in alone.text
    assert "Not measured" in alone.text


def test_a_run_without_a_mask_says_that_there_is_nothing_to_show(page, small_run, page_of):
    assert "No layer was pruned, so there are no five moments to show." in page().text
    (small_run() / "moments.json").unlink()
    assert "Weight distribution" not in page_of(small_run()).text  # of an older redense


@pytest.mark.parametrize(
    "change", [{"layers": 3}, {"layers": [{}]}, {"default": "x"}, {"sparse": None, "layers": [[]]}]
)
def test_damaged_moments_are_refused_by_name(page, change):
    with pytest.raises(DataError, match=r"moments\.json is not what redense writes"):
        page(cycle() | change)


def test_a_layer_without_a_figure_that_is_drawn_is_refused_by_name(page):
    for gone in ("old", "edges", "moments"):
        data = cycle()
        del data["layers"][1][gone]
        with pytest.raises(DataError, match=r"moments\.json"):
            page(data)


def test_names_cannot_become_markup(page, evil):
    harmless, found = page(cycle()), page(cycle((f"conv{evil}", f"fc{evil}")))
    assert len(found.all("script")) == len(harmless.all("script"))
    assert not found.all("img")
    assert f"conv{evil}" in found.text
    drawn = json.dumps(found.plots(), ensure_ascii=False)
    assert "&lt;img" in drawn
    assert not re.search(r"<(?!/?b>|br>|/?extra>)", drawn)


def test_the_plot_is_a_valid_figure_in_colours_of_the_style_sheet():
    from plotly import graph_objects

    plot = moments_plot(cycle()["layers"][0])
    text = json.dumps({"data": plot["data"], "layout": plot["layout"]})
    assert set(re.findall(r'"--([\w-]+)"', text)) <= set(re.findall(r"--([\w-]+):", STYLE))
    graph_objects.Figure(json.loads(re.sub(r'"--[\w-]+"', '"#123456"', text)))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_old_and_regrown_stand_out_from_the_paper_and_from_each_other(theme, palettes, contrast):
    colours = palettes(STYLE)[theme]
    assert contrast(colours["second"], colours["paper"]) >= 3
    red, blue = ([int(colours[name][i : i + 2], 16) for i in (1, 5)] for name in ("second", "accent"))
    assert red[0] - red[1] > 100  # orange and blue: told apart with any sight
    assert blue[1] - blue[0] > 100
