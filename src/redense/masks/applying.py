"""Masks on weights: removed weights set to exactly 0, and how many zeros there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from redense.errors import ParameterError

from .blocks import INT_OF_SIZE, block_of, blocks

_ALONE = 1 << 22  # weights over which a mask is applied on a GPU by a kernel of its own
_TOGETHER = 1 << 24  # weights of the smaller masks that are applied in one go there: bounds the temporary


def apply_(mask: Tensor, *tensors: Tensor) -> None:
    """Set every tensor to exactly 0 where the mask is False, in place; NaN and infinity go too.

    The bit patterns are multiplied as integers by 0 or 1. That is exact, drops a NaN as ``torch.where`` does, and is
    several times faster on CPU than a boolean fill. The mask is read once for all tensors.

    Args:
        mask: bool, True = kept.
        tensors: any dtype, the mask's shape and device; same strides are the fast path.

    Raises:
        ParameterError: the mask is not of booleans, or a tensor has another shape, or elements that share memory.
    """
    if mask.dtype != torch.bool or any(tensor.shape != mask.shape for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ParameterError(
            f"a mask must be of booleans, True = kept, and of the shape of what it is applied to ({shapes}): got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    if mask.device.type == "cpu":
        apply_all_([(mask, tensors)])
        return
    with torch.no_grad():
        for tensor in tensors:
            integer = INT_OF_SIZE.get(tensor.dtype.itemsize)
            if integer and tensor.stride() == mask.stride():
                tensor.view(integer).mul_(mask)  # one kernel
            else:
                _fill(mask, tensor)


def apply_all_(masked: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
    """Do what `apply_` does to the tensors of many masks: on a GPU in few kernels, however many masks there are."""
    work: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, list[Tensor]]]] = {}
    with torch.no_grad():
        for mask, tensors in masked:
            fast: dict[torch.dtype, list[Tensor]] = {}
            for tensor in tensors:
                integer = INT_OF_SIZE.get(tensor.dtype.itemsize)
                pattern = tensor if integer is None else tensor.view(integer)
                if integer and pattern.stride() == mask.stride() and is_dense(pattern):
                    fast.setdefault(integer, []).append(_flat(pattern))
                else:
                    _fill(mask, tensor)
            for integer, patterns in fast.items():
                work.setdefault((mask.device, integer), []).append((_flat(mask), patterns))
        for (device, integer), parts in work.items():
            (_multiply_by_blocks if device.type == "cpu" else _multiply_together)(parts, integer)


def _fill(mask: Tensor, tensor: Tensor) -> None:
    # As integers where masked_fill_ knows no such dtype (float8); complex128 has none of its size.
    integer = INT_OF_SIZE.get(tensor.dtype.itemsize)
    if overlaps(tensor):  # else what is kept would be set to 0 together with what is not
        raise ParameterError(
            f"no mask can be applied to a tensor whose elements share memory, as after expand() (shape "
            f"{tuple(tensor.shape)}, strides {tensor.stride()}): give a copy, clone()"
        )
    (tensor if integer is None else tensor.view(integer)).masked_fill_(~mask, 0)


def overlaps(tensor: Tensor) -> bool:
    """Whether several elements may lie in one place of memory.

    >>> overlaps(torch.ones(3).expand(2, 3)), overlaps(torch.ones(2, 3).t()), overlaps(torch.ones(4, 6)[:, ::2])
    (True, False, False)
    """
    reach = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return tensor.numel() > 0  # of nothing strides may be anything
            reach += (size - 1) * stride
    return False


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one run of memory, in whatever order of dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _flat(tensor: Tensor) -> Tensor:
    return tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))


def _multiply_by_blocks(work: list[tuple[Tensor, list[Tensor]]], integer: torch.dtype) -> None:
    buffer = torch.empty(min(block_of(work[0][0]), max(mask.numel() for mask, _ in work)), dtype=integer, device="cpu")
    for mask, patterns in work:
        narrow = mask.view(torch.uint8)  # which is widened a tenth faster than booleans
        for block, *parts in zip(blocks(narrow), *(blocks(pattern) for pattern in patterns), strict=True):
            factor = buffer[: block.numel()].copy_(block)
            for part in parts:
                part.mul_(factor)


def _multiply_together(work: list[tuple[Tensor, list[Tensor]]], integer: torch.dtype) -> None:
    """Multiply as suits a GPU: many tensors in a kernel, for which all of them, and the masks, must be of one dtype."""
    groups: list[list[tuple[Tensor, list[Tensor]]]] = [[]]
    room = _TOGETHER
    for mask, patterns in work:
        if mask.numel() > _ALONE or len(work) == 1:
            for pattern in patterns:
                pattern.mul_(mask)
        else:
            if mask.numel() > room:
                groups.append([])
                room = _TOGETHER
            groups[-1].append((mask, patterns))
            room -= mask.numel()
    for group in filter(None, groups):
        sizes = [mask.numel() for mask, _ in group]
        factors = torch.split(torch.empty(sum(sizes), dtype=integer, device=group[0][0].device), sizes)
        of_each = [factor for factor, (_, patterns) in zip(factors, group, strict=True) for _ in patterns]
        foreach = torch.ops.aten  # public are only the optimizers that are made of these
        foreach._foreach_copy_(factors, [mask for mask, _ in group])
        foreach._foreach_mul_.List([pattern for _, patterns in group for pattern in patterns], of_each)


def like(mask: Tensor, weight: Tensor) -> Tensor:
    """Return the mask on the weight's device and in its memory layout, which makes `apply_` fast.

    The mask of a weight with gaps between its elements, such as a part of the columns of another one, is contiguous.
    """
    gaps = not is_dense(weight)
    if mask.device == weight.device and (mask.is_contiguous() if gaps else mask.stride() == weight.stride()):
        return mask
    # Without a format, a transposed weight with gaps would have a mask whose memory has another order than flat views.
    layout = torch.contiguous_format if gaps else torch.preserve_format
    return torch.empty_like(weight, dtype=torch.bool, requires_grad=False, memory_format=layout).copy_(mask)


def sparsity_of(*tensors: Tensor) -> float:
    """Return the fraction of exact zeros in all tensors together; 0.0 for none.

    >>> sparsity_of(torch.tensor([0.0, 1.0, 0.0, 2.0]))
    0.5
    """
    total = sum(tensor.numel() for tensor in tensors)
    return 1 - sum(nonzeros(tensor) for tensor in tensors) / total if total else 0.0


def nonzeros(tensor: Tensor) -> int:
    """Return how many elements are not exactly 0, in any dtype: all, where PyTorch reads no element (int4, bits).

    >>> nonzeros(torch.tensor([0.0, -0.0, 2.0]).to(torch.float8_e5m2))
    1
    """
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    try:
        return int(torch.count_nonzero(dense))
    except NotImplementedError:  # float8, unsigned integers, quantised: what a frozen weight may be kept in
        pass
    try:
        flat = (dense.dequantize() if dense.is_quantized else dense).reshape(-1)
        return sum(int(torch.count_nonzero(block.to(torch.float32))) for block in blocks(flat))
    except (NotImplementedError, RuntimeError):
        return tensor.numel()
