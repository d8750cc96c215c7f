"""Masks: the exact selection of what to prune.

A mask is a boolean tensor of its weight's shape, True = kept. Selection is exact (DESIGN.md, rule 1): of N weights at
sparsity s, the first ``round(s * N)`` in a stable ascending sort of the scores are pruned, so equal scores go by index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from redense.errors import ParameterError
from redense.schedules.numeric import check_pattern, check_sparsity

from .blocks import magnitude_bits, ordered_bits
from .threshold import lowest_of, prune_lowest


def select(scores: Tensor, sparsity: float, *, name: str = "weight", absolute: bool = False) -> Tensor:
    """Return the mask that prunes exactly ``round(sparsity * N)`` of N weights, those of the lowest scores.

    Args:
        scores: any shape, any float dtype, any layout; finite.
        sparsity: fraction removed, in [0, 1).
        name: what error messages call the weight.
        absolute: score by ``|scores|`` without a copy of them: give the weight itself to select by magnitude.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a score is NaN or infinite.
        ParameterError: the scores are on the meta device.

    >>> select(torch.tensor([3.0, 1.0, 1.0, 2.0]), 0.25)
    tensor([ True, False,  True,  True])
    """
    return select_global({name: scores}, sparsity, absolute=absolute)[name]


def select_global(scores: Mapping[str, Tensor], sparsity: float, *, absolute: bool = False) -> dict[str, Tensor]:
    """Return masks that prune exactly ``round(sparsity * N)`` of all N weights together, by one common threshold.

    Equal scores go by the order of the mapping, then by index. Arguments and errors are those of `select`.
    """
    of = f"'{next(iter(scores))}'" if len(scores) == 1 else "all weights together"
    sparsity = check_sparsity(sparsity, of)
    for name, values in scores.items():
        check_storage(name, values, scores=not absolute)
        _refuse_shards(name, values)
    dtype = common_dtype(scores.values())
    flat = {name: values.detach().to(dtype).reshape(-1) for name, values in scores.items()}
    count = round(sparsity * sum(values.numel() for values in flat.values()))
    # Where magnitudes are chosen, the search itself finds the ones that are not finite: a pass less.
    lowest = 0.0 if absolute and count else min((lowest_of(name, values) for name, values in flat.items()), default=0.0)
    make = torch.empty if count else torch.ones
    masks = {name: make(values.shape, dtype=torch.bool, device=values.device) for name, values in flat.items()}
    if count:
        prune_lowest(flat, masks, count, magnitude_bits if absolute or lowest >= 0 else ordered_bits)
    return {name: masks[name].view(scores[name].shape) for name in scores}


def select_pattern(scores: Tensor, pattern: tuple[int, int], *, name: str = "weight") -> Tensor:
    """Return an N:M mask: of every M consecutive input weights the N highest scores are kept (2:4: ``(2, 4)``).

    Groups run along dimension 1, the inputs: ``weight: (out, in, ...)``; for a convolution they hold the same
    kernel position of M consecutive input channels, as sparse tensor cores read them. Equal scores go by index: the
    first are pruned.

    Raises:
        SparsityError: the pattern is not 0 < N <= M.
        ParameterError: the weight has no second dimension, or M does not divide it.
        ScoreError: a score is NaN or infinite.
    """
    n, m = check_pattern(pattern)
    check_storage(name, scores, scores=True)
    _refuse_shards(name, scores)
    check_groups(name, scores.shape, m)
    lowest_of(name, scores.detach().reshape(-1))
    groups = scores.detach().movedim(1, -1)
    groups = (groups + 0.0).reshape(*groups.shape[:-1], groups.shape[-1] // m, m)
    lowest = torch.sort(groups, dim=-1, stable=True).indices[..., : m - n]
    kept = torch.ones(groups.shape, dtype=torch.bool, device=scores.device).scatter_(-1, lowest, False)
    return kept.flatten(-2).movedim(-1, 1).contiguous()


def check_groups(name: str, shape: Sequence[int], m: int, inputs: int = 1) -> None:
    """Refuse by name a weight whose inputs, along the dimension ``inputs``, do not divide into groups of ``m``."""
    size = shape[inputs] if len(shape) > max(1, inputs) else 1
    if size % m or len(shape) < 2:
        raise ParameterError(
            f"'{name}' of shape {tuple(shape)} has no groups of {m} along its inputs (dimension {inputs}): "
            f"exclude it, or choose a pattern whose group size divides {size}"
        )


def check_storage(name: str, tensor: Tensor, *, scores: bool = False) -> None:
    """Refuse by name a tensor that cannot be pruned, or pruned by: without values, or not dense or floating-point."""
    if tensor.device.type == "meta":
        raise ParameterError(f"'{name}' is on the meta device and has no values: load the model before pruning it")
    if tensor.layout != torch.strided:
        raise ParameterError(
            f"'{name}' is kept as {tensor.layout}, and a mask holds on dense weights alone: give the layer the dense "
            "weight, weight.to_dense(), or exclude it"
        )
    if not tensor.is_floating_point() and scores:
        raise ParameterError(f"the scores of '{name}' must have a floating-point dtype, got {tensor.dtype}")
    if not tensor.is_floating_point():
        raise ParameterError(f"'{name}' must have a floating-point dtype to be pruned, got {tensor.dtype}")


def _refuse_shards(name: str, scores: Tensor) -> None:
    if type(scores).__name__ == "DTensor":
        raise ParameterError(f"the scores of '{name}' are a DTensor: choose with redense.masks.sharded.select")


def common_dtype(scores: Iterable[Tensor]) -> torch.dtype:
    """Return the dtype in which all scores can be compared without rounding."""
    dtype: torch.dtype | None = None
    for values in scores:
        own = values.dtype if values.dtype.itemsize > 1 else torch.float32  # float8 has no common bit order
        dtype = own if dtype is None else torch.promote_types(dtype, own)
    return dtype or torch.float32
