"""A training that is sharded or not, and what two of them must have in common: what `shards.py` checks with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import Replicate, Shard

import redense
from redense import Schedule
from redense.masks.sharding import whole

WORLD = int(sys.argv[2])


class Tied(nn.Module):
    """13 rows, which no number of ranks but 13 divides; two layers share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(8, 13)
        self.middle = nn.Linear(13, 13)
        self.again = nn.Linear(13, 13)
        self.again.weight = self.middle.weight
        self.out = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.again(self.middle(self.encode(x).tanh()).tanh()))


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


class Training:
    """The same training on every rank, sharded or not, so that all of them have to end with the same bits."""

    def __init__(
        self,
        schedule: Schedule,
        shard: Callable[[nn.Module], Any] | None,
        model: type[nn.Module] = Plain,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.schedule = schedule
        self.model = model()
        if shard:
            shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        self.dsd = redense.DSD(self.model, self.optimizer, schedule, seed=7)

    def step(self, number: int) -> None:
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(number))
        self.optimizer.zero_grad()
        self.model(x).float().square().mean().backward()
        self.optimizer.step()

    def steps(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.step(number)

    def weights(self) -> dict[str, Tensor]:
        return {name: whole(p.detach()) for name, p in self.model.named_parameters()}

    def states(self) -> Iterator[Tensor]:
        for state in self.optimizer.state.values():
            yield from (whole(value) for value in state.values())


def shard(model: nn.Module, **more: Any) -> None:
    for layer in model.children():
        if isinstance(layer, nn.Linear) and not isinstance(model, Tied):
            fully_shard(layer, **more)
    fully_shard(model, **more)
    for part in model.modules():
        if isinstance(part, FSDPModule):  # over gloo, PyTorch 2.8 takes the sum of gradients for their average
            part.set_force_sum_reduction_for_comms(True)


def assert_same(one: Training, two: Training, where: object) -> None:
    assert one.dsd.phase == two.dsd.phase, where
    masks_one, masks_two = one.dsd.masks, two.dsd.masks
    assert list(masks_one) == list(masks_two), where
    for name, mask in masks_one.items():
        assert torch.equal(whole(mask), whole(masks_two[name])), (where, name)
    weights = one.weights()
    for name, weight in two.weights().items():
        assert torch.equal(weights[name], weight), (where, name)
    if one.dsd.phase is None:  # every state before shows in a weight after
        for a, b in zip(one.states(), two.states(), strict=True):
            assert torch.equal(a, b), where


def assert_raises(kind: type[Exception], says: str, work: Callable[[], object]) -> None:
    with pytest.raises(kind, match=re.escape(says)):
        work()


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """The bytes of every all-reduce that this rank takes part in."""
    honest, sent = dist.all_reduce, list[int]()

    def all_reduce(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(tensor.numel() * tensor.element_size())
        return honest(tensor, *args, **kwargs)

    dist.all_reduce = all_reduce
    try:
        yield sent
    finally:
        dist.all_reduce = honest


def placements() -> Iterator[tuple[Any, tuple[Any, ...]]]:
    line = init_device_mesh("cpu", (WORLD,))
    yield from ((line, (placement,)) for placement in (Shard(0), Shard(1), Replicate()))
    square = init_device_mesh("cpu", (2, WORLD // 2) if WORLD > 1 else (1, 1), mesh_dim_names=("a", "b"))
    for pair in ((Replicate(), Shard(0)), (Shard(0), Replicate()), (Shard(0), Shard(1)), (Shard(0), Shard(0))):
        yield square, pair
