"""Batches of a split in a seeded order, for any number of workers, from any point of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from redense.errors import RecipeError
from redense.lab.ranks.processes import begin_loading, loading_context
from redense.tasks.task import Examples, HasLengths, Part

_POOL = 50  # batches of shuffled examples that are sorted by length together


class Batches(BatchSampler):
    """Lists of indices: shuffled by a seed, or in order.

    Where examples differ in length, those of a batch are about alike: shuffled, sorted by length in pools of 50
    batches, and the batches of a pool shuffled again. Without a seed they go by length, the longest first: a batch that
    is too large for the memory fails at once.

    Args:
        examples: number of examples of the split, at least 1.
        batch_size: examples a batch.
        seed: of the order; ``None`` keeps the split's own.
        limit: number of batches; ``None`` gives all, the last one perhaps smaller.
        skip: leave out so many batches at the front, at no cost.
        lengths: of the examples, to group them by.
    """

    def __init__(
        self,
        examples: int,
        batch_size: int,
        *,
        seed: int | None = None,
        limit: int | None = None,
        skip: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.examples, self.batch_size, self.seed, self.limit, self.skip = examples, batch_size, seed, limit, skip
        self.drop_last = limit is not None
        self._lengths = None if lengths is None else torch.as_tensor(lengths)

    def __len__(self) -> int:
        batches = math.ceil(self.examples / self.batch_size) if self.limit is None else self.limit
        return batches - self.skip

    def __iter__(self) -> Iterator[list[int]]:
        for part in self._parts()[self.skip : self.limit]:
            yield part.tolist()

    @property
    def order(self) -> Tensor:
        """Indices in the order in which they come, (examples,): of all batches, also of those that are left out."""
        return torch.cat(self._parts())

    def _parts(self) -> list[Tensor]:
        if self.seed is None:
            order = torch.arange(self.examples)
            if self._lengths is not None:
                order = self._lengths.argsort(descending=True, stable=True)
            return list(torch.split(order, self.batch_size))
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(self.examples, generator=generator)
        if self._lengths is None:
            return list(torch.split(order, self.batch_size))
        whole = len(order) // self.batch_size * self.batch_size  # what is left is too little for a batch, or a pool
        parts: list[Tensor] = []
        for start in range(0, whole, _POOL * self.batch_size):
            pool = order[start : min(start + _POOL * self.batch_size, whole)]
            batches = torch.split(pool[self._lengths[pool].argsort(stable=True)], self.batch_size)
            parts += [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return parts if whole == len(order) else [*parts, order[whole:]]


def lengths_of(examples: Examples) -> Sequence[int] | None:
    """Return how long the examples of a split are, to group them by; None where they do not differ."""
    return examples.lengths if isinstance(examples, HasLengths) else None


class Parts(BatchSampler):
    """One rank's equal part of every batch; the parts of all ranks are the batch, in its order.

    Raises:
        RecipeError: the batches cannot be parted so.
    """

    def __init__(self, batches: Batches, rank: int, ranks: int) -> None:
        if batches.batch_size % ranks:
            below = batches.batch_size // ranks * ranks
            some = f"{below} or {below + ranks}" if below else f"{ranks}"
            raise RecipeError(
                f"training.batch_size {batches.batch_size} is that of a whole step and cannot be parted equally among "
                f"{ranks} ranks: take {some}, or another number of ranks"
            )
        self.batches, self.rank, self.size = batches, rank, batches.batch_size // ranks

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield Part(batch, self.rank * self.size, (self.rank + 1) * self.size)


def loader(
    examples: Examples, batches: BatchSampler | Sequence[list[int]], *, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Any]:
    """Return a loader of whole batches; the split makes them itself, so nothing is collated in Python."""
    # A generator of its own: a loader draws a number when it starts, and the model's random numbers must not notice.
    generator = torch.Generator().manual_seed(0)
    return DataLoader(
        examples,  # pyright: ignore[reportArgumentType]  # it has __len__ and __getitems__, which is all that is used
        batch_sampler=cast("BatchSampler", batches),
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=generator,
        pin_memory=pin_memory,
        worker_init_fn=begin_loading if workers else None,
        multiprocessing_context=loading_context() if workers else None,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
