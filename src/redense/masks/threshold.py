"""The exact threshold of a selection: what is below it is pruned, and scores that equal it go by their index.

Nothing is sorted to get there. Floats of one sign order as their bit patterns do, so scores are compared as integers
(-0.0 equals 0.0, and no dtype rounds), and magnitudes in fp32 first by half of their bits. A random sample brackets the
threshold; one pass prunes what is below the bracket, keeps what is above, and collects the few in it, which are then
told apart by all their bits. It goes block by block, so that the temporaries stay in the cache. The sample only steers
the search; the result does not depend on it. On a CUDA GPU the same is done for all scores at once and nothing leaves
it: what costs there is to wait for an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from redense.errors import ScoreError

from .blocks import Key, blocks, magnitude_bits, upper_bits

_PARTITION_BELOW = 1 << 17  # scores under which to partition all of them is the fastest selection
_SAMPLE = 1 << 16  # elements sampled to bracket a threshold
_AT_ONCE = 1 << 27  # scores that a GPU chooses from at once: bounds the temporaries
_ROW = 1 << 14  # how many times 1 can be added up in 16 bits, at least


def lowest_of(name: str, flat: Tensor) -> float:
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


def prune_lowest(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key) -> None:
    """Set to False the ``count`` lowest of all scores, equal ones by index. All tensors are one-dimensional."""
    total = sum(values.numel() for values in flat.values())
    devices = {values.device for values in flat.values()}
    if total <= _AT_ONCE and len(devices) == 1 and next(iter(devices)).type == "cuda":
        _prune_at_once(flat, masks, count, key)
        return
    if total > _PARTITION_BELOW and _prune_by_sample(flat, masks, count, key):
        return
    for name, values in flat.items():
        lowest_of(name, values)
    kept = _keep_highest([key(values) for values in flat.values()], count)
    for mask, part in zip(masks.values(), kept, strict=True):
        mask.copy_(part)


def _prune_at_once(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key) -> None:
    """Do what `prune_lowest` does without blocks, on the device of the scores; to sort is fast there."""
    keys = [key(values) for values in flat.values()]
    every = torch.cat(keys) if len(keys) > 1 else keys[0]
    first = next(iter(flat.values()))
    if bool(every.amax() >= key(first.new_full((1,), math.inf))):
        for name, values in flat.items():
            lowest_of(name, values)
    kept = _kept_by_sample(every, count) if every.numel() > _PARTITION_BELOW else None
    if kept is None:
        kept = torch.ones(every.shape, dtype=torch.bool, device=every.device)
        kept[every.argsort(stable=True)[:count]] = False
    for mask, part in zip(masks.values(), torch.split(kept, [v.numel() for v in flat.values()]), strict=True):
        mask.copy_(part)


def _kept_by_sample(keys: Tensor, count: int) -> Tensor | None:
    """Return which keys stay if the ``count`` lowest go, equal ones by index; None if the sample misleads."""
    sample = keys[:: keys.numel() // _SAMPLE].sort().values
    first, _, final = _ranks(sample.numel(), count / keys.numel())
    ends = torch.iinfo(keys.dtype)
    kept = keys > (sample[first] if first >= 0 else ends.min)
    where = (kept & (keys < (sample[final] if final < sample.numel() else ends.max))).nonzero().flatten()
    left = count - (keys.numel() - int(kept.count_nonzero()))
    if not 0 <= left <= where.numel():
        return None
    order = keys[where].argsort(stable=True)
    kept[where[order[:left]]] = False
    return kept


def _prune_by_sample(flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key) -> bool:
    """Do what `prune_lowest` does, or return False if the sample misleads."""
    quantile = count / sum(values.numel() for values in flat.values())
    rough = key is magnitude_bits and all(values.dtype == torch.float32 for values in flat.values())
    low = middle = high = 0
    for look in (upper_bits, key) if rough else (key,):
        low, middle, high = _bracket(flat, quantile, look)
        # Else many scores look alike at the threshold, and it is one of the three.
        if low < middle < high and _prune_outside(flat, masks, count, key, look, low, high):
            return True
    for name, values in flat.items():
        lowest_of(name, values)
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
        where = torch.randint(max(values.numel(), 1), (size,), generator=generator, device="cpu")
        parts.append(look(values[where.to(values.device)]).cpu())
    sample = torch.cat(parts).sort().values
    ends = torch.iinfo(sample.dtype)
    first, middle, final = _ranks(sample.numel(), quantile)
    low = int(sample[first]) if first >= 0 else ends.min
    high = int(sample[final]) if final < sample.numel() else ends.max
    return low, int(sample[middle]), high


def _ranks(size: int, quantile: float) -> tuple[int, int, int]:
    """Return the ranks in a sorted sample that very likely enclose a quantile of the whole, its own between them.

    The first may be -1 or lower, and the last ``size`` or higher: nothing in the sample is that low, or that high.
    """
    last = size - 1
    margin = 3 * math.sqrt(last * quantile * (1 - quantile)) + 2
    return math.floor(last * quantile - margin), round(last * quantile), math.ceil(last * quantile + margin)


def _prune_outside(
    flat: Mapping[str, Tensor], masks: Mapping[str, Tensor], count: int, key: Key, look: Key, low: int, high: int
) -> bool:
    """Prune what looks no higher than ``low``, keep the highest of what looks lower than ``high`` and all the rest.

    All in one pass. Comparisons give 0 and 1 in the looks' own dtype: torch makes these faster on CPU than booleans.
    Returns False, with nothing in the masks to rely on, if the threshold is not between the bounds.
    """
    pruned, inside = 0, list[tuple[Tensor, Tensor, Tensor]]()
    for name, values in flat.items():
        infinite = int(look(torch.full((1,), math.inf, dtype=values.dtype, device="cpu")))
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
    kept = torch.ones(every.shape, dtype=torch.bool, device="cpu")
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
        return torch.as_tensor(chosen.numpy().nonzero()[0], device="cpu")
    return chosen.nonzero().flatten()
