"""Batches of a split in a seeded order, for any number of workers, from any point of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch.utils.data import BatchSampler, DataLoader

from ..errors import RecipeError
from ..tasks.task import Examples, Part


class Batches(BatchSampler):
    """Lists of indices: shuffled by a seed, or in order.

    Args:
        examples: number of examples of the split.
        batch_size: examples a batch.
        seed: of the order; ``None`` keeps the split's own.
        limit: number of batches; ``None`` gives all, the last one perhaps smaller.
        skip: leave out so many batches at the front, at no cost.
    """

    def __init__(
        self, examples: int, batch_size: int, *, seed: int | None = None, limit: int | None = None, skip: int = 0
    ) -> None:
        self.examples, self.batch_size, self.seed, self.limit, self.skip = examples, batch_size, seed, limit, skip
        self.drop_last = limit is not None

    def __len__(self) -> int:
        batches = math.ceil(self.examples / self.batch_size) if self.limit is None else self.limit
        return batches - self.skip

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.examples)
        if self.seed is not None:
            order = torch.randperm(self.examples, generator=torch.Generator().manual_seed(self.seed))
        for part in torch.split(order, self.batch_size)[self.skip : self.limit]:
            yield part.tolist()


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
    )


def _as_it_is(batch: Any) -> Any:
    return batch
