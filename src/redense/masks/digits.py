"""The k-th smallest of integers that lie on several ranks, found digit by digit; only counts are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .sharding import Reduce

_ROOM = 1 << 11  # counts that a call sends, of all weights together: 16 KB
_NARROWEST, _WIDEST = 4, 11  # bits found a call


def kth(blocks: Blocks, k: int, low: int, high: int, reduce: Reduce) -> tuple[int, int, int]:
    """Return the k-th smallest (k from 1) of all ranks' integers, how many are smaller, and how many are equal.

    Args:
        blocks: gives this rank's integers, in parts, as often as it is called.
        k: from 1 to the number of all ranks' integers.
        low: at most the integer that is looked for.
        high: at least that.
        reduce: adds up an int64 tensor over all ranks.

    >>> kth(lambda: [torch.tensor([7, 3]), torch.tensor([3, 9])], 2, 0, 15, reduce=lambda counts: counts)
    (3, 0, 2)
    """
    search = Search(blocks, k, low, high)
    find([search], reduce)
    return search.low, search.below, search.equal


Blocks = Callable[[], Iterable[Tensor]]
"""Gives a rank's integers, in parts, as often as it is called."""


class Search:
    """The k-th smallest of all ranks' integers, which is between ``low`` and ``high``."""

    def __init__(self, blocks: Blocks, k: int, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.below = self.equal = 0
        self.found = False
        self._blocks, self._k = blocks, k
        self._shift = self._base = self._under = 0

    def within(self) -> Search:
        """Read this rank's integers once, and keep those between the bounds."""
        inside = list[Tensor]()
        for block in self._blocks():
            self._under += int((block < self.low).count_nonzero())
            inside.append(block[(block >= self.low) & (block <= self.high)])
        self._blocks = lambda: inside
        return self

    def counts(self, width: int) -> Tensor:
        """Count this rank's integers by the next ``width`` bits, ``(1 + 2**width,)``: before all, those below."""
        span = 1 << width
        self._shift = 0
        while (self.high >> self._shift) - (self.low >> self._shift) >= span:
            self._shift += 1
        self._base = self.low >> self._shift
        counts = torch.zeros(span + 2, dtype=torch.int64, device="cpu")
        counts[0], self._under = self._under, 0
        for block in self._blocks():
            digit = ((block.long() >> self._shift) - self._base).clamp_(-1, span) + 1
            counts += torch.bincount(digit, minlength=span + 2).cpu()
        return counts[:-1]

    def narrow(self, counts: Tensor) -> None:
        """Go on with the digit that the counts of all ranks show."""
        upto = counts.cumsum(0)
        place = int(torch.searchsorted(upto, self._k - self.below))
        self.equal = int(counts[place])
        self.below += int(upto[place]) - self.equal
        digit = self._base + place - 1
        self.low = max(self.low, digit << self._shift)
        self.high = min(self.high, ((digit + 1) << self._shift) - 1)
        self.found = not self._shift
        if not self.found:
            shift = self._shift
            chosen = [block[(block.long() >> shift) == digit] for block in self._blocks()]
            self._blocks = lambda: chosen


def find(searches: Iterable[Search], reduce: Reduce) -> None:
    """Run many searches to their ends, each call to the other ranks for all of them."""
    left: list[Search] = list(searches)
    while left:
        width = min(width_of(len(left)), max((search.high - search.low).bit_length() for search in left))
        for search, counts in zip(left, reduce(torch.stack([s.counts(width) for s in left])), strict=True):
            search.narrow(counts)
        left = [search for search in left if not search.found]


def width_of(searches: int) -> int:
    """Return how many bits of so many searches are found in one call."""
    return max(_NARROWEST, min(_WIDEST, (_ROOM // searches).bit_length() - 1))
