"""The training of a recipe as a function: the figures of `redense compare`, to the digit; and its search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import redense as library
from redense import cli
from redense.files.pieces import changed_pieces, pieces_of
from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.lab.search.recipes import training_of, with_criteria
from redense.lab.tasks import make_task, shared_task
from redense.schedule import Schedule

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="run")
def _run(request: pytest.FixtureRequest) -> Run:
    """The shared fixture under a name that does not hide the package."""
    return request.getfixturevalue("redense")


def test_the_function_of_a_recipe_has_the_figures_of_compare(
    compared: Callable[..., Any], tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html")
    training = training_of(tiny())
    arms = ("dsd", "restart")
    lab = compared(*arms, into="lab")
    found = library.compare(
        training, training.schedule, arms=arms, seeds=2, out=tmp_path / "mine", metric="error", quiet=True
    )
    for row in found.results["rows"]:
        wanted = lab.row(row["arm"])
        assert [seed["test"] for seed in row["seeds"]] == [seed["test"] for seed in wanted["seeds"]]
        assert [seed["validation"] for seed in row["seeds"]] == [seed["validation"] for seed in wanted["seeds"]]


def test_a_start_that_is_tuned_is_where_every_setting_begins(tiny: Callable[..., Recipe], tmp_path: Path):
    torch.save(make_task(tiny()).build_model().state_dict(), tmp_path / "start.pt")
    recipe = tiny(start=str(tmp_path / "start.pt"), tune={"backbone_lr": 1})
    training = training_of(recipe)
    first, again = (training(training.schedule, 3) for _ in range(2))  # the second by the same engine
    assert first == again == training_of(recipe)(training.schedule, 3)
    assert first["validation"] != training_of(tiny())(training.schedule, 3)["validation"]


def test_given_weights_are_searched_from_only_where_they_are_tuned(run: Run, recipe_file: Path):
    code, _, err = run("tune", recipe_file, "--start", "weights.pt", "--out", "s")
    assert (code, err.count("\n")) == (2, 1)
    assert "give no start, or --tune.backbone_lr 1" in err


@pytest.mark.parametrize(
    ("verb", "asked", "name"),
    [
        ("tune", ["--sparsities", "0.3,0.6"], "sparsity=0.6"),
        pytest.param("search", ["--sweep", "sparsity=0.3,0.6"], "dsd sparsity=0.6", marks=pytest.mark.slow),
    ],
)
def test_a_recipe_is_searched_and_the_best_confirmed(
    verb: str, asked: list[str], name: str, run: Run, recipe_file: Path, tmp_path: Path
):
    words = (verb, str(recipe_file), *asked, "--runs", "10", "--confirm", "5", "--out", "s")
    code, out, err = run(*words)
    assert code == 0, err
    assert "beats" in out or "Nothing here beats the control" in out
    assert "candidates, round 1" in out
    assert ("is the best on validation figures" in out) == (verb == "tune")
    page = (tmp_path / "s/confirm/report.html").read_text(encoding="utf-8")
    assert name in page
    assert "of a recipe, by redense search or tune; the same call goes on" in page
    assert "training of your own" not in page


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["search", "quickstart", "--candidates", "sam"], "sam"),
        (["tune", "quickstart", "--sparsities", "0.3,x"], "--sparsities are numbers such as 0.2,0.4,0.8, got 0.3,x"),
        (
            ["tune", "quickstart", "--sparsities", "0.3,1.5"],
            "sparsities to try are different numbers in (0, 1), got 1.5",
        ),
        (["tune", "quickstart", "--seed", "3"], "a search has seeds of its own"),
    ],
)
def test_what_cannot_be_searched_is_a_line(run: Run, words: list[str], why: str):
    code, _, err = run(*words, "--out", "t")
    assert (code, err.count("\n")) == (2, 1)
    assert why in err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_quickstart_as_a_function_has_the_verdicts_of_its_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    short = ["--dense.epochs", "2", "--sparse.epochs", "1", "--redense.epochs", "1"]
    assert cli.main(["compare", "quickstart", *short, "--seeds", "3", "--jobs", "2", "--out", "lab"]) == 0
    training = training_of(load_recipe("quickstart", short))
    found = library.compare(training, training.schedule, seeds=3, out="mine", metric="error", jobs=2, quiet=True)
    lab = library.judge("lab", metric="error")
    assert found.to_dict()["arms"] == lab.to_dict()["arms"]
    assert found.to_dict()["comparisons"] == lab.to_dict()["comparisons"]


def test_other_data_another_start_and_other_code_are_another_training(tiny: Callable[..., Recipe], tmp_path: Path):
    def pruned_by(parameter: torch.Tensor, seed: int) -> torch.Tensor:
        return parameter.abs()

    training = training_of(tiny())
    assert training.used == {"data": shared_task(tiny()).fingerprint}
    other = replace(training, used={"data": "another"})
    assert changed_pieces(pieces_of(training), pieces_of(other)) == ["RecipeTraining"]
    torch.save(make_task(tiny()).build_model().state_dict(), tmp_path / "start.pt")
    started = training_of(tiny(start=str(tmp_path / "start.pt"), tune={"backbone_lr": 1}))
    mine = Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.3, criterion=pruned_by)
    assert [len(one.used) for one in (started, with_criteria(training, {"mine": mine}))] == [2, 2]
    assert with_criteria(training, {"dsd": training.schedule}) == training
