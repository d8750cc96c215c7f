"""Optimizers with two sets of weights: one to train at, and an average to evaluate at (schedule-free ones)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def evaluated(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Have the weights to evaluate at in the model, and afterwards those to train at again, to the bit."""
    if not _trains(optimizer):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    _modes(optimizer).eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
        for group in optimizer.param_groups:
            group["train_mode"] = True


def end_average_(optimizer: torch.optim.Optimizer) -> bool:
    """Leave the weights to evaluate at in the model, as a phase ends; return whether they are others."""
    if not _trains(optimizer):
        return False
    _modes(optimizer).eval()
    return True


def go_on_(optimizer: torch.optim.Optimizer) -> None:
    """Have the weights to train at in the model, as a phase begins or goes on."""
    if any(group.get("train_mode") is False for group in optimizer.param_groups):
        _modes(optimizer).train()


def _trains(optimizer: torch.optim.Optimizer) -> bool:
    return any(group.get("train_mode") is True for group in optimizer.param_groups)


def _modes(optimizer: Any) -> Any:
    return optimizer
