"""Batches of a split in a seeded order, from any point of an epoch, and of each the part of a rank, on its device."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from redense.errors import DataError, RecipeError
from redense.lab.environment import usable_cores
from redense.lab.ranks.launch import Ranks
from redense.lab.ranks.processes import begin_loading, loading_context
from redense.lab.recipe.recipe import Recipe
from redense.pruning import derive_seed
from redense.tasks.task import Examples, HasLengths, Part, Task

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
    context = loading_context() if workers else None
    begin = functools.partial(begin_loading, parent=os.getpid() if context else None)
    return DataLoader(
        examples,  # pyright: ignore[reportArgumentType]  # it has __len__ and __getitems__, which is all that is used
        batch_sampler=cast("BatchSampler", batches),
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=generator,
        pin_memory=pin_memory,
        worker_init_fn=begin if workers else None,
        multiprocessing_context=context,
    )


def _as_it_is(batch: Any) -> Any:
    return batch


# --- of a run -------------------------------------------------------------------------------------------------------


class Feed:
    """Gives batches of a task's splits to one rank.

    Raises:
        RecipeError: the batches cannot be parted among the ranks.
    """

    def __init__(self, task: Task, recipe: Recipe, ranks: Ranks, device: torch.device) -> None:
        self.task, self.recipe, self.ranks, self.device = task, recipe, ranks, device
        self._part(self._order(0, 0, 0, 1))

    def batches(self, index: int, epoch: int, done: int, steps: int, *, whole: bool = False) -> Iterator[Any]:
        """Give this rank's part of an epoch's batches; the same for every arm that trains a phase of this index.

        With ``whole`` every rank is given all of each.

        Args:
            index: of the phase.
            epoch: of the phase.
            done: optimizer steps of the epoch to leave out.
            steps: optimizer steps of the epoch.
            whole: give every rank everything.
        """
        order = self._order(index, epoch, done, steps)
        examples = self.task.examples("train")
        examples.begin_epoch(derive_seed(self.recipe.seed, index, epoch, "order"))
        return self.load(examples, order if whole or not self.ranks.many else self._part(order))

    def load(self, examples: Examples, order: Batches | Parts | Sequence[list[int]]) -> Iterator[Any]:
        """Give the batches of lists of indices, on the device."""
        if not len(order):  # more ranks than batches: older versions of Accelerate give one batch then, which is None
            return iter(())
        workers = getattr(self.recipe.data, "workers", 0)
        workers = workers and min(workers, usable_cores())  # more would only wait
        made = loader(examples, order, workers=workers, pin_memory=self.device.type == "cuda")
        # What each rank loads is settled in the order: Accelerate only puts it on the device and counts.
        return iter(prepare_data_loader(made, self.device, num_processes=1, process_index=0, put_on_device=True))

    def _order(self, index: int, epoch: int, done: int, steps: int) -> Batches:
        training, examples = self.recipe.training, self.task.examples("train")
        return Batches(
            len(examples),
            training.batch_size,
            seed=derive_seed(self.recipe.seed, index, epoch, "order"),
            limit=steps * training.accumulate,
            skip=done * training.accumulate,
            lengths=lengths_of(examples),
        )

    def _part(self, order: Batches) -> Parts:
        return Parts(order, self.ranks.rank, self.ranks.world)


def steps_per_epoch(task: Task, recipe: Recipe) -> int:
    """Return the optimizer steps of one epoch.

    Raises:
        DataError: the training split is too small for one.
    """
    training, examples = recipe.training, len(task.examples("train"))
    steps = examples // training.batch_size // training.accumulate
    if not steps:
        raise DataError(
            f"the training split has {examples} examples, fewer than one optimizer step takes "
            f"({training.batch_size} x {training.accumulate}): lower training.batch_size"
        )
    return steps
