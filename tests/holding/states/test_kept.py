"""Momenta that an optimizer keeps outside of `.state[parameter]` are found, or named in a warning."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer

import redense
from redense.holding.optimizers import inner_optimizers


class Heavy(Optimizer):
    """Momentum in any place: ``find`` returns that of a parameter of ``.state`` or of what ``begin`` has made."""

    def __init__(self, params: Any, lr: float = 0.1, *, begin: Any = None, find: Any = None) -> None:
        super().__init__(params, {"lr": lr})
        self.begin, self.find = begin, find
        if begin:
            begin(self)

    def every(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        number = 0
        for g, group in enumerate(self.param_groups):
            for i, p in enumerate(group["params"]):
                velocity = self.find(self, p, g, i, number)
                number += 1
                if p.grad is not None:
                    velocity.mul_(0.9).add_(p.grad)
                    p.sub_(velocity, alpha=group["lr"])


def zeros(optimizer: Heavy) -> list[Tensor]:
    return [torch.zeros_like(p) for p in optimizer.every()]


def begin(**made: Callable[[Heavy], Any]) -> Callable[[Heavy], None]:
    return lambda optimizer: vars(optimizer).update({name: make(optimizer) for name, make in made.items()})


def in_groups(optimizer: Heavy) -> None:
    for group in optimizer.param_groups:
        group["velocities"] = [torch.zeros_like(p) for p in group["params"]]


PLACES: dict[str, tuple[Any, Any]] = {
    "a list": (begin(v=zeros), lambda o, p, g, i, n: o.v[n]),
    "a list of groups": (
        begin(v=lambda o: [[torch.zeros_like(p) for p in group["params"]] for group in o.param_groups]),
        lambda o, p, g, i, n: o.v[g][i],
    ),
    "two lists in a dict": (
        begin(v=lambda o: {"velocity": zeros(o), "more": zeros(o)}),
        lambda o, p, g, i, n: o.v["velocity"][n],
    ),
    "the last of a history": (
        begin(v=lambda o: deque([zeros(o), zeros(o), zeros(o)])),
        lambda o, p, g, i, n: o.v[-1][n],
    ),
    "a dict for each parameter": (
        begin(v=lambda o: [{"velocity": each, "norm": torch.ones(())} for each in zeros(o)]),
        lambda o, p, g, i, n: o.v[n]["velocity"],
    ),
    "a dict by parameter": (begin(v=lambda o: {p: torch.zeros_like(p) for p in o.every()}), lambda o, p, *_: o.v[p]),
    "a dict by id": (begin(v=lambda o: {id(p): torch.zeros_like(p) for p in o.every()}), lambda o, p, *_: o.v[id(p)]),
    "the groups": (in_groups, lambda o, p, g, i, n: o.param_groups[g]["velocities"][i]),
    "the state, by a name and id": (None, lambda o, p, *_: o.state["v"].setdefault(id(p), torch.zeros_like(p))),
    "the state, by id": (None, lambda o, p, *_: o.state[id(p)].setdefault("v", torch.zeros_like(p))),
    "the state, as it is": (None, lambda o, p, *_: o.state.setdefault(p, torch.zeros_like(p))),
}


def network(width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 8, bias=width != 8))


def groups(model: nn.Sequential) -> list[dict[str, Any]]:
    return [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]


def step(model: nn.Module, optimizer: Any, scale: float = 1.0) -> None:
    optimizer.zero_grad()
    (model(torch.randn(4, 8)).square().mean() * scale).backward()
    optimizer.step()


def moved(model: nn.Module, optimizer: Any) -> float:
    """Return how far zero gradients move released weights."""
    for _ in range(4):
        step(model, optimizer)
    with redense.sparse(model, optimizer, 0.5) as block:
        for _ in range(3):
            step(model, optimizer)
        masks = dict(block.masks)
    for _ in range(6):
        step(model, optimizer, scale=0.0)
    return max(float(model.get_parameter(n).detach()[~mask].abs().max()) for n, mask in masks.items())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("several", [False, True], ids=["one group", "two groups"])
def test_a_momentum_is_masked_wherever_it_is_kept(place: str, several: bool, caplog: pytest.LogCaptureFixture):
    model = network(6)
    first, find = PLACES[place]
    optimizer = Heavy(groups(model) if several else model.parameters(), begin=first, find=find)
    assert moved(model, optimizer) == 0
    assert not caplog.messages


def test_a_list_that_can_be_read_in_two_ways_is_named_and_left_alone(caplog: pytest.LogCaptureFixture):
    model = network(8)
    weights = [model[0].weight, model[2].weight]
    pairs = begin(v=lambda o: [[torch.zeros(8, 8), torch.ones(8, 8)] for _ in weights])  # or a list for each momentum?
    optimizer = Heavy(weights, begin=pairs, find=lambda o, p, g, i, n: o.v[n][0])
    with caplog.at_level(logging.WARNING, "redense"):
        assert moved(model, optimizer) > 0
    assert [m.partition(", and")[0] for m in caplog.messages] == [
        "Heavy keeps a tensor of the shape of '0.weight' in its v"
    ]
    assert all(pair[1].eq(1).all() for pair in optimizer.v)  # pyright: ignore[reportAttributeAccessIssue]


class Sizes(Heavy):
    """Step sizes that do not begin at zero, in a list."""

    def __init__(self, params: Any, lr: float = 0.1, start: float = 0.25) -> None:
        super().__init__(params, lr)
        self.start = start
        self.sizes = [torch.full_like(p, start) for p in self.every()]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p, size in zip(self.every(), self.sizes, strict=True):
            if p.grad is not None:
                size.add_(p.grad.abs())
                p.sub_(p.grad.sign() * size, alpha=0.01)


def test_a_state_of_a_list_starts_anew_where_the_constructor_put_it():
    model = network(6)
    optimizer = Sizes(model.parameters())
    step(model, optimizer)  # else the masked entries are what the constructor has put there in any case
    with redense.sparse(model, optimizer, 0.5) as block:
        step(model, optimizer)
        mask = block.masks["0.weight"].clone()
    assert optimizer.sizes[0][~mask].eq(0.25).all()
    assert optimizer.sizes[0][mask].ne(0.25).any()


class Several(Optimizer):
    """Steps several others, as torchtitan's container does."""

    def __init__(self, inside: Any, more: Any = None) -> None:
        self.inside = inside
        self.each = list(inside.values() if isinstance(inside, dict) else inside)
        super().__init__([p for o in self.each for g in o.param_groups for p in g["params"]], {})
        if more:
            cast("Any", self.each[0]).outside = self

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for optimizer in self.each:
            optimizer.step()


@pytest.mark.parametrize("as_dict", [False, True])
def test_the_optimizers_in_a_list_or_dict_of_one_are_inside_it(as_dict: bool):
    model = network()
    first = SGD(model[0].parameters(), lr=0.1, momentum=0.9)
    second = AdamW(model[2].parameters(), lr=0.01, weight_decay=0)
    outer = Several({"a": first, "b": second} if as_dict else [first, second], more=True)
    assert {id(each) for each in inner_optimizers(outer)} == {id(first), id(second)}
    assert moved(model, outer) == 0


class Lookahead(Optimizer):
    """Shares state and groups with the optimizer inside, and keeps the slow weights in lists."""

    def __init__(self, inside: Optimizer) -> None:
        self.optimizer, self.steps = inside, 0
        self.param_groups, self.state, self.defaults = inside.param_groups, inside.state, {}
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.optimizer.step()
        self.steps += 1
        for group, slow in zip(self.param_groups, self.slow, strict=True):
            for p, q in zip(group["params"], slow, strict=True):
                if self.steps % 5 == 0:
                    q.lerp_(p.detach(), 0.5)
                    p.data.copy_(q)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


def test_slow_weights_in_lists_are_masked_and_shared_states_start_as_those_of_the_optimizer_inside():
    model = network(6)
    inside = Adagrad(model.parameters(), lr=0.05, initial_accumulator_value=0.25)
    outer = Lookahead(inside)
    assert moved(model, outer) == 0
    assert inside.state[model.get_parameter("0.weight")]["sum"].min() == 0.25
