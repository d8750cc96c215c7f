"""The plan of a recipe and its dry run, of every recipe that is shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from redense.errors import DataError
from redense.lab.recipe.recipe import Recipe, load_recipe, recipe_names
from redense.lab.runs.outline import dry_run, outline
from redense.lab.tasks import facts_of
from redense.tasks import catalog

Tiny = Callable[..., Recipe]

DEAR = {
    "elpv/efficientnet-lite0",
    "emoji/cnn",
    "fashion-mnist/densenet40",
    "fashion-mnist/resnet20",
    "tones/deepspeech",
}
"""They cost seconds each, and the quick tests train their kind of network in another recipe, or build and run it."""


def test_a_plan_says_what_will_be_trained(tiny: Tiny):
    made = outline(tiny(sparse={"sparsity": {"fc1.weight": 0.5}}))
    plain = made.to_dict()
    assert (made.facts.train, made.facts.details) == (360, {"classes": 4, "shape": [1, 8, 8]})
    assert (made.parameters, made.prunable) == (64 * 8 + 8 + 8 * 4 + 4, 64 * 8 + 8 * 4)
    assert (made.steps, made.steps_per_epoch) == (33, 11)
    assert [phase["steps"] for phase in plain["phases"]] == [11, 11, 11]
    assert plain["phases"][1]["sparsity"] == round(256 / 544, 6)
    assert [layer["sparsity"][1] for layer in plain["layers"] if layer["prunable"]] == [0.5, 0.0]
    assert json.loads(json.dumps(plain)) == plain
    assert plain["estimated_seconds"] is None


def test_a_plan_takes_a_name_that_the_rule_does_not(tiny: Tiny):
    made = outline(tiny(sparse={"sparsity": {"fc1.bias": 0.25, "*": 0.5}}))
    shares = {layer["name"]: layer["sparsity"][1] for layer in made.to_dict()["layers"]}
    assert shares == {"fc1.weight": 0.5, "fc1.bias": 0.25, "fc2.weight": 0.5, "fc2.bias": 0.0}
    assert made.to_dict()["phases"][1]["sparsity"] == 0.5  # of what the rule finds


def test_what_a_scan_will_choose_is_not_made_up(tiny: Tiny):
    for recipe in (tiny(prune={"allocation": "sensitivity"}), tiny(sparse={"scope": "global"})):
        plain = outline(recipe).to_dict()
        assert plain["phases"][1]["sparsity"] == 0.3
        assert [layer["sparsity"][1] for layer in plain["layers"] if layer["prunable"]] == [None, None]


def test_a_dry_run_estimates_from_steps_that_it_trained(tiny: Tiny):
    made = dry_run(tiny(training={"keep": "best", "keep_by": "loss"}), steps=3)
    assert made.measured["batch_size"] == 32
    assert made.measured["steps"] == 9
    assert made.seconds == pytest.approx(33 * 32 / made.measured["examples_per_second"])
    assert made.phases == outline(tiny()).phases  # the plan is the recipe's, not the dry run's


def test_a_recipe_whose_data_is_not_here_says_what_it_is():
    made = outline(load_recipe("imagenet/resnet18"))
    assert (made.facts.train, made.facts.looked_at) == (1281167 - round(0.02 * 1281167), False)
    assert made.parameters == 11_689_512
    with pytest.raises(DataError, match="no data at 'imagenet'"):
        outline(load_recipe("imagenet/resnet18", ["--data.expected", "null"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prompts-es/blstm", "prompts-es/deepspeech"])
def test_what_a_recipe_says_of_its_recordings_is_what_is_fetched(name: str):
    catalog.get(catalog.find("prompts-es"))
    told, found = facts_of(load_recipe(name)), facts_of(load_recipe(name, ["--data.expected", "null"]))
    assert (told.looked_at, found.looked_at) == (False, True)
    assert replace(told, looked_at=True) == found


def test_data_of_less_than_a_step_is_said(tiny: Tiny):
    with pytest.raises(DataError, match=r"360 training examples are fewer than one optimizer step takes \(500 x 1\)"):
        outline(tiny(training={"batch_size": 500}))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_opens_with_its_command_its_data_its_time_and_the_papers_figure(name: str):
    from redense.lab.recipe.recipe import recipe_text

    head = [line for line in recipe_text(name).splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# redense run {name}")
    for what in ("# Data: ", "# Time: ", "# The paper: " if "/" in name and "fashion" not in name else "# "):
        assert any(line.startswith(what) for line in head), what
    assert not any("{" in line for line in head)
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] if name in DEAR or name.startswith(("imagenet/", "wsj/", "flickr8k/")) else [],
        )
        for name in recipe_names()
    ],
)
def test_every_recipe_trains_its_real_network_a_few_steps_of_every_phase(name: str):
    recipe = load_recipe(name)
    made = dry_run(recipe, steps=2, batch_size=2)
    assert made.measured["steps"] == 2 * len(made.phases)
    assert made.measured["examples_per_second"] > 0
    if name.startswith("imagenet/"):
        assert made.facts.details["shape"] == [3, 224, 224]
    elif recipe.start:  # an empty home has neither the data nor the weights
        assert "get it with: redense data get efficientnet-lite0" in made.notes[0]
