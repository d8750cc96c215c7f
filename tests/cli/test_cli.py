"""The command line: every verb end to end, and every mistake one line and exit code 2."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from safetensors.torch import load_file

from redense import cli
from redense.lab.recipe.recipe import Recipe, build_recipe, load_recipe, parse_yaml, recipe_names, recipe_text

from ..trainings import timeless

Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def finished(redense: Run, recipe_file: Path, tmp_path: Path, trained: Path) -> Path:
    """A finished run of the test's own, a copy of the one that the first of these tests trains."""
    if not trained.exists():
        code, _, err = redense("run", recipe_file, "--out", trained, "--quiet")
        assert (code, err) == (0, "")
    return Path(shutil.copytree(trained, tmp_path / "run"))


def result_of(folder: Path) -> Any:
    return timeless(json.loads((folder / "result.json").read_text()))


@pytest.mark.parametrize(
    ("name", "said"), [("sample", "train: 10,000 images of 10 classes"), ("tones", "not divided: 400 clips")]
)
def test_the_sets_that_a_recipe_may_name_and_nobody_fetches_can_be_looked_at(name: str, said: str, redense: Run):
    code, out, err = redense("data", "check", name)
    assert (code, err) == (0, "")
    assert said in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("recipes list quickstart", "'quickstart' is for redense recipes show and copy, and not for list"),
        ("recipes show quickstart other.yaml", "'other.yaml' is for redense recipes copy, and not for show"),
        ("recipes copy quickstart --dry-run", "--dry-run is for redense recipes show, and not for copy"),
        ("recipes show quickstart --yaml --seed 3", "with settings: redense run RECIPE --print-config"),
        ("data list sample", "list takes no name: redense data check sample looks at one"),
        ("data list my;set", "list takes no name: redense data check 'my;set' looks at one"),
        ("zoo list my;net", "list takes no name: redense zoo evaluate 'my;net' shows"),
        ("store clear --store nothere", "there is no folder nothere"),
        ("run quickstart --no-store --store st", "--no-store keeps nothing in a store"),
        ("sensitivity quickstart --sparsities ,", "--sparsities names none"),
        ("compare quickstart --seeds=", "argument --seeds: its value is empty, as of a variable of the shell"),
        ("run quickstart --store=", "argument --store: its value is empty"),
        ("compare quickstart --arms llr --diagnose", "--diagnose measures dsd and restart, and --arms has neither"),
    ],
)
def test_what_would_be_passed_over_is_refused(words: str, said: str, redense: Run):
    code, out, error = redense(*words.split())
    assert (code, out) == (2, "")
    assert said in error


def test_doctor_parts_what_it_looked_at_from_what_it_found(redense: Run):
    out = redense("doctor")[1]
    assert re.search(r"efficientnet-lite0  +(not on this machine|.*efficientnet)", out)


# --- what it says ---------------------------------------------------------------------------------------------------


def test_help_names_every_verb_and_where_to_start(redense: Run):
    for arguments in (["--help"], ["-h"]):
        code, out, err = redense(*arguments)
        assert (code, err) == (0, "")
        assert "redense run quickstart" in out
        for verb in ("run", "evaluate", "export", "report", "recipes", "data"):
            assert f"\n    {verb} " in out


def test_alone_it_shows_five_things_to_do_each_a_command_that_is_understood(redense: Run):
    code, out, err = redense()
    assert (code, err) == (0, "")
    commands = [line.partition("redense ")[2] for line in out.splitlines() if line.startswith("  ")]
    assert len(commands) == 5
    verbs = [cli.parse(shlex.split(command.removesuffix(" ...")))[0].verb for command in commands]
    assert verbs == ["run", "compare", "compare", "judge", "export"]
    assert "redense --help" in out


@pytest.mark.parametrize("verb", ["run", "evaluate", "export", "report", "recipes", "data"])
def test_every_verb_has_help(verb: str, redense: Run):
    code, out, err = redense(verb, "--help")
    assert (code, err) == (0, "")
    assert f"usage: redense {verb}" in out


def test_version_is_that_of_the_package(redense: Run):
    import redense as package

    assert redense("--version")[:2] == (0, f"redense {package.__version__}\n")


# --- recipes and data -----------------------------------------------------------------------------------------------


def test_recipes_are_listed_shown_and_copied(redense: Run, tmp_path: Path):
    code, out, _ = redense("recipes")
    assert code == 0
    assert all(f"{name} " in out for name in recipe_names())  # and no name runs into its words
    assert out == redense("recipes", "list")[1]
    assert any(line.startswith("quickstart ") and "Fashion-MNIST" in line for line in out.splitlines())
    assert redense("recipes", "show", "quickstart", "--yaml")[:2] == (0, recipe_text("quickstart"))
    code, out, _ = redense("recipes", "show", "quickstart", "--sparse.sparsity", "0.5")
    assert code == 0
    assert "29,066 weights, 99.1% of them can be pruned" in out
    assert next(line for line in out.splitlines() if line.startswith("sparse")).split()[:3] == ["sparse", "50", "%"]
    plan = json.loads(redense("recipes", "show", "quickstart", "--json")[1])
    assert [phase["steps"] for phase in plan["phases"]] == [1680, 1120, 1120]
    code, out, _ = redense("recipes", "show", "quickstart", "--dry-run")
    assert code == 0
    assert re.search(r"estimated  .* of training: .* examples a second over 9 steps of 64 random examples, on ", out)
    assert redense("recipes", "list", "--seed", "3")[0] == 2
    code, out, _ = redense("recipes", "copy", "quickstart")
    assert code == 0
    assert "redense run quickstart.yaml" in out
    assert load_recipe(tmp_path / "quickstart.yaml") == load_recipe("quickstart")
    assert redense("recipes", "copy", "quickstart", "own.yaml")[0] == 0
    assert (tmp_path / "own.yaml").read_text() == recipe_text("quickstart")
    assert json.loads(redense("recipes", "copy", "quickstart", "other.yaml", "--json")[1]) == {"path": "other.yaml"}


def test_data_sets_are_listed_with_their_state(redense: Run, tmp_path: Path):
    code, out, err = redense("data")
    assert (code, err) == (0, "")
    assert any(line.startswith("fashion-mnist ") and " MB " in line for line in out.splitlines())
    assert str(tmp_path / "cache") in out


def test_print_config_gives_a_recipe_that_does_the_same(redense: Run, tmp_path: Path):
    settings = ["--sparse.sparsity.conv2.weight", "0.4", "--seed=7", "--data", "a: b", "--dense.decay.kind", "step"]
    code, out, err = redense("run", "quickstart", *settings, "--print-config")
    assert (code, err) == (0, "")
    (tmp_path / "printed.yaml").write_text(out)
    expected = load_recipe("quickstart", settings)
    assert build_recipe(json.loads(redense("run", "quickstart", *settings, "--print-config", "--json")[1])) == expected
    assert build_recipe(parse_yaml(out, "printed")) == expected
    assert redense("run", "printed.yaml", "--print-config")[1] == out
    assert not (tmp_path / "runs").exists()


# --- a run from start to end ----------------------------------------------------------------------------------------


def test_a_run_shows_what_it_does_and_ends_with_the_table_and_where_everything_is(
    redense: Run, recipe_file: Path, tmp_path: Path
):
    code, out, err = redense("run", recipe_file)
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "runs").glob("tiny-*")
    assert folder.name.startswith("tiny-seed0-")
    result = json.loads((folder / "result.json").read_text())
    for number, phase in enumerate(
        ("dense, 1 epoch, lr 0.1", "sparse 30 %, 1 epoch, lr 0.1", "redense, 1 epoch, lr 0.01")
    ):
        assert f"{number + 1}/3 {phase}" in out
    assert out.count("epoch 1/1") == 3
    for phase in result["phases"]:
        row = next(line for line in out.splitlines() if line.startswith(f"{phase['name']} ") and " s" in line)
        assert f"{phase['test']['error']:.2f} %" in row
        assert f"{phase['validation']['error']:.2f} %" in row
    assert "the control on the same budget" in out
    for name in ("report.html", "model.safetensors"):
        assert f"runs/{folder.name}/{name}" in out
        assert (folder / name).exists()


def test_a_quiet_run_prints_the_result_alone(redense: Run, recipe_file: Path):
    code, out, err = redense("run", recipe_file, "--quiet", "--out", "here")
    assert (code, err) == (0, "")
    assert "epoch" not in out.replace("epochs", "")
    assert out.lstrip().startswith("phase")
    assert "here/model.safetensors" in out


def test_settings_may_stand_before_and_after_the_options(redense: Run, recipe_file: Path, tmp_path: Path):
    code, _, err = redense("run", "--seed", "3", "--quiet", recipe_file, "--sparse.sparsity=0", "--out=x")
    assert (code, err) == (0, "")
    result = result_of(tmp_path / "x")
    assert (result["seed"], [p["sparsity"] for p in result["phases"]]) == (3, [0.0, 0.0, 0.0])


def test_the_control_is_said_to_be_one(redense: Run, recipe_file: Path):
    _, out, _ = redense("run", recipe_file, "--quiet", "--sparse.sparsity", "0", "--out", "x")
    assert "Nothing was pruned: this is the control" in out


def test_evaluate_gives_the_error_of_the_result(redense: Run, finished: Path):
    last = result_of(finished)["phases"][-1]
    code, out, err = redense("evaluate", finished)
    assert (code, err) == (0, "")
    assert "test split, 100 examples" in out
    assert f"{last['test']['error']:.4f} %" in out
    code, out, _ = redense("evaluate", finished, "--json", "--split", "validation")
    assert (code, json.loads(out)) == (0, {"run": str(finished), "split": "validation", **last["validation"]})


def test_export_writes_a_model_that_loads_into_the_plain_one(redense: Run, finished: Path, tmp_path: Path):
    code, out, err = redense("export", finished, "out")
    assert (code, err) == (0, "")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(p.name for p in files) == sorted(Path(line.split("  ")[0]).name for line in out.splitlines())
    from torch import nn

    model = nn.Sequential()
    for name, layer in (("flatten", nn.Flatten()), ("fc1", nn.Linear(64, 8)), ("fc2", nn.Linear(8, 4))):
        model.add_module(name, layer)
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=True)


def test_report_writes_the_page_again(redense: Run, finished: Path):
    page = finished / "report.html"
    page.unlink(missing_ok=True)
    code, out, err = redense("report", finished)
    assert (code, out, err) == (0, f"{page}\n", "")
    assert "tiny" in page.read_text()


def test_report_writes_the_tables_of_the_page_for_a_paper(redense: Run, finished: Path, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr("redense.report.paper.printing.Browser", contextlib.nullcontext)
    monkeypatch.setattr("redense.report.paper.printing._prepared", lambda browser: None)
    monkeypatch.setattr(
        "redense.report.paper.printing._images", lambda tab, plot: drawn.append("a plot") or {"svg": b"<svg>"}
    )
    code, out, err = redense("report", finished, "--figures", "figures")
    assert (code, err) == (0, "")
    assert Path("figures/table-phases.tex").read_text().count("\\\\\n") == 4
    assert len(drawn) == len(list(Path("figures").glob("*.svg"))) >= 2
    assert f"figures: {len(drawn)} figures, " in out
    page = finished / "report.html"
    page.unlink()
    page.mkdir()  # as a folder that cannot be written to
    code, out, err = redense("report", finished, "--figures", "again")
    made, before = ({path.name for path in Path(name).iterdir()} for name in ("again", "figures"))
    assert (code, made) == (2, before)
    assert out.startswith("again: ")
    assert f"cannot write {page}: " in err
    assert err.endswith(f"once that can be written, or with a copy of the folder: redense report {finished}\n")
    assert redense("report", finished)[:2] == (2, "")


def test_report_serves_until_ctrl_c_and_ends_with_a_line(redense: Run, finished: Path, monkeypatch):
    def interrupted(server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("redense.report.server.serving.Server.serve_forever", interrupted)
    code, out, err = redense("report", finished.parent, "--serve", "--port", "0")
    assert (code, err) == (0, "")
    assert re.search(r" at http://127\.0\.0\.1:\d+/; Ctrl-C ends it\n\nended; ", out)


def test_resuming_a_finished_run_changes_nothing(redense: Run, finished: Path):
    before, weights = result_of(finished), (finished / "model.safetensors").read_bytes()
    code, _, err = redense("run", "--resume", finished, "--quiet")
    assert (code, err) == (0, "")
    assert (result_of(finished), (finished / "model.safetensors").read_bytes()) == (before, weights)


# --- mistakes -------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, list[str]]] = [
    ("runn quickstart", ["unknown command 'runn'", "did you mean 'run'"]),
    ("frobnicate", ["unknown command 'frobnicate'", "redense --help"]),
    ("--frobnicate", ["--frobnicate", "redense --help"]),
    ("run", ["which recipe?", "redense run quickstart"]),
    ("run quikstart", ["'quikstart'", "did you mean 'quickstart'"]),
    ("run none.yaml", ["none.yaml", "No such file"]),
    ("run quickstart another", ["another", "redense --help"]),
    ("run quickstart --sparsity 0.5", ["--sparsity", "did you mean 'sparse.sparsity'"]),
    ("run quickstart --sparse.sparsity 30%", ["sparse.sparsity", "0.3 for 30 %"]),
    ("run quickstart --sparse.sparsity 1", ["sparse.sparsity", "less than 1"]),
    ("run quickstart --seed", ["--seed needs a value"]),
    ("run quickstart --dry-run --seed 3", ["--dry-run needs a value: it is no option here"]),
    ("run quickstart -x", ["'-x'"]),
    ("run quickstart --out", ["--out", "expected one argument"]),
    ("run quickstart --data nowhere", ["'nowhere'", "expected one of", "existing folder"]),
    ("run quickstart --data fashion-mnist", ["redense data get fashion-mnist"]),
    ("run quickstart --data {tmp}/full", ["neither idx files"]),
    ("run {tiny} --data {tmp}/full", ["neither idx files"]),
    ("run {tiny} --training.batch_size 9999", ["lower training.batch_size"]),
    ("run {tiny} --sparse.sparsity.fc9.weight 0.5", ["'fc9.weight'", "did you mean 'fc"]),
    ("run {tiny} --model.name cnn --model.widths [8,8,8,8]", ["model.widths", "fewer widths"]),
    ("run {tiny} --training.optimizer.lr 1e30", ["phase 'dense'", "learning rate"]),
    ("run {tiny} --out {tmp}/full", ["{tmp}/full exists and is not empty", "--resume {tmp}/full"]),
    ("run {tiny} --out {tmp}/full/file", ["not empty"]),
    ("run {tiny} --out {tmp}/full/file/below", ["cannot make the folder"]),
    ("run --resume nowhere", ["nowhere is no run folder"]),
    ("run --resume {tmp}/full", ["no run folder", "recipe.yaml"]),
    ("run --resume {run} --seed 3", ["--resume goes on with the run's own recipe"]),
    ("run quickstart --resume {run}", ["--resume goes on with the run's own recipe"]),
    ("run --resume {run} --out x", ["--resume goes on with the run's own recipe"]),
    ("run --resume", ["--resume", "expected one argument"]),
    ("evaluate", ["required: run", "redense evaluate --help"]),
    ("evaluate nowhere", ["nowhere is no run folder"]),
    ("evaluate {unfinished}", ["finish it with", "redense run --resume {unfinished}"]),
    ("evaluate {run} --split train", ["--split", "'validation', 'test'"]),
    ("export {run}", ["required: out"]),
    ("export nowhere x", ["nowhere is no run folder"]),
    ("export {run} {tmp}/full", ["{tmp}/full exists and is not empty"]),
    ("export {run} {tmp}/full/file/below", ["cannot export to"]),
    ("export {unfinished} x", ["no result.json", "not got that far"]),
    ("report {tmp}/full", ["{tmp}/full", "is no run, no comparison and no scan: it has none of their files"]),
    ("report {run} --port 80", ["--port is of --serve"]),
    ("report {tmp} --serve --port x", ["--port must be a number from 0 to 65535, got 'x'"]),
    ("report nowhere --serve", ["no folder 'nowhere'", "such as runs/"]),
    ("report {tmp} --serve --figures x", ["--figures is of one page"]),
    ("report nowhere", ["no folder 'nowhere'", "redense run"]),
    ("recipes show", ["which recipe?", "quickstart"]),
    ("recipes show quikstart", ["did you mean 'quickstart'"]),
    ("recipes copy quickstart {tmp}/full/file", ["exists: name another file"]),
    ("recipes copy quickstart {tmp}/none/x.yaml", ["cannot write"]),
    ("recipes shwo quickstart", ["'shwo'", "redense recipes --help"]),
    ("data get", ["which data set?", "fashion-mnist"]),
    ("data get fashion-minst", ["'fashion-minst'", "did you mean 'fashion-mnist'"]),
    ("data check fashion-mnist", ["redense data get fashion-mnist"]),
    ("data fetch fashion-mnist", ["'fetch'"]),
    ("data check {tmp}/full", ["neither idx files"]),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    command: str,
    said: list[str],
    redense: Run,
    recipe_file: Path,
    finished_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    from redense.tasks import catalog

    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.yaml").write_text(recipe_file.read_text())
    (unfinished / "environment.json").write_text("{}")
    places = {"tmp": tmp_path, "run": finished_once, "tiny": recipe_file, "unfinished": unfinished}
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}

    code, out, err = redense(*(word.format(**places) for word in command.split()))

    assert code == 2
    assert err.startswith("redense: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for words in said:
        assert words.format(**places) in err
    assert "Traceback" not in out
    assert (tmp_path / "full" / "file").read_text() == "precious"
    if "lr 1e30" not in command:  # nothing is left behind, so that the corrected command may use the same folder
        after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        assert after - before <= {tmp_path / "runs"}


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    sections = "dense: {epochs: 1}\nsparse: {epochs: 1}\nredense: {epochs: 1}\nmodel: {name: mlp, widths: [8]}\n"
    (folder / "tiny.yaml").write_text(sections)
    arguments = ["run", str(folder / "tiny.yaml"), "--out", str(folder / "run"), "--data", str(image_folder)]
    assert cli.main([*arguments, "--quiet", "--no-store"]) == 0
    return folder / "run"


def test_a_command_that_was_corrected_may_use_the_same_folder(redense: Run, recipe_file: Path, tmp_path: Path):
    assert redense("run", recipe_file, "--out", "x", "--data", "nowhere")[0] == 2
    assert redense("run", recipe_file, "--out", "x", "--quiet")[0] == 0
    (tmp_path / "empty").mkdir()
    assert redense("run", recipe_file, "--out", "empty", "--sparse.pattern", "[2, 5]")[0] == 2
    assert redense("run", recipe_file, "--out", "empty", "--quiet")[0] == 0


def test_an_error_of_the_system_is_one_line_too(redense: Run, finished_once: Path, monkeypatch: pytest.MonkeyPatch):
    def no_space(*arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device", str(finished_once / "report.html"))

    monkeypatch.setattr(Path, "replace", no_space)
    code, _, err = redense("report", finished_once)
    assert code == 2
    assert "No space left on device" in err
    assert "report.html" in err
    assert err.count("\n") == 1


# --- real processes: signals and pipes ------------------------------------------------------------------------------


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "redense.cli", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    source = str(Path(cli.__file__).parents[2])  # also where it is not installed
    paths = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(words, text=True, **{**pipes, "env": {**os.environ, "PYTHONPATH": paths}, **options})


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_the_run_ends_as_if_it_had_not_come(
    number: signal.Signals, redense: Run, tiny: Tiny, tmp_path: Path
):
    (tmp_path / "long.yaml").write_text(tiny(dense={"epochs": 12}).to_yaml())
    run = tmp_path / "a run"  # the command it prints must be one that can be pasted
    child = forked.start("-m", "redense.cli", "run", "long.yaml", "--out", run, "--no-store", cwd=tmp_path)
    try:
        metrics = run / "metrics.jsonl"
        while child.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
            time.sleep(0.005)
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 128 + number
    assert "Traceback" not in err
    assert f"stopped by {number.name}" in err
    assert not (run / "result.json").exists()
    shown = err.strip().splitlines()[-1].partition("go on with: ")[2]
    assert shown
    words = shlex.split(shown)
    assert words[0] == "redense"
    assert redense(*words[1:], "--quiet", "--no-store")[0] == 0
    assert redense("run", "long.yaml", "--out", "straight", "--quiet", "--no-store")[0] == 0
    assert result_of(run) == result_of(tmp_path / "straight")
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


def test_a_reader_that_goes_away_is_no_crash():
    reading, writing = os.pipe()
    os.close(reading)
    child = command("recipes", "show", "quickstart", "--yaml", stdout=writing)
    os.close(writing)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")


def test_a_result_names_the_command_that_made_it_however_it_was_started(recipe_file: Path, tmp_path: Path):
    words = ("run", recipe_file, "--out", tmp_path / "run", "--quiet", "--no-store")
    process = forked.start("-m", "redense.cli", *words)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    made = json.loads((tmp_path / "run" / "environment.json").read_text())["command"]
    assert made.startswith(f"python -m redense.cli run {recipe_file}")


def test_json_is_alone_on_the_output_whatever_a_plugin_prints(
    redense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "talks.py").write_text("print('hello')\n")
    monkeypatch.setenv("REDENSE_PLUGINS", "talks.py")
    code, out, err = redense("arms", "--json")
    assert (code, err) == (0, "hello\n")
    assert "dsd" in json.dumps(json.loads(out))
