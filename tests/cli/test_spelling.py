"""The arguments of a function become the command line that means them, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense import RedenseError, cli, verbs
from redense.cli import spelling
from redense.lab.comparison.comparison import parse_sweep
from redense.lab.recipe.recipe import Recipe, load_recipe

PARSERS = cli.build()[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": np.int64(3), "sparse": {"lr": np.float32(0.5)}}, ["--seed=3", "--sparse.lr=0.5"]),
        ({"model": {"widths": np.array([3, 4])}}, ["--model.widths=[3,4]"]),
        ({"sparse": {"sparsity": {}}, "training": {"optimizer": {}}}, ["--sparse.sparsity={}"]),
    ],
)
def test_settings_are_what_they_are_as_numpys_too(settings: dict[str, Any], words: list[str]):
    assert spelling._overrides(settings) == words


def test_nothing_and_a_list_are_no_text_where_a_setting_is_one():
    def read(**settings: Any) -> Recipe:
        return load_recipe("tones/deepspeech", spelling._overrides(settings))

    several = read(data={"source": ["tones", "/data/mine"]})
    assert several.data.source == ("tones", "/data/mine")
    assert several.about == "as tones/deepspeech trains, on tones + /data/mine"
    assert read(data={"source": None}).data.source is None
    with pytest.raises(RedenseError, match="name: input should be a valid string, got None"):
        read(name=None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"out": "x"}, "'out' is no setting of a recipe: give it to verbs.run as an arg"), (["seed", 1], "is a mapping")],
)
def test_settings_that_are_none_are_refused(settings: Any, says: str):
    with pytest.raises(RedenseError, match=says):
        verbs.run("quickstart", settings=settings)


def test_a_sweep_may_be_over_patterns_and_mappings():
    swept = spelling._text({"pattern": [[2, 4], [1, 4]], "sparsity": [{"fc.weight": 0.5, "*": 0.2}], "scope": "layer"})
    patterns, shares = [[2, 4], [1, 4]], [{"fc.weight": 0.5, "*": 0.2}]
    assert parse_sweep(swept) == {"pattern": patterns, "sparsity": shares, "scope": ["layer"]}


def test_arguments_become_the_command_line_that_means_them():
    words = spelling.spelled(
        PARSERS.parsers["compare"],
        {
            "recipe": "r.yaml", "arms": ["dsd", "restart"], "seeds": [3], "sweep": {"sparsity": [0.2, 0.5]},
            "margin": -1e-3, "diagnose": True, "retry_failed": False, "command": {"a": "x {seed}", "b": "y"},
            "control": ["a", "b"], "out": Path("o"),
        },
    )  # fmt: skip
    options, _ = cli.parse(["compare", *words, *spelling._overrides({"sparse": {"sparsity": 0.5}, "start": None})])
    seen = vars(options)
    assert (seen["recipe"], seen["arms"], seen["seeds"], seen["sweep"]) == (
        "r.yaml", "dsd,restart", "3,", "sparsity=0.2,0.5"
    )  # fmt: skip
    assert (seen["margin"], seen["diagnose"], seen["retry_failed"], seen["json"]) == (-1e-3, True, None, True)
    assert (seen["command"], seen["control"], seen["out"]) == (["a=x {seed}", "b=y"], ["a", "b"], Path("o"))
    assert seen["settings"] == ["--sparse.sparsity=0.5", "--start=null"]
    judged, _ = cli.parse(
        ["judge", *spelling.spelled(PARSERS.parsers["judge"], {"table": "t", "lower_is_better": False})]
    )
    assert (judged.table, judged.lower_is_better) == (["t"], False)


def test_a_switch_is_set_by_a_truth_value_and_by_nothing_else():
    judge = PARSERS.parsers["judge"]
    for value in (False, np.False_):
        assert spelling.spelled(judge, {"lower_is_better": value}) == ["--higher-is-better", "--json"]
    with pytest.raises(RedenseError, match="lower_is_better is True or False, got 0"):
        spelling.spelled(judge, {"lower_is_better": 0})


@pytest.mark.parametrize("seeds", [[np.int64(3)], np.array([3]), (3,), [3]])
def test_one_seed_that_is_listed_is_that_seed(seeds: Any):
    assert "--seeds=3," in spelling.spelled(PARSERS.parsers["compare"], {"seeds": seeds})


ROWS = [{"arm": "baseline", "seed": 0, "error": 1.0}]


@pytest.mark.parametrize(
    ("table", "what"), [(ROWS, "dict"), ({"baseline": [1.0]}, "dict"), (3, "int"), (np.ones(2), "ndarray")]
)
def test_a_table_in_memory_is_no_path(table: Any, what: str):
    says = f"table is a path, or a list of paths, got {what}; a table that is in memory is judged by redense.judge"
    with pytest.raises(RedenseError, match=says):
        verbs.judge(table)


def test_one_place_is_a_path_or_a_name():
    with pytest.raises(RedenseError, match="run is a path or a name, got int"):
        verbs.evaluate(3)  # type: ignore[arg-type]
