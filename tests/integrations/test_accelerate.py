"""A plain loop with Accelerate, which needs no callback: what its wrappers do to steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

import redense
from redense import Schedule

SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.5)


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    AcceleratorState._reset_state()
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state()
    PartialState._reset_state()


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def test_a_step_that_the_fp16_scaler_skips_is_none():
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)  # Accelerate itself scales on a GPU only
    model, optimizer = accelerator.prepare(*model_and_optimizer())
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    steps: list[int] = []
    for number in range(8):
        loss = model(torch.randn(4, 8)).square().mean() * (torch.inf if number == 1 else 1.0)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        assert accelerator.optimizer_step_was_skipped == (number == 1)
        steps.append(dsd.step)
    assert steps == [1, 1, 2, 3, 4, 5, 6, 7]
    assert dsd.phase is None


@pytest.mark.parametrize("before", [True, False])
def test_it_can_be_made_before_or_after_prepare(before: bool):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer = model_and_optimizer()
    dsd = redense.DSD(model, optimizer, SCHEDULE) if before else None
    model, optimizer = accelerator.prepare(model, optimizer)
    dsd = dsd or redense.DSD(model, optimizer, SCHEDULE)
    zeros: list[int] = []
    for number in range(14):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.randn(4, 8)).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        zeros.append(int((model.weight == 0).sum()))
        assert dsd.step == (number + 1) // 2
    assert zeros == [0] * 3 + [16] * 8 + [0] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device for Accelerate's fp16")
def test_fp16_on_a_gpu():
    accelerator = Accelerator(mixed_precision="fp16")
    model, optimizer = accelerator.prepare(*model_and_optimizer())
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    real = 0
    for _ in range(20):
        accelerator.backward(model(torch.randn(4, 8, device=accelerator.device)).square().mean() * 100)
        optimizer.step()
        optimizer.zero_grad()
        real += not accelerator.optimizer_step_was_skipped
        assert dsd.step == min(real, 7)
