"""Copies of the weights that an optimizer keeps: masked where they are seen, and told where they are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import redense
from redense import Phase, Schedule

from ...by_hand import net, train

SCHEDULE = Schedule((Phase.dense(1), Phase.sparse(3, 0.5), Phase.dense(1)))


class Copies(torch.optim.Optimizer):
    """Steps with copies in 64 bits, which lie beside the parameter or in its state, and writes what comes out."""

    _step_supports_amp_scaling = True  # as fused ones: the scaler calls their step, which does nothing if it overflowed

    def __init__(self, parameters: Any, lr: float = 1e-4, *, hidden: bool = True) -> None:
        self.hidden = hidden
        super().__init__(list(parameters), {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if getattr(self, "found_inf", 0):
            return
        for p in self.param_groups[0]["params"]:
            place = vars(p) if self.hidden else self.state[p]
            copy = place.setdefault("copy", p.detach().double().clone())
            copy.add_(p.grad.double(), alpha=-self.param_groups[0]["lr"])
            p.copy_(copy)


def after_the_release(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """The largest of the removed weights, a step after they have been released."""
    weight = model.get_parameter("0.weight")
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    train(model, optimizer, steps=2)
    mask = dsd.masks["0.weight"]
    train(model, optimizer, steps=2)
    assert not weight[~mask].any()
    train(model, optimizer)
    return float(weight.detach()[~mask].abs().max())


def test_what_an_optimizer_writes_back_from_copies_out_of_sight_is_told_once(caplog: pytest.LogCaptureFixture):
    model = net()
    assert after_the_release(model, Copies(model.parameters())) > 0.05
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("Copies writes the removed weights of '0.weight' and of 1 more back to what they were")
    assert told.endswith("Keep them in optimizer.state[parameter]")


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: Copies(weights, hidden=False),
        lambda weights: torch.optim.SGD(weights, lr=1e-4, momentum=0.9),
        lambda weights: torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.1),
        lambda weights: torch.optim.Muon([w for w in weights if w.dim() == 2], lr=1e-3),
    ],
)
def test_what_starts_from_zero_is_not_told(make: Any, caplog: pytest.LogCaptureFixture):
    model = net()
    assert after_the_release(model, make(list(model.parameters()))) < 0.01
    assert not caplog.records


def test_a_skipped_step_tells_nothing_and_the_next_one_does(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = Copies(model.parameters())
    train(model, optimizer)  # so that it has copies
    with redense.sparse(model, optimizer, 0.5):
        scaler = torch.amp.GradScaler("cpu")
        (scaler.scale(model(torch.ones(4, 8)).square().mean()) * torch.inf).backward()
        scaler.step(optimizer)
        scaler.update()
        assert not caplog.records
        assert not hasattr(optimizer, "found_inf")
        train(model, optimizer)
        assert len(caplog.records) == 1
