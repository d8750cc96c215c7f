"""Folders that are judged together are one family: they agree, or are asked, and every later one is a look."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from redense.errors import DataError
from redense.lab.judging.judge import judge
from redense.lab.pairs.figures import read_figures
from redense.lab.pairs.keeping import PLAN, Outcome
from redense.lab.pairs.plan import PlannedArm, make_plan
from redense.lab.pairs.results import gather, write_tables
from redense.report.judged import write_judgement

Write = Callable[..., Path]
MEANS = {"baseline": 31.0, "restart": 29.0, "dsd": 28.0}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(
        name: str, seeds: Sequence[int], *, looked: Sequence[Any] = (), code: str = "a", added: str = "", **own: Any
    ) -> Path:
        command = own.pop("command", "python train.py {arm} {seed}")
        arms = own.pop("arms", tuple(MEANS))
        planned = [PlannedArm(arm, command=command, pieces={"train.py": code, "form": "2"}) for arm in arms]
        asked = {"baseline": None, "controls": None, "metric": "error", "seeds": list(seeds), **own}
        plan = make_plan(planned, form="command", name="t", **asked)
        outcomes = {
            (arm, seed): Outcome(read_figures({"error": MEANS.get(arm, 30) + 0.1 * (seed * len(arm) % 7)}, "error"))
            for arm, seed in plan.pairs
        }
        (tmp_path / name).mkdir()
        text = json.dumps({**plan.to_dict(), "looked": list(looked)})
        (tmp_path / name / PLAN).write_text(text, encoding="utf-8")
        terms = {"margin": plan.margin, "looks": (plan.looks or 1) * 2 ** len(looked), "added": added}
        write_tables(tmp_path / name, gather(plan, outcomes, terms), None)
        return tmp_path / name

    return written


def test_folders_of_different_margins_are_asked_which_it_is(write: Write):
    folders = [write("a", range(5), margin=0.3), write("b", range(5), margin=0.1), write("c", range(5))]
    for pair, said in ((folders[:2], "0.3, 0.1"), (folders[1:], "0.1, none"), (folders[:0:-1], "none, 0.1")):
        with pytest.raises(DataError, match=f"folders have different margins, {said}: say which with --margin"):
            judge(pair)
    assert judge(folders, margin=0.2).decision.margin == 0.2
    assert judge([folders[0], write("d", range(5, 9), margin=0.3)]).decision.margin == 0.3


def test_every_folder_that_adds_seeds_or_arms_is_a_further_look(write: Write, tmp_path: Path):
    first, second, third = (
        write(name, seeds) for name, seeds in zip("abc", ([0, 1, 2], range(3, 8), [8]), strict=True)
    )
    found = judge([first, second])
    assert found.decision.family.looks == 2
    assert "Seeds (3, then 8) were added after looking, and no further look was planned" in (found.caution or "")
    assert judge([first, second, third]).decision.family.looks == 4
    assert judge([first, first]).decision.family.looks == 1
    assert judge([first, write("d", [0, 1, 2], arms=("baseline", "mine"))]).decision.family.looks == 2
    assert judge([first, second], looks=3).decision.family.looks == 3
    table = tmp_path / "more.csv"  # and so is what another table adds
    table.write_text("arm,seed,error\n" + "".join(f"{arm},7,30\n" for arm in MEANS))
    found = judge([first, table])
    assert found.decision.family.looks == 2
    assert "Seeds (3, then 4) were added" in (found.caution or "")
    table.write_text((first / "compare.csv").read_text())
    assert judge([first, table]).decision.family.looks == 1


def test_looks_that_were_planned_or_made_before_count_where_folders_are_joined(write: Write):
    first = write("a", range(5), looked=[[3, 3]], added="Seeds (3, then 5) were added after looking.")
    assert judge(first).decision.family.looks == 2
    found = judge([first, write("b", range(5, 8))])
    assert found.decision.family.looks == 4
    assert "Seeds (3, then 5, then 8) were added" in (found.caution or "")
    assert "Seeds (3, then 5) were added" not in (found.caution or "")
    planned = judge([write("c", range(5), looks=2), write("d", range(5, 8), looks=2)])
    assert planned.decision.family.looks == 2
    assert "The correction is that of the 2 looks that were planned" in (planned.caution or "")
    (first / PLAN).unlink()  # an older folder, and that of a table, say the price of their looks alone
    assert judge([first, write("e", range(5, 8))]).decision.family.looks == 4


def test_seeds_of_two_programs_are_not_of_one_arm(write: Write):
    first = write("a", range(3))
    for number, (own, words) in enumerate(
        [
            ({"command": "python other.py {arm} {seed}"}, "the command of arm 'baseline' in '.*a' and '.*0' differs"),
            ({"settings": {"metric_regex": "best (.*)"}}, "the settings of '.*a' and '.*1' differ: seeds of two prog"),
            ({"code": "b"}, r"code that trains arm 'baseline' in '.*' differs \('train.py'\): .*, --changed-code"),
        ]
    ):
        other = write(str(number), [3, 4], **own)
        with pytest.raises(DataError, match=words):
            judge([first, other])
    changed = write("changed", [3, 4], code="b")
    assert judge([first, changed], changed_code=True).decision.seeds == 5
    own = write("of its own", range(3), arms=("baseline", "mine"), code="b")  # no arm has seeds of both
    assert "mine" in {arm.name for arm in judge([first, own]).decision.arms}


def test_a_damaged_plan_is_refused_by_name(write: Write):
    folder = write("a", range(3))
    (folder / PLAN).write_text("{")
    with pytest.raises(DataError, match=r"comparison\.json' is damaged"):
        judge(folder)


def test_seeds_of_two_recipes_are_not_of_one_arm_and_settings_that_came_later_are_no_difference(write: Write):
    folders = [write("a", range(3)), write("b", [3, 4])]
    recipe = {"name": "x", "training": {"lr": 0.1, "sparsity": {"fc": 0.3}}, "data": {"source": "here"}}

    def told(folder: Path, recipe: Any) -> None:
        (folder / PLAN).write_text(json.dumps({"recipe": recipe, "arms": ["dsd"], "seeds": [0]}))

    told(folders[0], recipe)
    told(folders[1], {"name": "y", "training": {"lr": 0.1, "new": 1}, "data": {"source": "there"}})
    assert judge(folders).decision.seeds == 5
    for training in ({"lr": 0.2}, {"sparsity": {"conv": 0.3}}):
        told(folders[1], {"training": training})
        with pytest.raises(DataError, match=r"the recipe of '.*a' and '.*b' differs: seeds of two programs are not"):
            judge(folders)


def test_networks_of_other_seeds_that_a_phase_is_made_of_are_no_other_program(write: Write):
    """`ensemble` and `distill` are made of networks of their folder's seeds; a soup joins phases, by their numbers."""
    folders = [write("a", range(3)), write("b", [3, 4])]

    def told(folder: Path, teachers: list[str], joins: list[str] | list[int] | None) -> None:
        phases = [{"phase": {"steps": 8}, "options": {"teachers": teachers}}, {"phase": {"steps": 1}, "joins": joins}]
        data = json.loads((folder / "compare.json").read_text())
        data["rows"] = [{**row, "phases": phases} for row in data["rows"]]
        (folder / "compare.json").write_text(json.dumps(data))
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        (folder / PLAN).write_text(json.dumps({"recipe": {"name": "x"}, "arms": ["dsd"], "seeds": [0]}))

    told(folders[0], ["0a", "0b"], ["0c", "0d"])
    told(folders[1], ["1a", "1b"], ["1c", "1d"])
    assert judge(folders).decision.seeds == 5
    for teachers, joins in ((["1a"], ["1c", "1d"]), (["1a", "1b"], ["1c", "1d", "1e"]), (["1a", "1b"], None)):
        told(folders[1], teachers, joins)
        with pytest.raises(DataError, match=r"the phases of arm 'baseline' in '.*a' and '.*b' differ: seeds of two"):
            judge(folders)
    told(folders[0], ["0a"], [2, 4])
    told(folders[1], ["1a"], [2, 4])
    assert judge(folders).decision.seeds == 5
    told(folders[1], ["1a"], [2, 6])
    with pytest.raises(DataError, match="the phases of arm 'baseline'"):
        judge(folders)


def test_a_page_of_joined_folders_knows_of_which_folder_a_seed_is(write: Write, tmp_path: Path):
    """What the terminal says of an arm with one figure a folder, the page and a later judgement of it say."""
    folders = [write("a", range(3)), write("b", range(3, 8))]
    for folder, figure in zip(folders, ("27.0", "28.0"), strict=True):
        rows = (folder / "compare.csv").read_text().splitlines()
        assert all(row.count(",") == rows[0].count(",") for row in rows)
        of_dsd = [row.rpartition(",")[0] + f",{figure}" if row.startswith("dsd,") else row for row in rows]
        (folder / "compare.csv").write_text("\n".join(of_dsd) + "\n")
        (folder / "SHA256SUMS").unlink()
    found = judge(folders)
    said = "restart and dsd have the same figure for every seed of a folder, as one run of each has"
    assert said in (found.caution or "")
    page = write_judgement(found, tmp_path / "joined", "a and b")
    assert said in page.read_text(encoding="utf-8")
    assert (judge(tmp_path / "joined").caution or "").startswith(said)


def test_what_stands_against_a_gain_in_one_folder_stands_in_all(write: Write, tmp_path: Path):
    first, second = write("a", range(3)), write("b", range(3, 6))
    for folder, bound in ((first, True), (second, False)):
        data = json.loads((folder / "compare.json").read_text())
        next(row for row in data["rows"] if row["arm"] == "dsd")["bound"] = bound
        (folder / "compare.json").write_text(json.dumps(data))
        (folder / "SHA256SUMS").unlink()
    for pair in ([first, second], [second, first]):
        assert judge(pair).figures["dsd"].bound
    data["metric"]["unit"] = "%"
    (second / "compare.json").write_text(json.dumps(data))
    assert judge([first, second]).decision.unit == ""  # one of them does not say it
    for folder, unit in ((first, "s"), (second, "%")):
        data = json.loads((folder / "compare.json").read_text())
        data["metric"]["unit"] = unit
        (folder / "compare.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="folders have figures of different units, '%', 's'"):
        judge([first, second])


def test_a_table_that_says_no_split_joins_a_folder_of_test_figures(write: Write, tmp_path: Path):
    folder, table = write("a", range(3)), tmp_path / "mine.csv"
    table.write_text("arm,seed,error\n" + "".join(f"mine,{seed},{28 + 0.1 * seed}\n" for seed in range(3)))
    for tables in ([folder, table], [table, folder]):
        assert [arm.mean for arm in judge(tables).decision.arms if arm.name == "mine"] == [pytest.approx(28.1)]
    table.write_text(table.read_text().replace("error", "valid_error"))
    with pytest.raises(DataError, match="'mine' has no seed '0'"):
        judge([folder, table])
