"""Tensors a block at a time, so that temporaries stay in the cache, and scores as integers that order as they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 17  # elements a block on CPU: weights, bit patterns and comparison stay in a 2 MiB cache
_DEVICE_BLOCK = 1 << 26  # elements a block elsewhere: only bounds the temporaries

INT_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Give a one-dimensional tensor in parts whose temporaries stay small; nothing for an empty one."""
    if flat.numel():
        yield from torch.split(flat, block_of(flat))


def block_of(tensor: Tensor) -> int:
    """Return the elements of a block on the device of a tensor."""
    return _BLOCK if tensor.device.type == "cpu" else _DEVICE_BLOCK


Key = Callable[[Tensor], Tensor]
"""Block of scores -> integers that order as the scores do."""


def magnitude_bits(block: Tensor) -> Tensor:
    """Integers that order as ``|x|`` does."""
    return block.abs().view(INT_OF_SIZE[block.dtype.itemsize])


def ordered_bits(block: Tensor) -> Tensor:
    """Integers that order as ``x`` does; adding 0.0 turns -0.0 into 0.0, flipping negative patterns orders them."""
    bits = (block + 0.0).view(INT_OF_SIZE[block.dtype.itemsize])
    info = torch.iinfo(bits.dtype)
    return bits ^ ((bits >> (info.bits - 1)) & info.max)


def upper_bits(block: Tensor) -> Tensor:
    """16 of the 32 bits of `magnitude_bits`: what orders them but for a tie. Compared in a fifth of the time on CPU."""
    return (block.view(torch.int32) >> 16).to(torch.int16).bitwise_and_(0x7FFF)
