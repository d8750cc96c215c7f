"""The page of a judgement is made of its numbers as they are: it decides what the judge has decided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from redense.lab.judging.judge import Judgement, judge
from redense.lab.judging.results import decide_rows
from redense.lab.pairs.results import write_tables
from redense.report.comparisons import words
from redense.report.comparisons.reading import read_comparison
from redense.report.comparisons.types import Comparison
from redense.report.judged import results_of, to_latex, to_markdown

MEANS = {"baseline": 31.0, "restart": 29.0, "dsd": 28.0}


def rows(seeds: tuple[Any, ...] = (0, 1, 2, 3, 4, 5), arms: Mapping[str, float] = MEANS) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "seed": seed, "error": mean + 0.1 * (place % 3 + len(arm) * place % 2)}
        for arm, mean in arms.items()
        for place, seed in enumerate(seeds)
    ]


def page_of(found: Judgement, folder: Path) -> Comparison:
    write_tables(folder, results_of(found, "t"), None)
    return read_comparison(folder)


def check_page(found: Judgement) -> None:
    results = results_of(found, "t")
    said = decide_rows(results["rows"], results["metric"], **results["judged"])
    assert said.conclusions == found.decision.conclusions
    assert [item.paired for item in said.contrasts] == [item.paired for item in found.decision.contrasts]


def test_seeds_that_are_labels_stay_apart():
    found = judge(rows(("1", "01", "٣", "3", "1" * 30, "a")))
    assert [arm.n for arm in found.decision.arms] == [6, 6, 6]
    check_page(found)
    assert results_of(found, "t")["seeds"] == [1, "01", "٣", 3, "1" * 30, "a"]


def test_a_table_for_a_paper_has_a_minus_and_its_caption_no_markup():
    table = [{"arm": row["arm"], "seed": row["seed"], "<b>_x_ error": row["error"]} for row in rows()]
    found = judge(table)
    cells = to_latex(found).partition("\\midrule")[2]
    assert "$-$" in cells
    assert "-" not in cells.partition("\\bottomrule")[0].replace("$-$", "")
    assert to_markdown(found).startswith(r"\<b\>\_x\_ error: lower is better")


def test_a_part_of_a_step_more_than_the_control_is_no_gain_on_the_page_either():
    table = [{**row, "steps": 900 + (row["arm"] == "dsd" and row["seed"] < 2)} for row in rows()]
    found = judge(table)
    assert found.gains == ()
    check_page(found)


def test_a_folder_that_is_judged_says_what_it_said(tmp_path: Path):
    found = judge(rows(arms={"baseline": 31.0, "+steps": 29.0, "-mask": 28.0}), controls=["+steps"])
    results = results_of(found, "t")
    next(row for row in results["rows"] if row["arm"] == "+steps")["same"] = "baseline"
    write_tables(tmp_path, results, None)
    again = judge(tmp_path)
    assert (again.gains, again.headline) == (("-mask",), found.headline)
    assert again.decision.conclusions["+steps"].same == "baseline"
    check_page(again)


def test_every_run_keeps_its_own_steps_and_one_that_failed_may_have_none(tmp_path: Path):
    table: list[dict[str, Any]] = [{**row, "steps": 100 + 3 * (row["seed"] == 4), "failed": ""} for row in rows()]
    table[-1] |= {"error": "", "steps": "", "failed": "killed"}
    found = judge(table)
    c = page_of(found, tmp_path)
    lines = (tmp_path / "compare.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[2] for line in lines[-6:]] == ["100", "100", "100", "100", "103", ""]
    assert (
        [arm.steps for arm in c.arms] == [arm.steps for arm in judge(tmp_path).decision.arms] == [100.5, 100.5, 100.6]
    )


@pytest.mark.parametrize("split", ["", "test"])
def test_a_figure_of_which_nobody_told_the_split_is_not_called_a_test_figure(tmp_path: Path, split: str):
    table = [{**row, **({"split": split} if split else {})} for row in rows()]
    found = judge(table)
    write_tables(tmp_path, results_of(found, "t"), None)
    assert judge(tmp_path).headline == found.headline
    assert f"its {split} error is".replace("  ", " ") in found.headline


@pytest.mark.parametrize(
    ("scale", "base", "decimals"), [(1.0, 0.0, 2), (1e-3, 1234.0, 5), (1e-8, 0.0, 9), (10, 0.0, 1)]
)
def test_no_difference_that_is_shown_becomes_nothing_on_the_page(
    tmp_path: Path, scale: float, base: float, decimals: int
):
    table = [{**row, "error": base + scale * row["error"]} for row in rows()]
    c = page_of(judge(table), tmp_path)
    assert c.differences[-1].verdict == "better"
    assert c.decimals == decimals
    assert all(float(f"{item.paired.mean:.{c.decimals}f}") for item in c.differences)


def test_small_means_without_a_difference_are_not_nothing_either(tmp_path: Path):
    c = page_of(judge({"baseline": [1e-6, 2e-6], "restart": [2e-6, 1e-6]}, lower_is_better=True), tmp_path)
    assert c.decimals == 8


def test_of_numbers_that_were_given_nobody_knows_the_masks(tmp_path: Path):
    c = page_of(judge(rows()), tmp_path)
    assert words.arms_sentence(c) == "Whether an arm trains under a mask, nobody told."
    alone = page_of(judge({"baseline": [31.0, 30.5]}, lower_is_better=True), tmp_path)
    assert words.table_sentence(alone) == "The lowest mean figure is that of baseline, 30.75."


def test_of_controls_that_are_level_on_validation_judge_page_and_folder_choose_the_same(tmp_path: Path):
    table = rows(arms={"baseline": 31.0, "llr": 30.0, "dsd": 29.0, "restart": 28.0})
    found = judge(
        [{"arm": r["arm"], "seed": r["seed"], "validation_error": 3, "test_error": r["error"]} for r in table]
    )
    assert found.decision.deciding == ("llr",)
    check_page(found)
    page_of(found, tmp_path)
    assert judge(tmp_path).decision.conclusions == found.decision.conclusions
