"""The command line of comparisons: compare, arms and store end to end, and every mistake one line and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.errors import StateError
from redense.lab.arms import get_arms
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine

Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is in the test's folder, where the command line puts it without being told."""
    monkeypatch.delenv("REDENSE_STORE")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The phases that were trained in this process."""
    found: list[int] = []
    train = Engine.train
    monkeypatch.setattr(Engine, "train", lambda engine: (found.append(engine.phase_index), train(engine))[1])
    return found


# --- what it does ---------------------------------------------------------------------------------------------------


def test_without_jobs_as_many_run_as_there_are_cores_for_this_process(
    redense: Run, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    code, out, err = redense("compare", recipe_file, "--arms", "restart", "--seeds", "1")
    assert (code, err) == (0, "")
    assert "; 1 job of one thread" in out


def test_a_comparison_from_start_to_end_and_a_second_one_that_trains_nothing(
    redense: Run, recipe_file: Path, tmp_path: Path, trained: list[int]
):
    words = ["compare", recipe_file, "--arms", "dsd,restart", "--seeds", "2", "--jobs", 1]
    code, out, err = redense(*words, "--dry-run")
    assert (code, err, trained, list(tmp_path.glob("runs*"))) == (0, "", [], [])
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert table["baseline"] == ["11", "11", "22", "dense"]
    assert table["dsd"] == ["33", "33", "44", "dense,", "sparse,", "redense"]
    assert "110 of 110 optimizer steps to train" in out

    code, out, err = redense(*words, "--out", "first")
    assert (code, err) == (0, "")
    assert len(trained) == 10
    assert "comparison: first" in out
    assert "3 rows x 2 seeds; 110 of 110 optimizer steps to train" in out
    result = json.loads((tmp_path / "first" / "compare.json").read_text())
    for row in result["rows"]:
        line = next(line for line in out.splitlines() if line.startswith(f"{row['arm']} "))
        assert f"{row['mean']:.2f}" in line
        assert f" {row['steps']} " in line
    for said in result["conclusions"].values():
        assert said in out
    assert result["caution"] in out
    assert "10 phases trained; raw numbers, CSV and report: first" in out
    written = {path.name for path in (tmp_path / "first").iterdir()}
    assert {"comparison.json", "compare.json", "compare.csv", "costs.json", "curves.json"} <= written
    assert [path.suffix for path in (tmp_path / "first").glob("*.html")] == [".html"]
    assert (tmp_path / "runs" / "store").is_dir()

    code, out, err = redense(*words, "--out", "second")
    assert (code, err, len(trained)) == (0, "", 10)
    assert "0 of 110 optimizer steps to train" in out
    assert "nothing had to be trained, all came from the store" in out
    assert (tmp_path / "second" / "compare.json").read_bytes() == (tmp_path / "first" / "compare.json").read_bytes()

    before = {path: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    more = ("--arms", "longer", "--seeds", "3")
    made = json.loads(redense("compare", "--resume", "first", *more, "--dry-run", "--json")[1])
    assert {row["arm"]: row["left"] for row in made["rows"]} == {"baseline": 11, "dsd": 22, "restart": 22, "longer": 99}
    assert (made["steps"], made["left"]) == (264, 154)
    assert {path: path.read_bytes() for path in (tmp_path / "first").iterdir()} == before

    code, out, err = redense("compare", "--resume", "first")
    assert (code, err, len(trained)) == (0, "", 10)
    assert "nothing had to be trained" in out


def test_the_defaults_are_dsd_and_its_controls_over_five_seeds(
    redense: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from redense.lab.comparison.grid import Grid

    def stop(self: Grid, **options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Grid, "run", stop)
    assert redense("compare", recipe_file)[0] == 130
    (folder,) = (tmp_path / "runs").glob("compare-tiny-*")
    comparison = json.loads((folder / "comparison.json").read_text())
    assert (comparison["arms"], comparison["seeds"]) == (["dsd", "restart", "llr", "longer"], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("more", "noted"), [(["--start", "w"], True), (["--start", "w", "--tune.backbone_lr", "1"], False), ([], False)]
)
def test_only_where_given_weights_stand_for_the_dense_phase_it_is_compared_without_longer(
    more: list[str], noted: bool, redense: Run, recipe_file: Path
):
    code, out, err = redense("compare", recipe_file, *more, "--seeds", "0")
    assert code == 2  # for the seeds: nothing is trained here
    assert ("without longer" in out + err) == noted


def test_settings_of_the_recipe_and_a_sweep_are_given_beside_the_options_and_the_store_is_remembered(
    redense: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["--dense.epochs", 2, "--arms", "dsd,llr", "--seeds=7", "--jobs", 1, "--store", "own store"]
    code, out, err = redense("compare", recipe_file, *words, "--seeds", "3,,5", "--out", "x")
    assert code == 2
    assert "--seeds" in err
    code, out, err = redense(
        "compare", recipe_file, *words, "--seeds", "3,5", "--sweep", "sparsity=0.2,0.5", "--out", "x"
    )
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "x" / "compare.json").read_text())
    rows = ["baseline", "dsd sparsity=0.2", "dsd sparsity=0.5", "llr", "llr lr=0.3"]
    assert [row["arm"] for row in result["rows"]] == rows
    assert result["seeds"] == [3, 5]
    assert [row["steps"] for row in result["rows"]] == [22, 44, 44, 44, 44]
    assert "Settings tried: baseline 1, dsd 2, llr 2. Best on validation: dsd sparsity=" in out
    assert result["control"][0] in ("llr", "llr lr=0.3")  # the better of its settings on validation
    assert (tmp_path / "own store").is_dir()
    assert not (tmp_path / "runs").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # it goes on with its store, whatever REDENSE_STORE is now
    monkeypatch.setenv("REDENSE_STORE", str(tmp_path / "another"))
    again = ("compare", "--resume", tmp_path / "x", "--jobs", 1)
    assert "nothing had to be trained" in redense(*again)[1]
    assert json.loads(redense(*again, "--dry-run", "--json")[1])["left"] == 0
    assert not (tmp_path / "another").exists()
    (tmp_path / "own store").rename(tmp_path / "gone")
    (note,) = json.loads(redense(*again, "--dry-run", "--json")[1])["notes"]
    assert note == f"the store that it began with is gone, {tmp_path}/own store: it goes on with {tmp_path}/another"
    assert json.loads(redense(*again, "--dry-run", "--json", "--store", tmp_path / "gone")[1])["notes"] == []


def test_without_a_store_the_comparison_keeps_its_phases_itself_and_goes_on_where_its_data_has_moved(
    redense: Run, recipe_file: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDENSE_STORE", "none")
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    words = ["--data", data, "--arms", "llr", "--seeds", "1", "--jobs", 1, "--out", "x"]
    assert redense("compare", recipe_file, *words)[0] == 0
    assert (tmp_path / "x" / "store").is_dir()
    data.rename(tmp_path / "moved")
    assert "if it has moved, --data says where it is" in redense("compare", "--resume", "x")[2]
    moved = ["compare", "--resume", "x", "--data", tmp_path / "moved"]
    assert "\n0 of " in redense(*moved, "--dry-run")[1]
    code, out, err = redense(*moved)
    assert (code, err) == (0, "")
    assert "nothing had to be trained" in out
    assert "nothing had to be trained" in redense("compare", "--resume", "x")[1]  # it was written down
    images = tmp_path / "moved" / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + bytes([images.read_bytes()[-1] ^ 1]))
    assert "the data of x changed since it was started" in redense(*moved)[2]


def test_a_diagnosis_is_written_shown_and_checked(redense: Run, recipe_file: Path, tmp_path: Path):
    words = ["compare", recipe_file, "--arms", "dsd,restart", "--seeds", "1", "--jobs", 1, "--diagnose"]
    code, out, err = redense(*words, "--out", "x")
    assert (code, err) == (0, "")
    assert "diagnosis: x/diagnosis.json" in out
    path = tmp_path / "x" / "diagnosis.json"
    assert set(json.loads(path.read_text())["arms"]) == {"dsd", "restart"}
    assert "sharp" in (tmp_path / "x" / "report.html").read_text()
    assert (
        redense("compare", "--resume", "x")[0] == 0
    )  # without a diagnosis: the one that is there stays, and its checksum
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    code, out, err = redense("report", "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "diagnosis.json is damaged: it does not match its checksum" in err


def test_a_page_that_cannot_be_written_takes_no_result_away(redense: Run, recipe_file: Path, tmp_path: Path):
    code, out, _ = redense("compare", recipe_file, "--arms", "restart", "--seeds", "1", "--out", tmp_path / "mine")
    assert code == 0
    (tmp_path / "mine/report.html").unlink()
    (tmp_path / "mine/report.html").mkdir()
    rows = [line for line in out.splitlines() if line.startswith(("baseline ", "restart "))]
    assert len(rows) == 2
    code, out, err = redense("compare", "--resume", tmp_path / "mine")
    assert (code, err.count("\n")) == (2, 1)
    assert "report.html" in err
    assert [line for line in out.splitlines() if line in rows] == rows
    code, out, _ = redense("compare", "--resume", tmp_path / "mine", "--json")
    assert (code, json.loads(out)["folder"]) == (2, str(tmp_path / "mine"))


def test_one_seed_is_said_to_show_nothing(redense: Run, recipe_file: Path):
    _, out, _ = redense("compare", recipe_file, "--arms", "dsd,restart", "--seeds", "1", "--jobs", 1, "--out", "x")
    assert "dsd: no gain. One seed shows nothing." in out
    assert "is a gain:" not in out


def test_an_arm_that_cannot_be_trained_is_not_added_and_threads_are_the_callers(
    redense: Run, recipe_file: Path, tmp_path: Path
):
    redense("compare", recipe_file, "--arms", "restart", "--seeds", "1", "--jobs", 1, "--out", "x")
    files = [tmp_path / "x" / name for name in ("comparison.json", "environment.json", "started.json", "SHA256SUMS")]
    before = [file.read_bytes() for file in files]
    torch.set_num_threads(2)
    try:
        code, _, err = redense("compare", "--resume", "x", "--arms", "ensemble", "--jobs", 1)
        assert (code, "arm 'ensemble'" in err, torch.get_num_threads()) == (2, True, 2)
    finally:
        torch.set_num_threads(1)
    assert [file.read_bytes() for file in files] == before  # it could not be taken away again
    assert json.loads(before[1])["threads"] == 1  # of each job


def test_seeds_and_arms_are_added_to_a_comparison_and_it_says_what_that_costs(
    redense: Run, recipe_file: Path, tmp_path: Path
):
    redense("compare", recipe_file, "--arms", "restart", "--seeds", "2", "--jobs", 1, "--out", "x", "--margin", "9")
    code, out, err = redense("compare", "--resume", "x", "--seeds", "3", "--arms", "llr", "--jobs", 1)
    assert (code, err) == (0, "")
    assert "added to its family, which is judged together: restart, llr; 3 seeds" in out
    said = "Seeds (2, then 3) and arms (1, then 2; all are judged as one family) were added after looking"
    assert said in out
    assert said in (tmp_path / "x" / "report.html").read_text()
    result = json.loads((tmp_path / "x" / "compare.json").read_text())
    assert (result["seeds"], [row["arm"] for row in result["rows"]]) == ([0, 1, 2], ["baseline", "restart", "llr"])
    assert (result["family"]["looks"], result["judged"]["margin"]) == (2, 9.0)
    assert {item["examples"]["seeds"] for item in result["comparisons"]} == {3}
    assert redense("compare", "--resume", "x", "--seeds", "2")[0] == 2  # none can be taken away
    again = redense("compare", "--resume", "x", "--jobs", 1)[1]
    assert said in again  # and nothing is counted twice
    assert json.loads((tmp_path / "x" / "compare.json").read_text()) == result


def test_every_arm_is_listed_with_a_line_of_help(redense: Run):
    code, out, err = redense("arms")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [*(arm.name for arm in get_arms()), "restart-ARM"]
    for line, arm in zip(lines[:-1], get_arms(), strict=True):
        assert arm.about in line
        assert f"({arm.source})" in line


def test_the_store_says_what_it_holds_and_is_cleared(redense: Run, recipe_file: Path, tmp_path: Path):
    assert redense("store") == (0, "runs/store: 0 phases, 0.0 MB\n", "")
    redense("compare", recipe_file, "--arms", "llr", "--seeds", "2", "--jobs", 1, "--out", "x")
    (tmp_path / "runs" / "store" / "notes.txt").write_text("precious")
    code, out, err = redense("store", "show")
    assert (code, err) == (0, "")
    assert out.startswith("runs/store: 4 phases, ")
    code, out, err = redense("store", "clear")
    assert (code, err) == (0, "")
    assert "cleared: what is needed again is trained again" in out
    assert redense("store")[1].startswith("runs/store: 0 phases, 0.0 MB")
    assert {path.name for path in (tmp_path / "runs" / "store").rglob("*")} == {"notes.txt", ".lock"}


def test_clearing_a_folder_that_is_no_store_removes_nothing(redense: Run, tmp_path: Path):
    (tmp_path / "photos" / "ab").mkdir(parents=True)
    (tmp_path / "photos" / "ab" / "1.jpg").write_text("precious")
    assert redense("store", "clear", "--store", "photos")[0] == 0
    assert (tmp_path / "photos" / "ab" / "1.jpg").read_text() == "precious"


# --- runs and the store ---------------------------------------------------------------------------------------------


def test_a_second_run_takes_all_from_the_store_and_no_store_trains_anew(
    redense: Run, recipe_file: Path, tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
):
    models: list[bytes] = []
    for name, words, expected in (
        ("a", [], [0, 1, 2]),
        ("b", [], []),
        ("c", ["--no-store"], [0, 1, 2]),
        ("d", ["--sparse.sparsity", 0], [1, 2]),
        ("e", ["--store", "other"], [0, 1, 2]),
    ):
        trained.clear()
        code, _, err = redense("run", recipe_file, "--quiet", "--out", name, *words)
        assert (code, err) == (0, "")
        assert trained == expected, name
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] == models[1] == models[2] == models[4] != models[3]
    assert redense("store")[1].startswith("runs/store: 5 phases")
    assert redense("store", "--store", "other")[1].startswith("other: 3 phases")
    assert str(tmp_path / "other") not in (tmp_path / "e" / "report.html").read_text()
    used: list[Any] = []  # a run that goes on remembers its own

    def train_run(folder: Path, *, store: Any, **options: Any) -> None:
        used.append(store and store.root)
        raise StateError("seen")

    monkeypatch.setattr("redense.lab.runs.run.train_run", train_run)
    monkeypatch.chdir(tmp_path / "c")
    for name, words in (("a", []), ("c", []), ("e", []), ("e", ["--no-store"]), ("c", ["--store", "x"])):
        assert "seen" in redense("run", "--resume", tmp_path / name, "--quiet", *words)[2]
    assert used == [tmp_path / "runs" / "store", None, tmp_path / "other", None, Path("x")]


def test_a_run_that_takes_phases_from_the_store_says_so(redense: Run, recipe_file: Path):
    redense("run", recipe_file, "--out", "a")
    code, out, err = redense("run", recipe_file, "--out", "b")
    assert (code, err) == (0, "")
    assert out.count("store") >= 3


# --- mistakes -------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, list[str]]] = [
    ("compare", ["which recipe?", "redense compare quickstart"]),
    ("compare quikstart", ["did you mean 'quickstart'"]),
    ("compare {tiny} --arms dsd,restrat", ["unknown arm 'restrat'", "did you mean 'restart'", "redense arms"]),
    ("compare {tiny} --arms dsd,dsd", ["named twice"]),
    ("compare {tiny} --arms dsd --arms llr", ["argument --arms: it is given twice: name all in one list"]),
    ("compare {tiny} --sweep sparsity=0.1,0.2 --sweep criterion=random", ["--sweep: it is given twice"]),
    ("compare {tiny} --arms ,", ["--arms names no arm"]),
    ("compare {tiny} --arms", ["--arms", "expected one argument"]),
    ("compare {tiny} --seeds 0", ["--seeds is a number of seeds, or a list"]),
    ("compare {tiny} --seeds three", ["--seeds is a number of seeds, or a list", "'three'"]),
    ("compare {tiny} --seeds 1,1", ["different ones in"]),
    ("compare {tiny} --seed 3", ["a comparison has several seeds: give --seeds"]),
    ("compare {tiny} --seed=3", ["a comparison has several seeds"]),
    ("compare {tiny} --jobs 0", ["--jobs must be 1 to 1,000, got 0"]),
    ("compare {tiny} --jobs two", ["--jobs", "'two'"]),
    ("compare {tiny} --sweep sparsty=0.1,0.2", ["no setting 'sparsty'", "did you mean 'sparsity'"]),
    ("compare {tiny} --sweep sparsity", ["give values"]),
    ("compare {tiny} --sweep epochs=1,2", ["another budget"]),
    ("compare {tiny} --sweep sparsity=0.3,1.3", ["--sweep", "sparsity", "1.3"]),
    ("compare {tiny} --sparsity 0.5", ["did you mean 'sparse.sparsity'"]),
    ("compare {tiny} --arms prune --sparse.pattern [2,4]", ["arm 'prune'", "N:M pattern"]),
    ("compare {tiny} --arms acdc --sparse.epochs 0.3", ["arm 'acdc'", "at least one step a phase"]),
    ("compare {tiny} --data nowhere", ["'nowhere'", "existing folder"]),
    ("compare {tiny} --training.batch_size 9999", ["lower training.batch_size"]),
    ("compare {tiny} --backend spark", ["--backend", "'spark'"]),
    ("compare {tiny} --out {tmp}/full", ["{tmp}/full exists and is not empty"]),
    ("compare {tiny} --dry-run --out {tmp}/full", ["{tmp}/full exists and is not empty"]),
    ("compare {tiny} --dry-run --margin 0", ["the margin must be a number above 0"]),
    ("compare {tiny} --dry-run --looks 0", ["looks must be a whole number from 1"]),
    ("compare {tiny} --out {tmp}/full/file/below", ["cannot make the folder"]),
    ("compare --resume {tmp}/full", ["is no comparison: it has no comparison.json"]),
    ("compare --resume nowhere", ["nowhere is no comparison"]),
    ("compare {tiny} --resume {begun}", ["--resume goes on with the comparison's own"]),
    ("compare --resume {begun} --looks 3", ["--resume goes on with the comparison's own"]),
    ("compare --resume {begun} --sweep sparsity=0.2", ["--resume goes on with the comparison's own"]),
    ("compare --resume {begun} --dense.epochs 3", ["--resume goes on with the comparison's own"]),
    ("compare --resume {begun} --data x --dense.epochs 3", ["--resume goes on with the comparison's own"]),
    ("compare --resume {begun} --out x", ["--resume goes on with the comparison's own"]),
    ("compare --resume {damaged}", ["comparison.json is damaged"]),
    ("compare {tiny} --seeds 1 --jobs 1 --arms llr --store {tmp}/full/file", ["cannot write to the phase store"]),
    ("arms dsd", ["dsd", "redense --help"]),
    ("store shwo", ["'shwo'", "redense store --help"]),
    ("armz", ["did you mean 'arms'"]),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing_behind(
    command: str, said: list[str], redense: Run, recipe_file: Path, tmp_path: Path
):
    places = {"tmp": tmp_path, "tiny": recipe_file, "begun": tmp_path / "begun", "damaged": tmp_path / "damaged"}
    for name, file in (("full", "file"), ("begun", "comparison.json"), ("damaged", "comparison.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}

    code, out, err = redense(*(word.format(**places) for word in command.split()))

    assert code == 2, (out, err)
    assert err.startswith("redense: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for words in said:
        assert words.format(**places) in err
    assert "Traceback" not in out
    if "full/file" not in command:
        after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        assert after - before <= {tmp_path / "runs"}


def test_a_command_that_was_corrected_may_use_the_same_folder(redense: Run, recipe_file: Path):
    words = ["compare", recipe_file, "--seeds", "1", "--jobs", 1, "--out", "x", "--arms"]
    assert redense(*words, "prune", "--sparse.pattern", "[2, 4]")[0] == 2
    assert redense(*words, "llr", "--data", "nowhere")[0] == 2
    assert redense(*words, "llr")[0] == 0


def test_where_there_is_no_store_it_is_said(redense: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_STORE", "none")
    code, _, err = redense("store")
    assert (code, err) == (2, "redense: REDENSE_STORE is 'none': there is no store\n")


def test_a_backend_whose_library_is_missing_is_one_line(
    redense: Run, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    words = ["--arms", "llr", "--seeds", "2", "--jobs", 2, "--backend", "ray"]
    code, _, err = redense("compare", recipe_file, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'redense[ray]'" in err
