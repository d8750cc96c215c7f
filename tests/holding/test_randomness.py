"""Random generators are put back, and none is seeded that had not begun."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch

from redense.holding.randomness import generators, random_kept


def drawn() -> tuple[float, float, float]:
    return torch.rand(1).item(), random.random(), np.random.random()  # noqa: NPY002  # what others draw from


def seed() -> None:
    torch.default_generator.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002


def test_what_is_drawn_inside_is_drawn_by_nobody_else():
    seed()
    expected = [drawn(), drawn()]
    seed()
    first = drawn()
    with random_kept():
        drawn()
    with random_kept(5):
        seeded = drawn()
    with random_kept(5):
        assert drawn() == seeded
    with pytest.raises(ValueError, match="inside"), random_kept(5):
        int("inside")
    assert [first, drawn()] == expected


def test_a_second_thread_waits_and_puts_back_nothing_that_the_first_has_seeded():
    seed()
    expected = drawn()
    seed()
    inside, leave = threading.Event(), threading.Event()

    def second() -> None:
        with random_kept(7):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=second)
    with random_kept(5):
        thread.start()
        assert not inside.wait(0.05)
    assert inside.wait(10)
    leave.set()
    thread.join()
    assert drawn() == expected


def test_a_gpu_that_has_not_begun_is_not_seeded(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise AssertionError("torch.manual_seed seeds it when it begins")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch, "manual_seed", fail)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    with random_kept(2**63):
        assert generators() == [torch.default_generator]
