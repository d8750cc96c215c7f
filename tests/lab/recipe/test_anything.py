"""Whatever a recipe or a command line holds, it is read or refused in one line: properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import RecipeError
from redense.lab.recipe.recipe import (
    Recipe,
    build_recipe,
    load_recipe,
    parse_yaml,
    recipe_type,
)

from .files import LEAST

# --- whatever comes -------------------------------------------------------------------------------------------------


def only_recipe_errors(call: Callable[[], object]) -> None:
    problem = ""
    try:
        assert isinstance(call(), Recipe)
    except RecipeError as error:
        problem = str(error)
    assert "\n" not in problem
    assert len(problem) < 1000


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.just(10**4000),
    st.sampled_from(["30 %", "1e-3", "!!int ''", "&a", "*a", "<<", "="]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def settings_of(kind: Any, prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in kind.model_fields.items():
        names.append(prefix + name)
        inner = [
            t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(t, "model_fields")
        ]
        names += settings_of(inner[0], f"{prefix}{name}.") if inner else []
    return names


@given(st.data())
def test_a_recipe_with_any_value_anywhere_is_read_or_refused(data: st.DataObject):
    plain: Any = yaml.safe_load(LEAST)
    for name in data.draw(st.lists(st.sampled_from(settings_of(recipe_type("classification"))), max_size=3)):
        *sections, last = name.split(".")
        target = plain
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}
            target = target[section]
        target[last] = data.draw(TREES)
    only_recipe_errors(lambda: build_recipe(plain))


@given(st.dictionaries(st.text(max_size=9) | SCALARS, TREES, max_size=4))
def test_any_mapping_is_read_or_refused(plain: dict[Any, Any]):
    only_recipe_errors(lambda: build_recipe(plain))


TOKENS = st.sampled_from(
    [
        *(
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            "-",
            "?",
            "&",
            "*",
            "!",
            "|",
            ">",
            "'",
            '"',
            "%",
            "@",
            "`",
            "#",
            "=",
            " ",
            "\n",
        ),
        *("\t", "0", "a", ".", "~", "_", ": ", "- ", "\n  ", "!!int ", "!!map ", "!!set ", "!!omap ", "!x ", "<<: "),
        *("0x", "0b_", "1:2", "2001-12-14t21:59:43.10-99:30", "2001-02-30", "e5", ".inf", "---\n", "...\n", "\x85"),
        *("!!timestamp ", "%YAML 9.9\n", "&a ", "*a", "seed", "dense", "epochs", "\ufeff", "\0", '"\\ud800"'),
    ]
)


@given(st.lists(TOKENS, max_size=25).map("".join))
def test_any_text_is_parsed_or_refused(text: str):
    problem = ""
    try:
        parse_yaml(text, "text")
    except RecipeError as error:
        problem = str(error)
    assert "\n" not in problem


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--seed", "--seed=", "--data", "--sparse.sparsity.", "3"])))
def test_any_command_line_is_read_or_refused(arguments: list[str]):
    only_recipe_errors(lambda: load_recipe("quickstart", arguments))
