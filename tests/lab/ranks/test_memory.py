"""Memory that a step gives back is kept for the next one, unless the user's environment says what to do with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from redense.lab.ranks import memory
from redense.lab.ranks.memory import keep_freed_memory

# The module is run by itself: importing torch twice would take most of the test's time.
PROGRAM = """
import resource, runpy, sys
keep = runpy.run_path(sys.argv[1])["keep_freed_memory"]
if sys.argv[2] == "keep" and not keep():
    raise SystemExit("refused")
def step():
    b"x" * (1 << 22)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(memory.__file__), how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@glibc
def test_a_block_that_comes_and_goes_is_not_asked_of_the_system_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")  # what glibc does with a block of a step, made sure of
    plain = faults("leave")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    assert faults("keep") < plain / 10


def test_what_the_user_has_set_stands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
