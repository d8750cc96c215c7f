"""What the page of a comparison says first, read back from the HTML: the judge's words, whatever diverged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from comparison_samples import (
    GAIN,
    fake_comparison,
    plain,
)

from redense.lab.judging.judge import judge
from redense.report.comparisons import verdict as compare_verdict
from redense.report.comparisons.reading import read_comparison
from redense.report.judged import write_judgement
from redense.tasks.metrics import Metric


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
        "No gain can be claimed over 5 seeds: no arm beside the baseline counts as a control without a mask. "
        "dsd and random are better"
    )
    text = plain(page_of(folder).text)
    assert "Control not run an arm without a mask" in text
    assert "No arm beside the baseline counts as a control without a mask." in text
    assert "No arm beside the baseline counts as a control without a mask, so no gain can be claimed." in text


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
    text = plain(text)
    assert (
        "paired by seed: large and small, that of the only seed. Better on the left, worse on the right. Every" in text
    )
    assert "No difference is decided here: without a second seed nothing tells" in text
    assert not [word for word in ("uncorrected", "interval,", "The band") if word in text]


def test_arm_that_diverges_is_no_gain_and_is_named_with_its_seeds_and_why(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", GAIN, failed={"dsd": [1], "llr": range(5)})
    assert headline(folder).endswith("1 of 5 runs of dsd diverged, so dsd is none.")
    assert "dsd is a gain" not in headline(folder)
    text = plain(page_of(folder).text)
    assert "1 of 5 runs of dsd diverged; its figures are of the others alone." in text
    assert "5 of 5 runs of llr diverged." in text
    assert "dsd, seed 1: the loss is nan at step 1801 of phase <b>" in text
    assert "1 of 5 runs of dsd diverged, so no gain can be claimed." in text


def test_page_and_command_line_say_the_same_where_one_run_of_the_control_diverged(tmp_path, page_of):
    folder = fake_comparison(tmp_path / "c", GAIN, failed={"restart": [1]})
    text = plain(page_of(folder).text)
    result = json.loads((folder / "compare.json").read_text())
    assert result["codes"]["dsd"]["obstacle"] == "diverged"
    assert result["gains"] == []
    assert "dsd is a gain" not in text
    assert headline(folder) in text
    assert "1 of 5 runs of restart diverged, so" in headline(folder)
    for arm, said in result["conclusions"].items():  # what the command line prints
        assert said.removeprefix(f"{arm}: ")[1:] in text
    assert "1 of 5 runs of restart diverged, so no gain can be claimed." in result["conclusions"]["dsd"]


@pytest.mark.parametrize(
    ("figures", "failed"),
    [
        (GAIN, {}),
        (GAIN, {"restart": [1]}),
        (GAIN, {"dsd": [1], "llr": range(5)}),
        ({"baseline": 11.7, "restart": 11.0, "sam": 9.8, "dsd": 9.0}, {"baseline": [0]}),
    ],
)
def test_a_folder_is_judged_as_its_own_page_says_whatever_diverged(tmp_path, figures, failed):
    folder = fake_comparison(tmp_path / "c", figures, failed=failed)
    judged, page, result = judge(folder), read_comparison(folder), json.loads((folder / "compare.json").read_text())
    assert judged.headline == headline(folder)
    assert str(judged).startswith(judged.headline)
    told = judged.to_dict()
    assert told["codes"] == result["codes"]
    assert {name: one["text"] for name, one in told["conclusions"].items()} == dict(page.conclusions)
    write_judgement(judged, tmp_path / "out", "c")
    again = read_comparison(tmp_path / "out")
    assert compare_verdict.headline(again) == judged.headline
    assert dict(again.conclusions) == dict(page.conclusions)


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


def test_seeds_that_were_added_and_are_not_trained_yet_are_told(usual, monkeypatch):
    monkeypatch.chdir(usual.parent)
    before = read_comparison(usual)
    assert compare_verdict.unfinished(before) == ""
    path = usual / "comparison.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [*before.seeds, 50, 51]}))
    assert compare_verdict.remarks(read_comparison(usual))[0] == (
        "This is of 5 of 7 seeds: the others were added, and are not all trained. "
        f"redense compare --resume {usual.name} goes on."
    )
