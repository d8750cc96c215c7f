"""Tables of any program: read as they are, or refused in one line that says where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redense.errors import DataError
from redense.files.csv_text import as_named, safe_cell
from redense.lab.judging.judge import judge
from redense.lab.judging.reading.tables import read_table

ROWS = [
    {"arm": arm, "seed": seed, "error": value}
    for arm, values in {"baseline": [12.5, 12.1, 12.9], "dsd": [11.5, 11.2, 11.8]}.items()
    for seed, value in enumerate(values)
]
VALUES = {"baseline": {"0": 12.5, "1": 12.1, "2": 12.9}, "dsd": {"0": 11.5, "1": 11.2, "2": 11.8}}
CSV = "arm,seed,error\n" + "".join(f"{row['arm']},{row['seed']},{row['error']}\n" for row in ROWS)


def values_of(table: Any, **options: Any) -> dict[str, dict[str, float]]:
    return {name: dict(arm.values) for name, arm in read_table(table, **options).arms.items()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def make(text: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return make


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        "\ufeff" + CSV.replace("\n", "\r\n"),
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace(",", " , ").replace("arm", " arm ").replace("\n", "\n\n"),
        CSV.replace("error\n", "error,host\n").replace("\nbase", ",a\nbase").replace("\ndsd", ",b\ndsd"),
        "arm,seed,steps,error\n" + "".join(f"{r['arm']},{r['seed']},100,{r['error']}\n" for r in ROWS),
        CSV.replace("dsd", '"dsd"'),
        CSV.encode("utf-16"),
        "".join(json.dumps(row) + "\n" for row in ROWS),
        json.dumps(ROWS),
        json.dumps([{**row, "error": str(row["error"])} for row in ROWS]),
    ],
    ids=["comma", "BOM and CRLF", "semicolon", "tab", "spaces and blank lines", "another column", "steps", "quotes",
         "UTF-16", "JSON lines", "JSON list", "JSON of text"],
)  # fmt: skip
def test_a_file_is_read_as_it_is(write: Callable[[str | bytes], Path], text: str | bytes):
    assert values_of(write(text)) == VALUES


def test_a_table_may_lie_below_a_home(
    write: Callable[[str | bytes], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert values_of(f"~/{write(CSV).name}") == VALUES


@pytest.mark.parametrize(
    "table",
    [
        ROWS,
        ROWS[::-1],
        tuple(ROWS),
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).astype({"seed": float, "error": "float64"}),
        {"baseline": [12.5, 12.1, 12.9], "dsd": np.array([11.5, 11.2, 11.8])},
        {"baseline": {0: 12.5, 1: 12.1, 2: 12.9}, "dsd": pd.Series([11.8, 11.5, 11.2], index=[2, 0, 1])},
    ],
    ids=["rows", "reversed", "tuple", "frame", "frame of floats", "sequences", "by seed"],
)
def test_python_tables_are_read_alike(table: Any):
    found = values_of(table)
    assert found == VALUES


def test_a_frame_is_anything_with_columns_and_no_package_is_asked_for():
    class Frame:
        columns = ("arm", "seed", "error")

        def __getitem__(self, name: str) -> list[Any]:
            return [row[name] for row in ROWS]

    assert values_of(Frame()) == VALUES


def test_a_column_split_decides_over_the_name_of_the_figure(write: Callable[[str | bytes], Path]):
    rows = [
        f"{arm},{seed},{split},{seed}"
        for arm in ("baseline", "dsd")
        for seed in (1, 2)
        for split in ("validation", "test")
    ]
    found = read_table(write("\n".join(["arm,seed,split,test_bleu", *rows])))
    assert found.metric == "test_bleu"
    assert found.arms["dsd"].values == found.arms["dsd"].validation == {"1": 1.0, "2": 2.0}


def test_a_table_of_arrow_is_read_by_its_rows():
    class Table:
        columns, column_names = ([],), ("arm", "seed", "error")

        def to_pylist(self) -> list[dict[str, Any]]:
            return ROWS

        def __getitem__(self, name: str) -> Any:
            raise KeyError(name)

    assert values_of(Table()) == VALUES


def test_the_csv_of_a_comparison_has_both_splits(write: Callable[[str | bytes], Path]):
    table = "arm,seed,steps,gradients,parameters,nonzeros,failed,validation_error,test_error\n"
    table += "baseline,0,100,100,9,9,,5.0,6.0\nllr,0,160,160,9,9,,4.5,5.5\n"
    read = read_table(write(table), metric="error")
    assert (read.metric, read.validation_only) == ("error", False)
    assert read.arms["llr"].values == {"0": 5.5}
    assert read.arms["llr"].validation == {"0": 4.5}
    assert read.arms["llr"].steps == 160
    folder = write(table).rename(write(table).parent / "compare.csv").parent
    assert read_table(folder, metric="error") == read


def test_splits_are_rows_too_and_validation_alone_decides():
    rows = [{**row, "split": split} for row in ROWS for split in ("validation", "test")]
    assert values_of(rows) == VALUES
    assert read_table(rows).arms["dsd"].validation == VALUES["dsd"]
    alone = read_table([row for row in rows if row["split"] == "validation"])
    assert alone.validation_only
    assert alone.arms["dsd"].values == VALUES["dsd"]
    assert alone.arms["dsd"].validation == {}


@pytest.mark.parametrize("name", ["validation_error", "valid/error", "Dev error", "error (val)"])
def test_a_column_of_validation_figures_is_of_validation_whether_it_is_named_or_the_only_one(name: str):
    rows = [{"arm": row["arm"], "seed": row["seed"], name: row["error"]} for row in ROWS]
    for table, metric in ((rows, None), (rows, name), ([{**row, "test_error": 1.0} for row in rows], name)):
        read = read_table(table, metric=metric)
        assert (read.metric, read.validation_only, dict(read.arms["dsd"].values)) == ("error", True, VALUES["dsd"])
    with pytest.raises(DataError, match="is empty: a run without a figure"):
        read_table([{**row, name: ""} for row in rows])
    assert "validation figures alone" in (judge(VALUES, metric=name).caution or "")
    for test in ("test_error", "error"):  # a figure beside it that says no split is that of test
        both = read_table([{**row, test: 1.0} for row in rows], metric="error")
        assert (both.validation_only, both.arms["dsd"].validation) == (False, VALUES["dsd"])
    with pytest.raises(DataError, match=f"has columns '{re.escape(name)}' and 'valid-error': which is meant"):
        read_table([{**row, "valid-error": 1.0} for row in rows], metric="error")


def test_a_run_has_one_number_of_steps_whichever_split_its_row_is_of():
    rows = [{**row, "split": split, "steps": 9 + (split == "test")} for row in ROWS for split in ("validation", "test")]
    with pytest.raises(DataError, match="arm 'baseline', seed '0' has 10 steps beside its test figure and 9 beside"):
        read_table(rows)


def test_several_tables_are_one_family_and_what_both_have_counts_once(tmp_path: Path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text(CSV)
    second.write_text(CSV.replace("dsd", "llr"))
    assert list(values_of([first, second])) == ["baseline", "dsd", "llr"]
    second.write_text(CSV.replace("12.1", "12.1000001"))
    with pytest.raises(DataError, match=r"b.csv', line 3: arm 'baseline', seed '1' is 12.1 in .* and 12.1000001 in"):
        read_table([first, second])


def test_tables_that_tell_other_steps_of_a_run_are_not_of_one_family(tmp_path: Path):
    for name, steps in (("a.csv", 100), ("b.csv", 101)):
        rows = "".join(f"{row['arm']},{row['seed']},{row['error']},{steps}\n" for row in ROWS)
        (tmp_path / name).write_text(f"arm,seed,error,steps\n{rows}")
    with pytest.raises(DataError, match="seed '0' is of 100 steps in one table and 101 in another"):
        read_table([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_validation_beside_numbers_by_arm_may_be_by_seed_or_in_the_order_of_the_seeds():
    table = {"baseline": {"a": 3.0, "b": 4.0}, "llr": {"b": 3.0, "a": 2.0}}
    read = read_table(table, validation={"llr": [7.0, 8.0]})
    assert read.arms["llr"].validation == {"b": 7.0, "a": 8.0}
    assert read_table(table, validation={"llr": {"a": 8.0}}).arms["llr"].validation == {"a": 8.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (",,\n\n,\n", "has no cell that is filled"),
        ("arm,seed,error\n", "has no rows"),
        ("arm,run,error\nbaseline,0,1\n", "no column 'seed'; it has arm, run, error"),
        ("Arm,seed,error\nbaseline,0,1\n", "no column 'arm'; it has Arm, seed, error"),
        ("arm,seed\nbaseline,0\n", "no column of numbers"),
        (CSV.replace("error", "error,error").replace("\n", ",1\n"), "has the column 'error' twice"),
        (CSV + "dsd,1,13.0\n", "line 8: arm 'dsd', seed '1' is there twice"),
        (CSV.replace("11.2", "nan"), "line 6: arm 'dsd', seed '1': 'error' is 'nan'"),
        (CSV.replace("11.2", "1e999"), "'error' is '1e999'"),
        (CSV.replace("11.2", "1e301"), "'1e301', too large"),
        (CSV.replace("11.2", " "), "'error' is empty"),
        (CSV.replace("11.2", "1_1.2"), "'1_1.2', which is no number"),
        (CSV.replace(",", ";").replace("11.2", "11,2"), "'11,2', which is no number; write a decimal point"),
        (CSV.replace(",", ";").replace("11.2", "1,000"), "'1,000', which is no number; write 1.000 or 1000: the"),
        (CSV.replace(",", ";").replace("11.2", "1,234.5"), "'1,234.5', which is no number; write it without commas"),
        (CSV.replace("11.2", "9" * 200_000 + "x"), "999...', which is no number"),  # in no square of its length
        (CSV.replace("11.2", "11,2"), "line 6: 4 cells under 3 columns"),
        (CSV.replace("dsd,1", ",1"), "line 6: 'arm' is empty"),
        (CSV.replace("dsd,1", "dsd, "), "line 6: 'seed' is empty"),
        (CSV + "dsd,7,13.1\n", "'dsd' has seed '7', which 'baseline' has not"),
        (CSV.replace("dsd,1,11.2\n", ""), "'dsd' has no seed '1', which 'baseline' has"),
        (CSV.replace("baseline,0", '"baseline,0'), "no CSV"),
        (CSV.replace("error", "error,loss").replace("\nb", ",1\nb").replace("\nd", ",1\nd"), "one of 'error', 'loss'"),
        ("arm,seed,lr,accuracy\nbaseline,0,0.1,93.1%\ndsd,0,0.1,93.4 %\n", "one of 'lr', 'accuracy'"),
        ("arm;seed;epochs;error\nbaseline;0;30;12,5\ndsd;0;30;11,9\n", "one of 'epochs', 'error'"),
        ("arm;seed;val_error;test_error\nbaseline;0;30;12,5\ndsd;0;30;11,9\n", "'test_error' is '12,5'"),
        (CSV.replace("error", "error,steps").replace("\nb", ",1\nb").replace("\nd", ",x\nd"), "'steps' is 'x'"),
        (CSV + "DSD,0,1\nDSD,1,1\nDSD,2,1\n", "arms 'dsd' and 'DSD' differ in capitals, spaces or characters that"),
        (CSV.replace("error", "error,Steps").replace("\nb", ",1\nb"), "has a column 'Steps': call it 'steps'"),
        (CSV.replace("error", "error,metrics.steps").replace("\nb", ",1\nb"), "'metrics.steps': call it 'steps'"),
        (CSV.replace("error", "error,steps").replace("\nb", ",-1\nb").replace("\nd", ",-1\nd"), "'steps' is -1, exp"),
        ("arm,seed,split,test_error\nbaseline,0,validation,1\n", "rows of 'split' 'validation' with the figure 'test"),
        (CSV + "baseline,mean,12.5\ndsd,mean,11.5\n", "arm 'baseline', seed 'mean' is a summary of runs and no run"),
        (CSV + "baseline,Std. Dev.,1\n", "seed 'Std. Dev.' is a summary"),
        (CSV + "baseline,max,12.9\ndsd,max,11.8\n", "seed 'max' is a summary"),
        ("arm,seed,split,error\nbaseline,0,train,1\n", "'split' is 'train', expected test or validation"),
        ("arm,seed,split,error\nbaseline,0,test,1\nllr,0,validation,1\n", "'llr' has no seed '0'"),
        ('{"arm": "baseline", "seed": 0, "error": NaN}\n', "line 1: arm 'baseline', seed '0': 'error' is 'nan'"),
        ('{"arm": "baseline", "seed": 0, "error": 1}\nnone\n', "line 2: no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1, 2]", "expected a JSON list of objects"),
        (b"arm,seed,error\nbas\xe9line,0,1\n", "is no UTF-8 text"),
        (b"\x00\x01\x02\n1", "no column 'arm'"),
        ("arm,seed,error\nba\x1b[31mse,0,x\n", r"arm 'ba\\u001b\[31mse'"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_one_line_that_says_where(
    write: Callable[[str | bytes], Path], text: str | bytes, words: str
):
    with pytest.raises(DataError, match=words) as caught:
        read_table(write(text))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ({}, {}, "has no arms"),
        ([], {}, "has no rows"),
        (3, {}, "expected a path, a data frame"),
        ([1, 2], {}, "row 1 of the list is a int"),
        ({"baseline": [1.0, 2.0], "dsd": [1.0, float("nan")]}, {}, "arm 'dsd', seed '1' is 'nan'"),
        ({"baseline": [1.0, 2.0], "dsd": [1.0]}, {}, "'dsd' has no seed '1'"),
        ({"baseline": [1.0, 2.0], "dsd": [1.0, True]}, {}, "'True', which is no number"),
        ({"baseline": [1.0], "dsd": {0: 1.0}}, {}, "arm 'baseline' has numbers without seeds"),
        ({"baseline": [1.0], "Baseline\u200b": [2.0]}, {}, r"arms 'baseline' and 'Baseline\\u200b' differ in capitals"),
        ({"baseline": "12"}, {}, "expected {seed: number} or one number a seed"),
        ({"baseline": {1.0, 2.0}}, {}, "expected {seed: number} or one number a seed"),  # in no order
        ({"baseline": 1.0}, {}, "expected {seed: number} or one number a seed"),
        ({"baseline": []}, {}, "'baseline' has no numbers"),
        ({"baseline": [1.0]}, {"validation": {"lr": [1.0]}}, "an arm 'lr' that is not in the table"),
        ({"baseline": [1.0]}, {"validation": {"baseline": [1.0, 2.0]}}, "2 numbers for 1 seeds"),
        (ROWS, {"validation": {}}, "validation figures beside a table are a column"),
        (ROWS, {"metric": "eror"}, "no column 'eror'; did you mean 'error'?"),
        (ROWS, {"metric": "seed"}, "no column 'seed'"),
        (ROWS, {"metric": ""}, "no column ''"),
        (type("Lazy", (), {"columns": ["arm"], "__getitem__": len})(), {}, r"of this Lazy cannot .* its collect\(\)"),
        ("no/such.csv", {}, "there is no file 'no/such.csv'"),
        ("no\0such", {}, "cannot be read"),
    ],
)
def test_python_tables_are_refused_too(table: Any, options: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words):
        read_table(table, **options)


def test_a_run_that_failed_is_counted_and_a_table_of_nothing_else_is_refused(write: Callable[[str | bytes], Path]):
    head, lost = "arm,seed,failed,validation_error,test_error\n", "dsd,1,loss is NaN at step 3,7,\n"
    table = read_table(write(f"{head}baseline,0,,2,1\nbaseline,1,,2,1\ndsd,0,,2,3\n{lost}"))
    dsd = table.arms["dsd"]
    assert (dict(dsd.values), dict(dsd.validation), dsd.runs, dsd.diverged) == ({"0": 3.0}, {"0": 2.0}, 2, 1)
    assert dict(dsd.failures) == {"1": "loss is NaN at step 3"}
    with pytest.raises(DataError, match="every run of the table failed; arm 'dsd', seed '1': 'loss is NaN at step 3'"):
        read_table(write(head + lost), metric="error")
    with pytest.raises(DataError, match="seed '1': 'test_error' is 3, and 'failed' is 'loss is NaN at step 3': a run"):
        read_table(write(f"{head}baseline,0,,2,1\nbaseline,1,,2,1\ndsd,0,,2,3\n{lost[:-1]}3\n"))
    alone = "arm,seed,failed,split,error\nbaseline,0,None,validation,1\ndsd,0,no,validation,1\n"
    assert read_table(write(alone)).validation_only
    with pytest.raises(DataError, match="seed '0': 'error' is 1, and 'failed' is 'yes'"):
        read_table(write(alone.replace(",no,", ",yes,")))
    with pytest.raises(DataError, match="'test_error' is empty: a run without a figure"):
        read_table(write(f"{head}baseline,0,,2,1\ndsd,0,False,2,\n"))
    with pytest.raises(DataError, match="'dsd' has no seed '0'"):
        read_table(write(f"{head}baseline,0,,2,1\nbaseline,1,,2,1\n{lost}"))


@pytest.mark.parametrize("prefixes", [("params.", "metrics."), ("config.", "summary."), ("config/", "summary/")])
def test_a_table_of_a_tracker_is_read_with_the_names_that_were_logged(tmp_path: Path, prefixes: tuple[str, str]):
    own, figure = prefixes
    rows = [("run1", "base", 0, 2.0), ("run2", "base", 1, 2.5), ("run3", "new", 0, 1.0), ("run4", "new", 1, 1.25)]
    text = f"run_id,{own}arm,{own}seed,{figure}error\n" + "".join(f"{r},{a},{s},{v}\n" for r, a, s, v in rows)
    (tmp_path / "runs.csv").write_text(text)
    table = read_table(tmp_path / "runs.csv")
    assert table.metric == "error"
    values = {name: dict(arm.values) for name, arm in table.arms.items()}
    assert values == {"base": {"0": 2.0, "1": 2.5}, "new": {"0": 1.0, "1": 1.25}}


def test_what_is_logged_as_a_setting_and_as_a_figure_keeps_its_prefix():
    rows = [{"params.arm": r["arm"], "params.seed": r["seed"], "metrics.error": r["error"]} for r in ROWS]
    assert values_of([{**row, "params.lr": 1, "metrics.lr": 2} for row in rows], metric="error") == VALUES
    assert read_table([{**row, "params.error": 3} for row in rows], metric="metrics.error").metric == "metrics.error"


def folder_of_a_comparison(path: Path, *, looks: int = 1) -> Path:
    """Write a table, and what ``compare.json`` says of its arms."""
    path.mkdir()
    figures = {"baseline": (10.0, 10.2, 9.9, 10.1), "plain": (8.0, 8.1, 8.2, 7.9), "dsd": (9.0, 9.1, 9.2, 8.9)}
    rows = [f"{arm},{seed},{value}" for arm, values in figures.items() for seed, value in enumerate(values)]
    (path / "compare.csv").write_text("\n".join(["arm,seed,error", *rows]), encoding="utf-8")
    told = [{"arm": arm, "control": arm == "plain"} for arm in figures]
    added = "Seeds were added." if looks > 1 else ""
    judged = {"margin": None, "looks": looks, "added": added, "validation_only": looks > 1}
    (path / "compare.json").write_text(json.dumps({"rows": told, "judged": judged}), encoding="utf-8")
    return path


def test_a_folder_says_which_arms_are_controls_and_how_often_it_was_looked_at(tmp_path: Path):
    folder = folder_of_a_comparison(tmp_path / "own", looks=4)
    for table in (folder, folder / "compare.csv", [str(folder)]):
        result = judge(table)
        assert result.decision.deciding == ("plain",)
        assert result.gains == ()
        assert result.decision.family.looks == 4
        assert "Seeds were added." in str(result.caution)
        assert "There are validation figures alone" in str(result.caution)
    assert judge(folder, looks=8).decision.family.looks == 8
    assert judge(folder, controls=["dsd"]).decision.deciding == ("dsd",)  # what is given goes before
    (folder / "compare.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        judge(folder)


def test_a_folder_says_which_of_its_figures_decides_and_two_folders_must_agree(tmp_path: Path):
    folders = [folder_of_a_comparison(tmp_path / name) for name in "ab"]
    for folder, name in zip(folders, ("mine", "loss"), strict=True):
        told = json.loads((folder / "compare.json").read_text())
        told["metric"] = {"name": name, "unit": "", "lower_is_better": name == "loss"}
        (folder / "compare.json").write_text(json.dumps(told))
        rows = (folder / "compare.csv").read_text().replace("error", "test_mine").split("\n")
        (folder / "compare.csv").write_text("\n".join([f"{rows[0]},test_loss", *(f"{row},1" for row in rows[1:])]))
    result = judge(folders[0])
    assert (result.decision.metric, result.decision.lower_is_better) == ("mine", False)
    assert judge(folders[0], lower_is_better=True).decision.lower_is_better
    assert judge(folders[1], metric="mine", lower_is_better=True).decision.metric == "mine"
    with pytest.raises(DataError, match="say which with --metric, one of 'mine', 'loss'"):
        judge(folders)


def test_settings_and_twins_of_a_control_are_controls_by_their_names():
    numbers = {"baseline": [10.0, 10.1, 9.9], "restart-acdc": [9.0, 9.1, 9.2], "restart rate=0.5": [8.0, 8.1, 8.3]}
    table = numbers | {"restart": [9.5, 9.4, 9.6], "dsd": [9.0, 9.2, 9.1], "restarted": [9.9, 9.8, 9.7]}
    result = judge(table, lower_is_better=True)
    assert result.decision.controls == ("restart-acdc", "restart rate=0.5", "restart")
    assert {arm.name: arm.role for arm in result.decision.arms}["restarted"] == "arm"


@pytest.mark.parametrize(
    "name", ["LLR", "llr\u200b", "\uff2c\uff2c\uff32", "LLR rate=0.5", "Restart_acdc", "l\u043enger"]
)
def test_a_control_in_capitals_or_with_what_is_not_seen_is_a_control(name: str):
    figures = {"Baseline": [30.1, 30.2, 30.4], "restart": [28.3, 28.2, 28.6], "dsd": [26.1, 26.3, 26.4]}
    result = judge({**figures, name: [25.1, 25.2, 25.4]}, lower_is_better=True)
    assert (result.decision.baseline, set(result.decision.controls)) == ("Baseline", {"restart", name})
    assert result.gains == ()


def test_small_figures_are_shown_with_their_digits_and_numbers_of_numpy_are_numbers():
    table = {"baseline": [1e-12, 1.1e-12, 0.9e-12], "restart": [5e-13, 5.1e-13, 4.8e-13], "dsd": [1e-13, 2e-13, 3e-13]}
    assert "0.0000" not in str(judge(table, lower_is_better=True))
    numbers: dict[str, Any] = {"margin": np.float32(3), "looks": np.int64(2)}
    told = judge(table, lower_is_better=True, **numbers)
    assert (told.decision.margin, told.decision.family.looks) == (3.0, 2)
    for wrong in ({"margin": True}, {"lower_is_better": "no"}):
        options: dict[str, Any] = {"lower_is_better": True, **wrong}
        with pytest.raises(DataError):
            judge(table, **options)


@pytest.mark.parametrize(
    ("column", "state"),
    [("State", "crashed"), ("status", "FAILED"), ("status", "RUNNING"), ("State", "CANCELLED by 1000"),
     ("state", "OUT_OF_MEMORY"), ("state", "OUT_OF_ME+"), ("state", "CANCELLED+"), ("state", "TrialState.PRUNED"),
     ("Status", "REQUEUED")],
)  # fmt: skip
def test_a_run_that_its_tracker_knows_as_unfinished_has_no_figure(column: str, state: str):
    rows = [{**row, column: "finished"} for row in ROWS]
    assert values_of(rows) == VALUES
    rows[-1][column] = state
    with pytest.raises(DataError, match=f"'error' is 11.8, and '{column}' is '{re.escape(state)}': a run that "):
        read_table(rows)
    rows[-1]["error"] = None
    assert read_table(rows).arms["dsd"].failures == {str(rows[-1]["seed"]): state}
    for known in ("COMPLETED", "TrialState.COMPLETE", "TERMINATED", "COMPLETED+", ""):
        assert values_of([{**row, column: known} for row in ROWS]) == VALUES
    for unknown in ("Unknown", "exit 1", "CO+", "False"):  # which of two it is, only who made the table can say
        with pytest.raises(DataError, match=f"row 6: '{column}' is '{re.escape(unknown)}', which may be of a run that"):
            read_table([*({**row, column: "finished"} for row in ROWS[:-1]), {**ROWS[-1], column: unknown}])


def test_steps_may_be_missing_of_a_whole_arm_and_of_runs_that_failed():
    rows = [{**row, "steps": 100 if row["arm"] == "dsd" else "", "failed": ""} for row in ROWS]
    assert [arm.steps for arm in read_table(rows).arms.values()] == [None, 100]
    rows[-1]["steps"] = ""
    with pytest.raises(DataError, match="arm 'dsd', seed '2': 'steps' is empty"):
        read_table(rows)
    rows[-1] |= {"error": "", "failed": "killed"}
    assert [arm.steps for arm in read_table(rows).arms.values()] == [None, 100]


def test_a_name_before_which_stands_an_apostrophe_for_spreadsheets_is_the_name(write: Callable[[str | bytes], Path]):
    read = read_table(write(CSV.replace("dsd", "'+dsd").replace("baseline", "'t")))
    assert list(read.arms) == ["'t", "+dsd"]
    names = ["=x", "'=x", "''=x", "-", "'-0.5", "-0.5", "'t", "''", "a", "'", "=", "\t", "'\r"]
    assert [as_named(str(safe_cell(name))) for name in names] == names
    assert not [name for name in names if str(safe_cell(name))[0] in "=+@\t\r"]


@pytest.mark.parametrize("beside", ["validation_error", "val_error"])
def test_a_test_figure_by_all_of_its_name_has_the_validation_figure_that_chooses_the_control(beside: str):
    rows = [
        {"arm": arm, "seed": seed, "test_error": value + seed, beside: value, "error": 0}
        for arm, value in {"baseline": 9, "restart": 8, "llr": 7, "dsd": 6}.items()
        for seed in range(3)
    ]
    found = read_table(rows, metric="test_error")
    assert (found.metric, found.by_split) == ("error", True)
    assert found.arms["llr"].values == {"0": 7, "1": 8, "2": 9}
    assert found.arms["llr"].validation == dict.fromkeys("012", 7)
    with pytest.raises(DataError, match="has 'error' beside 'test_error': say which with --metric 'test_error', or"):
        read_table(rows, metric="error")


def test_a_seed_may_be_called_like_a_person(write: Callable[[str | bytes], Path]):
    assert values_of(write(CSV.replace(",1,", ",Max,")))["dsd"] == {"0": 11.5, "Max": 11.2, "2": 11.8}


@pytest.mark.parametrize("name", ["mean", "Std", "All", "total", "Std. Dev.", "sum", "max"])
def test_an_arm_that_is_a_summary_of_the_others_is_refused_by_name(name: str):
    table: dict[str, list[float]] = {
        "baseline": [12.5, 12.1, 12.9],
        "restart": [11.9, 11.5, 12.1],
        name: [12.5, 12.1, 12.9],
    }
    with pytest.raises(DataError, match=f"arm '{name}' is a summary of arms and no arm: leave its rows out, or give"):
        judge(table, lower_is_better=True)
    others = {f"{name} teacher": table.pop(name), "max": [1.0, 2.0, 3.5]}
    assert judge({**table, **others}, lower_is_better=True).decision.arms


def test_a_log_of_keras_has_training_figures_without_a_prefix():
    rows = [{**row, "val_error": row["error"], "loss": 1, "val_loss": 1} for row in ROWS]
    with pytest.raises(DataError, match="as a log of Keras, where 'error' is of training data: judge 'val_error'"):
        read_table(rows, metric="error")
    assert read_table(rows, metric="val_error").validation_only
    for name, beside in (
        ("accuracy", "val_accuracy"), ("loss", "valid_loss"), ("Loss", "Val_Loss"), ("loss", "Validation Loss"),
        ("top5_accuracy", "val/top5.accuracy"), ("accuracy", "accuracy (val)"), ("squared_error", "dev-Squared error"),
    ):  # fmt: skip
        table = [{"arm": row["arm"], "seed": row["seed"], name: 1, beside: row["error"]} for row in ROWS]
        with pytest.raises(DataError, match="as a log of Keras") as caught:
            read_table(table, metric=name)
        assert f"judge '{beside}', or, if it is of test data, call it 'test_{name}'" in str(caught.value)
    assert not read_table([{**row, "val_error": 1} for row in ROWS], metric="error").validation_only


def test_validation_figures_may_be_missing_of_a_whole_arm():
    rows = [{**row, "validation_error": 1 if row["arm"] == "dsd" else ""} for row in ROWS]
    assert [len(arm.validation) for arm in read_table(rows, metric="error").arms.values()] == [0, 3]
    rows[-1]["validation_error"] = ""
    with pytest.raises(DataError, match="'validation_error' is empty: other runs of this arm have it"):
        read_table(rows, metric="error")
