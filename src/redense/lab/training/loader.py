"""The batches of a run on their way to the device: each in its epoch's order, and of each the part of this rank."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader

from redense.errors import DataError
from redense.lab.ranks.launch import Ranks
from redense.lab.recipe.recipe import Recipe
from redense.pruning import derive_seed
from redense.tasks.task import Examples, Task

from .batches import Batches, Parts, lengths_of, loader


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
        workers = min(getattr(self.recipe.data, "workers", 0), os.cpu_count() or 1)  # more would only wait
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
