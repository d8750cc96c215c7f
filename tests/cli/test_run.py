"""`redense run`: with an arm, whose network it is, everywhere that says it; and what is refused."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from redense.lab.recipe.recipe import Recipe
from redense.report.runs.page import write_report
from redense.report.runs.reading import read_run
from redense.report.server.listing import part_done

Redense = Callable[..., tuple[int, str, str]]
FALSE_OF_AN_ARM = (
    *("DSD model", "dense baseline", "the control on the same budget", "dense, sparse, dense", "older redense"),
    "so there are no five moments",
)


def told(folder: Path) -> str:
    """The words of a run's page."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text.partition("<body")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_run_of_longer_says_so_on_the_terminal_its_page_and_its_card(
    redense: Redense, recipe_file: Path, tmp_path: Path
):
    code, out, _ = redense("run", recipe_file, "--arm", "longer", "--seed", "3", "--log", "null", "--out", "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert code == 0
    assert result["arm"] == {"label": "longer", "about": result["arm"]["about"]}
    assert "tiny: arm longer of the recipe: classification; seed 3" in out
    assert "1/1 longer, 3 epochs, lr 0.1" in out
    error = f"{result['phases'][0]['test']['error']:.2f} %"
    assert f"test error {error}: the network of the arm longer. That is one seed" in out
    page = told(tmp_path / "run")
    assert f"The test error of longer's network is {error}." in page
    assert f"test error at its end: {error}." in page
    assert "Branches are drawn" not in page
    assert "redense compare run/recipe.yaml --arm null --arms dsd,restart,llr,longer --seeds 5" in page
    assert redense("export", "run", "out")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "as the arm longer of `redense compare`, one dense phase over the whole budget" in card
    assert "does not show that this one is the better" in card
    for text in (out, page.replace("No layer was pruned, so there are no five moments", ""), card):  # true of longer
        assert [words for words in FALSE_OF_AN_ARM if words in text] == []
    evaluated = json.loads(redense("evaluate", "run", "--json")[1])
    assert evaluated["error"] == result["phases"][0]["test"]["error"]


def test_a_run_of_a_soup_says_what_it_joins_and_that_its_first_phase_is_no_baseline(
    redense: Redense, recipe_file: Path, tmp_path: Path
):
    code, out, _ = redense("run", recipe_file, "--arm", "dsd-soup", "--log", "null", "--out", "run", "--no-store")
    assert code == 0
    assert "8/8 soup, one network made of the ends of 3 phases" in out
    assert "soup            0 %  joined" in out
    assert "the network of the arm dsd-soup; after its first phase, dense, it was" in out
    page, run = told(tmp_path / "run"), read_run(tmp_path / "run")
    assert "of the network after its first phase, dense." in page
    assert "Branches are drawn one behind the other; each began from the same network." in page
    assert [words for words in FALSE_OF_AN_ARM if words in page + out] == []
    assert [line.phase_name for line in run.log.epochs] == [phase.name for phase in run.phases]
    assert run.phases[-1].lr is None
    assert json.loads((tmp_path / "run" / "moments.json").read_text()) == {"cycles": []}  # no branch is the run's own
    for name in ("result.json", "evidence.json", "moments.json"):  # as if it had been killed before its end
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "SHA256SUMS").unlink()
    write_report(tmp_path / "run")
    assert "This run has not finished: its log ends in phase 8, soup" in told(tmp_path / "run")
    assert part_done(read_run(tmp_path / "run")) is None


def test_the_outline_of_a_recipe_with_an_arm_has_the_phases_of_the_arm(redense: Redense, recipe_file: Path):
    _, out, _ = redense("recipes", "show", recipe_file, "--arm", "longer")
    assert "arm        longer: one dense phase over the whole budget" in out
    assert re.search(r"longer +0 % +3 +0\.1 +33", out)
    assert "arm: longer\n" in redense("run", recipe_file, "--arm", "longer", "--print-config")[1]
    assert "arm: null\n" in redense("run", recipe_file, "--print-config")[1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run {recipe} --arm langer --out run", "unknown arm 'langer'; did you mean 'longer'?"),
        ("run {recipe} --arm langer --print-config", "unknown arm 'langer'"),
        ("run {recipe} --arm ensemble --out run", "arm 'ensemble' is made of the dense networks of several seeds"),
        ("run {recipe} --arm svd --out run", "arm 'svd' ends in a network with other layers"),
        ("run {recipe} --arm prune --sparse.pattern [2,4] --out run", "arm 'prune': rising sparsity needs a sparsity"),
        ('run {recipe} --arm scratch --sparse.sparsity {{"fc9.weight":0.5}} --out run', "arm 'scratch': "),
        ("compare {recipe} --arm longer --out run", "a comparison names its arms with --arms: take it out"),
        ("search {recipe} --arm longer --out run", "a search chooses among arms of its own"),
        ("tune {recipe} --arm longer --out run", "a search chooses among arms of its own"),
        ("sensitivity {recipe} --arm longer --out run", "a scan trains the recipe's dense phase"),
    ],
)
def test_what_no_run_or_no_other_verb_can_do_with_an_arm_is_a_line_and_leaves_nothing(
    command: str, said: str, redense: Redense, recipe_file: Path, tmp_path: Path
):
    before = set(tmp_path.iterdir())
    code, out, err = redense(*(word.format(recipe=recipe_file) for word in command.split()))
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert "langer" not in out
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"cache"}


def test_a_recipe_of_an_arm_is_compared_once_the_arm_is_taken_out(
    redense: Redense, tiny: Callable[..., Recipe], tmp_path: Path
):
    (tmp_path / "own.yaml").write_text(tiny(arm="longer").to_yaml())
    code, out, _ = redense("compare", "own.yaml", "--arm", "null", "--arms", "longer", "--seeds", "2", "--dry-run")
    assert code == 0
    assert "longer" in out


def test_a_page_that_cannot_be_written_takes_no_result_away(redense: Redense, recipe_file: Path, tmp_path: Path):
    folder = tmp_path / "mine"
    assert redense("run", recipe_file, "--out", folder)[0] == 0
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    code, out, err = redense("run", "--resume", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "report.html" in err
    assert f"model      {folder / 'model.safetensors'}\n" in out
    assert "\nreport " not in out
    assert "test error" in out
    code, out, _ = redense("run", "--resume", folder, "--json")
    told = json.loads(out)
    assert (code, told["report"], told["phases"][-1]["name"]) == (2, None, "redense")
