"""Figures of a pair: whatever a training returns or prints, or one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redense.errors import DataError, RecipeError
from redense.lab.pairs.figures import Figures, choose_metric, missing_metric, read_figures
from redense.lab.pairs.printed import checked_expression, figures_of

NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "test", "validation"),
    [
        (0.13, {"figure": 0.13}, {}),
        (np.float32(0.5), {"figure": 0.5}, {}),
        (torch.tensor([0.25]), {"figure": 0.25}, {}),
        ({"error": 0.13, "model": "resnet", "curve": [1, 2]}, {"error": 0.13}, {}),
        ({"validation": 0.12, "test": 0.13}, {"figure": 0.13}, {"figure": 0.12}),
        ({"val": 0.12, "test": 0.13}, {"figure": 0.13}, {"figure": 0.12}),
        ({"Val": 0.12, "Test": 0.13}, {"figure": 0.13}, {"figure": 0.12}),
        ({"dev_WER": 0.12, "WER/test": 0.13}, {"WER": 0.13}, {"WER": 0.12}),
        ({"Val_Error": 0.12}, {}, {"Error": 0.12}),
        ({"valid": {"error": 0.1}, "test": {"error": 0.13}}, {"error": 0.13}, {"error": 0.1}),
        ({"error": 0.13, "converged": np.True_}, {"error": 0.13}, {}),
        ({"validation_error": 0.12, "test_error": 0.13}, {"error": 0.13}, {"error": 0.12}),
        ({"test/error": 0.13, "test/loss": NAN, "steps": 3}, {"error": 0.13}, {}),
        ({"test": {"error": 0.13, "tag": "a"}, "validation": {"error": 0.1}}, {"error": 0.13}, {"error": 0.1}),
    ],
)
def test_figures_are_read_in_every_usual_form(given: Any, test: dict[str, float], validation: dict[str, float]):
    found = read_figures(given, "error" if "test/loss" in str(given) else None)
    assert (found.test, found.validation) == (test, validation)
    assert Figures.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "expected a number or a dict of figures.*got a NoneType"),
        ("0.13", "expected a number or a dict of figures.*got a str"),
        (True, "expected a number"),
        ({}, "no figure is in it"),
        ({"error": "low"}, "no figure is in it.*'error'"),
        ({"error": NAN}, "the test figure 'error' is 'nan': a run that diverged"),
        ({"validation": "good"}, "'validation' must be a number or a dict of numbers"),
        ({"error": 1.0, "steps": NAN}, "'steps' is 'nan'"),
        ({"error": 1.0, "steps": "100"}, "'steps' must be a number, got a str"),
        (torch.zeros(3), "expected a number or a dict of figures"),
    ],
)
def test_what_is_no_figure_is_one_line(given: Any, why: str):
    with pytest.raises(DataError, match=why) as caught:
        read_figures(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"error": 0.4, "test_error": 0.13}, "'error' and 'test_error' are all the test figure 'error'"),
        ({"test": 0.13, "test/error": 0.2}, "'test' and 'test/error' are all the test figure 'error'"),
        ({"test": {"error": 1.0}, "error": 2.0}, "'test' and 'error' are all the test figure"),
        ({"validation_error": 1, "validation": 2, "test": 3}, "'validation_error' and 'validation' are all the valid"),
    ],
)
def test_the_figure_that_decides_is_there_once(given: Any, named: str):
    with pytest.raises(DataError, match=f"^{named}.*differ: give the one that decides alone"):
        read_figures(given, "error")


def test_a_figure_does_not_decide_because_another_is_no_number():
    read = read_figures({"error": NAN, "loss": 0.5})
    assert read == Figures.from_dict(read.to_dict())
    with pytest.raises(DataError, match="there is more than one figure: say which decides"):
        choose_metric(read.told, None, None)
    assert missing_metric(read, "error").startswith("the figure 'error' is no finite number")
    assert missing_metric(read, "loss") == ""


def test_of_two_other_figures_the_one_that_says_its_split_counts():
    for given in ({"loss": 9, "test_loss": 1, "error": 2}, {"test_loss": 1, "loss": 9, "error": 2}):
        assert read_figures(given, "error").test == {"loss": 1, "error": 2}
    assert read_figures({"error": 0.5, "test_error": 0.5}).test == {"error": 0.5}


def test_validation_figures_are_known_as_such_however_short_and_by_all_of_their_name():
    given = {"val_error": 0.12, "test_error": 0.13}
    assert read_figures(given).to_dict() == {"test": {"error": 0.13}, "validation": {"error": 0.12}, "facts": {}}
    assert read_figures({"valid/error": 0.12}).validation == {"error": 0.12}
    assert read_figures(given, "val_error").validation == {"val_error": 0.12}
    told = read_figures(given, "test_error")
    assert (told.test, told.validation) == ({"test_error": 0.13}, {"test_error": 0.12})


@pytest.mark.parametrize("given", [{"error": None, "loss": 3.0}, {"test": {"error": None, "loss": 3.0}}])
def test_a_figure_that_decides_and_is_none_is_that_of_a_run_that_diverged(given: Any):
    with pytest.raises(DataError, match="the test figure 'error' is 'nan': a run that diverged"):
        read_figures(given, "error")
    assert read_figures({"error": 1.0, "loss": None, "steps": None}, "error").test == {"error": 1.0}


def test_which_figure_decides_is_asked_for_where_it_is_not_clear():
    assert choose_metric(["error"], None, None) == ("error", True)
    assert choose_metric(["figure"], None, False) == ("figure", False)
    assert choose_metric(["a", "accuracy"], "accuracy", None) == ("accuracy", False)
    with pytest.raises(DataError, match=r"more than one figure: say which decides.*'error', 'loss'"):
        choose_metric(["error", "loss"], None, None)
    with pytest.raises(DataError, match="of numbers without a name is better is not known"):
        choose_metric(["figure"], None, None)


def printed(folder: Path, text: str) -> Path:
    (folder / "stdout.txt").write_text(text, encoding="utf-8")
    return folder / "stdout.txt"


def test_the_last_line_that_is_a_json_object_has_the_figures(tmp_path: Path):
    text = 'begin\n{"error": 0.5}\n{"error": 0.25, "epoch": 3}\n{not json}\nbye\n'
    assert figures_of(tmp_path, printed(tmp_path, text), expression=None, metric="error").test["error"] == 0.25
    several = text + '{\n  "error": 0.125,\n  "kept": {\n    "epoch": 2\n  }\n}\nbye\n'
    assert figures_of(tmp_path, printed(tmp_path, several), expression=None, metric="error").test["error"] == 0.125


@pytest.mark.parametrize(
    "last",
    [
        "{'error': 0.25, 'epoch': 3}",  # Python's
        '{"error": nan}',  # printf's
        '{"error": -inf, "steps": 9}',
        '{"error": 0,25}',  # in a locale with a decimal comma
        '{"error": 0.2',  # it was cut off
        "{error: 0.25}",  # JavaScript's
        "{ error: NaN }",
        '{\n  "error": 0.2',
    ],
)
def test_last_figures_that_are_no_json_are_not_passed_over_for_an_earlier_line(tmp_path: Path, last: str):
    with pytest.raises(DataError, match=r"the last figures that it printed are no JSON.*json.dumps"):
        figures_of(tmp_path, printed(tmp_path, f'{{"error": 0.5}}\n{last}\nbye\n'), expression=None, metric="error")


def test_a_file_of_figures_goes_before_what_was_printed(tmp_path: Path):
    (tmp_path / "metrics.json").write_text('{"error": 0.1}')
    found = figures_of(tmp_path, printed(tmp_path, '{"error": 0.5}'), expression=None, metric=None)
    assert found.test == {"error": 0.1}


def test_an_expression_finds_the_last_figure_or_figures_by_name(tmp_path: Path):
    out = printed(tmp_path, "epoch 1 error 0.5 loss 2\nepoch 2 error 0.25 loss 1e-3\n")
    assert figures_of(tmp_path, out, expression=r"error ([\d.]+)", metric="error").test == {"error": 0.25}
    named = r"error (?P<error>\S+) loss (?P<loss>\S+)"
    assert figures_of(tmp_path, out, expression=named, metric="loss").test == {"error": 0.25, "loss": 1e-3}


@pytest.mark.parametrize(
    ("text", "expression", "figure"),
    [
        ("error: 9.1e-1\n", r"error: (\S+)", 0.91),
        ("error: 12.5% of 40", "error: ([0-9.]+)", 12.5),
        ("epoch 3,0.25,0.5", "epoch [0-9]+,([0-9.]+),", 0.25),  # the expression says what follows
        ("run-0.25, then", "([0-9.]+)", 0.25),
        ("error 12.5 128 images", "error ([0-9.]+)", 12.5),
        ("error 12 3000 images", "error ([0-9.]+)", 12),
        ("error 12 300 images", "error ([0-9.]+) [0-9]+ images", 12),
        ("error: 0.25 x 100 images", "error: ([0-9.]+)", 0.25),
        ("step 3 250.5", r"step \d+ ([0-9.]+)", 250.5),
        ("0.25km, 0.5 kB", "([0-9.]+) kB", 0.5),
    ],
)
def test_a_number_that_an_expression_takes_whole_is_the_figure(
    tmp_path: Path, text: str, expression: str, figure: float
):
    assert figures_of(tmp_path, printed(tmp_path, text), expression=expression, metric="error").test == {
        "error": figure
    }


@pytest.mark.parametrize(
    ("text", "expression", "file", "why"),
    [
        ("nothing", None, None, "it printed no figure"),
        ("nothing", "error (.*)", None, "nothing that it printed matches"),
        ("error low", "error (.*)", None, "found 'low' for 'figure', which is no number"),
        ("", None, "{", "metrics.json cannot be read"),
        ("", None, "[1]", "got a list"),
        ("", None, '{"error": "0.13"}', "got a dict with 'error'; 'error' is a text: write it without quotes"),
        ("error: 1e-3", "error: ([0-9.]+)", None, "found '1' for 'figure', a part of '1e-3': take all of it, as"),
        ("error: 1,234.5", "error: ([0-9.]+)", None, "found '1' for 'figure', a part of '1,234.5'"),
        ("error: 1,234.5", "(?P<error>[0-9.]+)", None, "found '234.5' for 'error', a part of '1,234.5'"),
        ("error: 1e-3", "([0-9.]+)", None, "found '3' for 'figure', a part of '1e-3'"),
        ("error: 12.5 ", "error.*([0-9.]+)", None, "found '5' for 'figure', a part of '12.5'"),
        ("loss: -0.5", "([0-9.]+)", None, "found '0.5' for 'figure', a part of '-0.5'"),
        ("error: 1_234.5", "error: ([0-9.]+)", None, "found '1' for 'figure', a part of '1_234.5'"),
        ("error: 1'234", "error: ([0-9.]+)", None, "found '1' for 'figure', a part of '1'234'"),
        ("error: 1 234.5", "error: ([0-9.]+)", None, "found '1' for 'figure', a part of '1 234.5'"),
        ("error: 12\u202f345\u202f678", "error: ([0-9.]+)", None, "found '12' for 'figure', a part of '12"),
        ("error: 1\u00a0234", "([0-9.]+)", None, "found '234' for 'figure', a part of '1"),
        ("error: 1_234", "([0-9.]+)", None, "found '234' for 'figure', a part of '1_234'"),
        ("error: 31.5k", "error: ([0-9.]+)", None, "found '31.5' for 'figure', a part of '31.5k'"),
        ("error: 0x1f", "error: ([0-9.]+)", None, "found '0' for 'figure', a part of '0x1f'"),
        ("error: 3.5d-03", "error: ([0-9.]+)", None, "found '3.5' for 'figure', a part of '3.5d-03'"),
        ("error: 3.5 \u00d7 10^-3", "error: ([0-9.]+)", None, "found '3.5' for 'figure', a part of '3.5"),
        ("error: 1_3", r"error: (\S+)", None, "found '1_3' for 'figure', which is no number"),
        ("error: ", r"error: (\d*)", None, "found '' for 'figure', which is no number"),
        ("error: nan", r"error: (\S+)", None, "the test figure 'figure' is 'nan'"),
    ],
)
def test_a_program_without_figures_is_told_so(tmp_path: Path, text: str, expression: str, file: str, why: str):
    if file:
        (tmp_path / "metrics.json").write_text(file)
    with pytest.raises(DataError, match=why):
        figures_of(tmp_path, printed(tmp_path, text), expression=expression, metric=None)


def test_an_expression_that_cannot_find_a_figure_is_refused():
    with pytest.raises(RecipeError, match="no regular expression"):
        checked_expression("(")
    with pytest.raises(RecipeError, match="needs a group around the number"):
        checked_expression("error [0-9.]+")
