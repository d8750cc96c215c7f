"""What is said of the machine that a result comes from, and how much of it may be used."""

from __future__ import annotations

import os
import sys

import pytest

from redense.lab.environment import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no process to cores")
def test_of_a_machine_that_others_share_the_cores_count_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_joblib_it_is_the_cores_of_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    assert usable_cores() == 48
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
