"""The rule of a gain: the strongest control decides, and the words say what the verdicts do."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from typing import Any

import pytest

import redense
from redense.errors import DataError, RedenseError
from redense.lab.judging.figures import ArmFigures
from redense.lab.judging.planning import plan
from redense.lab.judging.power import seeds_for
from redense.lab.judging.verdicts import decide
from redense.lab.judging.words import caution, control_sentence

BASE = [22.9, 22.5, 24.3, 22.5, 23.3, 23.1, 22.5, 23.3]
WAVE = [0.11, -0.08, 0.05, 0.13, -0.12, 0.02, -0.06, 0.09]


def shifted(by: float, wave: float = 1.0) -> list[float]:
    return [value + by + wave * part for value, part in zip(BASE, WAVE, strict=True)]


TABLE = {"baseline": BASE, "restart": shifted(-0.8), "dsd": shifted(-1.5, -1), "llr": shifted(-2.3, 0.5)}


def figures(values: list[float]) -> ArmFigures:
    return ArmFigures({str(seed): value for seed, value in enumerate(values)}, runs=len(values))


def judged(table: Any = TABLE, **options: Any) -> dict[str, Any]:
    return redense.judge(table, **{"lower_is_better": True, **options}).to_dict()


def verdicts(told: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(item["arm"], item["against"]): item["verdict"] for item in told["comparisons"]}


def test_without_validation_figures_every_control_has_to_be_beaten():
    told = judged()
    assert told["control"] == ["restart", "llr"]
    assert told["family"] == {"comparisons": 5, "looks": 1, "level": 0.05}
    assert verdicts(told)["dsd", "restart"] == "better"
    assert verdicts(told)["dsd", "llr"] == "worse"
    assert told["conclusions"]["dsd"] == {
        "gain": False,
        "text": "dsd: no gain. Against the baseline: better; against restart, a control: better; against llr, a "
        "control: worse.",
    }


def test_validation_figures_choose_the_control_and_nothing_else():
    validation = {"restart": shifted(-3.0), "llr": shifted(-2.0)}
    told = judged(validation=validation)
    assert told["control"] == ["restart"]
    assert told["family"]["comparisons"] == 4
    assert told["conclusions"]["dsd"]["gain"] is True
    assert told["conclusions"]["dsd"]["text"].startswith("dsd: a gain. Against the baseline: better; against restart, ")
    assert told["conclusions"]["restart"]["text"] == "restart: the control. Against the baseline: better."
    assert told["conclusions"]["llr"]["text"] == "llr: a control. Against the baseline: better."
    assert judged(validation=validation, lower_is_better=False)["control"] == ["llr"]
    assert judged(validation={**validation, "dsd": [99.0] * 8})["comparisons"] == told["comparisons"]
    # One control lacks a figure, so none is the strongest.
    assert judged(validation={"restart": shifted(-3.0)})["control"] == ["restart", "llr"]


def test_of_controls_that_are_equal_on_validation_the_first_in_the_table_decides_as_on_its_page():
    validation = {"restart": BASE, "llr": BASE[::-1]}
    assert judged(validation=validation)["control"] == ["restart"]
    assert judged(validation=validation, controls=["llr", "restart"])["control"] == ["restart"]
    told = "The control is restart: on validation figures it is level with llr, which comes later."
    assert told in str(redense.judge(TABLE, validation=validation, lower_is_better=True))


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "it is level with b and c, which come later."),
        ({"a": 1.0, "b": 2.0, "c": 1.0}, "it is ahead of b and level with c, which comes later."),
        ({name: 1.0 + 0.1 * place for place, name in enumerate("abcdef")}, "it is ahead of b, c, d, e and f."),
        ({name: 1.0 + 0.1 * place for place, name in enumerate("abcdefg")}, "it is ahead of the 6 others."),
    ],
)
def test_the_sentence_of_the_control_names_whom_it_is_ahead_of(validation: dict[str, float], words: str):
    table = {"baseline": BASE, **{name: shifted(-1.0) for name in validation}, "dsd": shifted(-1.5, -1)}
    chosen_by = {name: shifted(value) for name, value in validation.items()}
    found = redense.judge(table, validation=chosen_by, controls=list(validation), lower_is_better=True)
    assert f"The control is a: on validation figures {words}" in str(found)


def of_another_network(**validation: float) -> str:
    """Return the sentence of the control, beside controls that end in another network."""
    seeds = [str(seed) for seed in range(len(BASE))]
    arms = {"baseline": figures(BASE), "dsd": figures(shifted(-1.5, -1))}
    for name, value in validation.items():
        chosen_by = dict(zip(seeds, shifted(value), strict=True))
        arms[name] = dataclasses.replace(figures(shifted(-1.0)), validation=chosen_by, bound=name in ("wide", "deep"))
    found = decide(arms, lower_is_better=True, baseline="baseline", controls=list(validation))
    assert not {"wide", "deep"} & set(found.deciding)
    return control_sentence(found)


def test_a_control_that_ends_in_another_network_is_not_said_to_be_behind():
    assert of_another_network(restart=-1.0, llr=-0.5, wide=-2.0) == (
        "The control is restart: on validation figures it is ahead of llr. "
        "wide ends in another network and decides nothing."
    )
    assert of_another_network(restart=-1.0, wide=-2.0, deep=-3.0) == (
        "The control is restart, the only one. wide and deep end in another network and decide nothing."
    )
    assert of_another_network(wide=-2.0).startswith(
        "No arm beside the baseline counts as a control without a mask (restart, llr or longer)"
    )


def test_controls_and_baseline_can_be_named():
    assert judged(controls=["restart"])["conclusions"]["dsd"]["gain"] is True
    assert judged(controls="restart")["control"] == ["restart"]
    told = judged(baseline="restart", controls=["llr", "llr"])
    assert [arm["role"] for arm in told["arms"]] == ["arm", "baseline", "arm", "control"]
    assert verdicts(told)["llr", "restart"] == "better"
    numbered: Any = dict(enumerate(TABLE.values()))
    assert judged(numbered, baseline=0, controls=[1])["conclusions"]["2"]["gain"] is True
    assert judged(numbered, baseline=0, controls=1)["control"] == ["1"]
    renamed = {"dense" if name == "baseline" else name: values for name, values in TABLE.items()}
    assert "Against the baseline dense: better" in judged(renamed)["conclusions"]["dsd"]["text"]


def test_without_a_control_no_gain_is_claimed_and_the_line_says_why():
    told = judged({"baseline": BASE, "dsd": shifted(-1.5)})
    assert told["control"] == []
    assert told["conclusions"]["dsd"] == {
        "gain": False,
        "text": "dsd: no gain. Against the baseline: better. No arm beside the baseline counts as a control "
        "without a mask, so no gain can be claimed.",
    }


def test_an_arm_with_more_steps_than_its_control_is_no_gain():
    def rows(steps: int) -> list[dict[str, Any]]:
        spent = {"baseline": 50, "restart": 100, "dsd": steps}
        return [
            {"arm": arm, "seed": seed, "error": value, "steps": spent[arm]}
            for arm in spent
            for seed, value in enumerate(TABLE[arm])
        ]

    assert judged(rows(100))["conclusions"]["dsd"]["gain"] is True
    told = judged(rows(101))["conclusions"]["dsd"]
    assert told["gain"] is False
    assert (
        told["text"].endswith("Dsd trains for 101 steps and restart for 100 only, so no gain can be claimed.") is False
    )
    assert "dsd trains for 101 steps and restart for 100 only, so no gain can be claimed." in told["text"]


def test_equal_is_said_only_with_a_margin_and_comes_before_better():
    table = {"baseline": BASE, "restart": shifted(-0.8), "near": shifted(-0.9, 0.5)}
    assert "equivalent" not in verdicts(judged(table)).values()
    assert verdicts(judged(table))["near", "restart"] == "better"
    told = judged(table, margin=0.3)
    assert verdicts(told)["near", "restart"] == "equivalent"
    assert told["conclusions"]["near"]["gain"] is False
    assert verdicts(told)["near", "baseline"] == "better"
    low, high = told["comparisons"][2]["interval_90"]
    assert verdicts(judged(table, margin=-low))["near", "restart"] != "equivalent"
    assert verdicts(judged(table, margin=-low * 1.001))["near", "restart"] == "equivalent"
    assert high < 0


def test_looks_multiply_p_and_one_look_is_the_same_as_none():
    once, often = judged(), judged(looks=4)
    assert judged(looks=1) == once
    for one, many in zip(once["comparisons"], often["comparisons"], strict=True):
        assert many["p_adjusted"] == pytest.approx(min(1.0, 4 * one["p_adjusted"]))
        assert many["detectable"] > one["detectable"]
    assert "seeds must not be added" in once["caution"]
    assert "4 looks in all" in often["caution"]
    assert often["family"]["looks"] == 4


def test_one_seed_shows_nothing_and_equal_differences_have_no_interval():
    told = judged({arm: values[:1] for arm, values in TABLE.items()}, margin=9.0)
    assert set(verdicts(told).values()) == {"one seed shows nothing"}
    assert told["conclusions"]["dsd"]["text"] == "dsd: no gain. One seed shows nothing."
    assert told["caution"].startswith("One seed shows nothing")
    same = judged({"baseline": BASE, "dsd": BASE}, margin=9.0)["comparisons"][0]
    assert (same["difference"], same["p_adjusted"], same["interval"], same["detectable"]) == (0.0, 1.0, None, None)
    assert same["verdict"] == "equivalent"
    assert judged({"baseline": BASE, "dsd": BASE})["comparisons"][0]["verdict"] == "no difference shown"


def test_validation_figures_alone_decide_with_a_caution():
    rows = [
        {"arm": arm, "seed": seed, "split": "validation", "error": value}
        for arm, values in TABLE.items()
        for seed, value in enumerate(values)
    ]
    told = judged(rows)
    assert told["control"] == ["restart", "llr"]
    assert told["caution"].startswith("There are validation figures alone")
    trained = judged([{"train_loss" if key == "error" else key: own for key, own in row.items()} for row in rows])
    assert "By its name train_loss is a figure of training data: it says nothing of other data." in trained["caution"]


def test_a_table_of_the_baseline_alone_has_nothing_to_say():
    told = judged({"baseline": BASE})
    assert (told["comparisons"], told["conclusions"]) == ([], {})
    assert "baseline" in str(redense.judge({"baseline": BASE}, lower_is_better=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lower_is_better": None}, "--lower-is-better or --higher-is-better"),
        ({"lower_is_better": None, "metric": "score"}, "which way of 'score' is better"),
        ({"lower_is_better": None, "metric": "loss_of_accuracy"}, "which way of 'loss_of_accuracy' is better"),
        ({"lower_is_better": None, "metric": "loss accuracy"}, "which way of 'loss accuracy' is better"),
        ({"lower_is_better": None, "metric": "erosion in BLEU"}, "which way of 'erosion in BLEU' is better"),
        ({"lower_is_better": None, "metric": "reduction_in_error"}, "which way of 'reduction_in_error' is better"),
        ({"baseline": "plain"}, "--baseline 'plain': no such arm"),
        ({"controls": ["longer"]}, "--control 'longer': no such arm"),
        ({"controls": [None]}, "--control is the name of an arm, got 'None'"),
        ({"lower_is_better": None, "metric": "\N{MINUS SIGN}loss"}, "which way of '.loss' is better"),
        ({"controls": ["baseline"]}, "is the baseline"),
        ({"margin": 0.0}, "margin must be a number above 0"),
        ({"margin": float("nan")}, "margin must be a number above 0"),
        ({"looks": 0}, "looks must be a whole number from 1"),
        ({"looks": 1.5}, "looks must be a whole number from 1"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(options: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words):
        judged(**options)


def test_no_usual_baseline_is_refused():
    with pytest.raises(RedenseError, match="name it with --baseline, one of 'plain', 'dsd'"):
        judged({"plain": BASE, "dsd": BASE})


def test_a_known_name_says_which_way_is_better():
    for metric, lower in (("error", True), ("test_wer", True), ("val/Accuracy", False), ("BLEU", False), ("f1", False)):
        assert judged(metric=metric, lower_is_better=None)["metric"] == {"name": metric, "lower_is_better": lower}


def test_names_can_do_nothing_to_a_terminal_or_a_page():
    table = {"baseline": BASE, "<b>odd</b>\x1b[2J\nx": shifted(-1.0)}
    result = redense.judge(table, lower_is_better=True)
    assert all(character.isprintable() or character == "\n" for character in str(result))
    assert r"<b>odd</b>\u001b[2J\u000ax: no gain." in str(result)
    html = result._repr_html_()
    assert "<table" in html
    assert "&lt;b&gt;odd" in html
    assert "<b>odd" not in html


def test_text_has_every_arm_comparison_and_conclusion():
    result = redense.judge(TABLE, lower_is_better=True)
    text = str(result)
    assert text == str(redense.judge(TABLE, lower_is_better=True))
    for part in ("-1.518 [-1.596, -1.439]", "better", "worse", "The controls are restart and llr", "dsd: no gain."):
        assert part in text
    assert "..." not in text
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_judge_imports_no_torch():
    code = "import sys, redense; redense.judge; import redense.lab.judging.planning; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_seeds_that_were_copied_are_named_and_figures_of_few_examples_are_not_taken_for_copies():
    draw = random.Random(0)
    table = {arm: [draw.gauss(10, 1) for _ in range(4)] for arm in ("baseline", "restart", "dsd")}
    copied = {arm: values + values for arm, values in table.items()}
    told = redense.judge(copied, lower_is_better=True).caution or ""
    assert "Seeds have the same figures in every arm, as if a run had been counted more than once: 0 and 4; 1" in told
    assert "counted more than once" not in (redense.judge(table, lower_is_better=True).caution or "")
    coarse = {arm: [float(round(value)) for value in values] for arm, values in copied.items()}
    coarse["dsd"][6] += 1
    assert "counted more than once" not in (redense.judge(coarse, lower_is_better=True).caution or "")
    alike = {**table, "mine": table["dsd"]}
    said = "dsd and mine have the same figure as each other for every seed, as one training has."
    assert said in (redense.judge(alike, lower_is_better=True).caution or "")
    few = {arm: [float(value > 10) for value in values] for arm, values in alike.items()}
    assert "each other" not in (redense.judge(few, lower_is_better=True).caution or "")


def test_figures_of_two_units_are_named_and_an_arm_that_is_much_better_is_not():
    def caution(dsd: list[float]) -> str:
        table = {"baseline": BASE, "restart": shifted(-0.8), "dsd": dsd}
        return redense.judge(table, lower_is_better=True).caution or ""

    said = (
        "Some figures are a hundred times others, as 22.5 and 0.2162 are: if these are percentages and those fractions,"
    )
    assert said in caution([value / 100 for value in shifted(-1.5)])
    for better in ([value / 10 for value in BASE], [value / 1000 for value in BASE], [0.0, *shifted(-1)[1:]]):
        assert "a hundred times" not in caution(better)
    shown = [0.95, 0.91, 0.99, 0.93, 0.97, 0.9]  # percentages below 1
    for dsd, told in (([value / 100 for value in shown], True), ([value / 1000 for value in shown], False)):
        table = {"baseline": shown, "restart": [value - 0.02 * value**2 for value in shown], "dsd": dsd}
        assert (
            "and 0.0095 are: if these are percentages" in (redense.judge(table, lower_is_better=True).caution or "")
        ) == told


@pytest.mark.parametrize(("figure", "told"), [(8.0, True), (0.0, False)])
def test_an_arm_that_may_not_use_its_seed_is_named_unless_all_its_answers_are_right(figure: float, told: bool):
    draw = random.Random(0)
    table = {arm: [draw.gauss(10, 0.1) for _ in range(6)] for arm in ("baseline", "restart")} | {"dsd": [figure] * 6}
    found = redense.judge(table, lower_is_better=True)
    assert found.gains == ("dsd",)
    said = "dsd has the same figure for every seed, as one run has: of other runs of it nothing is known."
    assert (said in (found.caution or "")) == told


def test_an_arm_with_one_figure_in_each_folder_is_one_run_of_each():
    """`ensemble` is made of all seeds of its folder: two folders are two of it, whatever its rows say."""
    seeds = [[str(seed) for seed in own] for own in (range(3), range(3, 8))]
    values = {"baseline": [9.1, 9.2, 9.3, 9.4, 9.5, 9.6, 9.7, 9.8], "ensemble": [8.0] * 3 + [8.4] * 5}
    arms = {name: figures(own) for name, own in values.items()}
    asked: Any = {"lower_is_better": True, "baseline": "baseline", "controls": []}
    joined = decide(arms, folders=seeds, **asked)
    assert joined.unvaried == ("ensemble",)
    assert "ensemble has the same figure for every seed of a folder, as one run has" in (caution(joined) or "")
    assert decide(arms, **asked).unvaried == ()
    assert decide(arms, folders=seeds[:1], **asked).unvaried == ("ensemble",)  # the others are those of a table
    mixed = {**arms, "ensemble": figures([8.0] * 3 + [8.4] * 4 + [8.5])}
    assert decide(mixed, folders=seeds, **asked).unvaried == ()


# --- before an experiment -------------------------------------------------------------------------------------------


def test_a_plan_has_seeds_power_and_detectable_differences_after_the_correction():
    made = plan(sd=0.4, effect=-0.4, arms=2)
    assert made.seeds == 14
    assert made.family.comparisons == 3
    assert [row.n for row in made.table] == list(range(3, 31))
    row = made.table[14 - 3]
    assert row.power >= 0.8 > made.table[13 - 3].power
    assert made.table[2].detectable == pytest.approx(0.4 * 2.281, rel=0.02)
    assert plan(sd=1, effect=0.1, arms=2).seeds > 1000
    often = plan(sd=0.4, effect=-0.4, arms=2, looks=4)
    assert (often.seeds, often.family.looks) == (seeds_for(1.0, 3, 4), 4)
    assert often.seeds > made.seeds
    assert "at a level divided by 4 looks, and" in str(often)
    assert "in 99.9999999 % of experiments" in str(plan(sd=1, effect=1, arms=1, wanted=0.999999999))
    assert plan(sd=0.4, effect=0.4, arms=2, wanted=0.5).seeds < 14
    assert "14 seeds show a true difference" in str(made)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sd": 0.0}, "the standard deviation must be a number above 0"),
        ({"sd": float("nan")}, "the standard deviation must be a number above 0"),
        ({"effect": 0.0}, "the effect must be a number above 0"),
        ({"effect": float("inf")}, "the effect must be a number above 0"),
        ({"arms": 0}, "1 to 1,000,000 arms"),
        ({"wanted": 1.0}, r"power must be in \(0, 1\)"),
        ({"sd": 1e300, "effect": 1e-300}, "beyond what can be computed"),
        ({"sd": 1e9, "effect": 1e-3}, "over 10"),
    ],
)
def test_a_plan_of_impossible_numbers_is_refused(options: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words):
        plan(**{"sd": 1.0, "effect": 1.0, "arms": 2, **options})
