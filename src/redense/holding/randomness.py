"""The random generators that others draw from: taken, and put back as they were."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch


def generators() -> list[torch.Generator]:
    """Return PyTorch's own generators: the CPU's, and each GPU's where CUDA has begun."""
    return [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]


def seed_all(seed: int) -> None:
    """Seed the generators of PyTorch, Python and NumPy.

    ``torch.manual_seed`` would also seed the GPUs when they begin, whatever they had been given before.
    """
    for generator in generators():
        generator.manual_seed(seed)
    random.seed(seed)
    if numpy := cast("Any", sys.modules.get("numpy")):
        numpy.random.seed(seed % 2**32)


# Of two threads the second would otherwise put back what the first one has seeded, for good.
_one_at_a_time = threading.RLock()


@contextmanager
def random_kept(seed: int | None = None) -> Generator[None]:
    """Put PyTorch's, Python's and NumPy's generators back as they were; in between they are seeded, if one is given."""
    with _one_at_a_time:
        yield from _kept(seed)


def _kept(seed: int | None) -> Generator[None]:
    numpy = cast("Any", sys.modules.get("numpy"))
    before, of_numpy = random.getstate(), numpy.random.get_state() if numpy else None
    of_torch = [(generator, generator.get_state()) for generator in generators()]
    try:
        if seed is not None:
            seed_all(seed)
        yield
    finally:
        for generator, state in of_torch:
            generator.set_state(state)
        random.setstate(before)
        if numpy and of_numpy is not None:
            numpy.random.set_state(of_numpy)
