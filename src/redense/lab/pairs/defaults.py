"""PyTorch's defaults, which all trainings of a process share.

Those of the process that has called hold in every job, also in a process of its own, and what a job changes of them is
put back: the next one in that process would train otherwise than by itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Values = tuple[Any, ...]
"""Default type, device, whether there are gradients, and deterministic algorithms; nothing for those that there are."""


def defaults() -> Values:
    """Return the defaults of this process; nothing where nobody has asked for PyTorch."""
    return tuple(get() for get, _ in _ways()) if "torch" in sys.modules else ()


def usual() -> Values:
    """Return the defaults that PyTorch begins with; nothing where nobody has asked for it.

    Of deterministic algorithms those of this process: who wants an error of others keeps it.
    """
    if "torch" not in sys.modules:
        return ()
    import torch

    return torch.float32, torch.device("cpu"), True, _deterministic()


@contextlib.contextmanager
def held(given: Values = (), threads: int | None = None) -> Iterator[None]:
    """Have these defaults, and so many threads, until the block ends; then those of before, whatever has changed them.

    Args:
        given: of `defaults` or `usual`.
        threads: of PyTorch; None for as many as there are.
    """
    if threads is None and not given and "torch" not in sys.modules:
        yield
        return
    import torch

    ways = [(torch.get_num_threads, torch.set_num_threads), *_ways()]
    before = [get() for get, _ in ways]
    _put(ways, [before[0] if threads is None else threads, *(given or before[1:])])
    try:
        yield
    finally:
        _put(ways, before)


def _put(ways: list[tuple[Callable[[], Any], Callable[[Any], Any]]], values: list[Any]) -> None:
    for (get, put), value in zip(ways, values, strict=True):
        if get() != value:  # a default device that is set at all slows PyTorch down
            put(value)


def _ways() -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return how each default is asked for, and how it is set."""
    import torch

    return [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, torch.set_default_device),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (_deterministic, lambda how: torch.use_deterministic_algorithms(how[0], warn_only=how[1])),
    ]


def _deterministic() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
