"""Every verb is a Python function of the same name and arguments, and prints JSON where it prints a table."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense import RedenseError, cli, verbs
from redense.cli import calls
from redense.cli.spelling import spelled
from redense.errors import DataError, RecipeError
from redense.lab.events import Event, listening

Run = Callable[..., tuple[int, str, str]]

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"
PARSERS = cli.build()[1]
NO_TABLE = {"report"}
"""Verbs that print where they have written something, and no table."""


@pytest.fixture(name="redense_run")
def _redense_run(request: pytest.FixtureRequest) -> Run:
    """The shared fixture under a name that does not hide the package."""
    return request.getfixturevalue("redense")


@pytest.mark.parametrize("verb", PARSERS.parsers)
def test_a_verb_and_its_function_have_the_same_arguments_and_defaults(verb: str):
    actions = {a.dest: a for a in PARSERS.parsers[verb]._actions if a.dest not in ("help", *calls.SHOWN_ONLY)}
    parameters = dict(inspect.signature(getattr(verbs, verb)).parameters)
    assert (verb in PARSERS.with_settings) == (parameters.pop("settings", None) is not None)
    assert parameters.keys() == actions.keys()
    for name, parameter in parameters.items():
        action = actions[name]
        required = action.required if action.option_strings else action.nargs not in ("?", "*")
        assert (parameter.default is parameter.empty) == required
        if not required:
            assert str(parameter.default or None) == str(action.default or None)


def test_the_page_names_every_verb_with_its_function():
    rows = re.findall(r"^\| `redense (\w+)` \| `verbs\.(\w+)\((.*?)\)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [verb for verb, _, _ in rows] == list(PARSERS.parsers)
    for verb, function, arguments in rows:
        assert verb == function
        named = {word.split("=")[0].strip() for word in arguments.split(",")} - {"", "..."}
        assert named <= inspect.signature(getattr(verbs, function)).parameters.keys()


def test_every_verb_that_prints_a_table_prints_json():
    without = {verb for verb, parser in PARSERS.parsers.items() if "--json" not in parser._option_string_actions}
    assert without == NO_TABLE


def test_a_home_is_one_also_where_no_shell_makes_it_one():
    home = Path.home()
    for words in (["run", "x", "--out=~/runs"], ["report", "~/runs", "--figures=~/runs"]):
        options, _ = cli.parse(words)
        assert [value for value in vars(options).values() if value == home / "runs"]
        assert not [value for value in vars(options).values() if str(value).startswith("~")]
    options, _ = cli.parse(["predict", "run", "~nobody-here.png", "./~"])
    assert options.images == [Path("~nobody-here.png"), Path("./~")]


def test_a_run_is_trained_evaluated_compared_and_listed_from_python(
    redense_run: Run, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def shout(event: Event) -> None:
        sys.stdout.write(f"heard {event['kind']}\n")

    with listening(shout):
        result = verbs.run(recipe_file, settings={"seed": 3}, out="run", no_store=True)
    assert result["folder"] == "run"
    assert "heard testing" in capsys.readouterr().out  # what a listener prints is no part of the answer
    assert {key: result[key] for key in ("seed", "phases")} == {
        key: json.loads((tmp_path / "run" / "result.json").read_text())[key] for key in ("seed", "phases")
    }
    assert Path(result["report"]).is_file()
    assert verbs.evaluate("run")["error"] == result["phases"][-1]["test"]["error"]
    exported = verbs.export("run", tmp_path / "model")
    assert {Path(file["path"]).name for file in exported["files"]} >= {"model.safetensors", "README.md"}
    compared = verbs.compare(recipe_file, arms=["dsd"], seeds=2, out="compared", store="store", jobs=1)
    assert compared["folder"] == "compared"
    assert compared["conclusions"].keys() == {"dsd"}
    assert verbs.store(store="store")["phases"] == 6
    assert verbs.judge("compared", metric="error")["conclusions"].keys() == {"dsd"}
    scan = verbs.sensitivity("run", sparsities=[0.5])
    assert scan["folder"] == "run/sensitivity"
    assert capsys.readouterr().out == ""  # what is said of progress goes elsewhere


@pytest.mark.parametrize(
    "given", [{"lower_is_better": False}, {"higher_is_better": True}, {"lower_is_better": np.False_}]
)
def test_not_lower_is_higher_for_commands_too(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]):
    monkeypatch.setattr(calls, "_do", lambda verb, **own: spelled(PARSERS.parsers[verb], own))
    assert "--higher-is-better" in verbs.compare(command={"a": "x {seed}"}, **given)
    assert "--lower-is-better" not in verbs.compare(command={"a": "x {seed}"}, **given)


def test_what_is_listed_is_data(redense_run: Run):
    assert {"dsd", "restart", "llr"} <= {arm["name"] for arm in verbs.arms()}
    assert "quickstart" in verbs.recipes()
    assert {"name", "state", "megabytes", "about"} <= verbs.data()[0].keys()
    assert verbs.recipes("show", "quickstart", settings={"seed": 1})["steps"] > 0


def test_a_mistake_is_an_error_of_redense_and_not_an_exit(redense_run: Run):
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        verbs.run("quikstart")
    with pytest.raises(DataError, match=r"there is no file 'no\.csv'"):
        verbs.judge("no.csv")
    with pytest.raises(RedenseError, match="invalid choice: 'xml'"):
        verbs.export("run", "out", format="xml")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_shell_completes_verbs_options_and_files(redense_run: Run, tmp_path: Path):
    pytest.importorskip("shtab")
    code, script, err = redense_run("--print-completion", "bash")
    assert (code, err) == (0, "")
    (tmp_path / "redense.bash").write_text(script)
    ask = "source redense.bash; COMP_WORDS=(redense {words}); COMP_CWORD={at}; _shtab_redense; echo ${{COMPREPLY[@]}}"

    def completed(*words: str) -> list[str]:
        asked = ask.format(words=" ".join(words), at=len(words))
        done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("se") == ["search", "sensitivity"]
    assert "--format" in completed("export", "--")
    assert completed("export", "run", "out", "--format", "o") == ["onnx"]
    assert completed("evaluate", "run", "--data", "red") == ["redense.bash"]


def test_completion_without_its_package_says_what_to_install(redense_run: Run, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "shtab", None)
    assert redense_run("--print-completion", "zsh") == (
        2, "", "redense: --print-completion needs shtab: pip install 'redense[completion]'\n"
    )  # fmt: skip
