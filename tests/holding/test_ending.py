"""The end of a phase: a callback that breaks off, and one that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import redense
from redense.errors import StateError

SCHEDULE = redense.Schedule.dsd(dense=3, sparse=5, redense=3, sparsity=0.5)


def net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 4)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    torch.manual_seed(seed)
    optimizer.zero_grad()
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("at", [1, 2])
def test_a_phase_whose_callback_broke_off_ends_before_the_next_step(at: int, caplog: pytest.LogCaptureFixture):
    def ended(dsd: redense.DSD) -> None:
        calls.append((dsd.step, dsd.phase.name if dsd.phase else ""))
        if len(calls) == at:
            raise KeyboardInterrupt

    calls: list[tuple[int, str]] = []
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    dsd = redense.DSD(model, optimizer, SCHEDULE, on_phase_end=ended)
    sparse = list[bool]()
    for seed in range(11):
        with contextlib.suppress(KeyboardInterrupt):
            step(model, optimizer, seed)
        sparse.append(int((model.weight == 0).sum()) == 16)
    assert (dsd.step, dsd.phase) == (11, None)
    twice = [(3, "dense"), (8, "sparse")][at - 1]
    assert calls == sorted([(3, "dense"), (8, "sparse"), (11, "redense"), twice])
    # The masks are chosen after step 3, or before step 4; a released weight begins after step 8, or one later: the
    # gradient of the step before which it is released was masked.
    assert sparse == [False, False, at == 2, *[True] * 5, at == 2, False, False]
    assert "an exception has ended on_phase_end: it is called again" in caplog.text


@pytest.mark.parametrize("kind", [partial(torch.optim.SGD, momentum=0.9), torch.optim.Adam])
def test_a_schedule_that_starts_with_the_loaded_state_of_a_training_says_so(
    kind: Callable[..., torch.optim.Optimizer], caplog: pytest.LogCaptureFixture
):
    def made(*states: dict[str, Any]) -> None:
        model = net()
        optimizer = kind(model.parameters())
        dsd = redense.DSD(model, optimizer, SCHEDULE)
        optimizer.load_state_dict(optimizer.state_dict())  # as Accelerate does to move it
        for own, state in zip((optimizer, dsd), states, strict=False):
            own.load_state_dict(state)
        caplog.clear()
        step(model, optimizer)
        step(model, optimizer)
        saved[:] = [optimizer.state_dict(), dsd.state_dict()]

    saved = list[dict[str, Any]]()
    made()
    assert not caplog.records
    made(saved[0])
    assert " has loaded the state of a training, and the DSD none: its schedule starts here" in caplog.text
    assert len(caplog.records) == 1
    made(*saved)
    assert not caplog.records


def test_without_an_error_nothing_is_said_of_one(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    redense.DSD(model, optimizer, SCHEDULE, on_phase_end=lambda dsd: None)
    for seed in range(11):
        step(model, optimizer, seed)
    assert "exception" not in caplog.text


def test_a_step_inside_the_callback_is_refused_before_it_writes():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before: list[torch.Tensor] = []

    def ended(dsd: redense.DSD) -> None:
        before.append(model.weight.detach().clone())
        step(model, optimizer)

    dsd = redense.DSD(model, optimizer, SCHEDULE, on_phase_end=ended)
    for seed in range(2):
        step(model, optimizer, seed)
    with pytest.raises(StateError, match=r"a step of SGD inside of on_phase_end: .* Train in the loop"):
        step(model, optimizer, 2)
    assert torch.equal(model.weight, before[0])
    assert dsd.step == 3


def test_a_callback_that_closes_may_train_and_one_may_be_asked_for_the_state_of_an_optimizer():
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model = net()
    optimizer = torch.optim.Adam(model.parameters())

    def ended(dsd: redense.DSD) -> None:
        if dsd.step == 3:
            get_state_dict(model, optimizer)
        else:
            dsd.close()
            step(model, optimizer)

    dsd = redense.DSD(model, optimizer, SCHEDULE, on_phase_end=ended)
    for seed in range(9):
        step(model, optimizer, seed)
    assert dsd.step == 8
