"""A network, an optimizer and a training loop that are written out by hand, for tests of the core."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

import redense
from redense import Schedule

DSD = Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=0.5)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model: nn.Module, *optimizers: Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def hooks(optimizer: Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)  # pyright: ignore[reportPrivateUsage]


def pruned(model: nn.Module) -> dict[str, int]:
    return {name: int((weight == 0).sum()) for name, weight in redense.prunable(model).items()}
