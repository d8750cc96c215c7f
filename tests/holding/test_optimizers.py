"""Checkpoints of ``torch.distributed``: what fills a fresh optimizer's state trains nothing, and is no step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.optim import SGD, Adafactor, AdamW, Optimizer, Rprop

import redense
from redense import Phase, Schedule, Surgery
from redense.errors import OptimizerError, StateError
from redense.holding.optimizers import fills_state

DENSE_FIRST = Schedule.dsd(dense=1, sparse=3, redense=2, sparsity=0.5)
SPARSE_FIRST = Schedule((Phase.sparse(2, 0.5), Phase.dense(2)))
SURGERY_FIRST = Schedule((Phase.sparse(2, 0.5, surgery=Surgery(power=0)), Phase.dense(2)))
SURGERY = Schedule.surgery(dense=1, sparse=3, redense=2, sparsity=0.5, surgery=Surgery(power=0))

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd-momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: AdamW(p, lr=0.01),
    "adamw-fused": lambda p: AdamW(p, lr=0.01, fused=True),
    "adamw-lr-tensor": lambda p: AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "adafactor": lambda p: Adafactor(p, lr=0.01),
    "rprop": lambda p: Rprop(p, lr=0.01),
}


class Training:
    def __init__(self, optimizer: str, schedule: Schedule, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.dsd = redense.DSD(self.model, self.optimizer, schedule)

    def step(self, number: int) -> None:
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(number))
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def state_of(training: Training) -> dict[str, Any]:
    model, optimizer = get_state_dict(training.model, training.optimizer)
    return {"model": model, "optimizer": optimizer, "dsd": training.dsd.sharded_state_dict()}


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*((name, DENSE_FIRST) for name in OPTIMIZERS), *(("sgd", schedule) for schedule in (SPARSE_FIRST, SURGERY))],
)
def test_a_checkpoint_at_any_step_counts_as_none_and_moves_nothing(optimizer: str, schedule: Schedule):
    straight, saved = Training(optimizer, schedule), Training(optimizer, schedule)
    for number in range(schedule.total_steps):
        weights, phase = saved.weights(), saved.dsd.phase
        for _ in range(2):
            get_state_dict(saved.model, saved.optimizer)
        get_model_state_dict(saved.model)
        assert saved.dsd.step == number
        assert saved.dsd.phase is phase
        assert all(torch.equal(a, b) for a, b in zip(weights, saved.weights(), strict=True))
        for training in (straight, saved):
            training.step(number)
        # Of other optimizers torch's step leaves counters, step sizes and decayed momenta, without redense too.
        if optimizer == "sgd":
            for name, mask in straight.dsd.masks.items():
                assert torch.equal(mask, saved.dsd.masks[name])
    assert saved.dsd.phase is None
    if optimizer == "sgd":
        assert all(torch.equal(a, b) for a, b in zip(straight.weights(), saved.weights(), strict=True))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # PyTorch 2.8 uses it itself, to save
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [("sgd", DENSE_FIRST), ("sgd", SPARSE_FIRST), ("adamw", SPARSE_FIRST), ("adamw", SURGERY_FIRST)],
)
@pytest.mark.parametrize("first", ["controller", "weights"])
def test_a_run_that_torch_loads_goes_on_with_the_same_bits(
    optimizer: str, schedule: Schedule, first: str, tmp_path: Path
):
    straight = Training(optimizer, schedule)
    for number in range(schedule.total_steps):
        straight.step(number)
    training = Training(optimizer, schedule)
    for number in range(schedule.total_steps):
        training.step(number)
        saved = copy.deepcopy(state_of(training))
        training = Training(optimizer, schedule, seed=number + 1)  # killed, and another process goes on
        state = state_of(training)  # what a distributed checkpoint is loaded into
        if schedule is SPARSE_FIRST and number == 1:
            dcp: Any = torch.distributed.checkpoint
            dcp.save(saved, checkpoint_id=str(tmp_path))
            dcp.load(state, checkpoint_id=str(tmp_path))
        else:
            state = saved
        if first == "controller":
            training.dsd.load_state_dict(state["dsd"])
        set_state_dict(
            training.model, training.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )
        if first == "weights":
            training.dsd.load_state_dict(state["dsd"])
        assert training.dsd.step == number + 1
    assert all(torch.equal(a, b) for a, b in zip(straight.weights(), training.weights(), strict=True))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_a_dsd_that_is_loaded_as_it_is_by_a_distributed_checkpoint_never_loses_masks_in_silence(tmp_path: Path):
    dcp: Any = torch.distributed.checkpoint
    training, again = Training("sgd", DENSE_FIRST), Training("sgd", DENSE_FIRST)
    for number in range(DENSE_FIRST.phases[0].steps + 1):
        training.step(number)
    dcp.save({"dsd": training.dsd}, checkpoint_id=str(tmp_path))  # has state_dict and load_state_dict: DCP calls them
    with pytest.raises(StateError, match=r"no mask of '0\.weight': .* save and load sharded_state_dict"):
        dcp.load({"dsd": again.dsd}, checkpoint_id=str(tmp_path))


def test_with_several_optimizers_a_checkpoint_is_no_step_of_any():
    model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))
    parts = [list(layer.parameters()) for layer in (model[0], model[2])]
    optimizers = [SGD(parts[0], lr=0.1, momentum=0.9), AdamW(parts[1], lr=0.01)]
    dsd = redense.DSD(model, optimizers, DENSE_FIRST)
    states = get_optimizer_state_dict(model, optimizers)
    set_optimizer_state_dict(model, optimizers, states)
    assert dsd.step == 0
    assert not dsd.masks
    for optimizer in optimizers:
        model(torch.randn(3, 8)).square().mean().backward()
        optimizer.step()
    assert dsd.step == 1


def test_the_first_step_of_a_warm_up_from_zero_is_a_step():
    training = Training("sgd", DENSE_FIRST)
    scheduler = torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: step / 4)
    assert training.optimizer.param_groups[0]["lr"] == 0
    training.step(0)
    scheduler.step()
    assert training.dsd.step == 1
    assert training.dsd.masks


def test_a_block_holds_its_masks_through_a_checkpoint():
    model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))
    optimizer = AdamW(model.parameters(), lr=0.01)
    with redense.sparse(model, optimizer, 0.5) as block:
        get_state_dict(model, optimizer)
        assert optimizer.state, "torch filled no state: this proves nothing"
        for name, mask in block.masks.items():
            assert torch.equal(model.get_parameter(name) != 0, mask)


@pytest.mark.parametrize(
    ("change", "empty"),
    [
        ("nothing", True),
        ("a rate", False),
        ("a gradient", False),
        ("no gradient", False),
        ("a sparse gradient", False),
        ("no rates at all", False),
        ("a frozen parameter", True),
    ],
)
def test_only_zero_rates_with_zero_gradients_of_every_parameter_train_nothing(change: str, empty: bool):
    one, two = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = SGD([{"params": [one]}, {"params": [two], "lr": torch.tensor(0.0)}], lr=0.0)
    one.grad, two.grad = torch.zeros(3), torch.zeros(3)
    if change == "a rate":
        optimizer.param_groups[1]["lr"] = torch.tensor(0.1)
    elif change == "a gradient":
        two.grad[2] = 1
    elif change == "no gradient":
        two.grad = None
    elif change == "a sparse gradient":
        two.grad = torch.zeros(3).to_sparse()
    elif change == "no rates at all":
        for group in optimizer.param_groups:
            del group["lr"]
    elif change == "a frozen parameter":
        two.grad = None
        two.requires_grad_(False)
    assert fills_state(optimizer) is empty


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cuda_graph_around_a_step_is_refused_in_every_phase(sparse: bool, monkeypatch: pytest.MonkeyPatch):
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = redense.Schedule.dsd(dense=0 if sparse else 2, sparse=2, redense=2, sparsity=0.5)
    dsd = redense.DSD(model, optimizer, schedule)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    loss = model(torch.ones(2, 4)).sum()
    if sparse:  # the graph would keep the mask of this phase for ever
        with pytest.raises(OptimizerError, match="make_graphed_callables"):
            loss.backward()
    with pytest.raises(OptimizerError, match="make_graphed_callables"):
        optimizer.step()
    monkeypatch.undo()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert dsd.step == 1
