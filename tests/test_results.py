"""The raw results that are kept are those of the commands that `make results` runs, and all their files are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from redense import cli
from redense.lab.pairs.plan import seed_list
from redense.lab.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from make_results import DIAGNOSIS, EXPERIMENTS, RAW  # noqa: E402  # pyright: ignore[reportMissingImports]  # tools/ is no package

FOLDERS = sorted(path.parent.name for path in (ROOT / "results").glob("*/compare.json"))
PROGRAMS = {name for name, experiment in EXPERIMENTS.items() if experiment.program}


def test_every_comparison_that_is_kept_can_be_made_again():
    assert FOLDERS
    assert set(FOLDERS) <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", sorted(PROGRAMS & set(FOLDERS)))
def test_what_is_kept_of_a_program_is_what_it_makes(name: str):
    folder, program = ROOT / "results" / name, ROOT / EXPERIMENTS[name].program
    assert {path.name for path in folder.iterdir()} == set(RAW) - {"costs.json", "curves.json"}
    asked, text = json.loads((folder / "comparison.json").read_text()), program.read_text()
    assert asked["name"] == "train"
    assert all(f'"{arm["name"]}"' in text for arm in asked["arms"] if arm["name"] != "baseline")
    (dsd,) = (arm for arm in asked["arms"] if arm["name"] == "dsd")
    steps = ", ".join(str(phase["steps"]) for phase in dsd["schedule"]["phases"])
    assert f"({steps})" in text
    rows = json.loads((folder / "compare.json").read_text())
    assert f"else ({len(rows['seeds'])}, " in text


@pytest.mark.parametrize("name", [name for name in FOLDERS if name not in PROGRAMS])
def test_what_is_kept_is_what_its_command_makes(name: str):
    folder, (command, *_) = ROOT / "results" / name, EXPERIMENTS[name]
    options, _ = cli.parse(["compare", *command.split()])
    assert {path.name for path in folder.iterdir()} == {*RAW, *([DIAGNOSIS] if options.diagnose else [])}
    asked = json.loads((folder / "comparison.json").read_text())
    assert options.recipe == asked["recipe"]["name"]
    assert options.arms.split(",") == asked["arms"]
    assert list(seed_list(options.seeds)) == asked["seeds"]
    key, _, values = (options.sweep or "").partition("=")
    assert asked["sweep"] == ({key: [float(value) for value in values.split(",")]} if key else {})
    # Only what decides the numbers: a recipe has gained settings and better words since.
    recipe = load_recipe(options.recipe, options.settings).model_dump(mode="json")
    for section in ("training", "dense", "redense"):
        kept = asked["recipe"][section]
        assert {key: recipe[section][key] for key in kept} == kept


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_experiment_is_explained(name: str):
    folder = ROOT / "results" / name
    assert not folder.exists() or f"`results/{name}/`" in (ROOT / "docs" / "results.md").read_text()
