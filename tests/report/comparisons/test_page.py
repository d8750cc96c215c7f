"""The page of a comparison, read back from the HTML: its tables, its plots, and what is refused."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from comparison_samples import (
    EVIL,
    GAIN,
    USUAL,
    evil_comparison,
    fake_comparison,
    fake_diagnosis,
    plain,
)

from redense.errors import DataError
from redense.files.markup import html
from redense.lab.comparison.comparison import parse_sweep
from redense.lab.pairs.plan import seed_list
from redense.lab.recipe.recipe import load_recipe
from redense.report.comparisons.looks import look
from redense.report.comparisons.page import write_compare_report
from redense.report.comparisons.reading import read_comparison
from redense.report.comparisons.types import Arm
from redense.report.kit.assets import asset
from redense.report.kit.parts import Table
from redense.report.runs import commands
from redense.tasks.classification.evidence import evidence

COMPARE_STYLE = asset("comparisons/comparison.css")
STYLE = asset("kit/page.css")

# --- tables and figures ---------------------------------------------------------------------------------------------


def test_table_has_every_arm_with_interval_differences_budget_time_and_weights(usual, page_of):
    text = plain(page_of(usual).text)
    assert re.search(
        r"scratch 12\.\d\d ± 0\.\d\d \+\d\.\d\d ± 0\.\d\d worse \+1\.\d\d ± 0\.\d\d worse "
        r"3,920 3,920 2 min \d+ s 29,066 20,460",
        text,
    )
    assert re.search(r"baseline 11\.\d\d ± 0\.\d\d – – 1,680 1,680 1 min \d+ s 29,066 29,066", text)


def test_a_comparison_on_other_data_than_the_recipes_own_is_called_after_the_data(usual, page_of):
    asked = json.loads((usual / "comparison.json").read_text())
    asked["recipe"]["about"] = f"as {asked['recipe']['name']} trains, on /data/<birds>"
    (usual / "comparison.json").write_text(json.dumps(asked))
    compared = json.loads((usual / "compare.json").read_text()) | {"notes": ["3 broken images are left out"]}
    (usual / "compare.json").write_text(json.dumps(compared))
    said = f"redense comparison <birds> as {asked['recipe']['name']} trains, on /data/<birds> · classification"
    text = plain(page_of(usual).text)
    assert said in text
    assert "3 broken images are left out." in text


def test_every_note_of_an_arm_is_in_the_table(tmp_path, page_of):
    text = page_of(
        fake_comparison(tmp_path / "c", {"baseline": 11.7, "restart": 11.0, "sam": 10.8, "distill": 10.7})
    ).text
    assert "half the steps after the dense phase, each with two gradients" in text
    assert "teachers: 5 dense models, whose training is not counted here" in text
    assert "the arms do not all spend the same" not in text


def test_a_name_of_many_characters_breaks_and_leaves_the_figures_in_sight():
    rows = [[["", " ", "x" * 180], "y" * 41, "1"], ["short", "z" * 40, "2"]]
    shown = html(Table("", [("Arm", False), ("Against", False), ("Mean", True)], rows))
    assert shown.count('class="long"') == 2
    assert '<th scope="row">short</th><td class="nowrap">zz' in shown
    assert re.search(r"tbody \.long \{[^}]*overflow-wrap: anywhere;[^}]*max-width: min\(\d+ch, ", STYLE)


def test_forest_shows_means_intervals_and_every_seed_on_one_scale(usual, page_of):
    result, plots = json.loads((usual / "compare.json").read_text()), page_of(usual).plots()
    for against in ("baseline", "restart"):
        items = [item for item in result["comparisons"] if item["against"] == against]
        traces = plots[f"forest-{against}"]["data"]
        for item, dots, mean in zip(items, traces[::2], traces[1::2], strict=True):
            assert dots["x"] == item["differences"]
            assert mean["x"] == [item["difference"]]
            low, high = mean["x"][0] - mean["error_x"]["arrayminus"][0], mean["x"][0] + mean["error_x"]["array"][0]
            assert (low, high) == pytest.approx(item["interval"])
            assert mean["marker"]["symbol"].endswith("-open") == (item["verdict"] == "no difference shown")
    ranges = {tuple(plots[name]["layout"]["xaxis"]["range"]) for name in ("forest-baseline", "forest-restart")}
    assert len(ranges) == 1


def test_curves_are_means_over_the_seeds(usual, page_of):
    runs = json.loads((usual / "curves.json").read_text())["dsd"]
    trace = next(trace for trace in page_of(usual).plots()["curves"]["data"] if trace["name"] == "dsd")
    steps = [point["step"] for point in runs[0]["points"]]
    means = [
        sum(values) / 5 for values in zip(*([p["validation"] for p in run["points"]] for run in runs), strict=True)
    ]
    assert trace["x"] == steps
    assert trace["y"] == pytest.approx(means)


def test_curves_leave_out_runs_that_diverged_and_steps_that_a_seed_lacks(tmp_path):
    folder = fake_comparison(tmp_path / "c", GAIN, failed={"dsd": [0]})
    curves = json.loads((folder / "curves.json").read_text())
    del curves["dsd"][1]["points"][5]
    curves["dsd"][2]["points"][6]["validation"] = math.nan
    (folder / "curves.json").write_text(json.dumps(curves))
    dsd = read_comparison(folder).arm("dsd")
    assert dsd is not None
    steps = [point["step"] for point in curves["dsd"][2]["points"]]
    assert [point.step for point in dsd.curve] == [step for i, step in enumerate(steps) if i not in (5, 6)]
    assert {point.seeds for point in dsd.curve} == {4}


def test_a_flow_that_joins_phases_ends_where_the_joined_network_is_and_counts_no_steps_of_it(tmp_path):
    folder = fake_comparison(tmp_path / "c", GAIN)
    compared, curves = (json.loads((folder / f"{name}.json").read_text()) for name in ("compare", "curves"))
    row = next(row for row in compared["rows"] if row["arm"] == "dsd")
    first, second, third = row["phases"]
    joined = {"phase": {"steps": 1, "name": "soup"}, "method": "soup", "options": {}, "joins": [1, 2]}
    row["phases"] = [{**first, "given": "a" * 64}, second, {**third, "after": 0}, joined]
    for number, run in enumerate(curves["dsd"]):
        run["points"].append({**run["points"][-1], "phase": "soup", "validation": 1.0 + number})
    (folder / "compare.json").write_text(json.dumps(compared))
    (folder / "curves.json").write_text(json.dumps(curves))
    dsd = read_comparison(folder).arm("dsd")
    assert dsd is not None
    last = curves["dsd"][0]["points"][-1]["step"]
    assert [(point.step, point.phase) for point in dsd.curve[-2:]] == [(last, third["phase"]["name"]), (last, "soup")]
    assert dsd.curve[-1].mean == 3.0
    steps = [0, second["phase"]["steps"], third["phase"]["steps"], 0]
    assert [span.end - span.start for span in dsd.phases] == steps
    assert [span.about.startswith("not trained") for span in dsd.phases] == [True, False, False, True]
    assert f"from the end of {first['phase']['name']}" in dsd.phases[2].about


def test_strips_show_each_arms_phases_and_where_a_mask_holds(usual, page_of):
    strips = {t["name"]: t for t in page_of(usual).plots()["curves"]["data"] if t["type"] == "bar"}
    assert list(strips) == list(USUAL)
    masked = {name: [color != "--strip" for color in strip["marker"]["color"]] for name, strip in strips.items()}
    assert masked["dsd"] == [False, True, False]
    assert masked["scratch"] == [False, True]
    assert masked["restart"] == [False, False, False]
    assert "30 % sparse" in plain(strips["dsd"]["text"][1])


def test_comparison_without_curves_costs_or_diagnosis_has_the_other_sections(usual, page_of):
    for name in ("curves.json", "costs.json", "environment.json", "comparison.json"):
        (usual / name).unlink()
    page = page_of(usual)
    assert 'id="validation"' not in page.source
    assert "There is no comparison.json." in page.text
    assert set(page.plots()) == {"forest-baseline", "forest-restart", "cost"}


def test_arms_of_the_same_cost_do_not_hide_each_other(usual, page_of):
    traces = page_of(usual).plots()["cost"]["data"]
    assert len({trace["x"][0] for trace in traces}) == len(USUAL)
    assert all("3,920" in trace["hovertemplate"] for trace in traces if trace["name"] != "baseline")


def test_mcnemar_has_fixed_and_broken_of_every_seed(usual, page_of):
    text = plain(page_of(usual).text).partition("Example by example")[2]
    for item in json.loads((usual / "compare.json").read_text())["comparisons"]:
        for one in item["mcnemar"]:
            assert f"{one['fixed']} / {one['broken']} p" in text


def test_how_it_was_decided_is_explained(usual, page_of):
    said = plain(page_of(usual).text).partition("How this was decided")[2]
    for word in ("t-test", "Holm's correction over all 8 comparisons", "sign-flip", "vetoes", "5 seeds", "detectable"):
        assert word in said


def test_numbers_of_every_comparison_have_effect_size_reach_and_the_seeds_that_it_takes(usual, page_of):
    text = plain(page_of(usual).text).partition("Every comparison in numbers")[2]
    read = read_comparison(usual)
    for item in read.differences:
        effect, interval = item.paired.effect, item.paired.interval
        assert interval is not None
        assert effect is not None
        low, high = interval
        shown = [f"{size:.2f}" if size > 0 else "none" for size in (-low, high)]
        expected = f" {effect:.2f} {shown[0]} {shown[1]} {item.detectable:.2f} {item.seeds_needed} {item.verdict}"
        assert expected.replace("-", "−") in text.replace("\u2009", "")


def test_swept_arms_are_rows_of_their_own(tmp_path, page_of):
    close = [0.3333333333333331, 0.3333333333333333]
    figures = {
        f"dsd sparsity={at}": figure for at, figure in zip([0.2, 0.5, *close], [11.0, 10.5, 11, 11], strict=True)
    }
    sweep = {"sparsity": [0.2, 0.5, *close]}
    page = page_of(fake_comparison(tmp_path / "c", {"baseline": 11.7, **figures, "restart": 11.1}, sweep=sweep))
    assert "the dense phase alone dsd sparsity=0.5 10.79" in plain(
        page.text
    )  # the large figures: the gain, not the first
    labels = page.plots()["forest-baseline"]["layout"]["yaxis"]["ticktext"]
    assert labels[:2] == ["dsd<br>sparsity=0.2", "dsd<br>sparsity=0.5"]
    assert labels[2:4] == [f"dsd<br>sparsity=0.…{str(at)[-10:]}" for at in close]
    labels = page.plots()["curves"]["layout"]["yaxis2"]["ticktext"]
    assert labels[3:5] == [f"dsd sparsit…{str(at)[-10:]}" for at in close]
    assert "--sweep sparsity=0.2,0.5" in page.text
    told = "Settings tried: baseline 1, dsd 4, restart 1. Best on validation: dsd sparsity=0.5."
    assert told in page.text
    shown = [cell for cell in page.shown if re.fullmatch("(best|one) of 4", cell)]
    assert shown == ["one of 4", "best of 4", "one of 4", "one of 4"]


def test_diagnosis_is_shown_in_tables_and_plots_and_says_what_could_not_be_measured(usual, page_of):
    (usual / "diagnosis.json").write_text(json.dumps(fake_diagnosis()))
    page = page_of(usual)
    assert {f"diagnosis-{name}" for name in ("line", "weight_noise", "five_moments")} <= set(page.plots())
    text = plain(page.text)
    assert "network of dsd and restart, seed 0, at the end of each phase; 512 training examples" in text
    assert "Not measured: dsd, redense: the loss is nan: <i>diverged</i>" in text
    assert "dsd dense → sparse 0.0500 50 % 100 % interpolated" in text
    assert "Curiosity" in text  # a section that the page does not know
    colors = {trace["line"]["color"] for trace in page.plots()["diagnosis-line"]["data"]}
    assert colors == {look(arm(usual, "dsd")).color, look(arm(usual, "restart")).color}


def test_classes_and_examples_of_the_first_seed_are_shown_below_the_verdict(usual, page_of):
    assert "By class" not in page_of(usual).text
    label = torch.tensor([0, 0, 1, 1])
    right = {"label": label, "answer": label, "rank": 0 * label, "loss": torch.full((4,), 0.1)}
    wrong = {**right, "answer": 1 - label, "rank": 0 * label + 1, "loss": torch.full((4,), 2.0)}
    told = evidence({"baseline": wrong, "restart": right, "dsd": right}, [f"cat{EVIL}", "dog"], None)
    (usual / "evidence.json").write_text(json.dumps(told))
    page = page_of(usual)
    for title in ("By class, seed 0", "Confusions, seed 0", "Fixed and broken, seed 0"):
        assert title in page.text
    assert "the dsd network gets 4 right that the baseline network gets wrong" in page.text
    assert "For restart, the same budget without a mask, it is lower in 2." in page.text
    assert f"cat{EVIL}" in page.text
    assert "classes-plot" in page.plots()
    assert len(page.all("script")) == 5  # plots, plotly.js, and three of our own
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "evidence.json" in {a.get("download") for a in page.all("a")}


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"states": [], "line": [{"error": "x"}]}', '{"arms": {"dsd": {"states": ["a"]}}}']
)
def test_diagnosis_with_little_in_it_does_no_harm(usual, text, page_of):
    (usual / "diagnosis.json").write_text(text)
    assert page_of(usual).all("section")


def test_plots_are_valid_plotly_figures_in_colours_of_the_style_sheet(usual, page_of):
    from plotly import graph_objects

    (usual / "diagnosis.json").write_text(json.dumps(fake_diagnosis()))
    known = set(re.findall(r"(--[\w-]+):", STYLE + COMPARE_STYLE))
    for plot in page_of(usual).plots().values():
        text = json.dumps({"data": plot["data"], "layout": plot["layout"]})
        assert set(re.findall(r'"(--[\w-]+)"', text)) <= known
        graph_objects.Figure(json.loads(re.sub(r'"--[\w-]+"', '"#123456"', text)))


def arm(folder: Path, name: str) -> Arm:
    found = read_comparison(folder).arm(name)
    assert found is not None
    return found


# --- to reproduce ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "sweep"),
    [
        ((0,), {}),
        ((0, 1, 2), {}),
        ((3, 7), {}),
        ((3,), {}),
        ((0, 1), {"sparsity": [0.2, 0.5], "scope": ["global"]}),
        ((0, 1), {"pattern": [[2, 4], None]}),
    ],
)
def test_command_asks_for_the_same_seeds_and_sweep(usual, seeds, sweep):
    asked = json.loads((usual / "comparison.json").read_text())
    asked |= {"seeds": seeds, "sweep": sweep, "looks": 10**6, "margin": 0.12345678}
    (usual / "comparison.json").write_text(json.dumps(asked))
    words_of = shlex.split(commands.compare_same_command(read_comparison(usual)))
    options = dict(zip(words_of[3::2], words_of[4::2], strict=True))
    assert seed_list(options["--seeds"]) == seeds
    assert parse_sweep(options.get("--sweep")) == sweep
    assert (options["--looks"], options["--margin"]) == ("1000000", "0.12345678")
    assert options["--arms"] == "dsd,restart,llr,random,scratch"


def test_recipe_and_raw_numbers_come_out_of_the_page_as_they_are(usual, tmp_path, page_of):
    links = {a["download"]: a["href"] for a in page_of(usual).all("a") if "download" in a}
    assert set(links) == {"recipe.yaml", "compare.json", "compare.csv", "costs.json", "curves.json"}
    files = {name: base64.b64decode(link.partition("base64,")[2]) for name, link in links.items()}
    recipe = files.pop("recipe.yaml")
    assert yaml.safe_load(recipe) == json.loads((usual / "comparison.json").read_text())["recipe"]
    (tmp_path / "recipe.yaml").write_bytes(recipe)
    assert load_recipe(tmp_path / "recipe.yaml") == load_recipe("quickstart")
    assert files == {name: (usual / name).read_bytes() for name in files}


# --- errors ---------------------------------------------------------------------------------------------------------


def test_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no finished comparison"):
        write_compare_report(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"recipe": "x"}', '{"metric": 3}'])
def test_damaged_result_is_refused_by_name(usual, text):
    (usual / "compare.json").write_text(text)
    with pytest.raises(DataError, match=r"compare\.json"):
        write_compare_report(usual)


@pytest.mark.parametrize("name", ["costs.json", "curves.json", "comparison.json", "environment.json", "diagnosis.json"])
def test_damaged_file_beside_it_is_refused_by_name(usual, name):
    (usual / name).write_text("{")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        write_compare_report(usual)


def test_no_draft_is_left_beside_the_report(usual):
    before = {path.name for path in usual.iterdir()}
    assert write_compare_report(usual) == usual / "report.html"
    assert {path.name for path in usual.iterdir()} == before | {"report.html"}


# --- nothing smuggled in, nothing loaded ----------------------------------------------------------------------------


def test_texts_of_the_comparison_cannot_become_markup(made, usual, page_of):
    harmless, evil = page_of(made), page_of(evil_comparison(usual))
    assert len(evil.all("script")) == len(harmless.all("script"))
    assert not evil.all("img")
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert f"dsd{EVIL}" in evil.text
    drawn = json.dumps(evil.plots(), ensure_ascii=False)
    assert "&lt;img" in drawn
    assert not re.search(r"<(?!/?b>|br>|/?extra>)", drawn)  # the only markup is our own
    assert not [t for t in evil.plots()["cost"]["data"] if "%{x}" in t["hovertemplate"]]  # nor a template in a name


def test_page_names_no_address_to_load_from(made, page_of):
    page = page_of(made)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset")
    ]
    assert {address[:5] if address.startswith("data:") else address[:1] for address in addresses} == {"data:", "#"}
    assert not re.search(r"@import|url\(|http", COMPARE_STYLE)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
