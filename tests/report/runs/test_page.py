"""The page of a run: what it says, that no file can smuggle markup into it, and that a browser draws it."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re

import pytest
from run_samples import EVIL, PHASES, RECIPE, STEPS_PER_EPOCH, evil_run, fake_run, with_tests

from redense.errors import DataError
from redense.lab.judging.single import control_settings, run_verdict
from redense.lab.recipe.recipe import load_recipe
from redense.report import write_report
from redense.report.kit.assets import asset
from redense.report.kit.document import script_json
from redense.report.runs import figures, words
from redense.report.runs.reading import StepLine, read_log, read_run

STYLE = asset("kit/page.css")

# --- the verdict ----------------------------------------------------------------------------------------------------


def test_verdict_does_not_call_a_better_figure_a_gain_without_its_control(tmp_path, page_of):
    text = page_of(fake_run(tmp_path)).text
    assert "The DSD model's test error is 10.91 %, 0.83 points below its own dense baseline." in text
    assert "That alone does not show that the mask helped: training longer helps too." in text
    assert "The control with the same steps and learning rates and no mask was not run here" in text
    assert "--sparse.sparsity 0" in text
    assert "One seed is one seed" in text
    assert "gain" not in text.replace("again", "")


@pytest.mark.parametrize(
    ("dense", "final", "sentence", "terminal"),
    [
        (10.91, 11.74, "is 11.74 %, 0.83 points above its own dense baseline: no gain.", "0.83 points worse than"),
        (11.0, 11.0, "is 11.00 %, the same as its own dense baseline: no gain.", "no better than"),
        (11.0, 10.996, "is 11.00 %, less than 0.01 points below its own dense baseline.", "0.01 points better than"),
        (11.0, math.nan, "nothing can be compared.", "which cannot be compared with"),
    ],
)
def test_verdict_says_plainly_when_there_is_no_gain_and_the_terminal_says_the_same(
    tmp_path, dense, final, sentence, terminal, page_of
):
    run = fake_run(tmp_path, phases=with_tests(dense, 11.5, final))
    assert sentence in page_of(run).text
    result = json.loads((run / "result.json").read_text())
    said = run_verdict(result, {"sparse": {"sparsity": 0.3}}, "error")
    assert f"{terminal} the dense baseline (11.00 %)".replace("11.00", f"{dense:.2f}") in said
    assert "That is one seed, and" in said
    said = run_verdict({**result, "test_examples": 66}, {"sparse": {"sparsity": 0.3}}, "error")
    assert "That is one seed, on 66 test examples, and" in said


def test_a_figure_that_no_phase_has_moved_is_said_to_tell_nothing(tmp_path, page_of):
    recipe = {"sparse": {"sparsity": 0.3}, "training": {"keep": "best"}}
    still = fake_run(tmp_path / "still", phases=with_tests(100.0, 100.0, 100.0))
    assert "Every phase has the same error, so it tells nothing of them" in page_of(still).text
    told = json.loads((still / "result.json").read_text())
    assert "so it tells nothing of them; --training.keep_by loss chooses" in run_verdict(told, recipe, "error")
    none = fake_run(tmp_path / "none", phases=with_tests(*[float("nan")] * 3))
    assert "tells nothing" not in page_of(none).text
    moved = fake_run(tmp_path / "moved", phases=with_tests(100.0, 99.9, 100.0))
    assert "tells nothing" not in page_of(moved).text
    told = json.loads((moved / "result.json").read_text())
    assert "tells nothing" not in run_verdict(told, recipe, "error")


def test_a_run_whose_best_epoch_is_one_without_a_mask_is_no_control(tmp_path):
    run = fake_run(tmp_path, phases=with_tests(11.0, 11.0, 11.0))
    result = json.loads((run / "result.json").read_text())
    kept = {"phase": "dense", "epoch": 3, "of": 4, "error": 11.0}
    for phase in result["phases"]:
        phase |= {"sparsity": 0.0, "kept": kept}
    for layer in result["layers"]:
        layer["sparsity"] = [0.0, 0.0, 0.0]
    (run / "result.json").write_text(json.dumps(result))
    read = read_run(run)
    assert words.verdict(read).sentence.endswith("the same as its own dense baseline: no gain.")
    assert "in no epoch that was kept was a weight of the" in words.layers_sentence(read)
    assert "the control on the same budget is" in run_verdict(result, {"sparse": {"sparsity": 0.3}}, "error")
    assert "this is the control" in run_verdict(result, {"sparse": {"sparsity": 0}}, "error")


def test_verdict_takes_metric_unit_and_direction_from_the_result(tmp_path, page_of):
    phases = with_tests(20.1, 19.0, 21.4)
    text = page_of(fake_run(tmp_path / "up", phases=phases, metric=("bleu_4", "BLEU", False))).text
    assert "The DSD model's test bleu 4 is 21.40 BLEU, 1.30 BLEU above its own dense baseline." in text
    assert "Higher is better." in text
    assert "error" not in text
    down = page_of(fake_run(tmp_path / "down", phases=with_tests(21.4, 19.0, 20.1), metric=("wer", "", False))).text
    assert "The DSD model's test WER is 20.10, 1.30 below its own dense baseline: no gain." in down


def test_verdict_of_a_run_without_a_mask_says_that_it_is_a_control(tmp_path, page_of):
    text = page_of(fake_run(tmp_path, phases=with_tests(11.74, 11.2, 11.0, sparsity=0.0))).text
    assert (
        "This is a control run, with no mask in any phase: its final test error is 11.00 %, 0.74 points below" in text
    )
    assert "DSD model" not in text


def test_control_whose_weights_are_zero_by_chance_is_still_a_control(tmp_path, page_of):
    recipe = RECIPE.replace("sparsity: 0.3", "sparsity: 0.0")
    run = fake_run(tmp_path, phases=with_tests(11.74, 11.2, 11.0, sparsity=1e-5), recipe=recipe)
    assert "This is a control run" in page_of(run).text
    (run / "result.json").unlink()
    assert not any(phase.sparse for phase in read_run(run).phases)


def test_verdict_without_a_dense_baseline_compares_nothing(tmp_path, page_of):
    text = page_of(fake_run(tmp_path, phases=PHASES[1:2])).text
    assert "The sparse model's test error is 11.31 %; this run has no dense baseline to hold it against." in text


def test_verdict_of_one_dense_phase_is_its_figure_alone(tmp_path, page_of):
    assert (
        "one dense phase, with no mask: its model's test error is 11.74 %."
        in page_of(fake_run(tmp_path, phases=PHASES[:1])).text
    )


def test_verdict_falls_back_to_validation_where_there_is_no_test_split_and_says_so(tmp_path, page_of):
    run = fake_run(tmp_path)
    result = json.loads((run / "result.json").read_text())
    for phase in result["phases"]:
        phase["test"] = None
    result["notes"] = ["phase 'redense' diverged"]
    (run / "result.json").write_text(json.dumps(result))
    text = page_of(run).text
    assert "The DSD model's validation error is" in text
    assert "no test figure" in text
    assert "Phase 'redense' diverged." in text


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        RECIPE.replace("sparsity: 0.3", "pattern: [2, 4]"),
        RECIPE + "cycles: [{sparse: {epochs: 2, pattern: [1, 4]}, redense: {epochs: 2}}]\n",
        RECIPE.replace("sparsity: 0.3", "sparsity: {'classifier.*': 0.5}"),
    ],
)
def test_control_command_takes_every_mask_out_of_the_recipe(tmp_path, recipe):
    run = read_run(fake_run(tmp_path, recipe=recipe))
    control = load_recipe(tmp_path / "recipe.yaml", control_settings(run.recipe))
    before = load_recipe(tmp_path / "recipe.yaml")
    for sparse in (control.sparse, *(cycle.sparse for cycle in control.cycles)):
        assert (sparse.sparsity, sparse.pattern) == (0, None)
    assert control.sparse.epochs == before.sparse.epochs
    assert len(control.cycles) == len(before.cycles)
    assert control.training == before.training


# --- a run that has not finished ------------------------------------------------------------------------------------


def test_page_of_a_run_that_goes_on_shows_what_there_is(tmp_path, page_of):
    page = page_of(fake_run(tmp_path, epochs_done=15))
    assert "This run has not finished: its log ends in phase 2 of 3, sparse, after 2,115 optimizer steps." in page.text
    assert "redense run --resume" in page.text
    assert "redense evaluate" not in page.text
    assert len(page.plots()["curves"]["layout"]["shapes"]) == 3  # one shaded phase, one edge, one baseline
    assert [a["download"] for a in page.all("a") if "download" in a] == ["metrics.jsonl"]


def test_page_of_a_run_that_has_just_begun_is_written(tmp_path, page_of):
    page = page_of(fake_run(tmp_path, epochs_done=0))
    assert "has logged nothing so far" in page.text
    assert page.scripts == []


def test_page_of_a_run_in_its_first_epoch_is_written(tmp_path, page_of):
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind":"step","phase":"dense","phase_index":0,"step":10,"epoch":0.07,"loss":2.3,"lr":0.02}\n'
    )
    page = page_of(tmp_path)
    assert "No epoch has ended yet" in page.text
    assert "There is no recipe.yaml." in page.text


def test_log_leaves_out_the_line_that_is_being_written(tmp_path):
    run = fake_run(tmp_path, epochs_done=3)
    whole = (run / "metrics.jsonl").read_text()
    log = read_log(whole[:-20])
    assert (len(log.epochs), log.unreadable) == (2, 0)


def test_log_counts_damaged_lines_and_the_page_says_so(tmp_path, page_of):
    run = fake_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind":"st{"kind":"step"}\n[]\n{"kind":"step","phase_index":null}\n')
    assert "3 lines that cannot be read" in page_of(run).text


def test_log_counts_a_step_once_that_was_trained_again_after_a_resume(tmp_path):
    whole = (fake_run(tmp_path, epochs_done=3) / "metrics.jsonl").read_text()
    again = whole + "".join(line + "\n" for line in whole.splitlines()[-20:])
    assert read_log(again) == read_log(whole)


def test_loss_that_is_no_number_leaves_a_gap(tmp_path, page_of):
    run = fake_run(tmp_path)
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r'"train_loss": [\d.]+', '"train_loss": NaN', text))
    means = page_of(run).plots()["curves"]["data"][1]["y"]
    assert set(means) == {None}


def test_training_losses_of_another_kind_are_not_set_beside_each_other(tmp_path):
    run = fake_run(tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    for line in epochs:
        line["train_loss"] = round(0.3 / line["step"] ** 0.1, 3) + 0.5 * (line["phase"] != "dense")
        if line["phase"] != "dense":
            line["loss_with"] = ["gce", "training.label_smoothing"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = words.curves_sentence(read_run(run))
    ends = [f"{epochs[place]['train_loss']:.3f}" for place in (0, 11, 12, -1)]
    assert said.startswith(
        "The training loss is not one and the same in all phases: "
        f"it went from {ends[0]} to {ends[1]} in dense, then it went from {ends[2]} to {ends[3]} in "
        "sparse and redense, with gce and training.label_smoothing; the validation error "
    )


# --- errors ---------------------------------------------------------------------------------------------------------


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no run folder"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phases": [{}]}', '{"phases": [], "metric": 3}'])
def test_damaged_result_is_refused_by_name(tmp_path, text):
    (fake_run(tmp_path) / "result.json").write_text(text)
    with pytest.raises(DataError, match=r"result\.json"):
        write_report(tmp_path)


def test_no_draft_is_left_beside_the_report(tmp_path):
    report = write_report(fake_run(tmp_path))
    assert report == tmp_path / "report.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "environment.json",
        "metrics.jsonl",
        "recipe.yaml",
        "report.html",
        "result.json",
    ]


# --- nothing smuggled in, nothing loaded ----------------------------------------------------------------------------


def test_texts_of_the_run_cannot_become_markup(tmp_path, page_of):
    harmless, evil = page_of(fake_run(tmp_path / "harmless")), page_of(evil_run(tmp_path / "evil"))
    assert [tag for tag, _ in evil.elements if tag == "script"] == [
        tag for tag, _ in harmless.elements if tag == "script"
    ]
    assert not evil.all("img")
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert EVIL in evil.text
    assert "dense" + EVIL.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in json.dumps(
        evil.plots(), ensure_ascii=False
    ).replace('\\"', '"')


def test_json_in_the_page_ends_no_script_and_comes_back_as_it_was(read_page):
    data = [EVIL, "<!--<script ", "\u2028"]  # what begins a comment or a script hides the real end from a browser
    assert not set("<>&") & set(script_json(data))
    block = read_page(f'<script type="application/json">{script_json(data)}</script>')
    assert [tag for tag, _ in block.elements] == ["script"]
    assert json.loads(block.scripts[0]) == data


def test_page_names_no_address_to_load_from(tmp_path, page_of):
    page = page_of(fake_run(tmp_path))
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset")
    ]
    assert {address[:5] if address.startswith("data:") else address[:1] for address in addresses} == {"data:", "#"}
    assert "@import" not in STYLE
    assert "url(" not in STYLE
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_plotly_is_in_the_page_once(tmp_path, page_of):
    assert page_of(fake_run(tmp_path)).source.count("* plotly.js v") == 1


def test_raw_files_come_out_of_the_page_as_they_are(tmp_path, page_of):
    run = fake_run(tmp_path)
    for link in (a for a in page_of(run).all("a") if "download" in a):
        data = base64.b64decode(link["href"].partition("base64,")[2])
        assert data == (run / link["download"]).read_bytes()


# --- content --------------------------------------------------------------------------------------------------------


def test_table_has_phase_sparsity_epochs_rate_figures_and_time(tmp_path, page_of):
    text = page_of(fake_run(tmp_path)).text
    assert "Phase Sparsity Epochs Initial LR Validation error, % Test error, % Time" in text
    assert re.search(r"sparse 30 % 8 0\.02 \d+\.\d\d 11\.31 43 s", text)


def test_layers_say_why_they_are_not_pruned(tmp_path, page_of):
    text = page_of(fake_run(tmp_path)).text
    assert "features.0.weight 32 × 1 × 3 × 3 288 no: the first convolution 0 % 0 % 0 %" in text
    assert "3 of 7 layers may be pruned; at the end of sparse, 31,104 of 104,042 weights (29.9 %) were zero" in text


def test_plots_are_valid_plotly_figures(tmp_path, page_of):
    from plotly import graph_objects

    plots = page_of(fake_run(tmp_path)).plots()
    assert set(plots) == {"curves", "layers"}
    for plot in plots.values():
        text = re.sub(r'"--(\w+)"', '"#123456"', json.dumps({"data": plot["data"], "layout": plot["layout"]}))
        graph_objects.Figure(json.loads(text))
        assert set(re.findall(r'"--(\w+)"', json.dumps(plot))) <= set(re.findall(r"--(\w+):", STYLE))


def test_learning_rate_begins_each_phase_at_its_initial_value_and_is_not_joined_across_phases(tmp_path, page_of):
    curve = page_of(fake_run(tmp_path, log_every=100)).plots()["curves"]["data"][3]
    gaps = [index for index, value in enumerate(curve["y"]) if value is None]
    starts = [(curve["x"][index + 1], curve["y"][index + 1]) for index in gaps]
    assert starts == [(0, 0.02), (12 * STEPS_PER_EPOCH, 0.02), (20 * STEPS_PER_EPOCH, 0.002)]


def test_many_steps_are_thinned_without_losing_a_spike():
    lines = [StepLine(0, step, 9.0 if step == 4321 else 1.0 + step % 7 / 10, 0.1) for step in range(50_000)]
    kept = figures.thinned(lines, 1000)
    assert len(kept) <= 1000
    assert max(line.loss for line in kept) == 9.0
    assert [line.step for line in kept] == sorted({line.step for line in kept})


# --- for everyone ---------------------------------------------------------------------------------------------------


def test_page_has_language_title_ordered_headings_and_text_for_every_plot(tmp_path, page_of):
    page = page_of(fake_run(tmp_path))
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>quickstart: redense run report</title>" in page.source
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    plots = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    assert len(plots) == 2
    assert all(plot["role"] == "group" and len(plot["aria-label"]) > 40 for plot in plots)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(links) <= set(ids)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "muted", "accent"])
@pytest.mark.parametrize("ground", ["paper", "raised", "sunk", "band"])
def test_text_has_contrast(theme, text, ground, palettes, contrast):
    palette = palettes(STYLE)[theme]
    assert contrast(palette[text], palette[ground]) >= 4.5


# --- in a browser ---------------------------------------------------------------------------------------------------
