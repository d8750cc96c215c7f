"""What the command line prints is alone on the output, and starts with what its threads need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redense import cli

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TALKS = """
import os, sys
os.system("echo a process")
print("torch" in sys.modules)
os.write(1, b"a library in C\\n")
print("a plugin")
"""


def do(*words: str, cwd: Path, **own: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(cli.__file__).parents[2])  # also where it is not installed
    paths = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "redense.cli", *words],
        env={**os.environ, "PYTHONPATH": paths, **own},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_json_is_alone_on_the_output_whoever_prints_beside_it(tmp_path: Path):
    (tmp_path / "talks.py").write_text(TALKS)
    done = do("recipes", "list", "--json", cwd=tmp_path, REDENSE_PLUGINS="talks.py")
    assert done.returncode == 0
    assert "quickstart" in json.dumps(json.loads(done.stdout))
    said = {"a process", "False", "a library in C", "a plugin"}
    assert set(done.stderr.splitlines()) == said


def test_json_whose_reader_has_gone_is_no_crash(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "redense.cli", "recipes", "list", "--json"]
    child = subprocess.Popen(words, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writing)
    assert (child.communicate(timeout=60)[1], child.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("own", "load", "found"),
    [
        ({}, 1.5, {"GOMP_SPINCOUNT": "20000"}),
        ({}, 0.1, {}),  # nobody else is busy
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 1.5, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "9"}, 1.5, {"GOMP_SPINCOUNT": "9"}),
    ],
)
def test_threads_sleep_soon_beside_busy_programs_unless_the_user_has_said_how_they_wait(
    own: dict[str, str], load: float, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cli, "sys", type("Sys", (), {"modules": {}}))  # without torch, as when a command begins
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    cli._let_threads_sleep()
    assert {name: os.environ.pop(name) for name in NAMES if name in os.environ} == found


def test_programs_of_somebody_else_wait_as_they_do(monkeypatch: pytest.MonkeyPatch):
    asked = list[str]()
    monkeypatch.setattr(cli, "_let_threads_sleep", lambda: asked.append("sleep"))
    assert cli.main(["compare", "--command", "a=true", "--jobs", "0"]) == 2
    assert cli.main(["compare", "--resume", "nothing", "--jobs", "0"]) == 2
    assert not asked
    assert cli.main(["compare", "--jobs", "0"]) == 2
    assert asked == ["sleep"]
