"""The code of guests in a training, loggers and listeners: it changes no bit of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch

from redense.holding.randomness import random_kept


def _set_determinism(values: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(values[0], warn_only=values[1])


def _flags_of_cudnn() -> tuple[bool, bool, bool]:
    flags: Any = torch.backends.cudnn
    return flags.benchmark, flags.deterministic, flags.allow_tf32


def _set_flags_of_cudnn(values: tuple[bool, bool, bool]) -> None:
    flags: Any = torch.backends.cudnn
    flags.benchmark, flags.deterministic, flags.allow_tf32 = values


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_determinism,
    ),
    (_flags_of_cudnn, _set_flags_of_cudnn),
)
"""PyTorch's settings of a process on which the bits of a training depend: what reads each, and what sets it."""


@contextmanager
def hosting() -> Generator[None]:
    """Put the random generators and PyTorch's settings of the process back as they were before a guest's code."""
    with random_kept():
        before = [read() for read, _ in _SETTINGS]
        try:
            yield
        finally:
            for value, (read, write) in zip(before, _SETTINGS, strict=True):
                if read() != value:
                    write(value)
