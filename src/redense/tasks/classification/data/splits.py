"""Splits of images: stratified, seeded, and equal with every version of every library."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError

_DIGITS = 9  # of remainders: in more of them equal ones differ by the order of a sum alone
_TURNS = 1 << 40  # what is added to the seed of a split, for the stream that ties are drawn from


def split_off(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the sorted indices (kept, held out): round(share * n) of ``labels`` (n,) are held, stratified.

    Every class gives its share, rounded so that the total is exact, but never its last example. The largest remainders
    are rounded up, and of equal ones those that the seed draws.

    Raises:
        DataError: ``share`` is not in (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise DataError(f"the validation share must be in (0, 1), got {share}")
    counts = torch.bincount(labels).tolist()
    quotas = [share * count for count in counts]
    takes = [min(math.floor(quota), max(count - 1, 0)) for quota, count in zip(quotas, counts, strict=True)]
    rests = [quota - take for quota, take in zip(quotas, takes, strict=True)]
    for index in _largest_first(rests, seed):
        if sum(takes) < round(share * len(labels)) and takes[index] + 1 < counts[index]:
            takes[index] += 1
    held = pick(labels, takes, seed)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero().flatten(), held


def pick(labels: Tensor, counts: list[int], seed: int) -> Tensor:
    """Return the sorted indices of ``counts[i]`` random examples of every class i of ``labels`` (n,).

    The choice is the same with every version of Python, NumPy and torch: ``random.random`` is the one stream
    that is promised never to change.
    """
    stream = random.Random(seed)
    order = np.argsort([stream.random() for _ in range(len(labels))], kind="stable")
    ordered = labels.numpy()[order]
    chosen = [order[ordered == index][:count] for index, count in enumerate(counts)]
    return torch.from_numpy(np.sort(np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64)))


def with_noise(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    """Return ``labels`` (n,) of which round(share * n) are drawn anew from all classes, the right one among them.

    >>> noisy = with_noise(torch.zeros(100, dtype=torch.long), 10, 0.3, seed=0)
    >>> int((noisy != 0).sum()) <= 30, torch.equal(noisy, with_noise(torch.zeros(100, dtype=torch.long), 10, 0.3, 0))
    (True, True)
    """
    stream = random.Random(seed)
    order = sorted(range(len(labels)), key=[stream.random() for _ in range(len(labels))].__getitem__)
    noisy = labels.clone()
    for index in order[: round(share * len(labels))]:
        noisy[index] = int(stream.random() * classes)
    return noisy


def limit_to(labels: Tensor, count: int, seed: int, *, draw: bool = True) -> Tensor:
    """Return the sorted indices of ``count`` of ``labels`` (n,), stratified; all if there are no more.

    Every class keeps its share, rounded so that the total is exact, and at least one example if ``count`` allows. Of
    classes with equal remainders the seed draws, or without ``draw`` the first ones come first.
    """
    if count >= len(labels):
        return torch.arange(len(labels))
    counts = torch.bincount(labels).tolist()
    quotas = [count * size / len(labels) for size in counts]
    takes = [math.floor(quota) for quota in quotas]
    if count >= sum(size > 0 for size in counts):
        takes = [max(take, min(1, size)) for take, size in zip(takes, counts, strict=True)]
    rests = [quota - take for quota, take in zip(quotas, takes, strict=True)]
    order = _largest_first(rests, seed) if draw else sorted(range(len(rests)), key=lambda index: -rests[index])
    missing = count - sum(takes)
    for index in order[:missing] if missing > 0 else ():
        takes[index] += 1
    for _ in range(-missing):  # classes of a few examples took more than their share
        most = max(takes)
        first = takes.index(most)
        if draw:  # those that differ from the first in nothing but their names
            alike = (index for index in order[::-1] if takes[index] == most)
            first = next(index for index in alike if math.isclose(quotas[index], quotas[first], rel_tol=1e-9))
        takes[first] -= 1
    return pick(labels, takes, seed)


def _largest_first(rests: Sequence[float], seed: int) -> list[int]:
    """Return the classes by their remainders, the largest first; the order of equal ones is drawn."""
    stream = random.Random(_TURNS + seed)
    turns = [stream.random() for _ in rests]
    return sorted(range(len(rests)), key=lambda index: (-round(rests[index], _DIGITS), turns[index]))
