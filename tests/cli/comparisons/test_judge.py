"""`redense judge` on the command line: text, JSON, a plan, and every mistake one line and exit code 2."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import redense

Run = Callable[..., tuple[int, str, str]]

ARMS = {"baseline": (12.5, 12.1, 12.9), "restart": (11.9, 11.6, 12.2), "dsd": (11.1, 10.8, 11.45)}
TABLE = "arm,seed,error\n" + "".join(f"{a},{s},{v}\n" for a, values in ARMS.items() for s, v in enumerate(values))


@pytest.fixture(name="redense_run")
def _redense_run(request: pytest.FixtureRequest) -> Run:
    """The shared fixture under a name that does not hide the package."""
    return request.getfixturevalue("redense")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    return path


def test_the_command_line_prints_what_python_returns(redense_run: Run, table: Path):
    made = redense.judge(table)
    assert redense_run("judge", "t.csv") == (0, f"{made}\n", "")
    code, out, err = redense_run("judge", "t.csv", "--json")
    assert (code, json.loads(out), err) == (0, made.to_dict(), "")
    assert redense_run("judge", "t.csv", "--json")[1] == out


def test_options_of_a_table_are_those_of_python(redense_run: Run, table: Path):
    options = ("--metric", "error", "--higher-is-better", "--baseline", "restart", "--control", "baseline", "--margin")
    code, out, _ = redense_run("judge", "t.csv", *options, "0.5", "--looks", "3", "--changed-code", "--json")
    made = redense.judge(
        table, metric="error", lower_is_better=False, baseline="restart", controls=["baseline"], margin=0.5, looks=3
    )
    assert (code, json.loads(out)) == (0, made.to_dict())


def test_several_tables_are_judged_as_one_family(redense_run: Run, table: Path, tmp_path: Path):
    (tmp_path / "more.csv").write_text(TABLE.replace("dsd", "random").replace("restart", "llr"))
    code, out, _ = redense_run("judge", "t.csv", "more.csv", "--json")
    told = json.loads(out)
    assert code == 0
    assert [arm["arm"] for arm in told["arms"]] == ["baseline", "restart", "dsd", "llr", "random"]
    assert told["family"]["comparisons"] == 8


def test_where_all_runs_end_alike_no_arm_is_called_the_best_and_no_run_a_single_one(redense_run: Run, tmp_path: Path):
    rows = "".join(f"{arm},{seed},0.5\n" for arm in ("baseline", "dsd", "restart") for seed in range(3))
    (tmp_path / "t.csv").write_text(f"arm,seed,error\n{rows}")
    assert redense_run("judge", "t.csv", "--out", "page")[0] == 0
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "The lowest mean error is that of baseline, dsd and restart, 0.5" in page
    assert "Means over seeds that all have the same figure" in page
    assert "single runs" not in page


def test_a_plan_is_printed_as_text_and_as_json(redense_run: Run):
    options = ("judge", "--plan", "--sd", 0.4, "--effect", -0.4, "--arms", 2)
    code, out, _ = redense_run(*options)
    assert code == 0
    assert out.startswith("14 seeds show a true difference of -0.4 in 80 % of experiments.")
    told = json.loads(redense_run(*options, "--json", "--power", "0.9")[1])
    assert told["power"] == 0.9
    assert told["seeds"] > 14
    assert [set(row) for row in told["table"]] == [{"n", "power", "detectable"}] * 28


@pytest.mark.parametrize("effect", ["-4e-1", "-.4", "-0.4", "-40E-2", "=-4e-1"])
def test_a_negative_number_is_a_value_however_it_is_written(redense_run: Run, effect: str):
    given = [f"--effect{effect}"] if effect.startswith("=") else ["--effect", effect]
    code, out, err = redense_run("judge", "--plan", "--sd", "0.4", *given, "--arms", "2")
    assert (code, err) == (0, "")
    assert out.startswith("14 seeds show a true difference of -0.4 in 80 % of experiments.")


def test_a_table_may_come_from_standard_input(redense_run: Run, table: Path, monkeypatch: pytest.MonkeyPatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(NamedBytes(data))))

    give(TABLE.encode())
    assert redense_run("judge", "-", "--json") == redense_run("judge", "t.csv", "--json")
    with table.open("rb") as opened:
        assert redense.judge(opened).to_dict() == redense.judge(table).to_dict()
    assert redense.judge(io.StringIO(TABLE)).to_dict() == redense.judge(table).to_dict()

    give(b"arm,seed\n")
    assert redense_run("judge", "-")[2] == "redense: standard input has no rows\n"
    give(b"")
    assert redense_run("judge", "-")[2] == "redense: standard input is empty: expected a header and rows\n"
    assert "give - once" in redense_run("judge", "-", "-")[2]
    os.mkfifo("pipe")
    assert "of a pipe, give it to standard input and name it -" in redense_run("judge", "pipe")[2]
    monkeypatch.setattr(sys, "stdin", None)
    assert redense_run("judge", "-")[2].startswith("redense: standard input is closed: pipe a table into redense judge")

    give(TABLE.encode())
    assert redense_run("judge", "-", "--out", "page")[0] == 0
    assert "standard input" in (table.parent / "page" / "report.html").read_text()


class NamedBytes(io.BytesIO):
    """What standard input is made of."""

    name = "<stdin>"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("judge", "which table?"),
        ("judge no.csv", "there is no file 'no.csv'"),
        ("judge t.csv --metric eror", "no column 'eror'; did you mean 'error'?"),
        ("judge t.csv --lower-is-better --higher-is-better", "not allowed with argument"),
        ("judge t.csv --margin -1", "the margin must be a number above 0"),
        ("judge t.csv --margin x", "invalid float value: 'x'"),
        ("judge t.csv --margin 1_0", "invalid float value: '1_0'"),
        ("judge t.csv --looks 1_0", "invalid int value: '1_0'"),
        ("judge t.csv --looks 0", "looks must be a whole number from 1"),
        ("judge t.csv --sd 1", "--sd is of a plan"),
        ("judge --plan --sd 1 --effect 1", "--plan needs --arms"),
        ("judge --plan --changed-code", "--plan is made before there is a table: --changed-code is not of it"),
        ("judge --plan --sd 1 --effect 1 --arms 1 --margin 2", "--margin is not of it"),
        ("judge --plan --sd 1 --effect 1 --arms 1 --looks 0", "looks must be a whole number from 1 to"),
        ("judge t.csv --plan --sd 1 --effect 1 --arms 1", "a table is not of it"),
        ("judge --plan --sd 0 --effect 1 --arms 1", "the standard deviation must be a number above 0"),
        ("judge --plan --sd 1 --effect 1 --arms 0", "1 to 1,000,000 arms"),
        ("judge --plan --sd 1 --effect 1 --arms 2 --power 1", "power must be in (0, 1)"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(redense_run: Run, table: Path, words: str, said: str):
    code, out, err = redense_run(*words.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_only_numpy_and_scipy_are_needed(table: Path):
    # Everything else that redense depends on is made impossible to import.
    code = (
        "import sys\n"
        "others = 'torch pydantic rich plotly joblib accelerate yaml tensorboard safetensors'.split()\n"
        "sys.modules.update(dict.fromkeys(others))\n"
        "from redense.cli import main\n"
        f"sys.exit(main(['judge', {str(table)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dsd" in done.stdout
