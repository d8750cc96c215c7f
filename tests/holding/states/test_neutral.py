"""A released weight has the states of a new one, whatever an optimizer's neutral value is and wherever it keeps it."""

from __future__ import annotations

import logging
import random
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense.holding.states.neutral import Neutrals

HALF = 0.5


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3, scale: float = 1.0) -> None:
    for seed in range(steps):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        (model(torch.randn(16, 8)).square().mean() * scale).backward()
        optimizer.step()


def released(optimizer: Optimizer, model: nn.Linear) -> Tensor:
    """Train under a mask, release, and return the mask."""
    train(model, optimizer)
    with redense.sparse(model, optimizer, HALF) as block:
        train(model, optimizer)
        return block.masks["weight"].clone()


def linear(outputs: int = 6) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, outputs, bias=False)


def test_rprops_step_sizes_start_anew_at_the_learning_rate_of_now():
    model = linear()
    optimizer = torch.optim.Rprop(model.parameters(), lr=0.01)
    mask = released(optimizer, model)
    sizes = optimizer.state[model.weight]["step_size"]
    assert (sizes[~mask] == 0.01).all()
    assert (sizes[mask] != 0.01).any()
    optimizer.param_groups[0]["lr"] = 0.002
    mask = released(optimizer, model)
    assert (optimizer.state[model.weight]["step_size"][~mask] == 0.002).all()
    train(model, optimizer, 4)
    assert (model.weight[~mask] != 0).all()


def test_a_rate_that_is_a_tensor_is_told_from_one_that_is_printed_alike():
    model, rates = linear(), (2.4e-4, 1.6e-4)
    assert repr(torch.tensor(rates[0])) == repr(torch.tensor(rates[1]))
    optimizer = torch.optim.Rprop(model.parameters(), lr=torch.tensor(rates[0]))
    for rate in rates:
        optimizer.param_groups[0]["lr"].fill_(rate)
        mask = released(optimizer, model)
        assert (optimizer.state[model.weight]["step_size"][~mask] == torch.tensor(rate)).all()


def test_adagrads_sum_starts_anew_where_the_constructor_put_it():
    model = linear()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1, initial_accumulator_value=0.25)
    mask = released(optimizer, model)
    total = optimizer.state[model.weight]["sum"]
    assert (total[~mask] == 0.25).all()
    assert (total[mask] > 0.25).all()


def test_a_released_weight_moves_as_a_new_one_does():
    model, fresh = linear(), linear()
    optimizer = torch.optim.Rprop(model.parameters(), lr=0.01)
    mask = released(optimizer, model)
    fresh.load_state_dict(model.state_dict())
    other = torch.optim.Rprop(fresh.parameters(), lr=0.01)
    train(model, optimizer, 1)
    train(fresh, other, 1)
    assert torch.equal(model.weight[~mask], fresh.weight[~mask])


def test_no_weight_becomes_nan_under_an_optimizer_that_divides_by_its_states():
    optimizers = pytest.importorskip("pytorch_optimizer")
    model = linear(8)
    optimizer = optimizers.load_optimizer("vsgd")(model.parameters())
    mask = released(optimizer, model)
    train(model, optimizer, 1, scale=0.0)
    assert (model.weight[~mask] == 0).all()
    train(model, optimizer, 3)
    assert model.weight.isfinite().all()


class Nested(Optimizer):
    """Keeps velocities in a dict, a square matrix over the rows, and one entry a weight in a flat tensor."""

    def __init__(self, params: Any, lr: float = 0.1, *, start: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "start": start})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["velocity"] = {0.9: torch.zeros_like(p), "more": [torch.zeros_like(p)]}
                    state["rows"] = torch.eye(p.shape[0])
                    state["flat"] = torch.full((p.numel(),), group["start"])
                    state["steps"] = 0
                state["steps"] += 1
                for velocity in (state["velocity"][0.9], state["velocity"]["more"][0]):
                    velocity.mul_(0.9).add_(p.grad)
                    p.sub_(velocity, alpha=group["lr"])
                state["rows"].add_(p.grad @ p.grad.T)
                state["flat"].add_(p.grad.flatten().square())


def test_states_are_found_in_dicts_and_lists_and_flat_but_a_square_matrix_over_rows_is_no_state_of_weights():
    model = linear(8)  # square: the matrix over its rows has the weight's own shape
    optimizer = Nested(model.parameters())
    mask = released(optimizer, model)
    state = optimizer.state[model.weight]
    for velocity in (state["velocity"][0.9], state["velocity"]["more"][0]):
        assert torch.equal(velocity != 0, mask)
    assert (state["flat"].view(8, 8)[~mask] == 0.5).all()
    assert (state["flat"].view(8, 8)[mask] > 0.5).all()
    assert state["rows"].all()
    found = {s.key for s in Neutrals().states(optimizer, "weight", model.get_parameter("weight"))}
    assert found == {"velocity", "flat"}


class Unmakeable(Nested):
    def __init__(self, params: Any, secret: object, lr: float = 0.1) -> None:
        super().__init__(params, lr)


def test_an_optimizer_that_cannot_be_made_anew_is_named_and_its_states_become_zero(caplog: pytest.LogCaptureFixture):
    model = linear()
    optimizer = Unmakeable(model.parameters(), object())
    with caplog.at_level(logging.WARNING, "redense"):
        mask = released(optimizer, model)
    assert any("the states that Unmakeable gives a new weight are not known" in m for m in caplog.messages)
    assert torch.equal(optimizer.state[model.weight]["velocity"][0.9] != 0, mask)


class Centralised(torch.optim.Adam):
    """Takes from each gradient the mean of its row, as Ranger does, and draws random numbers of all kinds."""

    def step(self, closure: Any = None) -> Any:
        _ = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002  # what is tested is that nobody notices
        for group in self.param_groups:
            for p in group["params"]:
                p.grad -= p.grad.mean(1, keepdim=True)
        return super().step(closure)


def test_a_velocity_that_others_gradients_feed_is_gone_at_the_release():
    model = linear()
    optimizer = Centralised(model.parameters(), lr=0.01)
    train(model, optimizer)
    with redense.sparse(model, optimizer, HALF) as block:
        train(model, optimizer)
        mask = block.masks["weight"].clone()
        state = optimizer.state[model.weight]
        assert state["exp_avg_sq"][~mask].any(), "the others' gradients reach a removed weight"
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # the generator that others draw from
    assert random.getstate() == before[0]
    assert str(np.random.get_state()) == str(before[1])  # noqa: NPY002  # the generator that others draw from
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.equal(state["exp_avg"] != 0, mask)
    train(model, optimizer, 1, scale=0.0)
    assert (model.weight[~mask] == 0).all()


class Anchored(torch.optim.SGD):
    """Pulls the weights to those that it began with, which it keeps by parameter under one name, as TRAC does."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        state = cast("dict[Any, Any]", self.state)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.lerp_(state.setdefault("anchor", {}).setdefault(p, p.detach().clone()), 0.1)
        return loss


def test_a_state_that_is_kept_by_parameter_under_a_name_is_found():
    model = linear()
    optimizer = Anchored(model.parameters(), lr=0.01)
    mask = released(optimizer, model)
    train(model, optimizer, 1, scale=0.0)
    assert (model.weight[~mask] == 0).all()
    assert (model.weight[mask] != 0).all()


def test_making_a_new_optimizer_draws_no_random_number_and_touches_no_state():
    model = linear()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer)
    random = torch.get_rng_state()
    before = {k: v.clone() for k, v in optimizer.state[model.weight].items()}
    states = list(Neutrals().states(optimizer, "weight", model.get_parameter("weight")))
    assert [(s.key, s.neutral) for s in states] == [("exp_avg", 0.0), ("exp_avg_sq", 0.0)]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, optimizer.state[model.weight][k]) for k, v in before.items())


PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "optimizers.md"
MOVED = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "released", "new", "ratio"),
    [
        pytest.param(*row, id=row[0], marks=[] if row[0] in ("SGD", "AdamW", "Adadelta") else [pytest.mark.slow])
        for row in MOVED
    ],
)
def test_ten_steps_after_a_release_are_as_long_as_the_page_says(name: str, released: str, new: str, ratio: str):
    assert len(MOVED) == 8
    kind: Any = getattr(torch.optim, name)
    options = {"lr": 1.0 if name == "Adadelta" else 1e-3, **({"momentum": 0.9} if name == "SGD" else {})}
    options |= {"weight_decay": 0} if name == "AdamW" else {}
    torch.manual_seed(0)
    model, fresh = nn.Linear(8, 8, bias=False), nn.Parameter(torch.zeros(8, 8))
    optimizer, other = kind(model.parameters(), **options), kind([fresh], **options)
    gradients = torch.randn(810, 8, 8) + 1

    def step(number: int) -> None:
        model.weight.grad = gradients[number].clone()
        optimizer.step()

    for number in range(500):
        step(number)
    with redense.sparse(model, optimizer, HALF) as block:
        for number in range(500, 800):
            step(number)
        mask = block.masks["weight"].clone()
    for number in range(800, 810):
        step(number)
        fresh.grad = gradients[number].clone()
        other.step()
    far, near = (float(weight.detach()[~mask].abs().mean()) for weight in (model.weight, fresh))
    assert far == pytest.approx(float(released), rel=0.02)
    assert near == pytest.approx(float(new), rel=0.02)
    assert far / near == pytest.approx(float(ratio), rel=0.02)
