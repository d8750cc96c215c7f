"""Masks: exact selection of what to prune, applying it, measuring it, packing it to bits.

A mask is a boolean tensor of its weight's shape, True = kept. Selection is exact (DESIGN.md, rule 1): of N weights at
sparsity s, the first ``round(s * N)`` in a stable ascending sort of the scores are pruned, so equal scores go by index.

Nothing is sorted to get there. Floats of one sign order as their bit patterns do, so scores are compared as integers
(-0.0 equals 0.0, and no dtype rounds), and magnitudes in fp32 first by half of their bits. A random sample brackets the
threshold; one pass prunes what is below the bracket, keeps what is above, and collects the few in it, which are then
told apart by all their bits. It goes block by block, so that the temporaries stay in the cache. The sample only steers
the search; the result does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from redense.errors import ParameterError, ScoreError
from redense.numeric import check_pattern, check_sparsity

_BLOCK = 1 << 17  # elements a block on CPU: weights, bit patterns and comparison stay in a 2 MiB cache
_DEVICE_BLOCK = 1 << 26  # elements a block elsewhere: only bounds the temporaries
_PARTITION_BELOW = 1 << 17  # scores under which to partition all of them is the fastest selection
_SAMPLE = 1 << 16  # elements sampled to bracket a threshold
_ALONE = 1 << 22  # weights over which a mask is applied on a GPU by a kernel of its own
_TOGETHER = 1 << 24  # weights of the smaller masks that are applied in one go there: bounds the temporary
_ROW = 1 << 14  # how many times 1 can be added up in 16 bits, at least

_INT_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


# --- selection ------------------------------------------------------------------------------------------------------


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
        check_storage(name, values)
        _refuse_shards(name, values)
    dtype = common_dtype(scores.values())
    flat = {name: values.detach().to(dtype).reshape(-1) for name, values in scores.items()}
    count = round(sparsity * sum(values.numel() for values in flat.values()))
    # Where magnitudes are chosen, the search itself finds the ones that are not finite: a pass less.
    lowest = 0.0 if absolute and count else min((_lowest(name, values) for name, values in flat.items()), default=0.0)
    make = torch.empty if count else torch.ones
    masks = {name: make(values.shape, dtype=torch.bool, device=values.device) for name, values in flat.items()}
    if count:
        _prune_lowest(flat, masks, count, magnitude_bits if absolute or lowest >= 0 else ordered_bits)
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
    check_storage(name, scores)
    _refuse_shards(name, scores)
    check_groups(name, scores.shape, m)
    _lowest(name, scores.detach().reshape(-1))
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


def check_storage(name: str, tensor: Tensor) -> None:
    """Refuse by name a tensor that cannot be pruned: without values, or not floating-point."""
    if tensor.device.type == "meta":
        raise ParameterError(f"'{name}' is on the meta device and has no values: load the model before pruning it")
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


def _lowest(name: str, flat: Tensor) -> float:
    """Return the lowest score; refuse a score that is not finite."""
    lowest = math.inf
    for block in blocks(flat):
        # The reductions carry a NaN through, so two numbers tell of the whole block.
        low, high = (float(v) for v in torch.aminmax(block))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise _unordered_in(name, flat)
        lowest = min(lowest, low)
    return lowest


def _unordered_in(name: str, flat: Tensor) -> ScoreError:
    return unordered(name, int((~torch.isfinite(flat)).sum()), flat.numel())


def unordered(name: str, bad: int, total: int) -> ScoreError:
    """Return the error that says how many of a weight's scores are NaN or infinite."""
    return ScoreError(
        f"{bad} of the {total} scores of '{name}' are NaN or infinite, so they have no order: "
        "the training has diverged, or the criterion is wrong"
    )


def blocks(flat: Tensor) -> Iterator[Tensor]:
    """Give a one-dimensional tensor in parts whose temporaries stay small; nothing for an empty one."""
    if flat.numel():
        yield from torch.split(flat, _block_of(flat))


def _block_of(tensor: Tensor) -> int:
    return _BLOCK if tensor.device.type == "cpu" else _DEVICE_BLOCK


Key = Callable[[Tensor], Tensor]
"""Block of scores -> integers that order as the scores do."""


def magnitude_bits(block: Tensor) -> Tensor:
    """Integers that order as ``|x|`` does."""
    return block.abs().view(_INT_OF_SIZE[block.dtype.itemsize])


def ordered_bits(block: Tensor) -> Tensor:
    """Integers that order as ``x`` does; adding 0.0 turns -0.0 into 0.0, flipping negative patterns orders them."""
    bits = (block + 0.0).view(_INT_OF_SIZE[block.dtype.itemsize])
    info = torch.iinfo(bits.dtype)
    return bits ^ ((bits >> (info.bits - 1)) & info.max)


def _upper_bits(block: Tensor) -> Tensor:
    """16 of the 32 bits of `magnitude_bits`: what orders them but for a tie. Compared in a fifth of the time on CPU."""
    return (block.view(torch.int32) >> 16).to(torch.int16).bitwise_and_(0x7FFF)


def _prune_lowest(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key) -> None:
    """Set to False the ``count`` lowest of all scores, equal ones by index. All tensors are one-dimensional."""
    if sum(values.numel() for values in flat.values()) > _PARTITION_BELOW and _prune_by_sample(flat, masks, count, key):
        return
    for name, values in flat.items():
        _lowest(name, values)
    kept = _keep_highest([key(values) for values in flat.values()], count)
    for mask, part in zip(masks.values(), kept, strict=True):
        mask.copy_(part)


def _prune_by_sample(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key) -> bool:
    """Do what `_prune_lowest` does, or return False if the sample misleads."""
    quantile = count / sum(values.numel() for values in flat.values())
    rough = key is magnitude_bits and all(values.dtype == torch.float32 for values in flat.values())
    low = middle = high = 0
    for look in (_upper_bits, key) if rough else (key,):
        low, middle, high = _bracket(flat, quantile, look)
        # Else many scores look alike at the threshold, and it is one of the three.
        if low < middle < high and _prune_outside(flat, masks, count, key, look, low, high):
            return True
    for name, values in flat.items():
        _lowest(name, values)
    for threshold in dict.fromkeys((middle, low, high)):
        below, at_most = (_count(flat, key, test, threshold) for test in (torch.lt, torch.le))
        if below < count <= at_most:
            _prune_ties(flat, masks, threshold, count - below, key)
            return True
    return False


def _bracket(flat: Mapping[str, Tensor], quantile: float, look: Key) -> tuple[int, int, int]:
    """Return keys that very likely enclose the quantile and little more, with its own between them."""
    total = sum(values.numel() for values in flat.values())
    generator = torch.Generator().manual_seed(0)
    parts: list[Tensor] = []
    for values in flat.values():
        size = math.ceil(_SAMPLE * values.numel() / total)
        where = torch.randint(max(values.numel(), 1), (size,), generator=generator)
        parts.append(look(values[where.to(values.device)]).cpu())
    sample = torch.cat(parts).sort().values
    last, ends = sample.numel() - 1, torch.iinfo(sample.dtype)
    margin = 3 * math.sqrt(last * quantile * (1 - quantile)) + 2
    first, final = math.floor(last * quantile - margin), math.ceil(last * quantile + margin)
    low = int(sample[first]) if first >= 0 else ends.min
    high = int(sample[final]) if final <= last else ends.max
    return low, int(sample[round(last * quantile)]), high


def _prune_outside(
    flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key, look: Key, low: int, high: int
) -> bool:
    """Prune what looks no higher than ``low``, keep the highest of what looks lower than ``high`` and all the rest.

    All in one pass. Comparisons give 0 and 1 in the looks' own dtype: torch makes these faster on CPU than booleans.
    Returns False, with nothing in the masks to rely on, if the threshold is not between the bounds.
    """
    pruned, inside = 0, list[tuple[Tensor, Tensor, Tensor]]()
    for name, values in flat.items():
        infinite = int(look(torch.full((1,), math.inf, dtype=values.dtype)))
        for block, out in zip(blocks(values), blocks(masks[name]), strict=True):
            seen = look(block)
            if int(seen.amax()) >= infinite:
                raise _unordered_in(name, values)
            under = torch.lt(seen, high, out=torch.empty_like(seen))
            out.copy_(seen.gt_(low))
            pruned += seen.numel() - _sum(seen)
            where = _where(under.bitwise_and_(seen).bool())
            inside.append((out, where, key(block.index_select(0, where))))
    if not pruned <= count <= pruned + sum(where.numel() for _, where, _ in inside):
        return False
    kept = _keep_highest([keys for _, _, keys in inside], count - pruned)
    for (out, where, _), part in zip(inside, kept, strict=True):
        out[where] = part.to(out.device)
    return True


def _prune_ties(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], threshold: int, ties: int, key: Key) -> None:
    """Prune all keys below the threshold, and the first ``ties`` of those that equal it."""
    for name, values in flat.items():
        for block, out in zip(blocks(values), blocks(masks[name]), strict=True):
            keys = key(block)
            equal = keys == threshold
            here = min(ties, int(equal.count_nonzero()))
            out.copy_(keys.gt_(threshold) if here else keys.ge_(threshold))
            if here and here == ties:
                out[_where(equal)[here:]] = True
            ties -= here


def _keep_highest(keys: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """Return for each key whether it stays if the ``count`` lowest of all go, equal ones by index; on the CPU."""
    every = torch.cat([part.cpu() for part in keys])
    kept = torch.ones(every.shape, dtype=torch.bool)
    if count:
        ordered = every.clone().numpy()
        ordered.partition(count - 1)
        threshold = int(ordered[count - 1])
        torch.gt(every, threshold, out=kept)
        kept[_where(every == threshold)[count - int((every < threshold).sum()) :]] = True
    return torch.split(kept, [part.numel() for part in keys])


def _count(flat: Mapping[str, Tensor], key: Key, test: Callable[[Tensor, int], Tensor], bound: int) -> int:
    return sum(int(test(key(block), bound).count_nonzero()) for values in flat.values() for block in blocks(values))


def _sum(ones: Tensor) -> int:
    """Sum a block of 0 and 1; in its own dtype, which is the fastest, where that cannot overflow."""
    rows = ones.view(-1, _ROW) if ones.numel() % _ROW == 0 else None
    return int(ones.sum() if rows is None else rows.sum(1, dtype=ones.dtype).sum())


def _where(chosen: Tensor) -> Tensor:
    """Return the indices of the True ones; NumPy finds them twice as fast as torch on a CPU."""
    if chosen.device.type == "cpu":
        return torch.as_tensor(chosen.numpy().nonzero()[0])
    return chosen.nonzero().flatten()


# --- applying and measuring -----------------------------------------------------------------------------------------


def apply_(mask: Tensor, *tensors: Tensor) -> None:
    """Set every tensor to exactly 0 where the mask is False, in place; NaN and infinity go too.

    The bit patterns are multiplied as integers by 0 or 1. That is exact, drops a NaN as ``torch.where`` does, and is
    several times faster on CPU than a boolean fill. The mask is read once for all tensors.

    Args:
        mask: bool, True = kept.
        tensors: any dtype, the mask's shape and device; same strides are the fast path.
    """
    apply_all_([(mask, tensors)])


def apply_all_(masked: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
    """Do what `apply_` does to the tensors of many masks: on a GPU in few kernels, however many masks there are."""
    work: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, list[Tensor]]]] = {}
    with torch.no_grad():
        for mask, tensors in masked:
            fast: dict[torch.dtype, list[Tensor]] = {}
            for tensor in tensors:
                # As integers also where masked_fill_ knows no such dtype (float8); complex128 has none of its size.
                integer = _INT_OF_SIZE.get(tensor.dtype.itemsize)
                pattern = tensor.detach() if integer is None else tensor.detach().view(integer)
                if integer and pattern.stride() == mask.stride() and _is_dense(pattern):
                    fast.setdefault(integer, []).append(_flat(pattern))
                else:
                    pattern.masked_fill_(~mask, 0)
            for integer, patterns in fast.items():
                work.setdefault((mask.device, integer), []).append((_flat(mask), patterns))
        for (device, integer), parts in work.items():
            (_multiply_by_blocks if device.type == "cpu" else _multiply_together)(parts, integer)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one run of memory, in whatever order of dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _multiply_by_blocks(work: list[tuple[Tensor, list[Tensor]]], integer: torch.dtype) -> None:
    buffer = torch.empty(min(_BLOCK, max(mask.numel() for mask, _ in work)), dtype=integer)
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
        if mask.numel() > _ALONE:
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
    """Return the mask on the weight's device and in its memory layout, which makes `apply_` fast."""
    if mask.device == weight.device and mask.stride() == weight.stride():
        return mask
    return torch.empty_like(weight, dtype=torch.bool, requires_grad=False).copy_(mask)


def sparsity_of(*tensors: Tensor) -> float:
    """Return the fraction of exact zeros in all tensors together; 0.0 for none.

    >>> sparsity_of(torch.tensor([0.0, 1.0, 0.0, 2.0]))
    0.5
    """
    total = sum(tensor.numel() for tensor in tensors)
    return 1 - sum(int(torch.count_nonzero(t.detach())) for t in tensors) / total if total else 0.0


# --- packing --------------------------------------------------------------------------------------------------------

_BITS = (1, 2, 4, 8, 16, 32, 64, 128)


def pack(mask: Tensor) -> Tensor:
    """Pack a mask to bits, the lowest bit first: ``(ceil(N / 8),)`` uint8 on CPU, in logical order."""
    flat = mask.detach().reshape(-1)
    packed = torch.empty(-(-flat.numel() // 8), dtype=torch.uint8)
    for block, out in zip(blocks(flat), torch.split(packed, _block_of(flat) // 8), strict=False):
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
    packed, bits = packed.cpu(), torch.tensor(_BITS, dtype=torch.uint8)
    mask = torch.empty(8 * packed.numel(), dtype=torch.bool)
    for block, out in zip(blocks(packed), torch.split(mask, 8 * _block_of(packed)), strict=False):
        torch.ne(block.unsqueeze(1) & bits, 0, out=out.view(-1, 8))
    return mask[:numel].reshape(tuple(shape))
