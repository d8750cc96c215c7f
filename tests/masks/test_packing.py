"""Masks as bits, there and back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_samples import masks_with_tensors, patched
from torch import Tensor

from redense import masks
from redense.errors import ParameterError


@given(masks_with_tensors(), st.sampled_from([8, 64, 1 << 18]))
def test_a_packed_mask_comes_back_from_an_eighth_of_the_bytes(case: tuple[Tensor, list[Tensor]], block: int):
    mask, _ = case
    patch = patched({"_BLOCK": block})
    try:
        packed = masks.pack(mask)
        unpacked = masks.unpack(packed, mask.shape)
    finally:
        patch.undo()
    assert packed.dtype == torch.uint8
    assert packed.numel() == math.ceil(mask.numel() / 8)
    assert unpacked.dtype == torch.bool
    assert torch.equal(unpacked, mask)


def test_the_lowest_bit_of_a_packed_mask_is_its_first_weight():
    assert masks.pack(
        torch.tensor([[True, False], [False, True], [False, False], [False, True], [True, False]])
    ).tolist() == [
        0b10001001,
        0b1,
    ]


@pytest.mark.parametrize(
    "packed", [torch.zeros(1, dtype=torch.uint8), torch.zeros(2), torch.zeros(3, dtype=torch.uint8)]
)
def test_packed_bits_that_do_not_fit_the_shape_are_refused(packed: Tensor):
    with pytest.raises(ParameterError, match=r"a packed mask for shape \(3, 4\) has 2 bytes, got"):
        masks.unpack(packed, (3, 4))


@pytest.mark.parametrize(("shape", "size"), [((16,), 2), ((17,), 3)])
def test_packed_bits_that_do_not_fit_say_how_many_would(shape: tuple[int, ...], size: int):
    with pytest.raises(ParameterError, match=f"has {size} bytes"):
        masks.unpack(torch.zeros(1, dtype=torch.uint8), shape)
