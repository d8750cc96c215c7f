"""Optimizers that are trusted to leave removed weights at zero: the bits are those of masks, and writes are seen."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

import redense
from redense.errors import OptimizerError
from redense.holding import masked

LONG = 25  # steps: more than are trusted between two looks at all of a weight

SETTINGS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD, decay": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    "SGD, dampening": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    "SGD, fused": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
    "SGD, foreach": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}),
    "Adam": (torch.optim.Adam, {"weight_decay": 0.1}),
    "Adam, amsgrad": (torch.optim.Adam, {"amsgrad": True, "foreach": True}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "AdamW, foreach": (torch.optim.AdamW, {"weight_decay": 0.1, "foreach": True, "maximize": True}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True}),
    "AdamW, a decay that turns signs": (torch.optim.AdamW, {"lr": 2.0, "weight_decay": 0.9}),
    "AdamW, eps of 0": (torch.optim.AdamW, {"eps": 0.0}),
    "NAdam": (torch.optim.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    "RAdam": (torch.optim.RAdam, {"weight_decay": 0.1}),
    "RMSprop": (torch.optim.RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    "Adagrad": (torch.optim.Adagrad, {"initial_accumulator_value": 0.1, "lr_decay": 0.01}),
    "Adadelta": (torch.optim.Adadelta, {"weight_decay": 0.1}),
}


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 8)).to(dtype)


def step(model: nn.Module, optimizer: Optimizer, seed: int, *, closure: bool = False) -> None:
    parameter = next(model.parameters())
    data = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed)).to(parameter.dtype)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = model(data).square().mean()
        value.backward()
        return value

    if closure:
        optimizer.step(loss)  # pyright: ignore[reportCallIssue, reportArgumentType]
    else:
        loss()
        optimizer.step()


def unknown(kind: type[Optimizer]) -> type[Optimizer]:
    """Return a class of the same arithmetic, which redense does not know."""
    return type(f"Of{kind.__name__}", (kind,), {})


def trained(make: Callable[[nn.Module], Optimizer], *, closure: bool) -> dict[str, Tensor]:
    """Train under the mask and released; every removed weight is 0 after every step."""
    model = net()
    optimizer = make(model)
    step(model, optimizer, 0)
    with redense.sparse(model, optimizer, 0.5) as block:
        for seed in range(LONG):
            step(model, optimizer, seed, closure=closure)
            for name, mask in block.masks.items():
                assert not model.get_parameter(name)[~mask].any(), (name, seed)
    for seed in range(3):
        step(model, optimizer, seed, closure=closure)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


IN_A_CLOSURE = ("SGD, decay", "AdamW", "AdamW, fused", "RMSprop")
"""The others are asked with a closure by the slow tests: they differ in their arithmetic, not in when it is done."""


@pytest.mark.parametrize(
    ("setting", "closure"),
    [
        *((name, False) for name in SETTINGS),
        *(pytest.param(name, True, marks=[] if name in IN_A_CLOSURE else [pytest.mark.slow]) for name in SETTINGS),
    ],
)
def test_without_masking_each_step_the_bits_are_those_of_masking_each_step(setting: str, closure: bool):
    kind, options = SETTINGS[setting]
    own = trained(lambda model: kind(model.parameters(), **options), closure=closure)
    other = trained(lambda model: unknown(kind)(model.parameters(), **options), closure=closure)
    for name, value in own.items():
        assert torch.equal(value.view(torch.int32), other[name].view(torch.int32)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_divisor_that_is_zero_in_half_precision_leaves_no_nan(dtype: torch.dtype):
    model = net(dtype)
    optimizer = torch.optim.AdamW(model.parameters())  # whose eps of 1e-8 is 0 in float16
    with redense.sparse(model, optimizer, 0.5) as block:
        for _ in range(LONG):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            for name, mask in block.masks.items():
                weight = model.get_parameter(name)
                assert weight.isfinite().all()
                assert not weight[~mask].any()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_rate_of_zero_that_is_divided_by_leaves_no_nan(kind: Any, monkeypatch: pytest.MonkeyPatch):
    devices = "_get_capturable_supported_devices"  # a GPU; the steps compute the same here
    monkeypatch.setattr(sys.modules["torch.optim.adam"], devices, lambda *_, **__: ["cpu"])
    model = net()
    optimizer = kind(model.parameters(), lr=0.01, capturable=True, foreach=False, weight_decay=0.0)
    with redense.sparse(model, optimizer, 0.5) as block:
        for rate in (0.01, 0.0, 0.01):
            optimizer.param_groups[0]["lr"] = rate
            step(model, optimizer, 0)
            assert not any(model.get_parameter(name)[~mask].any() for name, mask in block.masks.items())


@pytest.mark.parametrize("rate", [float("inf"), torch.tensor(float("inf"))])
def test_an_infinite_rate_moves_no_removed_weight(rate: Any):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        step(model, optimizer, 0)
        optimizer.param_groups[0]["lr"] = rate
        step(model, optimizer, 0)
        assert not any(model.get_parameter(name)[~mask].any() for name, mask in block.masks.items())


@pytest.fixture
def masked_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count for each step the weights that are masked after it."""
    counts: list[int] = []

    def apply_all_(parts: Any) -> None:
        those = list(parts)
        counts.append(len(those))
        return own(those)

    own = masked.masking.apply_all_
    monkeypatch.setattr(masked.masking, "apply_all_", apply_all_)
    return counts


def after_steps(model: nn.Module, optimizer: Optimizer, counts: list[int], steps: int) -> int:
    """Return how many weights were masked after the last of some steps."""
    for seed in range(steps):
        counts.clear()
        step(model, optimizer, seed)
    return max(counts)


def test_the_known_optimizers_are_spared_the_pass_and_no_other(masked_steps: list[int]):
    for kind, options in SETTINGS.values():
        model = net()
        optimizer = kind(model.parameters(), **options)
        with redense.sparse(model, optimizer, 0.5):
            spared = after_steps(model, optimizer, masked_steps, 6) == 0
        assert spared == (options.get("eps") != 0 and options.get("lr") != 2.0), (kind, options)
    others: tuple[Any, ...] = (torch.optim.Adamax, torch.optim.Adafactor, unknown(torch.optim.SGD))
    for other in others:
        model = net()
        optimizer = other(model.parameters(), lr=1e-3)
        with redense.sparse(model, optimizer, 0.5):
            assert after_steps(model, optimizer, masked_steps, 6) == 2, other


@pytest.mark.parametrize("how", ["in place", "another tensor", "another dict", "uncounted"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_states_of_before_the_phase_that_are_put_back_in_it_move_no_removed_weight(
    kind: Any, how: str, masked_steps: list[int]
):
    model = net()
    optimizer = kind(model.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    step(model, optimizer, 0)
    saved = copy.deepcopy(list(optimizer.state.values()))
    with redense.sparse(model, optimizer, 0.5) as block:
        after_steps(model, optimizer, masked_steps, 6)
        for (parameter, state), old in zip(list(optimizer.state.items()), saved, strict=True):
            if how == "another dict":
                optimizer.state[parameter] = old
            for key, value in old.items():
                if how == "in place":
                    state[key].copy_(value)
                elif how == "another tensor":
                    state[key] = value
                elif how == "uncounted":
                    state[key].data.copy_(value)
        if how == "uncounted":
            step(model, optimizer, 1)
            with pytest.raises(OptimizerError, match="or their states in the optimizer before it"):
                step(model, optimizer, 2)
            return
        for spared in (False, True, True):
            assert (after_steps(model, optimizer, masked_steps, 1) == 0) is spared
            for name, mask in block.masks.items():
                weight = model.get_parameter(name)
                assert not weight[~mask].any()
                assert not any(value[~mask].any() for value in optimizer.state[weight].values() if value.dim())


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_hook_of_somebody_else_writes_is_masked(when: str, masked_steps: list[int]):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def spoil(*_: Any) -> None:
        for name, mask in masks.items():
            model.get_parameter(name).data[tuple((~mask).nonzero()[3])] = 7.0

    masks: dict[str, Tensor] = {}
    if when == "after":
        optimizer.register_step_post_hook(spoil)
    with redense.sparse(model, optimizer, 0.5) as block:
        masks = block.masks
        if when == "before":
            optimizer.register_step_pre_hook(spoil)
        assert after_steps(model, optimizer, masked_steps, 6) == 2
        for name, mask in masks.items():
            assert not model.get_parameter(name)[~mask].any()


def test_a_hook_on_all_optimizers_ends_the_trust(masked_steps: list[int]):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5):
        handle = register_optimizer_step_pre_hook(lambda *_: None)
        try:
            assert after_steps(model, optimizer, masked_steps, 6) == 2
        finally:
            handle.remove()
        assert after_steps(model, optimizer, masked_steps, 2) == 0


@pytest.mark.parametrize("kind", [torch.optim.SGD, unknown(torch.optim.SGD)])
@pytest.mark.parametrize("value", [1e-20, -1.0, math.nan, math.inf])
def test_one_removed_weight_of_many_that_is_written_is_an_error_at_the_next_step(kind: Any, value: float):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    optimizer = kind(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        model(torch.randn(4, 64)).square().mean().backward()
        for _ in range(5):
            optimizer.step()
        mask = block.masks["0.weight"]
        place = tuple((~mask).nonzero()[777])  # which no sample holds
        with torch.no_grad():
            model.get_parameter("0.weight")[place] = value
        with pytest.raises(OptimizerError, match=r"removed weights of '0\.weight' are not zero"):
            optimizer.step()


def nine_steps(optimizer: Optimizer) -> None:
    for _ in range(9):
        optimizer.step()


def test_a_write_that_pytorch_does_not_count_is_an_error_within_nine_steps():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        model(torch.randn(4, 64)).square().mean().backward()
        for _ in range(5):
            optimizer.step()
        place = tuple((~block.masks["0.weight"]).nonzero()[777])
        model.get_parameter("0.weight").data[place] = 1.0
        with pytest.raises(OptimizerError, match=r"removed weights of '0\.weight' are not zero"):
            nine_steps(optimizer)


def test_an_infinity_that_is_kept_is_no_removed_weight_that_moved():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        model(torch.randn(4, 64)).square().mean().backward()
        with torch.no_grad():
            model.get_parameter("0.weight")[tuple(block.masks["0.weight"].nonzero()[5])] = math.inf
        for _ in range(LONG):
            optimizer.step()


def test_gradients_that_take_part_build_up_momenta_and_move_no_removed_weight():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    by_hand = dict[str, Tensor]()
    with redense.sparse(model, optimizer, 0.5) as block:
        block.keep_gradients()
        for seed in range(LONG):
            step(model, optimizer, seed)
            for name, mask in block.masks.items():
                weight = model.get_parameter(name)
                assert not weight[~mask].any()
                assert weight.grad is not None
                by_hand[name] = 0.9 * by_hand[name] + weight.grad if seed else weight.grad.clone()
                torch.testing.assert_close(optimizer.state[weight]["momentum_buffer"], by_hand[name])
                assert by_hand[name][~mask].any()
        masks = block.masks
    for name, mask in masks.items():
        assert not optimizer.state[model.get_parameter(name)]["momentum_buffer"][~mask].any()


def test_a_weight_whose_state_was_written_once_is_trusted_no_more():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with redense.sparse(model, optimizer, 0.5) as block:
        for seed in range(7):
            step(model, optimizer, seed)
            if seed in {1, 5}:
                for name, mask in block.masks.items():
                    velocity = optimizer.state[model.get_parameter(name)]["momentum_buffer"]
                    velocity[tuple((~mask).nonzero()[3])] = 1.0
        for name, mask in block.masks.items():
            assert not model.get_parameter(name)[~mask].any()


def test_a_weight_that_a_closure_writes_is_masked():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        for seed in range(6):
            step(model, optimizer, seed)

        def closure() -> Tensor:
            loss = model(torch.randn(8, 16)).square().mean()
            loss.backward()
            with torch.no_grad():
                for name, mask in block.masks.items():
                    model.get_parameter(name)[~mask] = 1.0  # after the masks, before the step
            return loss

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        for name, mask in block.masks.items():
            assert not model.get_parameter(name)[~mask].any()
