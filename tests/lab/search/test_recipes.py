"""The training of a recipe as a function: the figures of `redense compare`, to the digit; and its search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redense as library
from redense import cli
from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.lab.search.recipes import training_of

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


def test_a_recipe_is_searched_and_the_best_confirmed(run: Run, recipe_file: Path, tmp_path: Path):
    words = ("search", str(recipe_file), "--sweep", "sparsity=0.3,0.6", "--runs", "10", "--confirm", "5", "--out", "s")
    code, out, err = run(*words)
    assert code == 0, err
    assert "beats" in out or "Nothing here beats the control" in out
    assert "candidates, round 1" in out
    assert "dsd sparsity=0.6" in (tmp_path / "s/confirm/report.html").read_text(encoding="utf-8")
    assert run("search", str(recipe_file), "--candidates", "sam", "--out", "t")[2].count("\n") == 1


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
