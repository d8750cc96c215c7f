"""`redense run` and `redense compare` as launchers start them: what ends a job, who says so, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from safetensors.torch import load_file

from redense.lab.recipe.recipe import Recipe

COMMAND = Path(__file__).parents[2] / "ranks" / "command.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")

Tiny = Callable[..., Recipe]


@dataclass
class Job:
    codes: list[int]
    out: list[str]
    said: list[str]
    """Lines of redense on stderr, of all ranks."""


@pytest.fixture
def recipe_of_two(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny(model={"dropout": 0.3}).to_yaml())
    return path


def environment(**more: str) -> dict[str, str]:
    here = {"OMP_NUM_THREADS": "1", "REDENSE_STORE": "none", "COLUMNS": "200", "ACCELERATE_MIXED_PRECISION": "no"}
    return {**os.environ, **here, **more}


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("redense: ")]


def start(folder: Path, what: str, rank: int, step: int, *arguments: object, world: int = 2) -> Job:
    """Run the command line in ranks that no launcher looks after."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        forked.start(
            COMMAND,
            what,
            rank,
            step,
            *arguments,
            cwd=folder,
            env=environment(
                RANK=str(own),
                LOCAL_RANK=str(own),
                WORLD_SIZE=str(world),
                LOCAL_WORLD_SIZE=str(world),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
            ),
        )
        for own in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    lines = [line for _, error in outputs for line in lines_of(error)]
    assert not any("Traceback" in error for _, error in outputs), outputs
    told = [re.sub(r"^\[Gloo\] .*\n", "", out, flags=re.MULTILINE) for out, _ in outputs]  # PyTorch 2.8's own
    return Job([process.wait() for process in processes], told, lines)


def launch(folder: Path, launcher: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def assert_same_weights(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.timeout(250)
def test_a_mistake_is_said_once_and_leaves_no_folder(recipe_of_two: Path, tmp_path: Path):
    job = start(tmp_path, "nothing", 0, 0, "run", recipe_of_two, "--out", "run", "--training.batch_size", 31)
    assert job.codes == [2, 2]
    assert len(job.said) == 1, job.said
    assert "training.batch_size 31 is that of a whole step" in job.said[0]
    assert "among 2 ranks: take 30 or 32" in job.said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(250)
def test_what_fails_on_one_rank_ends_all_with_its_reason_said_once(recipe_of_two: Path, tmp_path: Path):
    job = start(tmp_path, "fail", 1, 7, "run", recipe_of_two, "--out", "run")
    assert job.codes == [2, 2]
    assert job.said == ["redense: image 7 cannot be decoded"]


@pytest.mark.timeout(250)
def test_a_signal_to_one_rank_stops_the_job_with_its_state_saved(recipe_of_two: Path, tmp_path: Path):
    job = start(tmp_path, "term", 1, 7, "run", recipe_of_two, "--out", "run")
    assert job.codes == [143, 143]
    assert job.said == ["redense: stopped by SIGTERM; go on with: redense run --resume run"]
    assert job.out[1] == ""  # rank 0 alone shows what happens
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["last.safetensors"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_which_a_rank_is_killed_ends_with_the_same_bits_when_it_is_resumed(
    recipe_of_two: Path, tmp_path: Path
):
    whole = start(tmp_path, "nothing", 0, 0, "run", recipe_of_two, "--out", "undisturbed")
    assert whole.codes == [0, 0], whole.said
    assert whole.out[1] == ""
    killed = start(tmp_path, "kill", 1, 17, "run", recipe_of_two, "--out", "killed")
    assert killed.codes == [2, -9]
    assert len(killed.said) == 1, killed.said
    assert killed.said[0].startswith("redense: another rank was killed or has failed")
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = start(tmp_path, "kill", 0, 28, "run", "--resume", "killed")
    assert resumed.codes == [-9, 2]
    assert start(tmp_path, "nothing", 0, 0, "run", "--resume", "killed").codes == [0, 0]
    assert_same_weights(tmp_path / "undisturbed", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_torchrun_starts_a_job_again_and_it_goes_on_with_its_folder(named: bool, recipe_of_two: Path, tmp_path: Path):
    elastic = (*TORCHRUN, "--max-restarts", "1")
    out = ["--out", "again"] if named else []
    done = launch(tmp_path, elastic, COMMAND, "kill", 1, 17, "run", recipe_of_two, *out)
    assert done.returncode == 0, done.stderr
    assert re.search("resumed after step 1[67]", done.stdout), done.stdout
    folder = tmp_path / "again" if named else next((tmp_path / "runs").iterdir())
    assert named or len(list((tmp_path / "runs").iterdir())) == 1
    undisturbed = launch(tmp_path, TORCHRUN, COMMAND, "nothing", 0, 0, "run", recipe_of_two, "--out", "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert_same_weights(tmp_path / "undisturbed", folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_restart_goes_on_with_no_folder_of_somebody_else(recipe_of_two: Path, tmp_path: Path):
    arguments = (COMMAND, "nothing", 0, 0, "run", recipe_of_two, "--out", "run")
    assert launch(tmp_path, TORCHRUN, *arguments).returncode == 0
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    done = launch(tmp_path, (*TORCHRUN, "--max-restarts", "1"), *arguments)
    assert done.returncode != 0
    assert (
        lines_of(done.stderr)
        == ["redense: run exists and is not empty: name another folder, or go on with --resume run"] * 2
    )
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_accelerate_launch_trains_what_torchrun_trains(recipe_of_two: Path, tmp_path: Path):
    for name, launcher in (("torchrun", TORCHRUN), ("accelerate", ACCELERATE)):
        done = launch(tmp_path, launcher, COMMAND, "nothing", 0, 0, "run", recipe_of_two, "--out", name)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / name / "environment.json").read_text())["ranks"] == 2
    assert_same_weights(tmp_path / "torchrun", tmp_path / "accelerate")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_comparison_over_ranks_goes_on_after_a_stop_and_another_finds_all_of_it(recipe_of_two: Path, tmp_path: Path):
    arms = ("--arms", "dsd,restart,dropconnect", "--seeds", "2", "--store", "store")
    stopped = start(tmp_path, "term", 1, 15, "compare", recipe_of_two, *arms, "--out", "one")
    assert stopped.codes == [143, 143]
    assert stopped.said == ["redense: stopped by SIGTERM; go on with: redense compare --resume one --store store"]
    resumed = start(tmp_path, "nothing", 0, 0, "compare", "--resume", "one", "--store", "store")
    assert resumed.codes == [0, 0], resumed.said
    assert resumed.out[1] == ""
    again = start(tmp_path, "nothing", 0, 0, "compare", recipe_of_two, *arms, "--out", "two")
    assert again.codes == [0, 0]
    assert "nothing had to be trained" in again.out[0]
    undisturbed = start(tmp_path, "nothing", 0, 0, "compare", recipe_of_two, *arms[:-1], "other", "--out", "three")
    assert undisturbed.codes == [0, 0]
    files = [(tmp_path / name / "compare.json").read_bytes() for name in ("one", "two", "three")]
    assert files[0] == files[1] == files[2]


def test_jobs_and_backends_are_no_business_of_ranks(
    redense: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, recipe_file: Path
):
    from redense.cli.comparisons import compare as comparing
    from redense.lab.ranks import ranks

    monkeypatch.setattr(comparing, "join_ranks", lambda: ranks.ManyRanks(0, 2, None, None))
    for own in (("--jobs", 2), ("--backend", "ray")):
        code, _, error = redense("compare", recipe_file, *own)
        assert code == 2
        assert "under torchrun all ranks train one phase after another: give neither --jobs nor --backend" in error


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_a_launcher_that_wants_shards_is_told_what_to_use(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch, redense: Callable[..., Any], recipe_file: Path
):
    monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, error = redense("run", recipe_file)
    assert code == 2
    assert f"asks for {name}; redense trains a whole copy of the network on every rank" in error


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("WORLD_SIZE", "abc", "the variable WORLD_SIZE of the environment is no number: 'abc'"),
        ("RANK", "x", "the variable RANK of the environment is no number: 'x'"),
        ("RANK", "2", "RANK is 2, and WORLD_SIZE 2: ranks are counted from 0"),
        ("LOCAL_RANK", "-1", "the variable LOCAL_RANK of the environment is no number: '-1'"),
        ("MASTER_PORT", "", "the variable MASTER_PORT of the environment is no number: ''"),
    ],
)
def test_an_environment_that_does_not_say_which_rank_this_is_is_told(
    variable: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch, redense: Callable[..., Any], recipe_file: Path
):
    for name, usual in {"RANK": "0", "WORLD_SIZE": "2", variable: value}.items():
        monkeypatch.setenv(name, usual)
    code, out, error = redense("run", recipe_file)
    assert (code, out, error.count("\n"), why in error) == (2, "", 1, True), error


def test_other_verbs_are_for_one_process(
    monkeypatch: pytest.MonkeyPatch, redense: Callable[..., Any], recipe_file: Path
):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, error = redense("sensitivity", recipe_file, "--out", "scan")
    assert code == 2
    assert "start it without torchrun" in error


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no two CUDA devices: ranks were run on CPU")
@pytest.mark.timeout(300)
def test_two_gpus_train_over_nccl(recipe_of_two: Path, tmp_path: Path):
    done = launch(tmp_path, TORCHRUN, COMMAND, "nothing", 0, 0, "run", recipe_of_two, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()


ORPHAN = """
import os, subprocess, sys, time
begun = sys.argv[1] + ".begun"
if len(sys.argv) == 2:  # a launcher that is killed while its rank begins
    subprocess.Popen([sys.executable, *sys.argv, "rank"])
    while not os.path.exists(begun):
        time.sleep(0.01)
    os._exit(1)
from redense import cli
launcher = os.getppid()
open(begun, "w").close()
while os.getppid() == launcher:
    time.sleep(0.01)
sys.exit(cli.main(["run", sys.argv[1], "--out", sys.argv[1] + ".run"]))
"""


def test_a_rank_whose_launcher_was_killed_while_it_began_does_not_wait_for_the_others(recipe_of_two: Path):
    script = recipe_of_two.with_name("orphan.py")
    script.write_text(ORPHAN)
    own = environment(
        TORCHELASTIC_RUN_ID="1", RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )
    done = subprocess.run(
        [sys.executable, script, recipe_of_two], env=own, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert lines_of(done.stderr) == [
        "redense: torchrun has gone while this rank began: nothing was trained, start the job again"
    ]
    assert not recipe_of_two.with_name("tiny.yaml.run").exists()
