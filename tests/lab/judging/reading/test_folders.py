"""The folder of a comparison says of its table what its own page says, and no other table makes it say more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from redense.errors import CheckpointError, DataError
from redense.lab.judging.headline import headline
from redense.lab.judging.judge import judge
from redense.lab.judging.results import decide_rows
from redense.lab.judging.verdicts import Decision
from redense.lab.pairs.figures import read_figures
from redense.lab.pairs.keeping import Outcome
from redense.lab.pairs.plan import PlannedArm, make_plan
from redense.lab.pairs.results import gather, write_tables
from redense.report.judged import write_judgement

Write = Callable[..., Path]
MEANS = {"baseline": 31.0, "restart": 29.0, "dsd": 28.0}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, arms: Mapping[str, float], told: Callable[[str, float], Any], **own: Any) -> Path:
        planned = [PlannedArm(arm) for arm in arms]
        asked = {"baseline": None, "controls": None, "metric": "error", **own}
        plan = make_plan(planned, form="function", name="t", seeds=6, **asked)
        outcomes = {
            (arm, seed): Outcome(read_figures(told(arm, arms[arm] + 0.1 * (seed % 3 + len(arm) * seed % 2)), "error"))
            for arm, seed in plan.pairs
        }
        (tmp_path / name).mkdir()
        terms = {"margin": plan.margin, "looks": 1, "added": ""}
        write_tables(tmp_path / name, gather(plan, outcomes, terms), None)
        return tmp_path / name

    return written


def _steps_of(steps: Mapping[str, int], arm: str) -> dict[str, int]:
    return {"steps": steps[arm]} if arm in steps else {}


def of_its_own(folder: Path) -> Decision:
    from redense.files.json_text import read_json

    data = read_json(folder / "compare.json")
    return decide_rows(data["rows"], data["metric"], **data["judged"])


def test_figures_of_validation_data_are_not_judged_beside_test_figures(write: Write, tmp_path: Path):
    test = write("a", {"baseline": 31.0, "restart": 29.0}, lambda arm, value: {"test_error": value})
    validation = write("b", {"dsd": 27, "mine": 27.5}, lambda arm, v: {"validation_error": v}, baseline="mine")
    for tables in ([test, validation], [validation, test], [str(validation), test / "compare.csv"]):
        with pytest.raises(DataError, match=r"b' has figures of validation data alone, and '.*a.* has not: figures of"):
            judge(tables)
    rows = tmp_path / "rows.csv"
    rows.write_text((test / "compare.csv").read_text())
    with pytest.raises(DataError, match="figures of two splits are not of one family"):
        judge([rows, validation])
    assert judge([validation, validation], baseline="mine").split == "validation"


def test_a_comparison_without_a_baseline_is_judged_as_its_page_judges_it(write: Write):
    folder = write("a", {"restart": 29.0, "dsd": 28.0}, lambda arm, value: {"test_error": value})
    found = judge(folder)
    assert found.decision.contrasts == of_its_own(folder).contrasts
    assert (found.gains, found.decision.baseline) == (("dsd",), "")
    assert judge(folder, baseline="restart").decision.baseline == "restart"


def test_an_arm_of_which_nobody_told_the_steps_is_judged_as_its_page_judges_it(write: Write):
    steps = {"baseline": 500, "restart": 900}
    folder = write("a", MEANS, lambda arm, value: {"error": value, **({"steps": steps[arm]} if arm in steps else {})})
    assert judge(folder).gains == ("dsd",)
    assert {arm.name: arm.steps for arm in judge(folder).decision.arms} == {**steps, "dsd": None}


def test_a_mean_of_steps_that_is_no_whole_number_is_longer_by_that_part(write: Write):
    def told(arm: str, value: float) -> dict[str, float]:
        return {"error": value, "steps": 900 + (arm == "dsd" and value > 28.1)}

    folder = write("a", MEANS, told)
    for decision in (judge(folder).decision, of_its_own(folder)):
        assert "dsd trains for 900.500 steps and restart for 900 only, so dsd is none." in headline(decision)


def test_folders_say_what_they_know_however_they_are_listed(write: Write, tmp_path: Path):
    means = {"baseline": 31.0, "own": 29.0, "dsd": 29.5}
    folder = write("a", means, lambda arm, value: {"error": value, "loss": value / 100}, controls=["own"])
    for table in (folder, [folder], {folder}, {str(folder): 0}.keys(), tmp_path.glob("a"), iter([folder])):
        assert judge(table).decision.controls == ("own",)
    with (folder / "compare.csv").open() as file:
        assert judge(file, metric="error", controls=["own"]).gains == judge(folder).gains
    with pytest.raises(DataError, match="expected \\{seed: number\\}"):
        judge({str(folder): 1.0}, lower_is_better=True)


def test_what_a_folder_knows_as_a_control_is_no_gain_where_another_is_named(write: Write, tmp_path: Path):
    def told(arm: str, value: float) -> dict[str, float]:
        return {"error": value + 0.1 * math.sin(99 * len(arm) * value)}

    folder = write("a", {**MEANS, "own": 27.0}, told, controls=["own"])
    found = judge(folder, controls=["restart"])
    assert (found.gains, found.decision.deciding) == (("dsd",), ("restart",))
    assert found.to_dict()["codes"]["own"] | {"against": {}} == {
        "role": "arm", "gain": False, "against": {}, "obstacle": "no-mask",
    }  # fmt: skip
    assert "own has no mask, as a control has none, so no gain can be claimed." in str(found)
    write_judgement(found, tmp_path / "out", "a")
    assert judge(tmp_path / "out").gains == ("dsd",)


def test_a_margin_of_a_folder_is_one_of_its_own_figure(write: Write):
    folder = write(
        "a", {"baseline": 31.0, "dsd": 30.9}, lambda arm, value: {"error": value, "loss": value / 100}, margin=0.3
    )
    assert {item.verdict for item in judge(folder).decision.contrasts} == {"equivalent"}
    assert judge(folder, metric="loss").decision.margin is None
    assert judge(folder, metric="loss", margin=0.3).decision.margin == 0.3


@pytest.mark.parametrize("name", ["compare.csv", "compare.json"])
def test_a_folder_that_was_damaged_is_not_judged(write: Write, name: str):
    folder = write("a", MEANS, lambda arm, value: {"error": value})
    text = (folder / name).read_text()
    for damage in (lambda: (folder / name).write_text(text.replace("28.", "27.", 1)), (folder / name).unlink):
        damage()
        for table in (folder, [folder / "compare.csv"]):
            with pytest.raises(CheckpointError, match=f"{name} is (damaged|gone)"):
                judge(table)
    (folder / name).write_text(text)
    assert judge(folder).gains == ("dsd",)


def test_a_gain_whose_steps_nobody_told_is_one_on_a_condition(write: Write):
    steps = {"baseline": 500, "restart": 900}
    folder = write("a", MEANS, lambda arm, value: {"error": value, **({"steps": steps[arm]} if arm in steps else {})})
    told = "Nobody told for how many steps dsd trains: a gain is one if its arm trains no longer than the control."
    assert told in (judge(folder).caution or "")
    assert "Nobody told" not in (judge(write("b", MEANS, lambda arm, value: {"error": value})).caution or "")
    for name, steps, said in (
        ("c", {"baseline": 500, "dsd": 900}, "restart trains"),
        ("d", {"dsd": 900}, "restart trains"),
        ("e", {"baseline": 500}, "dsd and restart train"),
    ):
        folder = write(name, MEANS, lambda arm, value, own=steps: {"error": value} | _steps_of(own, arm))
        assert f"Nobody told for how many steps {said}: a gain is one if" in (judge(folder).caution or "")


def test_folders_with_different_baselines_are_asked_which_it_is(write: Write):
    first = write("a", {"base": 31.0, "dsd": 29.0}, lambda arm, value: {"error": value}, baseline="base")
    second = write("b", {"dense": 31.0, "restart": 30.0}, lambda arm, value: {"error": value})
    for tables in ([first, second], [second, first]):
        with pytest.raises(DataError, match=r"folders have different baselines, .*: say which with --baseline"):
            judge(tables)
    assert judge([first, second], baseline="dense").decision.baseline == "dense"


def test_folders_that_do_not_agree_which_way_is_better_are_asked_about_it(write: Write):
    def told(arm: str, value: float) -> dict[str, float]:
        return {"error": value}

    folders = [write(name, MEANS, told, lower_is_better=lower) for name, lower in (("a", True), ("b", False))]
    with pytest.raises(DataError, match="say both that lower and that higher is better of 'error': say which"):
        judge(folders)
    assert judge(folders, lower_is_better=True).gains == ("dsd",)


def test_the_table_of_validation_figures_says_so_outside_its_folder(write: Write, tmp_path: Path):
    folder = write("a", MEANS, lambda arm, value: {"validation_error": value})
    alone = tmp_path / "alone.csv"
    alone.write_text((folder / "compare.csv").read_text())
    assert alone.read_text().splitlines()[0].endswith("failed,validation_error")
    assert judge(alone).split == judge(folder).split == "validation"
    assert judge(alone).headline == judge(folder).headline
