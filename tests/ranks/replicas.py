"""What `tests/masks/test_sharding.py` checks of ranks that train copies of one model: every function `check_...`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import redense
from redense import Phase, Schedule, Surgery
from redense.errors import ScoreError, StateError
from redense.masks.sharding import local, whole

RANK, WORLD = int(sys.argv[1]), int(sys.argv[2])
LAST = WORLD - 1

DSD = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.4)
SPARSE_FIRST = Schedule((Phase.sparse(3, 0.4), Phase.dense(2)))


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


def backward(model: nn.Module, number: int) -> None:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(WORLD * number + RANK))  # a batch of its own
    model(x).square().mean().backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *numbers: int) -> None:
    for number in numbers:
        optimizer.zero_grad()
        backward(model, number)
        optimizer.step()


def assert_all_raise(kind: type[Exception], says: str, work: Callable[[], object]) -> None:
    """Every rank raises, so that none of them is left waiting: the barrier would be."""
    with pytest.raises(kind, match=re.escape(says)):
        work()
    dist.barrier()


def assert_alike(dsd: redense.DSD) -> None:
    for name, mask in dsd.masks.items():
        gathered = [torch.empty_like(mask, dtype=torch.uint8) for _ in range(WORLD)]
        dist.all_gather(gathered, mask.to(torch.uint8))
        assert all(torch.equal(gathered[0], other) for other in gathered), name


# --- refused on every rank -----------------------------------------------------------------------------------------


def check_masks_of_weights_that_ddp_replaced_are_refused_at_the_first_step() -> None:
    model = net(seed=RANK)
    optimizer = sgd(model)
    redense.DSD(model, optimizer, SPARSE_FIRST)
    wrapped = DistributedDataParallel(model)  # sends the weights of rank 0
    says = "the ranks of DistributedDataParallel have different masks for '0.weight'"
    assert_all_raise(StateError, says, lambda: train(wrapped, optimizer, 0))


def check_a_controller_that_is_made_before_ddp_of_equal_weights_is_fine() -> None:
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SPARSE_FIRST)
    train(DistributedDataParallel(model), optimizer, 0, 1)
    assert_alike(dsd)
    assert dsd.masks


def check_seeds_and_schedules_that_differ_are_refused() -> None:
    for says, seed, steps in (
        ("differ in their seed, which is", RANK, 2),
        ("differ in their schedule, which is", 0, 2 + RANK),
    ):
        model = DistributedDataParallel(net())
        optimizer = sgd(model)
        schedule = Schedule.random(dense=steps, sparse=3, redense=2, sparsity=0.4)
        redense.DSD(model, optimizer, schedule, seed=seed)
        assert_all_raise(StateError, says, lambda m=model, o=optimizer: train(m, o, 0))
    model = DistributedDataParallel(net())
    block = redense.sparse(model, sgd(model), 0.4 + RANK / 10)
    assert_all_raise(StateError, "differ in their phase, which is", block.__enter__)


def check_a_nan_and_any_other_error_of_one_rank_are_raised_by_all() -> None:
    model = DistributedDataParallel(net())
    optimizer = sgd(model)
    redense.DSD(model, optimizer, DSD)
    train(model, optimizer, 0)
    backward(model, 1)
    if RANK == LAST:
        local(model.module[2].weight.detach())[0, 0] = torch.nan
    says = (
        "1 of the 48 scores of '2.weight' are NaN" if RANK == LAST else f"rank {LAST}: 1 of the 48 scores of '2.weight'"
    )
    assert_all_raise(ScoreError, says, optimizer.step)

    @redense.criterion("breaks-on-one-rank")
    def _(parameter: Tensor, seed: int) -> Tensor:
        if RANK == LAST:
            raise KeyError("no such table")
        return parameter.abs()

    for shard in (False, True):
        inner = net()
        if shard:
            fully_shard(inner)
        wrapped = inner if shard else DistributedDataParallel(inner)
        block = redense.sparse(wrapped, sgd(wrapped), 0.4, criterion="breaks-on-one-rank")
        if RANK == LAST:
            assert_all_raise(KeyError, "no such table", block.__enter__)
        else:
            assert_all_raise(StateError, f"rank {LAST}: KeyError: 'no such table'", block.__enter__)


def check_ranks_that_join_after_different_numbers_of_steps_are_refused() -> None:
    model = DistributedDataParallel(net())
    optimizer = sgd(model)
    redense.DSD(model, optimizer, DSD)

    def uneven() -> None:
        with Join([model]):
            train(model, optimizer, *range(3 + RANK))

    assert_all_raise(StateError, "torch's Join lets a rank stop before the others", uneven)


def check_a_state_that_one_rank_alone_has_loaded_is_refused() -> None:
    model = DistributedDataParallel(net())
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    train(model, optimizer, 0)
    state = dsd.state_dict()
    train(model, optimizer, 1, 2)
    if RANK == LAST:
        dsd.load_state_dict(state)
    # The others have agreed already, and go on until masks are chosen: so a state is loaded on all of them, or none.
    if RANK != LAST:
        dsd.load_state_dict(dsd.state_dict())
    says = f"differ in their steps, which is {[1] if RANK == LAST else [3]} on rank {RANK}"
    assert_all_raise(StateError, says, lambda: train(model, optimizer, 3))


def check_replicas_without_a_wrapper_are_compared_when_their_group_is_given() -> None:
    model = net(seed=RANK)
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD, replicas=dist.group.WORLD)
    train(model, optimizer, 0)
    says = "the ranks of the given process group have different masks for '0.weight'"
    assert_all_raise(StateError, says, lambda: train(model, optimizer, 1))
    dsd.close()
    with redense.sparse(model, optimizer, 0.5, replicas=False) as block:  # each rank a model of its own
        assert block.masks
        train(model, optimizer, *range(1 + RANK))


def check_surgery_that_revises_the_masks_of_ranks_apart_is_refused() -> None:
    model = net()
    optimizer = sgd(model, lr=0.5)
    schedule = Schedule.surgery(dense=1, sparse=40, redense=1, sparsity=0.4, surgery=Surgery(power=0))
    # Neither rank knows of the other's gradients.
    redense.DSD(model, optimizer, schedule, replicas=dist.group.WORLD)
    torch.manual_seed(0)
    model(torch.randn(6, 8)).square().mean().backward()
    optimizer.step()
    says = "have different masks for"
    assert_all_raise(StateError, says, lambda: train(model, optimizer, *range(40)))


def check_replicas_of_shards_that_were_seeded_apart_are_refused() -> None:
    mesh = init_device_mesh("cpu", (WORLD, 1), mesh_dim_names=("replicate", "shard"))
    model = net(seed=RANK)
    fully_shard(model, mesh=mesh)
    block = redense.sparse(model, sgd(model), 0.4)
    says = f"the ranks of the device mesh ({WORLD}, 1) have different masks for '0.weight'"
    assert_all_raise(StateError, says, block.__enter__)

    model = net(seed=RANK)  # FSDP2 leaves one weight alone, of which every rank has its own
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)), ignored_params={model.get_parameter("0.weight")})
    block = redense.sparse(model, sgd(model), 0.4)
    says = f"the ranks of the device mesh ({WORLD},) have different masks for '0.weight'"
    assert_all_raise(StateError, says, block.__enter__)


# --- what one rank may do alone, and what costs nothing ------------------------------------------------------------


def check_one_rank_alone_may_print_a_summary_of_its_shards() -> None:
    model = net()
    fully_shard(model)
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    train(model, optimizer, 0, 1)
    if RANK == 0:
        assert "of this rank's shard" in str(dsd.summary())
    dist.barrier()
    assert dsd.masks


def check_ranks_send_a_few_bytes_where_masks_are_chosen_and_nothing_else() -> None:
    model = DistributedDataParallel(net())
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    honest, sent = dist.all_reduce, list[list[int]]()

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent[-1].append(tensor.numel() * tensor.element_size())
        return honest(tensor, *args, **kwargs)

    dist.all_reduce = all_reduce  # DDP's own reducer does not go through it
    try:
        for number in range(DSD.total_steps):
            sent.append([])
            train(model, optimizer, number)
            assert_alike(dsd)
    finally:
        dist.all_reduce = honest
    assert [bool(calls) for calls in sent] == [True, True, False, False, False, False, False]
    assert max(map(sum, sent)) <= 100, sent
    assert dsd.phase is None


# --- gradients of removed weights ----------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.02),
}
WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda m: m,
    "ddp": DistributedDataParallel,
    "ddp, gradients in buckets": lambda m: DistributedDataParallel(m, gradient_as_bucket_view=True),
    "ddp, static graph": lambda m: DistributedDataParallel(m, static_graph=True),
    "ddp, unused parameters": lambda m: DistributedDataParallel(m, find_unused_parameters=True),
    "fsdp2": cast("Any", fully_shard),
}


def trained(optimizer: str, way: str) -> list[Tensor]:
    """Train through a schedule in two micro-batches a step, with clipping: norms, zeros and final weights."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(8, 12, bias=False), nn.Tanh(), nn.Linear(12, 4, bias=False))
    model = WAYS[way](inner)
    own = OPTIMIZERS[optimizer](model.parameters())
    dsd = redense.DSD(model, own, DSD)
    seen: list[Tensor] = []
    for number in range(DSD.total_steps):
        own.zero_grad()
        for micro in range(2):
            x = torch.randn(WORLD * 6, 8, generator=torch.Generator().manual_seed(2 * number + micro))
            if way != "plain":
                x = x[6 * RANK : 6 * RANK + 6]
            wait = isinstance(model, DistributedDataParallel) and way != "ddp, static graph" and not micro
            with model.no_sync() if wait else nullcontext():  # pyright: ignore[reportCallIssue]
                model(x).square().mean().backward()
        for name, mask in dsd.masks.items():
            gradient = inner.get_parameter(name).grad
            assert gradient is not None
            assert (local(gradient)[~local(mask)] == 0).all(), (optimizer, way, number)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        seen.append(whole(norm))
        own.step()
        seen += [whole(mask) for mask in dsd.masks.values()]
    return seen + [whole(p.detach()) for p in inner.parameters()]


def check_the_gradient_of_a_removed_weight_is_in_no_norm_whatever_the_loop_and_the_optimizer() -> None:
    for optimizer in OPTIMIZERS:
        expected = trained(optimizer, "plain")
        # Torch's own Adafactor does not step on shards ("aten.pow_.Scalar ... placement changes"), without redense too.
        for way in WAYS if optimizer == "sgd" else ("ddp",) if optimizer == "adafactor" else ("ddp", "fsdp2"):
            for one, two in zip(expected, trained(optimizer, way), strict=True):
                torch.testing.assert_close(one, two, msg=lambda says, o=optimizer, w=way: f"{o}, {w}: {says}")


# --- checkpoints ----------------------------------------------------------------------------------------------------


def check_a_checkpoint_of_fresh_shards_is_no_step_though_one_rank_makes_it_alone() -> None:
    model = net()
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=1, sparsity=0.5))
    if RANK == 0:
        get_optimizer_state_dict(model, optimizer)
    dist.barrier()
    if RANK != 0:
        get_state_dict(model, optimizer)
    assert dsd.step == 0
    assert not dsd.masks
    train(model, optimizer, 0)
    assert dsd.step == 1


def check_a_warm_up_from_zero_is_a_step_also_for_a_rank_whose_shards_have_no_gradient() -> None:
    model = nn.Linear(WORLD, WORLD, bias=False)
    torch.manual_seed(0)
    fully_shard(model)
    optimizer = sgd(model, lr=0.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(2), Phase.sparse(2, 0.5))))
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, WORLD))[:, 0].sum().backward()  # the first row's shard alone has a gradient
        assert bool(local(model.weight.grad).any()) == (RANK == 0)  # pyright: ignore[reportArgumentType]
        optimizer.step()
    assert dsd.step == 2
    assert int((whole(model.weight.detach()) == 0).sum()) == round(0.5 * WORLD**2)
