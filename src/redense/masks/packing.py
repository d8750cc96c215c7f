"""Masks as bits, for checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from redense.errors import ParameterError

from .blocks import block_of, blocks

# --- packing --------------------------------------------------------------------------------------------------------

_BITS = (1, 2, 4, 8, 16, 32, 64, 128)


def pack(mask: Tensor) -> Tensor:
    """Pack a mask to bits, the lowest bit first: ``(ceil(N / 8),)`` uint8 on CPU, in logical order."""
    flat = mask.detach().reshape(-1)
    packed = torch.empty(-(-flat.numel() // 8), dtype=torch.uint8, device="cpu")
    for block, out in zip(blocks(flat), torch.split(packed, block_of(flat) // 8), strict=False):
        bits = block.to(device="cpu", dtype=torch.uint8)
        rows = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
        out.zero_()
        for column, bit in enumerate(_BITS):
            out.bitwise_or_(rows[:, column] * bit)
    return packed


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the mask of the given shape that `pack` packed.

    Raises:
        ParameterError: the number of bytes does not fit the shape.
    """
    numel = math.prod(shape)
    if packed.dtype != torch.uint8 or tuple(packed.shape) != (-(-numel // 8),):
        raise ParameterError(
            f"a packed mask for shape {tuple(shape)} has {-(-numel // 8)} bytes, "
            f"got {packed.dtype} of shape {tuple(packed.shape)}"
        )
    packed, bits = packed.cpu(), torch.tensor(_BITS, dtype=torch.uint8, device="cpu")
    mask = torch.empty(8 * packed.numel(), dtype=torch.bool, device="cpu")
    for block, out in zip(blocks(packed), torch.split(mask, 8 * block_of(packed)), strict=False):
        torch.ne(block.unsqueeze(1) & bits, 0, out=out.view(-1, 8))
    return mask[:numel].reshape(tuple(shape))
