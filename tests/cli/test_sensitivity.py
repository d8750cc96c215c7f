"""redense sensitivity: end to end, and every mistake one line and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.report.kit.document import PageError

Run = Callable[..., tuple[int, str, str]]
Tiny = Callable[..., Recipe]


@pytest.fixture
def recipe_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny().to_yaml())
    return path


def snippet(out: str) -> str:
    return out.partition("for a recipe:\n\n")[2].partition("\n\nreport:")[0]


def test_a_recipe_is_scanned_and_what_is_printed_can_be_pasted_into_one(
    redense: Run, recipe_file: Path, tmp_path: Path
):
    code, out, err = redense("sensitivity", recipe_file, "--overall", "0.5", "--out", "scan", "--store", "store")
    assert (code, err) == (0, "")
    assert "validation loss when one layer alone is pruned" in out
    assert all(word in out for word in ("uniform", "global", "erk", "sum of drops"))
    chosen = yaml.safe_load(snippet(out))["sparse"]["sparsity"]
    kept = json.loads((tmp_path / "scan" / "sensitivity.json").read_text())
    assert kept["allocation"]["sparsities"] == chosen
    assert kept["allocation"]["overall"] == pytest.approx(0.5, abs=0.01)
    page = (tmp_path / "scan" / "sensitivity.html").read_text()
    assert "fc1.weight" in page
    settings = yaml.safe_load(recipe_file.read_text())
    settings["sparse"]["sparsity"] = chosen
    recipe_file.write_text(yaml.safe_dump(settings))
    assert load_recipe(recipe_file).sparse.sparsity == chosen
    code, _, err = redense("run", recipe_file, "--out", "run", "--quiet", "--store", "store")
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {layer["name"]: layer["sparsity"][1] for layer in result["layers"] if layer["prunable"]} == pytest.approx(
        chosen, abs=1e-5
    )


def test_a_run_folder_is_scanned_as_it_was_before_its_sparse_phase(
    redense: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert redense("run", recipe_file, "--out", "run", "--quiet")[0] == 0
    code, out, err = redense("sensitivity", "run")
    assert (code, err) == (0, "")
    assert (tmp_path / "run" / "sensitivity" / "sensitivity.html").is_file()
    by_recipe = redense("sensitivity", recipe_file)[1]
    assert snippet(out) == snippet(by_recipe)

    def refused(*_: object) -> None:
        raise PageError("cannot write run/report.html")

    monkeypatch.setattr("redense.report.runs.page.write_page", refused)
    code, final, err = redense("sensitivity", "run", "--checkpoint", "run/model.safetensors", "--out", "final")
    assert (code, err) == (0, "redense: the page of the run does not show the scan: cannot write run/report.html\n")
    assert snippet(final) != snippet(out)


def test_the_same_command_goes_on_where_it_was(redense: Run, recipe_file: Path):
    command = ("sensitivity", recipe_file, "--out", "scan", "--store", "store")
    first, again = redense(*command)[1], redense(*command)[1]
    assert snippet(first) == snippet(again)
    assert "taken from the store" in again
    assert "; 2 evaluations" in again


def test_a_page_that_cannot_be_written_takes_no_result_away(redense: Run, recipe_file: Path, tmp_path: Path):
    command = ("sensitivity", recipe_file, "--out", tmp_path / "mine")
    code, out, _ = redense(*command)
    assert code == 0
    (tmp_path / "mine/sensitivity.html").unlink()
    (tmp_path / "mine/sensitivity.html").mkdir()
    code, again, err = redense(*command)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "sensitivity.html" in err
    table = out[out.index("what follows") : out.index("report: ")]
    assert table in again


def test_plain_measures_the_whole_grid_and_a_drop_can_be_the_target(redense: Run, recipe_file: Path):
    out = redense("sensitivity", recipe_file, "--plain", "--sparsities", "0.2,0.6", "--max-drop", "0.01", "--out", "a")[
        1
    ]
    assert "nothing was reused" not in out
    assert " 20 %" in out
    assert " 60 %" in out
    assert "the plain grid takes" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which recipe or run folder?"),
        (["quickstrat"], "did you mean 'quickstart'"),
        (["quickstart", "--overall", "30"], r"--overall must be in [0, 1), got 30"),
        (["quickstart", "--overall", "much"], "--overall must be a number such as 0.4, got 'much'"),
        (["quickstart", "--overall", "0.3", "--max-drop", "1"], "give one target"),
        (["quickstart", "--sparsities", "0.3,x"], "--sparsities must be a number such as 0.4, got 'x'"),
        (["quickstart", "--sparcity", "0.3"], "unknown setting --sparcity"),
        (["quickstart", "--checkpoint", "none.pt"], "none.pt: no such file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, redense: Run):
    code, out, err = redense("sensitivity", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_settings_beside_a_run_are_refused(redense: Run, recipe_file: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    recipe_file.rename(tmp_path / "run" / "recipe.yaml")
    code, _, err = redense("sensitivity", "run", "--seed", "3")
    assert (code, "a run has its own recipe: give no settings beside a run folder, got --seed" in err) == (2, True)
    code, _, err = redense("sensitivity", "run")
    assert (code, "has not finished phase 'dense'" in err) == (2, True)


@pytest.mark.slow
def test_ctrl_c_stops_a_scan_which_goes_on(tmp_path: Path):
    command = [sys.executable, "-m", "redense.cli", "sensitivity", "quickstart", "--dense.epochs", "0.5", "--plain"]
    environment = {**os.environ, "REDENSE_STORE": str(tmp_path / "store")}
    child = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    measured = tmp_path / "runs" / "quickstart-seed0-scan" / "measured.json"
    for _ in range(600):
        if measured.exists() and len(json.loads(measured.read_text())["measured"]) > 2:
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "go on with: redense sensitivity quickstart" in err
    before = len(json.loads(measured.read_text())["measured"])
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "taken from the store" in done.stdout
    assert f"; {1 + 31 - before} evaluations" in done.stdout  # the unpruned one, and what is left
