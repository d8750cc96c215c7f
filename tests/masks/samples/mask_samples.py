"""Scores and masks with what makes selecting and applying hard, and the rule as it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from redense.masks import applying, blocks, threshold

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def prune_by_sorting(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Rule 1 as it is written: the first round(s N) of a stable ascending sort go; float64 holds all dtypes."""
    flat = torch.cat([values.detach().double().reshape(-1) for values in scores.values()]) + 0.0
    kept = torch.ones(flat.shape, dtype=torch.bool)
    kept[flat.sort(stable=True).indices[: round(sparsity * flat.numel())]] = False
    parts = kept.split([values.numel() for values in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "transposed":
        return tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        wide = torch.zeros(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        wide[..., ::2] = tensor
        return wide[..., ::2]
    return tensor.contiguous()


LAYOUTS = st.sampled_from(["contiguous", "transposed", "channels_last", "strided"])
SHAPES = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
SPARSITIES = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.999, 1 - 2**-53]))


@st.composite
def score_tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = FLOATS) -> Tensor:
    """Scores with what makes a selection hard: ties, both zeros, subnormals, extremes, negatives, odd layouts."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(SHAPES)
    info = torch.finfo(dtype)
    special = [0.0, -0.0, info.tiny / 4, -info.tiny / 4, info.max, info.min, info.tiny, 1.0, -1.0]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    numel = math.prod(shape)
    kind = draw(st.sampled_from(["normal", "few values", "special", "equal", "mixed"]))
    normal = torch.randn(numel, generator=generator, dtype=torch.float64)
    few = torch.randint(-2, 3, (numel,), generator=generator).double()
    odd = torch.tensor(special, dtype=torch.float64)[torch.randint(len(special), (numel,), generator=generator)]
    values = {
        "normal": normal,
        "few values": few,
        "special": odd,
        "equal": torch.full((numel,), draw(st.sampled_from(special)), dtype=torch.float64),
        "mixed": torch.where(torch.rand(numel, generator=generator) < 0.5, normal, odd),
    }[kind]
    if draw(st.booleans()):
        values = values.abs()
    values = values.clamp(info.min, info.max).to(dtype)
    return lay_out(values.view(shape), draw(LAYOUTS))


@st.composite
def search_sizes(draw: st.DrawFn) -> dict[str, int]:
    """Sizes that send small tensors through sampling, blocks and the collection of ties."""
    return {
        "_PARTITION_BELOW": draw(st.sampled_from([0, 4, 1 << 17])),
        "_SAMPLE": draw(st.sampled_from([1, 8, 64])),
        "_BLOCK": draw(st.sampled_from([1, 8, 12, 64, 1 << 17])),
        "_ROW": draw(st.sampled_from([4, 1 << 14])),
    }


_HOME = {
    "_PARTITION_BELOW": threshold,
    "_SAMPLE": threshold,
    "_ROW": threshold,
    "_BLOCK": blocks,
    "_ALONE": applying,
    "_TOGETHER": applying,
}


def patched(sizes: Mapping[str, int]) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    for name, value in sizes.items():
        patch.setattr(_HOME[name], name, value)
    return patch


@st.composite
def masks_with_tensors(draw: st.DrawFn) -> tuple[Tensor, list[Tensor]]:
    shape = draw(SHAPES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    mask = lay_out(torch.rand(shape, generator=generator) < draw(st.floats(0, 1)), draw(LAYOUTS))
    tensors: list[Tensor] = []
    for dtype in draw(st.lists(st.sampled_from([*FLOATS, torch.float8_e5m2, torch.int64]), min_size=1, max_size=3)):
        # Any bit pattern at all: NaNs with a payload, infinities, subnormals, both zeros.
        integer = INTEGER_OF_SIZE[dtype.itemsize]
        info = torch.iinfo(integer)
        bits = torch.randint(info.min, info.max, shape, generator=generator, dtype=integer)
        tensors.append(lay_out(bits, draw(LAYOUTS)).view(dtype))
    return mask, tensors


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(INTEGER_OF_SIZE[tensor.dtype.itemsize])
