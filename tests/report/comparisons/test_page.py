"""The page of a comparison: real arms and real statistics over made-up runs, read back from the HTML and a browser."""

from __future__ import annotations

import base64
import itertools
import json
import math
import random
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml

from redense.errors import DataError
from redense.lab.comparison.comparison import Comparison, cells, parse_sweep, seed_list
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.results import write_results
from redense.lab.recipe.recipe import load_recipe
from redense.lab.store import PhaseStore
from redense.report.comparisons import verdict as compare_verdict
from redense.report.comparisons.assets import STYLE as COMPARE_STYLE
from redense.report.comparisons.looks import look
from redense.report.comparisons.page import write_compare_report
from redense.report.comparisons.reading import Arm, read_comparison
from redense.report.kit.assets import STYLE
from redense.report.runs import commands
from redense.tasks.classification.evidence import evidence
from redense.tasks.metrics import Metric

# --- the folder of a comparison, as `redense compare` writes it -----------------------------------------------------

ERROR = Metric("error", "%", lower_is_better=True)
# Arm -> mean test figure.
USUAL = {"baseline": 11.7, "dsd": 10.9, "restart": 11.0, "llr": 11.3, "random": 11.05, "scratch": 12.6}
GAIN = {"baseline": 11.7, "dsd": 10.2, "restart": 11.0, "llr": 11.3}
EXAMPLES = 400


def fake_comparison(
    folder: Path,
    figures: Mapping[str, float] = USUAL,
    *,
    seeds: Sequence[int] = range(5),
    metric: Metric = ERROR,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    failed: Mapping[str, Sequence[int]] | None = None,
    outcomes: bool = True,
    store: Path | None = None,
) -> Path:
    """Write a comparison whose arms come out at these figures; ``failed`` names arms and seeds that diverge."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("quickstart")
    arms = tuple(dict.fromkeys(name.split(" ")[0] for name in figures if name != "baseline"))
    comparison = Comparison(recipe, arms, tuple(seeds), sweep or {})
    task = SimpleNamespace(metric=metric, fingerprint="0" * 64, examples=lambda split: range(9000))
    phases = PhaseStore(store or folder.parent / f"{folder.name}-store")
    grid = SimpleNamespace(comparison=comparison, task=task, store=phases, cells=cells(comparison, cast("Any", task)))
    for cell in grid.cells:
        noise = random.Random(f"{cell.label}/{cell.seed}")
        luck = random.Random(cell.seed).gauss(0, 0.25)
        end = figures[cell.label] + luck + noise.gauss(0, 0.12)
        step, best = 0, 22.0 if metric.lower_is_better else end - 12
        for index, (key, planned) in enumerate(zip(cell.keys, cell.flow.phases, strict=True)):
            place = phases.folder(key)
            place.mkdir(parents=True, exist_ok=True)
            dense = figures["baseline"] + luck
            target = end if index == len(cell.keys) - 1 else (dense if index == 0 else (dense + end) / 2 + 0.4)
            lines = []
            epochs = max(1, planned.phase.steps // 140)
            for epoch in range(1, epochs + 1):
                drawn = random.Random(f"{key}/{epoch}").gauss(0, 0.3) * (1 - epoch / epochs)
                best += (target - best) * (0.2 + 0.8 * epoch / epochs)
                lines.append(
                    {
                        "kind": "epoch",
                        "phase": planned.phase.name,
                        "phase_index": index,
                        "step": step + planned.phase.steps * epoch // epochs,
                        "validation": {metric.name: best + drawn, "loss": 0.3},
                        "train_loss": 0.4,
                        "lr": 0.01,
                        "sparsity": 0.3 if planned.phase.is_sparse else 0.0,
                        "seconds": 5.4,
                    }
                )
            step += planned.phase.steps
            (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        last = phases.folder(cell.keys[-1])
        if cell.seed in (failed or {}).get(cell.label, ()):
            (last / "failed.json").write_text(json.dumps({"error": "the loss is nan at step 1801 of phase <b>"}))
            continue
        facts = {
            "test": {metric.name: end, "loss": 0.3},
            "validation": {metric.name: end + 0.1, "loss": 0.3},
            "parameters": 29_066,
            "nonzeros": 20_460 if cell.label == "scratch" else 29_066,
        }
        (last / "facts.json").write_text(json.dumps(facts))
        if outcomes:
            ranks = torch.tensor([int(100 * noise.random() < end) for _ in range(EXAMPLES)])
            phases.put_outcome(cell.keys[-1], "test", {"rank": ranks})
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict()))
    environment = {"redense": "0.1.0", "cores": 2, "accelerators": [], "command": "redense compare quickstart"}
    (folder / "environment.json").write_text(json.dumps(environment))
    write_results(folder, cast("Grid", grid))
    return folder


def fake_diagnosis() -> dict[str, Any]:
    """What `redense compare --diagnose` writes."""
    alphas = [i / 10 for i in range(11)]

    def counts(width: float, spike: int = 0) -> list[int]:
        out = [int(900 * math.exp(-(((i - 20) / width) ** 2))) for i in range(41)]
        out[20] += spike
        return out

    def flow(states: list[str], masked: bool) -> dict[str, Any]:
        pairs = [*itertools.pairwise(states), (states[0], states[-1])]
        travel = {"weights": 100, "length": 1.5, "start": 9.0, "relative": 1.5 / 9}
        moments = ["before pruning", "just pruned", "after sparse training", "re-dense start", "after dense training"]
        weights = [
            {"moment": name, "weights": 100, "counts": counts(6 + i, 9000 * (i == 3)), "mean_magnitude": 0.03}
            for i, name in enumerate(moments)
        ]
        out: dict[str, Any] = {
            "states": states,
            "settings": {"points": 11},
            "levels": [{"state": name, "loss": 0.3, "metric": 11.0} for name in states],
            "line": [
                {
                    "from": a,
                    "to": b,
                    "alphas": alphas,
                    "losses": [0.3 + 0.2 * t * (1 - t) for t in alphas],
                    "barrier": 0.05,
                    "barrier_at": 0.5,
                    "lowest_at": 1.0,
                    "buffers": "interpolated",
                }
                for a, b in pairs
            ],
            "sharpness": [
                {
                    "state": states[0],
                    "top": 31.2,
                    "bottom": -0.0004,
                    "kind": "saddle",
                    "products": 54,
                    "converged": True,
                },
                {"state": states[-1], "error": "the loss is nan: <i>diverged</i>"},
            ],
            "weight_noise": [
                {
                    "state": name,
                    "clean": 11.0,
                    "scales": [0.1, 0.2],
                    "means": [12.0, None],
                    "deviations": [0.2, None],
                    "draws": 5,
                }
                for name in states
            ],
            "similarity": [{"from": a, "to": b, "cka": 0.9, "best": 0.8, "in_place": 0.7} for a, b in pairs],
            "distance": [
                {"from": a, "to": b, "total": travel, "kept": travel if masked else None, "tensors": {}}
                for a, b in pairs
            ],
            "curiosity": [{"state": states[0], "whatever it is": 3.25}],
        }
        if masked:
            out["five_moments"] = [
                {
                    "layer": "features.8.weight",
                    "edges": [(i - 20.5) / 100 for i in range(42)],
                    "moments": weights,
                    "old": {**weights[4], "moment": "old"},
                    "regrown": {**weights[4], "moment": "regrown", "counts": counts(2)},
                    "cut": 0.021,
                    "stayed_small": 0.81,
                    "old_moved": 0.12,
                }
            ]
        return out

    arms = {
        "dsd": flow(["dense", "sparse", "redense"], True),
        "restart": flow(["dense", "restart", "redense"], False),
    }
    return {"seed": 0, "loss_examples": 512, "metric_examples": 1000, "arms": arms}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_comparison(tmp_path_factory.mktemp("comparison") / "usual")


@pytest.fixture
def usual(made: Path, tmp_path: Path) -> Path:
    """A comparison that a test may change: without checksums, as an older redense has left it."""
    return Path(shutil.copytree(made, tmp_path / "usual", ignore=shutil.ignore_patterns("SHA256SUMS")))


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


# --- the verdict ----------------------------------------------------------------------------------------------------


def headline(folder: Path) -> str:
    return plain(compare_verdict.headline(read_comparison(folder)))


def test_better_than_the_baseline_is_no_gain_where_the_control_is_better_too(usual):
    assert headline(usual) == (
        "No arm shows a gain over 5 seeds. dsd and random are better than the dense baseline, but so is restart, "
        "without a mask: training longer helps by itself, and nothing more is shown."
    )


def test_gain_is_said_with_its_size_against_baseline_and_control(tmp_path):
    said = headline(fake_comparison(tmp_path / "gain", GAIN))
    assert re.fullmatch(
        r"dsd is a gain: its test error is 1\.\d\d points lower than its dense baseline's and 0\.\d\d points lower "
        r"than restart's, which has no mask, over 5 seeds\.",
        said,
    )


def test_without_the_control_no_gain_can_be_claimed(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", {"baseline": 11.7, "dsd": 10.2, "random": 11.0})
    assert headline(folder).startswith(
        "No gain can be claimed over 5 seeds: no control without a mask was run. dsd and random are better"
    )
    text = plain(page_of(folder).text)
    assert "Control not run an arm without a mask" in text
    assert "No control without a mask was run." in text
    assert "No control without a mask is in the table beside the baseline, so no gain can be claimed." in text


def test_the_strongest_control_decides_whichever_it_is(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", {"baseline": 11.7, "dsd": 10.6, "restart": 11.3, "llr": 10.2})
    assert "dsd is better than the dense baseline, but so is llr, without a mask" in headline(folder)
    page = page_of(folder)
    assert "forest-llr" in page.plots()
    assert "forest-restart" not in page.plots()
    text = plain(page.text)
    assert "The control is llr: on validation figures it is ahead of restart." in text
    assert "dsd is worse than llr." in text
    assert "No gain. Against the baseline: better; against llr, the control: worse." in text


def test_a_folder_of_an_older_redense_is_judged_by_todays_rule(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", {"baseline": 11.7, "dsd": 10.6, "restart": 11.3, "llr": 10.2})
    result = json.loads((folder / "compare.json").read_text())
    stored = result["comparisons"][0]
    old = [{**stored, "arm": "dsd", "against": "restart", "verdict": "better", "sentence": "dsd beats restart"}]
    result = {key: result[key] for key in ("recipe", "task", "metric", "seeds", "data", "test_examples", "rows")}
    result |= {"comparisons": old, "caution": None, "conclusions": {"dsd": "dsd: a gain. Better than restart."}}
    (folder / "SHA256SUMS").unlink()
    (folder / "compare.json").write_text(json.dumps(result))
    text = plain(page_of(folder).text)
    assert "No gain. Against the baseline: better; against llr, the control: worse." in text
    assert "dsd beats restart" not in text


def test_one_seed_shows_nothing(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", seeds=[3])
    assert headline(folder).startswith("One seed was run, and one seed shows nothing")
    text = page_of(folder).text
    assert "One seed shows nothing: how much of a difference is chance, only further seeds can say." in text
    assert "±" not in text


def test_arm_that_diverges_is_no_gain_and_is_named_with_its_seeds_and_why(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", GAIN, failed={"dsd": [1], "llr": range(5)})
    assert headline(folder).endswith("1 of 5 runs of dsd diverged, so dsd is none.")
    assert "dsd is a gain" not in headline(folder)
    text = plain(page_of(folder).text)
    assert "1 of 5 runs of dsd diverged; its figures are of the others alone." in text
    assert "5 of 5 runs of llr diverged." in text
    assert "dsd, seed 1: the loss is nan at step 1801 of phase <b>" in text
    assert "1 of 5 runs of dsd diverged, so no gain can be claimed." in text


def test_comparison_without_a_single_finished_run_still_has_a_page(tmp_path, page_of):
    figures = {"baseline": 11.7, "dsd": 10.2}
    page = page_of(fake_comparison(tmp_path / "c", figures, failed=dict.fromkeys(figures, range(5))))
    assert "Nothing can be compared" in page.text
    assert page.scripts == []


def test_control_alone_is_no_arm_to_judge(tmp_path):
    folder = fake_comparison(tmp_path / "c", {"baseline": 11.7, "restart": 11.0})
    assert headline(folder).startswith("Only controls were compared with the dense baseline, over 5 seeds: restart ")


def test_an_arm_without_a_mask_is_a_control_and_no_gain_however_good(tmp_path):
    read = read_comparison(fake_comparison(tmp_path / "c", {"baseline": 11.7, "restart": 11.0, "sam": 9.8, "dsd": 9.0}))
    assert read.controls == ("sam",)
    assert read.conclusions["sam"].startswith(
        "sam: the control. Against the baseline: better. It differs in more: half"
    )
    # SAM has half the steps, so what DSD gains over it may be the steps'.
    assert "dsd trains for 3,920 steps and sam for 2,800 only, so no gain can be claimed." in read.conclusions["dsd"]
    assert "dsd trains for" in compare_verdict.headline(read)


def test_page_repeats_the_labs_words_and_does_not_reword_them(usual, page_of):
    result = json.loads((usual / "compare.json").read_text())
    text = plain(page_of(usual).text).lower()
    assert result["caution"].lower() in text
    for arm, said in result["conclusions"].items():
        assert said.removeprefix(f"{arm}: ").lower() in text
    for item in result["comparisons"]:
        assert item["sentence"].lower() in text


def test_metric_unit_and_direction_come_from_the_comparison(tmp_path, page_of):
    figures = {"baseline": 20.0, "dsd": 22.4, "restart": 21.0}
    bleu = Metric("bleu_4", "BLEU", lower_is_better=False)
    folder = fake_comparison(tmp_path / "c", figures, metric=bleu, outcomes=False)
    assert "dsd is a gain: its test bleu 4 is" in headline(folder)
    assert "BLEU higher than its dense baseline's" in headline(folder)
    page = page_of(folder)
    assert "Higher is better" in page.text
    assert "The highest mean test bleu 4 is that of dsd" in page.text
    assert "no right and wrong answer for each example" in page.text
    assert not re.search(r"error|accuracy|points", page.text)
    assert "← worse · better →" in page.plots()["forest-baseline"]["layout"]["xaxis"]["title"]["text"]


# --- tables and figures ---------------------------------------------------------------------------------------------


def test_table_has_every_arm_with_interval_differences_budget_time_and_weights(usual, page_of):
    text = plain(page_of(usual).text)
    assert re.search(
        r"scratch 12\.\d\d ± 0\.\d\d \+\d\.\d\d ± 0\.\d\d worse \+1\.\d\d ± 0\.\d\d worse "
        r"3,920 3,920 2 min \d+ s 29,066 20,460",
        text,
    )
    assert re.search(r"baseline 11\.\d\d ± 0\.\d\d – – 1,680 1,680 1 min \d+ s 29,066 29,066", text)


def test_every_note_of_an_arm_is_in_the_table(tmp_path, page_of):
    text = page_of(
        fake_comparison(tmp_path / "c", {"baseline": 11.7, "restart": 11.0, "sam": 10.8, "distill": 10.7})
    ).text
    assert "half the steps after the dense phase, each with two gradients" in text
    assert "teachers: 5 dense models, whose training is not counted here" in text
    assert "the arms do not all spend the same" not in text


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
        assert item.interval is not None
        assert item.effect is not None
        low, high = item.interval
        shown = [f"{size:.2f}" if size > 0 else "none" for size in (-low, high)]
        expected = f" {item.effect:.2f} {shown[0]} {shown[1]} {item.detectable:.2f} {item.seeds_needed} {item.verdict}"
        assert expected.replace("-", "−") in text.replace("\u2009", "")


def test_swept_arms_are_rows_of_their_own(tmp_path, page_of):
    figures = {"baseline": 11.7, "dsd sparsity=0.2": 11.0, "dsd sparsity=0.5": 10.5, "restart": 11.1}
    folder = fake_comparison(tmp_path / "c", figures, sweep={"sparsity": [0.2, 0.5]})
    page = page_of(folder)
    assert page.plots()["forest-baseline"]["layout"]["yaxis"]["ticktext"][0] == "dsd<br>sparsity=0.2"
    assert "--sweep sparsity=0.2,0.5" in page.text
    told = "Settings tried: baseline 1, dsd 2, restart 1. Best on validation: dsd sparsity=0.5."
    assert told in page.text
    assert [cell for cell in page.shown if re.fullmatch("(best|one) of 2", cell)] == ["one of 2", "best of 2"]


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
    [((0,), {}), ((0, 1, 2), {}), ((3, 7), {}), ((0, 1), {"sparsity": [0.2, 0.5], "scope": ["global"]})],
)
def test_command_asks_for_the_same_seeds_and_sweep(usual, seeds, sweep):
    asked = json.loads((usual / "comparison.json").read_text()) | {"seeds": seeds, "sweep": sweep}
    (usual / "comparison.json").write_text(json.dumps(asked))
    words_of = shlex.split(commands.compare_same_command(read_comparison(usual)))
    options = dict(zip(words_of[3::2], words_of[4::2], strict=True))
    assert seed_list(options["--seeds"]) == seeds
    assert parse_sweep(options.get("--sweep")) == sweep
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

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'%{x}"


def evil_comparison(folder: Path) -> Path:
    """Every text in the folder is an attack; names that are looked up keep their place."""
    kept = {"baseline", "restart", "better", "worse", "no difference shown", "arm", "against"}
    keys = {
        "arm",
        "about",
        "source",
        "note",
        "name",
        "unit",
        "sentence",
        "recipe",
        "task",
        "caution",
        "phase",
        "failed",
    }

    def attack(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                (k + EVIL if key in ("conclusions", "curves") and k not in kept else k): attack(v, k)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [attack(item, key) for item in value]
        if isinstance(value, str) and (key in keys or key not in ("against", "verdict")):
            return value if value in kept else value + EVIL
        return value

    result = attack(json.loads((folder / "compare.json").read_text()))
    for row in result["rows"]:
        for seed in row["seeds"]:
            for split in ("test", "validation"):
                if split in seed:
                    seed[split][result["metric"]["name"]] = 11.0
    result["rows"][1]["seeds"][0] = {"seed": 0, "key": "", "failed": EVIL}
    (folder / "compare.json").write_text(json.dumps(result))
    (folder / "curves.json").write_text(json.dumps(attack(json.loads((folder / "curves.json").read_text()), "curves")))
    (folder / "diagnosis.json").write_text(json.dumps(attack({"arms": {EVIL: fake_diagnosis()["arms"]["dsd"]}})))
    asked = json.loads((folder / "comparison.json").read_text())
    asked["recipe"]["about"], asked["arms"], asked["sweep"] = EVIL, [EVIL], {EVIL: [EVIL]}
    (folder / "comparison.json").write_text(json.dumps(asked))
    (folder / "environment.json").write_text(json.dumps({EVIL: {EVIL: [EVIL]}, "command": EVIL}))
    return folder


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


# --- for everyone ---------------------------------------------------------------------------------------------------


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
    model = arm(made, "dsd")
    looks = [look(replace(model, index=index)) for index in range(1, 40)]
    assert len({(one.color, one.symbol, one.dash) for one in looks}) == len(looks)
    for first in range(len(looks) - 5):
        assert len({one.symbol for one in looks[first : first + 6]}) == 6


# --- in a browser ---------------------------------------------------------------------------------------------------


def test_browser_hides_an_arm_and_keeps_it_hidden_when_the_plots_are_drawn_again(usual, browse):
    page = write_compare_report(usual)
    script = """
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
      document.title = [...said, shown()].join();
    """
    document, console = browse(page, script=script)
    assert console == []
    assert "<title>30,25,25,25,0,30</title>" in document


def test_browser_runs_no_script_of_the_comparison(usual, read_page, browse):
    document, console = browse(write_compare_report(evil_comparison(usual)))
    assert console == []
    assert not read_page(document).all("img")
    assert document.count("js-plotly-plot") >= 4
