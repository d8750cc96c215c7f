"""Jobs in processes of their own: what they have of the caller's, and how one that cannot be loaded or died is told."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense import Schedule, compare, search, tune
from redense.errors import RedenseError, StateError
from redense.lab.pairs import functions
from redense.lab.pairs.carrying import Carrier, carrier_of_functions
from redense.lab.pairs.jobs import Job, do


class OfNoModule:
    """Cannot be loaded: it would be made by importing a module that there is none of."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("no_such_module",)


def identity(job: object) -> object:
    return job


def die(job: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_cannot_be_loaded_says_why_and_blames_no_memory():
    carrier = Carrier(jobs=2)
    with pytest.raises(StateError, match=r"cannot be sent to it \(.*cannot pickle '_thread.lock' object\).*jobs=1"):
        list(carrier.carry(identity, [threading.Lock()], again="the same call"))
    with pytest.raises(StateError, match=r"cannot load .*No module named 'no_such_module'.*jobs=1") as raised:
        list(carrier.carry(identity, [OfNoModule(), OfNoModule()], again="the same call"))
    assert "memory" not in str(raised.value)


def test_a_process_that_died_may_have_lacked_memory():
    with pytest.raises(StateError, match=r"a process died, perhaps for lack of memory.* go on with the same call"):
        list(Carrier(jobs=2).carry(die, [1, 2], again="the same call"))


@pytest.mark.parametrize("apart", [True, False])
def test_other_processes_get_what_a_script_has_set_in_its_modules(
    apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "set_by_script.py").write_text(
        "NOISE = 0\ndef train(schedule, seed):\n    return {'error': seed + NOISE}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("set_by_script")
    monkeypatch.setattr(Carrier, "is_apart", apart)
    sent: list[Job] = []
    monkeypatch.setattr(functions, "do", lambda job: sent.append(job) or do(job))
    vars(module)["NOISE"] = 3
    arms = {"old": module.train, "new": module.train}
    compare(arms=arms, baseline="old", seeds=2, out=tmp_path / "out", quiet=True)
    assert [list(job.values) for job in sent] == [[("set_by_script", "NOISE", 3)] * apart] * 4


def answer(job: object) -> str:
    return importlib.import_module("edited_meanwhile").answer


def where(job: object) -> str:
    return Path.cwd().name


@pytest.mark.slow  # it starts processes twice
def test_processes_of_another_call_have_the_modules_and_the_folder_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found: list[object] = []
    for text in ("as it was", "edited"):
        (tmp_path / "edited_meanwhile.py").write_text(f"answer = {text!r}\n")
        (tmp_path / text).mkdir()
        monkeypatch.chdir(tmp_path / text)
        carrier = Carrier(jobs=2)
        for each in (answer, where):
            found += carrier.carry(each, [1], again="the same call")
    assert found == ["as it was", "as it was", "edited", "edited"]


def test_one_of_several_ranks_begins_no_comparison_or_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redense: Callable[..., tuple[int, str, str]]
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    schedule = Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=0.5)
    out: dict[str, Any] = {"out": tmp_path / "c", "quiet": True}
    for call in (
        lambda: compare(print, schedule, **out),
        lambda: search(print, schedule, candidates={"a": schedule}, **out),
        lambda: tune(print, schedule, **out),
    ):
        with pytest.raises(StateError, match="this is for one process: start it without torchrun"):
            call()
    monkeypatch.setenv("RANK", "0")
    code, _, said = redense("compare", "--command", "base,new=true {seed}", "--baseline", "base", "--out", "c")
    assert (code, "start it without torchrun" in said) == (2, True)
    assert not (tmp_path / "c").exists()


def test_functions_are_called_in_processes_and_what_is_for_ray_is_refused_elsewhere():
    given: tuple[Any, ...]
    for given, says in (
        ((2, "threading"), "backend must be 'loky' or 'ray', got 'threading'"),
        ((2, "loky", {"num_gpus": 1}), "resources are what Ray reserves for a job"),
        ((0, "loky"), "jobs must be 1 to 1,000, got 0"),
    ):
        with pytest.raises(RedenseError, match=says):
            carrier_of_functions(*given)
    assert carrier_of_functions(np.int64(2), "loky").jobs == 2
    assert Carrier().call != Carrier().call  # the processes of another call serve no other
