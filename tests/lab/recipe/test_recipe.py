"""Recipes: what is understood, and that every mistake is one line that names the thing and the cure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from redense.lab.recipe.recipe import (
    build_recipe,
    load_recipe,
    parse_yaml,
    read_run_recipe,
    recipe_names,
    recipe_text,
)

from .files import LEAST, problem

Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a recipe file that holds this text."""

    def load(text: str | bytes = LEAST, *overrides: str) -> Any:
        path = tmp_path / "own.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(path, overrides)

    return load


# --- what is understood ---------------------------------------------------------------------------------------------


def test_a_recipe_of_three_lines_gets_every_default(load: Load):
    recipe = load()
    assert (recipe.task, recipe.seed, recipe.sparse.sparsity) == ("classification", 0, 0.3)
    assert (recipe.data.source, recipe.model.name, recipe.training.optimizer.name) == (None, "cnn", "sgd")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_says_what_it_is(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about
    # The paper's recipes have the paper's rates; one of ours says what it has instead.
    base = recipe.training.optimizer.lr
    rates = (1, (recipe.sparse.lr or base) / base, (recipe.redense.lr or base / 10) / base)
    said = f"rates {' / '.join(f'{rate:.3g}' for rate in rates)}" in recipe.about
    assert said != name.startswith(("imagenet/", "cifar10/", "flickr8k/", "wsj/"))


def test_a_recipe_cannot_be_changed_after_it_was_checked(load: Load):
    with pytest.raises(ValueError, match="frozen"):
        load().seed = 3


@pytest.mark.parametrize(
    ("arguments", "where", "value"),
    [
        (["--seed", "3"], "seed", 3),
        (["--seed=3"], "seed", 3),
        (["--sparse.sparsity", "0.5"], "sparse.sparsity", 0.5),
        (["--sparse.sparsity=0"], "sparse.sparsity", 0.0),
        (["--sparse.sparsity.conv2.weight", "0.4"], "sparse.sparsity", {"conv2.weight": 0.4}),
        (["--sparse.sparsity.*.weight=0.4"], "sparse.sparsity", {"*.weight": 0.4}),
        (
            ["--sparse.sparsity.a.weight", "0.1", "--sparse.sparsity.b.weight", "0.2"],
            "sparse.sparsity",
            {"a.weight": 0.1, "b.weight": 0.2},
        ),
        (["--sparse.sparsity", "{conv2.weight: 0.4}"], "sparse.sparsity", {"conv2.weight": 0.4}),
        (["--sparse.pattern", "[2, 4]"], "sparse.pattern", (2, 4)),
        (["--model.widths", "[8, 16]"], "model.widths", (8, 16)),
        (["--training.optimizer.lr", "1e-3"], "training.optimizer.lr", 1e-3),
        (["--training.clip_norm", "null"], "training.clip_norm", None),
        (["--dense.decay.kind", "step"], "dense.decay.kind", "step"),
        (["--dense", "{epochs: 7}"], "dense.epochs", 7.0),
        (["--data", "some/folder"], "data.source", "some/folder"),
        (["--data=some/folder"], "data.source", "some/folder"),
        (["--data", "null"], "data.source", "null"),  # a path is never read as YAML
        (["--data.source", "1: [x"], "data.source", "1: [x"),
        (["--data", "a=b"], "data.source", "a=b"),
        (["--about", "a = b"], "about", "a = b"),
        (["--about=a=b"], "about", "a=b"),
        (["--seed", "3", "--seed", "4"], "seed", 4),  # the last one counts
    ],
)
def test_a_setting_on_the_command_line_is_set(load: Load, arguments: list[str], where: str, value: Any):
    found = load(LEAST, *arguments)
    for part in where.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_a_setting_on_the_command_line_changes_nothing_beside_it(load: Load):
    before, after = load().model_dump(), load(LEAST, "--training.optimizer.momentum", "0.5").model_dump()
    before["training"]["optimizer"]["momentum"] = 0.5
    assert before == after


def test_data_on_the_command_line_keeps_the_other_data_settings(load: Load):
    recipe = load(LEAST + "data: {flip: true, source: a}", "--data", "b")
    assert (recipe.data.flip, recipe.data.source) == (True, "b")


# --- what is written and read again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_the_resolved_recipe_reads_back_as_the_same(name: str, load: Load):
    recipe = load_recipe(name)
    assert load(recipe.to_yaml()) == recipe


def plain_sections() -> st.SearchStrategy[dict[str, Any]]:
    fraction = st.floats(0, 1, exclude_max=True)
    positive = st.floats(1e-12, 1e5)
    dense = st.fixed_dictionaries({"epochs": positive}, optional={"lr": st.none() | positive})
    sparse = st.fixed_dictionaries(
        {"epochs": positive},
        optional={
            "sparsity": fraction | st.dictionaries(st.text(max_size=8), fraction, min_size=1, max_size=3),
            "pattern": st.none() | st.just([2, 4]),
            "criterion": st.sampled_from(["magnitude", "random"]),
        },
    )
    return st.fixed_dictionaries(
        {"dense": dense, "sparse": sparse, "redense": dense},
        optional={
            "about": st.text(),
            "seed": st.integers(0, 2**31 - 1),
            "prune": st.fixed_dictionaries({"exclude": st.lists(st.text(), max_size=2)}),
            "training": st.fixed_dictionaries({}, optional={"clip_norm": st.none() | positive}),
            "cycles": st.lists(st.fixed_dictionaries({"sparse": sparse, "redense": dense}), max_size=2),
        },
    )


@given(plain_sections())
def test_every_recipe_reads_back_as_the_same(plain: dict[str, Any]):
    recipe = build_recipe(plain)
    again = build_recipe(parse_yaml(recipe.to_yaml(), "again"))
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize(
    "odd", ["a\x85b", "`\x85`", "\u2028", "\ufeffx", "a\nb ", " a", "\r\n", "1e3", "null", "ü漢", "\0"]
)
def test_odd_texts_read_back_as_they_are(odd: str):
    plain: dict[str, Any] = yaml.safe_load(LEAST) | {"about": odd, "prune": {"exclude": [odd, odd]}}
    plain["sparse"]["sparsity"] = {odd: 0.5}
    recipe = build_recipe(plain)
    assert recipe.about == odd
    assert build_recipe(parse_yaml(recipe.to_yaml(), "again")) == recipe


def test_a_run_folder_gives_its_recipe_back(load: Load, tmp_path: Path):
    recipe = load(LEAST, "--seed", "5", "--sparse.sparsity.a.b", "0.25")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert read_run_recipe(tmp_path) == recipe


# --- mistakes: in the file ------------------------------------------------------------------------------------------

MISTAKES = [
    # (what is added or replaced in the least recipe, what the line must say)
    ("trainin: {}", ["unknown setting 'trainin'", "did you mean 'training'"]),
    ("training: {optimiser: {}}", ["'training.optimiser'", "did you mean 'training.optimizer'"]),
    ("training: {optimizer: {mommentum: 1}}", ["did you mean 'training.optimizer.momentum'"]),
    ("sparsity: 0.3", ["unknown setting 'sparsity'", "did you mean 'sparse.sparsity'"]),
    ("qqq: 1", ["unknown setting 'qqq'", "known here: name, about, task, seed"]),
    ("cycles: [{sparse: {epochs: 1}, redens: {epochs: 1}}]", ["'cycles.0.redens'", "did you mean 'cycles.0.redense'"]),
    ("cycles: [{sparse: {epochs: 1}}]", ["'cycles.0.redense' is missing"]),
    ("1: 2", ["must be text, got 1"]),
    ("[a]: 2", ["unhashable"]),
    ("seed: 1.5", ["seed", "integer", "1.5"]),
    ("seed: x", ["seed", "integer", "'x'"]),
    ("seed: -1", ["seed", "greater than or equal to 0", "-1"]),
    ("seed: true", ["seed", "yes-or-no", "true"]),
    ("training: {batch_size: 0}", ["training.batch_size", "greater than or equal to 1", "0"]),
    ("training: {optimizer: {lr: 0}}", ["training.optimizer.lr", "greater than 0"]),
    ("training: {optimizer: {lr: .inf}}", ["training.optimizer.lr", "finite", "inf"]),
    ("training: {optimizer: {lr: .nan}}", ["training.optimizer.lr", "finite", "nan"]),
    ("training: {optimizer: {lr: True}}", ["training.optimizer.lr", "yes-or-no"]),
    ("training: {optimizer: {name: sdg}}", ["training.optimizer.name", "must be one of sgd, adam", "'sdg'"]),
    ("training: {optimizer: {betas: [0.9, 1]}}", ["training.optimizer.betas.1", "less than 1"]),
    ("training: {optimizer: {nesterov: true}}", ["training.optimizer", "nesterov needs", "momentum"]),
    ("training: {keep: first}", ["training.keep", "'last', 'best' or 'best-of-run'", "'first'"]),
    ("training: 3", ["training", "got 3"]),
    ("data: {validation: .nan}", ["data.validation", "nan"]),
    ("data: {validation: 1}", ["data.validation", "less than 1"]),
    ("model: {widths: []}", ["model.widths", "at least 1"]),
    ("model: {widths: [8, -1]}", ["model.widths.1", "greater than 0", "-1"]),
    ("model: {dropout: 1}", ["model.dropout", "less than 1"]),
    ("name: ../x", ["name", "pattern"]),
    ("task: [a]", ["task must be one of classification", "['a']"]),
    ("task: clasification", ["task must be one of classification", "'clasification'"]),
    ("about: 2020", ["about", "string"]),
    ("'a\\nb': 1", ["unknown setting 'a\\nb'"]),
    ('"a\\nb": 1', ["unknown setting 'a\\nb'"]),
    (f"seed: 0x{'f' * 6000}", ["not valid YAML in line", "a number of 6,002 characters"]),
    (f"seed: {'9' * 6000}", ["not valid YAML"]),
    (f"name: '{'x' * 5000}'", ["name", "..."]),
    (f"{'x' * 1000}: 1", ["unknown setting 'xxx", "..."]),
]


@pytest.mark.parametrize(("added", "said"), MISTAKES, ids=[added[:40] for added, _ in MISTAKES])
def test_a_mistake_in_the_file_is_one_line_that_names_it(load: Load, added: str, said: list[str]):
    line = problem(load, f"{LEAST}{added}\n")
    assert "own.yaml: " in line
    for words in said:
        assert words in line


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("30 %", ["sparse.sparsity", "fraction in [0, 1)", "0.3 for 30 %", "'30 %'"]),
        ("30", ["sparse.sparsity", "less than 1", "30"]),
        ("1", ["sparse.sparsity", "less than 1"]),
        ("1.0", ["sparse.sparsity", "less than 1"]),
        ("-0.1", ["sparse.sparsity", "greater than or equal to 0", "-0.1"]),
        (".nan", ["sparse.sparsity", "nan"]),
        (".inf", ["sparse.sparsity", "inf"]),
        ("false", ["sparse.sparsity", "yes-or-no"]),
        ("a lot", ["sparse.sparsity", "number", "'a lot'"]),
        ("null", ["sparse.sparsity", "None"]),
        ("[0.3]", ["sparse.sparsity", "[0.3]"]),
        ("{}", ["sparsity names no parameter"]),
        ("{fc.weight: 1.3}", ["sparse.sparsity.fc.weight", "less than 1", "1.3"]),
        ("{a: 0.5, 'b[0]': x}", ["sparse.sparsity.b[0]", "number", "'x'"]),
        ('{"a\\nb": 2}', ["sparse.sparsity.a\\nb", "less than 1"]),
    ],
)
def test_an_impossible_sparsity_is_one_line_that_names_it(load: Load, value: str, said: list[str]):
    line = problem(load, LEAST.replace("sparse: {epochs: 1}", f"sparse: {{epochs: 1, sparsity: {value}}}"))
    for words in said:
        assert words in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("pattern: [4, 2]", "must be [N, M] with 0 < N <= M"),
        ("pattern: [0, 4]", "must be [N, M] with 0 < N <= M"),
        ("pattern: 2", "sparse.pattern"),
        (
            "scope: global, sparsity: {a: 0.5}",
            "scope 'global' needs one sparsity for all weights, not one per parameter",
        ),
        ("scope: global, pattern: [2, 4]", "scope 'global' needs one sparsity for all weights, not a pattern"),
        ("criterion: magnitud", "'magnitude'"),
        ("epochs: 0", "greater than 0"),
    ],
)
def test_an_impossible_sparse_phase_is_one_line_that_names_it(load: Load, settings: str, said: str):
    epochs = "" if "epochs" in settings else "epochs: 1, "
    assert said in problem(load, LEAST.replace("sparse: {epochs: 1}", f"sparse: {{{epochs}{settings}}}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a recipe is a mapping of settings, got NoneType"),
        ("[1]", "a recipe is a mapping of settings, got list"),
        ("just words", "a recipe is a mapping of settings, got str"),
        ("a: &x [1]\nb: *x", "line 2, column 4: aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: tags are not allowed"),
        ("seed: !!int ''", "line 1, column 7: tags are not allowed"),
        ("seed: !!map [x]", "tags are not allowed"),
        ("seed: !!bool maybe", "tags are not allowed"),
        ("seed: !own 3", "tags are not allowed"),
        ("!!map {seed: 3}", "tags are not allowed"),
        ("seed: 1\nseed: 2", "line 2, column 1: 'seed' is given twice"),
        ("dense: {epochs: 1, epochs: 2}", "line 1, column 20: 'epochs' is given twice"),
        ("a: 1\n---\nb: 2", "not valid YAML in line 2, column 1"),
        ("a: [1", "not valid YAML in line 1"),
        ("a: 1\n\tb: 2", "not valid YAML in line 2"),
        ("a: \0", "not valid YAML"),
        ("[" * 1_000, "nested too deeply"),
        ("{a: " * 2_000, "nested too deeply"),
        ("a: " + "x" * (1 << 20), "bytes are too many"),
        (b"about: caf\xe9", "not a text file in UTF-8"),
        (bytes(range(256)), "not a text file in UTF-8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(load: Load, text: str | bytes, said: str):
    assert said in problem(load, text)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no space
    assert "1,099,511,627,776 bytes are too many" in problem(load_recipe, path)


def test_a_file_of_aliases_that_stand_for_gigabytes_is_refused(load: Load):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "aliases are not allowed" in problem(load, "\n".join(lines))


def test_missing_settings_are_named_and_counted(load: Load):
    assert "'dense' is missing (and 2 more)" in problem(load, "seed: 1")


# --- mistakes: on the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sparsity", "0.5"], ["unknown setting --sparsity", "did you mean 'sparse.sparsity'"]),
        (["--sparse.sparsty", "0.5"], ["unknown setting --sparse.sparsty", "did you mean 'sparse.sparsity'"]),
        (["--epochs", "3"], ["unknown setting --epochs", "did you mean '", "epochs'"]),
        (["--momentum", "0.5"], ["did you mean 'training.optimizer.momentum'"]),
        (["--dense.sparsity.x", "0.5"], ["unknown setting --dense.sparsity.x"]),
        (["--seed.x", "0.5"], ["unknown setting --seed.x"]),
        (["--zzzz", "0.5"], ["unknown setting --zzzz"]),
        (["--", "0.5"], ["unexpected argument '--'"]),
        (["--=3"], ["unknown setting --"]),
        (["seed", "3"], ["unexpected argument 'seed'", "--key value"]),
        (["-seed", "3"], ["unexpected argument '-seed'"]),
        (["--seed"], ["--seed needs a value"]),
        (["--seed", "[1"], ["--seed: not valid YAML"]),
        (["--seed", "*a"], ["--seed: not valid YAML"]),
        (["--seed", "!!int 3"], ["--seed: not valid YAML", "tags"]),
        (["--seed", "--quiet"], ["--seed needs a value"]),
        (["--sparse.sparsity", "30 %"], ["sparse.sparsity", "0.3 for 30 %"]),
        (["--sparse.sparsity", "30%"], ["sparse.sparsity", "0.3 for 30 %"]),
        (["--sparse.sparsity=1"], ["sparse.sparsity", "less than 1"]),
        (["--sparse.sparsity", "-0.5"], ["sparse.sparsity", "greater than or equal to 0"]),
        (["--sparse.sparsity.conv2.weight", "1.5"], ["sparse.sparsity.conv2.weight", "less than 1"]),
        (["--task", "[a]", "--seed", "3"], ["task must be one of"]),
        (["--a\nb", "3"], ["unknown setting --a\\nb"]),
        (["a\nb"], ["unexpected argument 'a\\nb'"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(load: Load, arguments: list[str], said: list[str]):
    line = problem(load, LEAST, *arguments)
    for words in said:
        assert words in line


@pytest.mark.parametrize("setting", ["sparse.sparsity", "training.optimizer.weight_decay", "data.validation", "seed"])
def test_every_typo_of_one_letter_is_given_its_setting(load: Load, setting: str):
    for i in range(setting.rfind(".") + 1, len(setting)):
        typo = setting[:i] + setting[i + 1 :]
        assert f"did you mean '{setting}'" in problem(load, LEAST, f"--{typo}", "1")


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path):
    assert "no recipe is called 'quikstart'; did you mean 'quickstart'?" in problem(load_recipe, "quikstart")
    assert "known: " in problem(load_recipe, "zzz")
    assert "No such file" in problem(load_recipe, tmp_path / "none.yaml")
    assert "is a folder" in problem(load_recipe, tmp_path)
    assert "no recipe is called 'a\\nb'" in problem(load_recipe, "a\nb")
    assert "File name too long" in problem(load_recipe, "x" * 5000)
    assert "no run folder: it has no recipe.yaml" in problem(read_run_recipe, tmp_path)


def test_a_damaged_recipe_of_a_run_is_one_line(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("[1]")
    assert "got list" in problem(read_run_recipe, tmp_path)
    (tmp_path / "recipe.yaml").write_bytes(b"\xff")
    assert "UTF-8" in problem(read_run_recipe, tmp_path)


# --- quick to answer ------------------------------------------------------------------------------------------------


QUICK = [
    ["--help"],
    ["run", "--help"],
    ["--version"],
    ["recipes"],
    ["recipes", "show", "quickstart", "--yaml"],
    ["data"],
    ["run", "quickstart", "--print-config"],
    ["run", "quickstart", "--sparse.sparsity", "2"],
    ["run", "quickstart", "--sparse.scope", "global", "--sparse.sparsity", "{a: 0.5}"],
    ["run", "quickstart", "--data.flop", "true"],
    ["run", "quikstart"],
    ["runn"],
    ["evaluate"],
]


def test_help_and_mistakes_need_no_torch():
    code = f"""
import contextlib, sys
from redense.cli import main
for arguments in {QUICK!r}:
    with contextlib.suppress(SystemExit):
        main(arguments)
    heavy = {{"torch", "numpy", "accelerate", "safetensors", "plotly", "scipy", "tensorboard"}} & set(sys.modules)
    if heavy:
        sys.exit(f"{{arguments}} imports {{sorted(heavy)}}")
print("light")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "light"


def test_the_text_of_a_recipe_is_that_of_its_file(load: Load, tmp_path: Path):
    load("# mine\n" + LEAST)
    assert recipe_text(str(tmp_path / "own.yaml")) == "# mine\n" + LEAST
    assert yaml.safe_load(recipe_text("quickstart"))["name"] == "quickstart"


def test_another_network_does_not_inherit_the_settings_of_the_one_before():
    recipe = load_recipe("quickstart", ["--model.dropout", "0.25", "--model.name", "mlp"])
    assert recipe.model.model_dump(exclude_none=True) == {"name": "mlp", "dropout": 0.25, "transform_input": False}
    assert load_recipe("quickstart", ["--model.name", "cnn"]) == load_recipe("quickstart")
