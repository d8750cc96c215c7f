"""Values of recipes and of the command line: YAML 1.2 for numbers, a text for a text, and what other data changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import RecipeError
from redense.files.yaml_text import dump_yaml, parse_yaml
from redense.lab.headings import heading_of
from redense.lab.recipe.recipe import load_recipe, recipe_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("008", 8), ("0100", 100), ("0o17", 15), ("0x1F", 31), ("1e-3", 0.001), ("+.5", 0.5), ("08.5", 8.5)],
        *[("1:30", "1:30"), ("1_000", "1_000"), ("0b1", "0b1"), ("2026-11-26", "2026-11-26"), ("=", "="), ("'8'", "8")],
        *[("no", "no"), ("on", "on"), ("true", True), ("null", None), ("~", None), ("-.inf", float("-inf"))],
    ],
)
def test_plain_words_of_yaml_mean_what_version_1_2_says(text: str, value: object):
    assert parse_yaml(f"a: {text}", "text") == {"a": value}


@given(st.text(st.sampled_from("0123456789eE+-.:_xobnyfalsetru~ #'"), max_size=6))
def test_a_text_that_looks_like_a_number_is_written_so_that_everybody_reads_the_text(text: str):
    written = dump_yaml({"a": text})
    assert parse_yaml(written, "text") == {"a": text}
    assert yaml.safe_load(written) == {"a": text}


def test_what_the_command_line_gives_for_a_text_is_that_text():
    def told(*overrides: str) -> Any:
        return load_recipe("quickstart", overrides)

    assert told("--name", "run-008").name == "run-008"
    assert told("--name", "0100").name == "0100"
    assert told("--about", "run #3: yes").about == "run #3: yes"
    assert told("--data.label", "no").data.label == "no"
    assert told("--data.label", "null").data.label is None
    assert (told("--seed", "008").seed, told("--seed", "010").seed) == (8, 10)
    with pytest.raises(RecipeError, match="got 'run #3'"):
        told("--name", "run #3")
    with pytest.raises(RecipeError, match="got '3 #4'"):
        told("--seed", "3 #4")
    with pytest.raises(RecipeError, match=r"seed: .*got '1:30'"):
        told("--seed", "1:30")
    for text in ("--seed=1_0", "--sparse.sparsity=0_0.5", "--model.widths=[8, 1_0]", "--training.optimizer.lr=1_0e-3"):
        with pytest.raises(RecipeError, match=r"is '.*_.*', which is text in YAML 1.2: write it without '_'"):
            told(text)


def test_a_recipe_on_other_data_does_not_speak_of_its_own():
    own = load_recipe("imagenet/resnet18")
    other = load_recipe("imagenet/resnet18", ["--data", "birds"])
    assert own.data.expected is not None
    assert (other.data.expected, other.about) == (None, "as imagenet/resnet18 trains, on birds")
    assert load_recipe("quickstart", ["--data", "sample"]).about == load_recipe("quickstart").about


def test_nor_does_a_copy_of_a_shipped_recipe_that_names_other_data(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    text = recipe_text("imagenet/resnet18")
    path.write_text(text)
    assert load_recipe(path) == load_recipe("imagenet/resnet18")
    path.write_text(re.sub(r"source: *\S+?([,}\n])", r"source: birds\1", text))
    copied = load_recipe(path)
    assert (copied.data.source, copied.data.expected) == ("birds", None)
    assert copied.about == "as imagenet/resnet18 trains, on birds"


def test_the_folder_at_hand_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "birds" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "birds")
    for source, name in ((".", "birds"), ("small/..", "birds"), ("small/.", "small")):
        recipe = load_recipe("quickstart", ["--data.source", source])
        assert (heading_of(recipe.name, recipe.about), recipe.data.source) == (name, source)
