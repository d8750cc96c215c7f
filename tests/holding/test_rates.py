"""`scale_lr` with a scheduler: all later rates are the factor times those of a twin, or the scheduler is named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as torchs
from torch.optim.swa_utils import SWALR

import redense
from redense.errors import OptimizerError

HALF = 0.5  # a product with it is not rounded
STEPS = 60

Make = Callable[[Optimizer], Any]
SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda o: torchs.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: torchs.MultiplicativeLR(o, lambda step: 0.97),
    "StepLR": lambda o: torchs.StepLR(o, 5, 0.5),
    "MultiStepLR": lambda o: torchs.MultiStepLR(o, [4, 20]),
    "ConstantLR": lambda o: torchs.ConstantLR(o, 0.25, 15),
    "LinearLR": lambda o: torchs.LinearLR(o, 0.1, 0.9, 30),
    "ExponentialLR": lambda o: torchs.ExponentialLR(o, 0.95),
    "PolynomialLR": lambda o: torchs.PolynomialLR(o, 50, 2),
    "CosineAnnealingLR": lambda o: torchs.CosineAnnealingLR(o, 20, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda o: torchs.CosineAnnealingWarmRestarts(o, 7, 2, eta_min=0.01),
    "CyclicLR": lambda o: torchs.CyclicLR(o, [0.05, 0.02], [0.2, 0.3], 5),
    "OneCycleLR": lambda o: torchs.OneCycleLR(o, [0.2, 0.3], total_steps=STEPS),
    "ReduceLROnPlateau": lambda o: torchs.ReduceLROnPlateau(o, factor=0.7, patience=1, min_lr=0.004, eps=0.002),
    "SequentialLR": lambda o: torchs.SequentialLR(
        o,
        [torchs.LinearLR(o, 0.1, total_iters=8), torchs.CosineAnnealingLR(o, 20, 0.01), torchs.ExponentialLR(o, 0.9)],
        [8, 28],
    ),
    "ChainedScheduler": lambda o: torchs.ChainedScheduler(
        [torchs.ConstantLR(o, 0.5, 9), torchs.CosineAnnealingLR(o, 30, eta_min=0.01)]
    ),
    "SWALR": lambda o: SWALR(o, 0.05, 20),
}


def sgd(kind: Callable[[float], Any] = float) -> Optimizer:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": kind(0.05)}]
    return torch.optim.SGD(groups, lr=kind(0.1), momentum=0.9)


def rates(optimizer: Optimizer, scheduler: Any, *, scaled_at: int | None = None) -> list[list[float]]:
    seen: list[list[float]] = []
    arguments = [1.0] if isinstance(scheduler, torchs.ReduceLROnPlateau) else []
    for step in range(STEPS - 1):
        if step == scaled_at:
            redense.scale_lr(optimizer, HALF, scheduler)
            assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step(*arguments)
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
    return seen


def test_every_scheduler_of_torch_is_in_the_table():
    known = {
        name for name, kind in vars(torchs).items() if inspect.isclass(kind) and issubclass(kind, torchs.LRScheduler)
    }
    assert known - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS) - {"SWALR"}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize("at", [0, 11])
def test_all_later_rates_are_the_factor_times_those_of_a_twin(name: str, kind: Callable[[float], Any], at: int):
    twin, optimizer = sgd(kind), sgd(kind)
    expected = rates(twin, SCHEDULERS[name](twin))
    found = rates(optimizer, SCHEDULERS[name](optimizer), scaled_at=at)
    assert found[:at] == expected[:at]
    assert found[at:] == [[HALF * each for each in one] for one in expected[at:]]


def test_groups_that_share_one_tensor_are_scaled_once():
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([{"params": [each]} for each in parameters], lr=rate)
    redense.scale_lr(optimizer, HALF)
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate == 0.25


def test_several_schedulers_and_wrapped_ones_are_scaled_once_each():
    optimizer = sgd()
    first, second = torchs.LambdaLR(optimizer, lambda _: 1.0), torchs.CosineAnnealingLR(optimizer, 9, eta_min=0.5)
    wrapper = type("AcceleratedScheduler", (SimpleNamespace,), {"__module__": "accelerate.scheduler"})
    redense.scale_lr(optimizer, HALF, [wrapper(scheduler=first), second, first])
    assert first.base_lrs == [0.05, 0.025]
    assert second.eta_min == 0.25


class Floored(torchs.StepLR):
    def get_lr(self) -> list[Any]:
        return [max(0.05, rate) for rate in super().get_lr()]


class Own(torchs.LRScheduler):
    def get_lr(self) -> list[Any]:
        return [0.1 for _ in self.base_lrs]


class Named(torchs.StepLR):
    """Changes nothing of what the rates are."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda o: Floored(o, 5), "Floored"),
        (Own, "Own"),
        (lambda o: torchs.ChainedScheduler([torchs.StepLR(o, 5), Own(o)]), "Own"),
    ],
)
def test_a_scheduler_whose_rates_are_not_known_is_named_and_nothing_is_scaled(make: Make, name: str):
    optimizer = sgd()
    scheduler = make(optimizer)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(OptimizerError, match=rf"not where {name} keeps its rates"):
        redense.scale_lr(optimizer, HALF, scheduler)
    assert [dict(group) for group in optimizer.param_groups] == before


@pytest.mark.parametrize("scheduler", [None, "cosine", [None]])
def test_what_is_no_scheduler_is_refused_with_the_cure(scheduler: Any):
    optimizer = sgd()
    with pytest.raises(OptimizerError, match=r"must be one of PyTorch's, or several, got .*: leave it out where the"):
        redense.scale_lr(optimizer, HALF, scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


def test_a_subclass_that_computes_nothing_is_as_good_as_its_parent():
    optimizer = sgd()
    scheduler = Named(optimizer, 5)
    redense.scale_lr(optimizer, HALF, scheduler)
    assert scheduler.base_lrs == [0.05, 0.025]


def test_the_scheduler_of_another_optimizer_is_refused():
    scheduler = torchs.StepLR(sgd(), 5)
    with pytest.raises(OptimizerError, match="the StepLR given to scale_lr sets the rates of another optimizer"):
        redense.scale_lr(sgd(), HALF, scheduler)
    assert scheduler.base_lrs == [0.1, 0.05]


@pytest.mark.parametrize("kind", [None, "PyTorch's", "timm's"])
def test_a_scheduler_that_is_not_given_and_has_left_a_mark_is_warned_of(
    kind: str | None, caplog: pytest.LogCaptureFixture
):
    optimizer = sgd()
    if kind == "PyTorch's":
        torchs.StepLR(optimizer, 5)
    elif kind == "timm's":  # whose scheduler patches no step
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    redense.scale_lr(optimizer, HALF)
    assert ("a learning-rate scheduler was made for this SGD" in caplog.text) is (kind is not None)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("before", [False, True])
def test_a_scheduler_that_is_made_later_has_the_base_that_is_documented(before: bool):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    if before:
        torchs.ExponentialLR(optimizer, 0.5).step()
        assert optimizer.param_groups[0]["lr"] == 0.05
    redense.scale_lr(optimizer, 0.1)
    assert torchs.LambdaLR(optimizer, lambda step: 1.0).base_lrs == pytest.approx([0.01])


def test_a_group_without_a_learning_rate_is_refused_before_anything_is_changed():
    class OfItsOwn(torch.optim.SGD):
        pass

    for lacks in ({}, {"lr": None}):  # Adafactor of transformers has None with relative steps
        optimizer = OfItsOwn([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(2)], lr=0.1)
        del optimizer.param_groups[1]["lr"]
        optimizer.param_groups[1].update(lacks)
        with pytest.raises(OptimizerError, match="a parameter group of the OfItsOwn has no learning rate 'lr'"):
            redense.scale_lr(optimizer, HALF)
        assert optimizer.param_groups[0]["lr"] == 0.1
