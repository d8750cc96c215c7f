"""What masks take in memory, and that many switches of phase leave nothing behind."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

import redense
from redense.masks import pack


def alive() -> int:
    """Bytes of all tensors that Python holds, each storage once."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("switches", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_switches_of_phase_leave_nothing_behind(switches: int):
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    cycle = [redense.Phase.dense(1), redense.Phase.sparse(1, 0.3)]
    dsd = redense.DSD(model, optimizer, redense.Schedule((*cycle * (switches // 2 + 5), redense.Phase.dense(2))))
    model.weight.grad, model.bias.grad = torch.ones(4, 8), torch.ones(4)
    seen: dict[int, int] = {}
    for step in range(1, switches + 11):
        optimizer.step()
        if step in (10, switches + 10):
            seen[step] = alive()
    assert dsd.phase is not None
    assert dsd.step == switches + 10
    assert seen[switches + 10] == seen[10]
    assert len(optimizer._optimizer_step_post_hooks) == 1


def test_a_mask_takes_a_byte_a_weight_in_force_and_a_bit_saved():
    model = nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = alive()
    with redense.sparse(model, optimizer, 0.3) as block:
        assert alive() - before == 64 * 64 + 64 * (8 + 4)  # and 64 places, with what was there, until the first step
        (mask,) = block.masks.values()
        assert pack(mask).nbytes == 64 * 64 / 8
