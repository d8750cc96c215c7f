"""SAM: the gradient at the climbed point, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from redense.methods.base import Context, make_method

from ..trainings import Tiny
from .cases import CASES, engine_of, weights_of

# --- sharpness-aware minimisation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [None, False, True])
def test_sam_steps_with_the_gradient_at_the_climbed_point(foreach: bool | None):
    slopes, w0, lr, rho = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, -2.0, 0.5]), 0.01, 0.2
    weight = nn.Parameter(w0.clone())
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=0.9, foreach=foreach)
    places: list[Tensor] = []

    def gradient() -> None:
        optimizer.zero_grad()
        places.append(weight.detach().clone())
        (0.5 * slopes * weight.square()).sum().backward()

    method, run = make_method("sam", {"rho": rho}, 0), Context(nn.Module())
    groups = [set(group) for group in optimizer.param_groups]
    velocity = torch.zeros(3)
    for _ in range(3):
        start = weight.detach().clone()
        gradient()
        method.step(run, optimizer, gradient)
        g = slopes * start
        climbed = start + rho * g / g.norm()
        torch.testing.assert_close(places[-1], climbed)
        velocity = 0.9 * velocity + slopes * climbed
        torch.testing.assert_close(weight.detach(), start - lr * velocity, rtol=1e-5, atol=1e-6)
        assert [set(group) for group in optimizer.param_groups] == groups
        assert set(optimizer.state[weight]) == {"momentum_buffer"}
    assert len(places) == 2 * 3
    assert method.gradient_evaluations == 2


def test_sam_of_several_batches_a_step_is_sam_of_their_union(tiny: Tiny):
    """The second gradient is that of all batches of the step, as the first is."""
    ends: list[dict[str, Tensor]] = []
    for training in ({}, {"batch_size": 16, "accumulate": 2}):
        # One after the other: Accelerate keeps the accumulation of a process, not of an engine.
        engine = engine_of(tiny(model={"dropout": 0.0}, training=training), CASES["sam"])
        engine.train()
        engine.train()
        ends.append(weights_of(engine))
    for name, weight in ends[0].items():
        torch.testing.assert_close(weight, ends[1][name], rtol=1e-4, atol=1e-5)
