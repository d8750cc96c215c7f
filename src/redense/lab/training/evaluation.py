"""Evaluation of a network on a split: every example once, in order, whoever evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from redense.lab.ranks.launch import Ranks
from redense.tasks.task import Split, Task

from .batches import Batches, lengths_of

_BATCH = 500  # where the task says nothing

Load = Callable[[Any, Sequence[list[int]]], Iterator[Any]]
"""(examples, lists of indices) -> their batches on the device."""


def outcome_of(
    task: Task, model: nn.Module, split: Split, load: Load, ranks: Ranks, autocast: AbstractContextManager[Any]
) -> dict[str, Tensor]:
    """Return the task's outcome of every example of a split, in order, on CPU; all of it on every rank.

    The ranks take the batches in turn, each a whole one: so the answers are to the bit those of one process.
    """
    examples = task.examples(split)
    ranks.share_buffers_(model)
    model.eval()
    batch_size = getattr(task, "evaluation_batch", _BATCH)
    batches = list(Batches(len(examples), batch_size, lengths=lengths_of(examples)))
    mine = batches[ranks.rank :: ranks.world]
    rows: dict[str, list[Tensor]] = {}
    with torch.no_grad(), autocast:
        for batch in load(examples, mine):
            for name, values in task.outcome(model, batch).items():
                rows.setdefault(name, []).append(values.cpu())
    own = {name: torch.cat(parts) for name, parts in rows.items()}
    # Every answer goes to its own place: nothing is counted twice and nothing is lost.
    whole: dict[str, Tensor] = {}
    for rank, part in enumerate(ranks.gather(own)):
        indices = torch.tensor([index for batch in batches[rank :: ranks.world] for index in batch], dtype=torch.int64)
        for name, values in part.items():
            whole.setdefault(name, values.new_empty((len(examples), *values.shape[1:])))[indices] = values
    return whole
