"""A job that a process of its own cannot load is told from one whose process died."""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

import pytest

from redense.errors import StateError
from redense.lab.pairs.carrying import Carrier


class OfNoModule:
    """Cannot be loaded: it would be made by importing a module that there is none of."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("no_such_module",)


def identity(job: object) -> object:
    return job


def die(job: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_cannot_be_loaded_says_why_and_blames_no_memory():
    with pytest.raises(StateError, match=r"cannot load .*No module named 'no_such_module'.*jobs=1") as raised:
        list(Carrier(jobs=2).carry(identity, [OfNoModule(), OfNoModule()], again="the same call"))
    assert "memory" not in str(raised.value)


def test_a_process_that_died_may_have_lacked_memory():
    with pytest.raises(StateError, match=r"a process died, perhaps for lack of memory.* go on with the same call"):
        list(Carrier(jobs=2).carry(die, [1, 2], again="the same call"))
