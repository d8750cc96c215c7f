"""What asks a program to stop: a line and an exit code, wherever it is; what comes twice at once was meant once."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]

from redense.cli.verbs import Signals
from redense.lab.comparison import comparison
from redense.lab.ranks import ranks
from redense.lab.ranks.signals import STOPPING, StoppedBySignal, raising, stopping
from redense.lab.recipe import recipe

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[3]


def test_every_signal_that_the_documentation_names_is_answered():
    page = (ROOT / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bSIG[A-Z0-9]+\b", page)) | {f"SIG{name}" for name in re.findall(r"--signal=(\w+)@", page)}
    assert {"SIGTERM", "SIGUSR1"} <= named
    assert named <= {number.name for number in STOPPING}


@pytest.mark.parametrize("number", [number for number in STOPPING if number != signal.SIGINT])
def test_a_signal_before_there_is_anything_to_save_is_a_line(
    number: signal.Signals, redense: Command, monkeypatch: pytest.MonkeyPatch
):
    first = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    before = signal.getsignal(number)

    def slow(*given: object) -> object:
        os.kill(os.getpid(), number)
        return comparison

    monkeypatch.setattr(recipe, "load_recipe", slow)
    try:
        code, out, err = redense("run", "quickstart")
        assert (code, out, err) == (128 + number, "", f"redense: stopped by {number.name}\n")
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, first)


def test_a_signal_that_comes_twice_at_once_is_one_and_a_second_ctrl_c_is_none(capsys: pytest.CaptureFixture[str]):
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err.count("stopping after this step") == 1


@pytest.mark.parametrize("found", [False, True], ids=["no other", "some others"])
def test_a_signal_is_answered_while_a_rank_waits_for_the_others(found: bool, monkeypatch: pytest.MonkeyPatch):
    came = threading.Event()

    def meeting(address: str) -> Iterator[tuple[HashStore, int, int]]:
        if not found:
            came.wait()
        yield HashStore(), 0, 2

    monkeypatch.setattr(ranks, "rendezvous", meeting)
    with raising():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(StoppedBySignal, match="SIGTERM"):
            ranks._met()  # pyright: ignore[reportPrivateUsage]
    came.set()


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stopping()
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
