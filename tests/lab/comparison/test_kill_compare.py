"""A comparison that is killed, anywhere and again and again, ends with the bytes of one that was not.

Real processes. How far one has got is read from its store, so that the kills hit it at work on any machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest

from redense import cli
from redense.lab.recipe.recipe import Recipe

Tiny = Callable[..., Recipe]

COMMAND = [sys.executable, "-m", "redense.cli", "compare"]
# The same, but what is trained is saved at every step and not every 30 seconds.
_PATCH = "import redense.lab.comparison.grid as g, sys; g.Grid.__init__.__kwdefaults__['save_seconds'] = 0.0; "
_PATCH += "from redense.cli import main; sys.exit(main(['compare', *sys.argv[1:]]))"
EAGER = [sys.executable, "-c", _PATCH]


def start(words: list[str], *arguments: object) -> subprocess.Popen[str]:
    source = str(Path(cli.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [*words, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it and its workers are one group
        env=environment,
    )


def start_alone(*arguments: object) -> forked.Started:
    """The same for a comparison without workers."""
    return forked.start("-m", "redense.cli", "compare", *arguments, start_new_session=True)


def kill(child: subprocess.Popen[str] | forked.Started) -> None:
    """Kill the process and all its workers at once; wait until all are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def state_of(store: Path) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for path in store.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_mtime_ns))
    return sorted(found)


def wait_for_changes(child: subprocess.Popen[str] | forked.Started, store: Path, count: int) -> bool:
    """Wait until the store has changed so many times; False if the process ended first."""
    before = state_of(store)
    while count:
        if child.poll() is not None:
            return False
        now = state_of(store)
        count -= now != before
        before = now
        time.sleep(0.002)
    return True


def ran(words: list[str], *arguments: object) -> str:
    child = start(words, *arguments)
    try:
        out, err = child.communicate(timeout=600)
    finally:
        kill(child)
    assert (child.returncode, err) == (0, "")
    return out


@pytest.fixture
def recipe(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny(dense={"epochs": 3}, sparse={"epochs": 3}, redense={"epochs": 2}).to_yaml())
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("words", "jobs"),
    [(COMMAND, 2), (COMMAND, 1), (EAGER, 2)],
    ids=["2 jobs", "1 job", "eager"],
)
def test_killed_at_ten_random_moments_a_comparison_ends_with_the_same_bytes(
    words: list[str], jobs: int, recipe: Path, tiny: Tiny, tmp_path: Path
):
    arms = ["--arms", "dsd,restart,random,swa,sam", "--seeds", "3"]
    recipe.write_text(tiny(dense={"epochs": 12}, sparse={"epochs": 12}, redense={"epochs": 8}).to_yaml())
    ran(COMMAND, recipe, *arms, "--jobs", 1, "--out", tmp_path / "straight", "--store", tmp_path / "straight-store")

    moments, folder, store = random.Random(0), tmp_path / "killed", tmp_path / "killed-store"
    common = ["--jobs", jobs, "--store", store]
    begin: list[object] = [recipe, *arms, "--out", folder, *common]
    for number in range(10):
        child = start(words, *(["--resume", folder, *common] if number else begin))
        try:
            # Every third time at any moment, perhaps before the training begins; else while it is at work.
            if number % 3 == 2:
                time.sleep(moments.uniform(0.0, 4.0))
            else:
                assert wait_for_changes(child, store, moments.randint(1, 6)), child.communicate()
                time.sleep(moments.uniform(0.0, 0.05))
            assert child.poll() is None, "the comparison was over before it was killed ten times"
        finally:
            kill(child)
        assert not (folder / "compare.json").exists()
    out = ran(words, "--resume", folder, *common)
    assert "phases trained" in out
    for name in ("compare.json", "compare.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert not list(store.rglob("partial*"))
    out = ran(COMMAND, recipe, *arms, "--out", tmp_path / "again", *common)
    assert "nothing had to be trained" in out
    assert (tmp_path / "again" / "compare.json").read_bytes() == (folder / "compare.json").read_bytes()


def test_killed_once_a_comparison_ends_with_the_same_bytes(recipe: Path, tiny: Tiny, tmp_path: Path):
    recipe.write_text(tiny(dense={"epochs": 2}).to_yaml())
    arms = ["--arms", "restart", "--seeds", "2"]
    folder, store = tmp_path / "killed", tmp_path / "killed-store"
    child = start_alone(recipe, *arms, "--jobs", 1, "--out", folder, "--store", store)
    try:
        assert wait_for_changes(child, store, 4), child.communicate()
        assert child.poll() is None
    finally:
        kill(child)
    assert not (folder / "compare.json").exists()
    assert cli.main(["compare", "--resume", str(folder), "--jobs", "1", "--store", str(store)]) == 0
    straight = ["--jobs", "1", "--out", str(tmp_path / "straight"), "--store", str(tmp_path / "other-store")]
    assert cli.main(["compare", str(recipe), *arms, *straight]) == 0
    assert (folder / "compare.json").read_bytes() == (tmp_path / "straight" / "compare.json").read_bytes()


@pytest.mark.slow
def test_two_comparisons_on_one_store_at_once_train_each_phase_once_and_end_alike(recipe: Path, tmp_path: Path):
    arms = [recipe, "--arms", "dsd,restart", "--seeds", "2", "--jobs", "1", "--store", tmp_path / "store"]
    children = [start(COMMAND, *arms, "--out", tmp_path / name) for name in ("one", "two")]
    trained = 0
    for child in children:
        try:
            out, err = child.communicate(timeout=600)
        finally:
            kill(child)
        assert (child.returncode, err) == (0, "")
        trained += int(found[1]) if (found := re.search(r"(\d+) phases trained", out)) else 0
    assert trained == len(list((tmp_path / "store").rglob("state.safetensors")))
    assert (tmp_path / "one" / "compare.json").read_bytes() == (tmp_path / "two" / "compare.json").read_bytes()


@pytest.mark.slow
def test_of_two_processes_that_start_a_run_in_one_folder_one_does_it(recipe: Path, tmp_path: Path):
    words = [sys.executable, "-m", "redense.cli", "run"]
    children = [start(words, recipe, "--out", tmp_path / "run", "--no-store") for _ in range(3)]
    ended: list[tuple[int, str]] = []
    for child in children:
        try:
            _, err = child.communicate(timeout=600)
        finally:
            kill(child)
        ended.append((child.returncode, err))
    assert sorted(code for code, _ in ended) == [0, 2, 2]
    assert all("another process" in err or "is not empty" in err for code, err in ended if code)
    assert (tmp_path / "run" / "result.json").exists()


def stopped(recipe: Path, folder: Path, store: Path, number: int, jobs: int, *, group: bool = False) -> str:
    """Start a comparison, send it a signal while it trains, and return what it printed as an error."""
    words = [recipe, "--arms", "dsd,restart", "--seeds", "2", "--jobs", jobs, "--out", folder, "--store", store]
    child = start_alone(*words) if jobs == 1 else start(COMMAND, *words)
    try:
        while child.poll() is None and len(list(store.rglob("progress.json"))) < jobs:  # until every job trains
            time.sleep(0.01)
        if group:
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)
        _, err = child.communicate(timeout=100)
    finally:
        kill(child)
    assert child.returncode == 128 + number, err
    return err


def resumed(err: str) -> list[str]:
    """The words of the command that is printed last."""
    shown = err.strip().splitlines()[-1].partition("go on with: ")[2]
    words = shlex.split(shown)
    assert words[:2] == ["redense", "compare"]
    return words[1:]


@pytest.mark.slow
def test_sigterm_saves_says_how_to_go_on_and_exits_with_143(tiny: Tiny, tmp_path: Path):
    recipe = tmp_path / "long.yaml"
    recipe.write_text(tiny(dense={"epochs": 8}).to_yaml())
    folder, store = tmp_path / "a folder", tmp_path / "a store"  # the command must be one that can be pasted
    err = stopped(recipe, folder, store, signal.SIGTERM, 1)
    assert "stopped by SIGTERM" in err
    assert "Traceback" not in err
    assert resumed(err) == ["compare", "--resume", str(folder), "--store", str(store)]
    assert len(list(store.rglob("partial.safetensors"))) == 1
    assert cli.main([*resumed(err), "--jobs", "1"]) == 0
    straight = ["--arms", "dsd,restart", "--seeds", "2", "--jobs", "1", "--out", str(tmp_path / "straight")]
    assert cli.main(["compare", str(recipe), *straight]) == 0  # with a store inside its folder
    assert (folder / "compare.json").read_bytes() == (tmp_path / "straight" / "compare.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["to the process", "to the group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_jobs_and_each_saves(number: signal.Signals, group: bool, tiny: Tiny, tmp_path: Path):
    recipe = tmp_path / "long.yaml"
    recipe.write_text(tiny(dense={"epochs": 200}, sparse={"epochs": 2}, redense={"epochs": 2}).to_yaml())
    folder, store = tmp_path / "stopped", tmp_path / "store"
    err = stopped(recipe, folder, store, number, 2, group=group)
    assert f"stopped by {number.name}" in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 2, err  # "stopping after this step", and how to go on
    saved = [*store.rglob("partial.safetensors"), *store.rglob("state.safetensors")]
    assert len(saved) == 2  # both jobs, not only the first to hear of it
