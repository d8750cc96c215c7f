"""`redense compare --command`: any program over seeds; what it prints is its figure, and none outlives redense."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import forked
import pytest

import redense as library
from redense.errors import RecipeError
from redense.lab.pairs.plan import Plan, PlannedArm
from redense.lab.programs.commands import arms_of_commands, filled
from redense.lab.programs.scripts import scripts_of, with_scripts

Run = Callable[..., tuple[int, str, str]]
DSD = library.Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=0.3)
# Errors of 30, 29 and 27 with a little of the seed in them.
SCRIPT = """
case {arm} in baseline) a=30;; restart) a=29;; *) a=27;; esac
echo "working on {seed}" >&2
echo '{"error": '$a.$(( ({seed} * 7 + a) % 5 ))', "steps": 10}'
"""
THREE = ("--command", f"baseline,restart,dsd={SCRIPT}", "--control", "restart")


@pytest.fixture(name="run")
def _run(request: pytest.FixtureRequest) -> Run:
    """The shared fixture under a name that does not hide the package."""
    return request.getfixturevalue("redense")


@pytest.fixture(autouse=True)
def _no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is that of `redense.compare`; here it would cost most of the time."""
    if "the_page_of" not in request.node.name:
        monkeypatch.setattr(
            "redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html"
        )


def ends(pid: int, seconds: float = 20.0) -> bool:
    """Wait until a process is gone; False if it stays."""
    for _ in range(int(seconds / 0.05)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def pid_in(path: Path) -> int:
    for _ in range(400):
        if path.is_file() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_two_that_print_no_figure_end_a_comparison_and_the_corrected_call_goes_on(run: Run, tmp_path: Path):
    told = ("compare", "--command", "old,new=echo ran >> ran; echo error: {seed}", "--seeds", "4", "--out", "c")
    code, _, err = run(*told, "--baseline", "old")
    assert (code, "no figure of old, seed 0 and new, seed 0, so the others are left: it printed no" in err) == (2, True)
    assert (tmp_path / "ran").read_text().count("ran") == 2
    code, _, _ = run(*told, "--baseline", "old", "--metric-regex", r"error: (\S+)", "--metric", "error")
    assert (code, (tmp_path / "ran").read_text().count("ran")) == (0, 2 + 8)


def test_commands_are_compared_and_what_they_print_is_kept(run: Run, tmp_path: Path):
    code, out, err = run("compare", *THREE, "--seeds", "3", "--out", "c", "--jobs", "2")
    assert (code, "9 of 9 pairs" in err) == (0, True)
    assert "dsd: a gain. Against the baseline: better; against restart, the control: better." in out
    assert (tmp_path / "c/pairs/dsd/2/stderr.txt").read_text() == "working on 2\n"
    assert "error" in (tmp_path / "c/pairs/dsd/2/stdout.txt").read_text()
    judged = library.judge(tmp_path / "c", metric="error", controls=["restart"])
    assert str(judged) in out
    assert run("compare", *THREE, "--seeds", "3", "--out", "c")[0] == 0  # nothing is run again
    assert "9 of 9 pairs" in run("compare", *THREE, "--resume", "c")[2]  # the seeds are the folder's
    assert run("compare", "--resume", "c")[1].endswith(out.partition("error:")[2])


def test_a_comparison_of_commands_imports_no_torch(tmp_path: Path):
    code = "import sys; from redense.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    words = ["compare", "--command", "new,base=echo '{\"error\": {seed}}'", "--baseline", "base", "--seeds", "2"]
    line = [sys.executable, "-c", code, *words, "--out", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


def test_a_command_that_fails_is_told_and_the_others_go_on(run: Run, tmp_path: Path):
    command = "dsd=test {seed} = 1 && { echo out of luck >&2; exit 3; }; echo '{\"error\": 1.{seed}}'"
    code, out, err = run("compare", *THREE, "--command", command.replace("dsd", "mine"), "--seeds", "2", "--out", "c")
    assert code == 0
    assert "mine, seed 1 failed: exit code 3: out of luck" in err
    assert "1 of 2 runs of mine failed, so no gain can be claimed" in out
    assert run("compare", "--resume", "c", "--retry-failed")[2].count("failed: exit code 3") == 1


def test_a_figure_may_be_in_a_file_or_found_by_an_expression(run: Run, tmp_path: Path):
    file = "base=echo '{\"acc\": 0.{seed}}' >{out}/metrics.json; echo '{\"acc\": 9}'"
    other = "new=echo '{\"acc\": 0.5{seed}}' >{out}/metrics.json"
    options = ("--baseline", "base", "--seeds", "3,7", "--higher-is-better")
    assert run("compare", "--command", file, "--command", other, *options, "--out", "a")[0] == 0
    assert "base,3,,,,,,0.3\n" in (tmp_path / "a/compare.csv").read_text()
    words = ("--command", "base,new=echo step 1 acc=0.1; echo step 2 acc=0.{seed}", "--metric-regex", r"acc=([\d.]+)")
    assert run("compare", *words, "--metric", "acc", *options, "--out", "b")[0] == 0
    assert "new,7,,,,,,0.7\n" in (tmp_path / "b/compare.csv").read_text()


def test_without_a_baseline_the_control_is_what_is_to_be_beaten(run: Run):
    two = ("--command", f"dsd,restart={SCRIPT}", "--control", "restart")
    code, out, _ = run("compare", *two, "--seeds", "3", "--out", "c")
    assert code == 0
    assert "dsd: a gain. Against restart, the control: better." in out
    assert "There is no baseline beside the controls: a gain here is over a control alone." in out


# --- nothing is left behind -----------------------------------------------------------------------------------------

SLEEPS = "sleep 300 & echo $! >{out}/pid; wait"


def test_a_command_that_takes_too_long_ends_with_all_that_it_has_started(run: Run, tmp_path: Path):
    code, _, err = run(
        "compare", *THREE, "--command", f"slow=: {{seed}}; {SLEEPS}", "--seeds", "1", "--out", "c", "--timeout", "0.3"
    )
    assert code == 0
    assert "slow, seed 0 failed: it took longer than the limit of 0.3 s" in err
    assert ends(pid_in(tmp_path / "c/pairs/slow/0/out/pid"))


def test_what_a_command_leaves_running_ends_with_it(run: Run, tmp_path: Path):
    left = "(sleep 300 & echo $! >{out}/pid); echo '{\"error\": 1.{seed}}'"
    assert run("compare", "--command", f"base,new={left}", "--baseline", "base", "--seeds", "1", "--out", "c")[0] == 0
    assert ends(pid_in(tmp_path / "c/pairs/new/0/out/pid"))


def start(folder: Path, *more: str) -> forked.Started:
    words = ["-m", "redense.cli", "compare", "--command", f"base,new=: {{seed}}; {SLEEPS}", "--baseline", "base"]
    return forked.start(*words, "--seeds", "1", "--jobs", "2", "--out", str(folder), *more, start_new_session=True)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_however_redense_ends_no_command_stays(tmp_path: Path, number: int):
    child = start(tmp_path / "c")
    left = [pid_in(tmp_path / f"c/pairs/{arm}/0/out/pid") for arm in ("base", "new")]
    os.kill(child.pid, number)
    _, err = child.communicate()
    assert all(map(ends, left))
    assert child.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert f"stopped by {signal.Signals(number).name}; go on with: redense compare --resume" in err
        assert not list((tmp_path / "c/pairs").rglob("result.json"))


def kill_often(run: Run, tmp_path: Path, times: int) -> None:
    """A comparison that is killed again and again ends with the table of one that was not."""
    slow = f"baseline,restart,dsd=sleep 0.1; {SCRIPT}"
    words = ["--command", slow, "--control", "restart", "--seeds", str(times + 3)]
    for place in range(times):
        child = forked.start(
            "-m", "redense.cli", "compare", *words, "--out", str(tmp_path / "c"), start_new_session=True
        )
        wanted = 3 * place + 1  # some more each time
        while len(list(tmp_path.glob("c/pairs/*/*/result.json"))) < wanted and child.poll() is None:
            time.sleep(0.03)
        time.sleep(0.013 * place)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert run("compare", *words, "--out", "c")[0] == 0
    whole = ["--command", f"baseline,restart,dsd=: sleep; {SCRIPT}", *words[2:]]
    assert run("compare", *whole, "--out", "whole", "--jobs", "2")[0] == 0
    assert (tmp_path / "c/compare.csv").read_bytes() == (tmp_path / "whole/compare.csv").read_bytes()


@pytest.mark.slow
def test_a_comparison_of_commands_that_is_killed_ten_times_goes_on(run: Run, tmp_path: Path):
    kill_often(run, tmp_path, 10)


# --- the shell, schedules, a queue ----------------------------------------------------------------------------------


def test_a_script_that_has_changed_is_refused_and_named(run: Run, tmp_path: Path):
    (tmp_path / "train.sh").write_text("#!/bin/sh\necho '{\"error\": 1.'$1'}'\n")
    (tmp_path / "data.txt").write_text("1")
    words = ("--command", "base,new=sh train.sh {seed} <data.txt", "--baseline", "base", "--out", "c")
    assert run("compare", *words, "--seeds", "2")[0] == 0
    (tmp_path / "data.txt").write_text("2")  # data are not looked at
    assert run("compare", "--resume", "c")[0] == 0
    (tmp_path / "train.sh").write_text("#!/bin/sh\necho '{\"error\": 2.'$1'}'\n")
    for again in (("--resume", "c"), (*words, "--seeds", "3")):
        code, _, err = run("compare", *again)
        assert (code, err.count("\n")) == (2, 1)
        assert "the code that trains arm 'base' of c has changed ('train.sh') since 2 of its pairs were trained" in err
        assert "--changed-code" in err
    assert run("compare", "--resume", "c", "--seeds", "3", "--changed-code")[0] == 0
    assert "base,2,,,,,,2.2\n" in (tmp_path / "c/compare.csv").read_text()
    assert run("compare", "--resume", "c")[0] == 0


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("python train.py --seed {seed}", ["near", "train.py"]),
        ("cd . && nice python ./train.py --config=a.yaml {seed} >{out}/log", ["a.yaml", "near", "train.py"]),
        ("sh -c 'python train.py {seed}'", ["near", "train.py"]),
        ("python -m kit.run {seed}", ["kit", "kit.part", "run.py"]),
        (f"PYTHONPATH={'x' * 300} python -m {'x' * 300} {{seed}}", []),
        ("PYTHONPATH=lib python -m tried {seed}", ["far", "tried.py"]),
        ("PYTHONPATH=lib python kit/own.py {seed}", ["far", "own.py"]),
        ("(cd kit; python own.py {seed}); python train.py", ["near", "own.py", "train.py"]),
        ("sh $HERE/a.sh {seed} a.yaml kit/a.yaml", ["a.sh", "a.yaml", "a.yaml (a.yaml)"]),
        ("./tool {seed} table.csv", ["tool"]),
        ('awk \'BEGIN { print "{seed}" }', []),
    ],
)
def test_the_scripts_that_a_command_names_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, named: list[str]
):
    monkeypatch.setenv("HERE", str(tmp_path))
    for name in ("kit", "lib"):
        (tmp_path / name).mkdir()
    files = {
        "train.py": "import near",
        "near.py": "",
        "a.yaml": "",
        "kit/__init__.py": "",
        "kit/run.py": "from . import part",
        "kit/part.py": "",
        "kit/own.py": "import far",
        "kit/a.yaml": "a: 2",
        "lib/far.py": "",
        "lib/tried.py": "import far",
        "a.sh": "",
        "table.csv": "",
        "tool": "#!/bin/x",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert sorted(scripts_of(command, tmp_path)) == named


def test_the_configuration_of_each_arm_counts(tmp_path: Path):
    (tmp_path / "new.yaml").write_text("rate: 0.1")
    arms = (PlannedArm("base", command="run {arm}.yaml {seed}"), PlannedArm("new", command="run {arm}.yaml {seed}"))
    plan = with_scripts(Plan("command", "x", arms, (0,), "base", ()), tmp_path)
    assert [sorted(arm.pieces or ()) for arm in plan.arms] == [["form"], ["form", "new.yaml"]]


def test_names_of_folders_and_arms_are_no_commands(run: Run, tmp_path: Path):
    folder = "a b$(touch bad);'c"
    command = "base,new=echo '{\"error\": 1.{seed}}' >{out}/metrics.json; ls {out} >&2"
    assert run("compare", "--command", command, "--baseline", "base", "--seeds", "2", "--out", folder)[0] == 0
    assert (tmp_path / folder / "pairs/new/1/out/metrics.json").is_file()
    assert not list(tmp_path.rglob("bad"))
    assert filled("{seed} {arm} {x} {schedule}", {"seed": "1", "arm": "a b"}) == "1 'a b' {x} {schedule}"
    code, _, err = run("compare", "--command", "$(touch bad)=echo {seed}", "--baseline", "x", "--out", "d")
    assert (code, "a name of --command begins with a letter or digit" in err) == (2, True)
    (arm,) = arms_of_commands(["new=LR=0.1 X=2 ./train {seed}"], None)
    assert (arm.name, arm.command) == ("new", "LR=0.1 X=2 ./train {seed}")


def test_a_script_reads_its_arms_schedule_from_a_file(run: Run, tmp_path: Path):
    (tmp_path / "dsd.json").write_text(json.dumps(DSD.to_dict()))
    words = ("--command", "baseline,dsd,llr=cp {schedule} {out}/; echo '{\"error\": 1.{seed}}'")
    code, out, _ = run("compare", *words, "--schedule", "dsd.json", "--seeds", "1", "--out", "c")
    assert code == 0
    assert "The control is llr" in out  # its schedule has no mask
    for arm, phases in (("baseline", DSD.phases[:1]), ("dsd", DSD.phases)):
        read = library.Schedule.from_file(tmp_path / f"c/pairs/{arm}/0/out/schedule.json")
        assert read.phases == phases
    mine = ("--command", "base,mine={seed}", "--baseline", "base", "--schedule", "dsd.json")
    assert "--schedule has no effect: no command has {schedule}" in run("compare", *mine)[2]
    for text, why in (("{", "is no JSON"), ("[]", "a schedule is")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(library.RedenseError, match=why):
            library.Schedule.from_file(tmp_path / "bad.json")
    with pytest.raises(library.RedenseError, match="no schedule can be read from"):
        library.Schedule.from_file(tmp_path / "none.json")


def test_jobs_of_a_queue_are_written_and_collected_and_never_sent(run: Run, tmp_path: Path):
    code, out, _ = run("compare", *THREE, "--seeds", "2", "--out", "c d", "--submit", "queue --time 60 {command}")
    assert (code, "0 of 6 pairs are done; what sends the other 6: sh 'c d/submit.sh'" in out) == (0, True)
    lines = [line for line in (tmp_path / "c d/submit.sh").read_text().splitlines() if line.startswith("queue")]
    assert len(lines) == 6
    scripts = [Path(shlex.split(line)[-1]) for line in lines]
    for script in scripts[:4]:
        assert os.waitstatus_to_exitcode(os.system(shlex.quote(str(script)))) == 0
    code, out, _ = run("compare", "--resume", "c d")
    assert (code, "4 of 6 pairs are done; what sends the other 2" in out) == (0, True)
    (scripts[4].parent / "begun").mkdir()
    code, out, _ = run("compare", "--resume", "c d")
    assert "4 of 6 pairs are done, 1 has begun and not ended (running, or killed); what sends the other 1: sh" in out
    assert "where it runs no more, what sends it again: sh 'c d/submit-again.sh'" in out
    told = json.loads(run("compare", "--resume", "c d", "--json")[1])
    assert {name: told[name] for name in ("done", "left", "begun", "send", "send_again")} == {
        **{"done": 4, "left": 2, "begun": 1},
        **{"send": "sh 'c d/submit.sh'", "send_again": "sh 'c d/submit-again.sh'"},
    }
    (scripts[4].parent / "begun").rmdir()
    for script in scripts[4:]:
        os.system(shlex.quote(str(script)))
    code, out, _ = run("compare", "--resume", "c d")
    assert (code, "dsd:" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--metric", "error"], "--metric is of a comparison of commands: give --command"),
        (["quickstart", *THREE], "'recipe' is of a comparison of a recipe"),
        ([*THREE, "--arms", "dsd"], "'arms' is of a comparison of a recipe"),
        ([*THREE, "--dense.epochs", "3"], "'settings' is of a comparison of a recipe"),
        (["--command", "dsd=", "--out", "c"], "--command is NAME="),
        (
            ["--command", "größe=./train {seed}"],
            "those (A-Z, a-z, 0-9), spaces and . _ + -; got 'größe'",
        ),
        (["--command", "lr=0.1=./train {seed}"], "a name of --command has no '=': 'lr' would run '0.1=./train {seed}'"),
        (["--command", "dsd=echo 1"], "has no {seed}: every seed would train the same"),
        (["--command", "a,b=x {seed} {schedule}"], "asks for {schedule}: give --schedule FILE"),
        (["--command", "a,b=x {seed}"], "no arm is named 'baseline' or 'dense'"),
        ([*THREE, "--timeout", "0"], "--timeout must be a number of seconds above 0"),
        ([*THREE, "--submit", "sbatch"], "--submit says where the command goes"),
        ([*THREE, "--submit", "q {command}", "--timeout", "9"], "--timeout is of commands that run here"),
        ([*THREE, "--submit", "q {command}", "--jobs", "9"], "--jobs is of commands that run here"),
        ([*THREE, "--metric-regex", "x"], "needs a group around the number"),
        ([*THREE, "--lower-is-better", "--higher-is-better"], "say the opposite"),
        ([*THREE, "--jobs", "0"], "--jobs|jobs must be 1 to 1,000"),
        ([*THREE, "--backend", "ray"], "without --backend"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(run: Run, tmp_path: Path, words: Sequence[str], why: str):
    code, out, err = run("compare", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert any(part in err for part in why.split("|")), err
    assert not list(tmp_path.rglob("comparison.json"))


def test_a_folder_of_python_is_gone_on_with_in_python(run: Run, tmp_path: Path):
    arms = {"a": lambda schedule, seed: 1.0 + seed, "b": lambda schedule, seed: 2.0 + seed}
    more: dict[str, Any] = {"arms": arms, "seeds": 2, "baseline": "a", "lower_is_better": True, "quiet": True}
    library.compare(out=tmp_path / "c", **more)
    code, _, err = run("compare", "--resume", "c")
    assert (code, "is of redense.compare in Python: call it again with out='c'" in err) == (2, True)


def test_another_command_for_an_arm_is_refused():
    with pytest.raises(RecipeError, match="unknown arm"):
        arms_of_commands(["rundom=x {seed} {schedule}"], DSD)
