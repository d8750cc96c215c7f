"""Evaluation of a network on a split: every example once, in order, whoever evaluates it.

Some optimizers (schedule-free ones) have two sets of weights: one to train at, and an average to evaluate at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from redense.tasks.task import Split, Task

from .batches import Batches, lengths_of
from .network import Network

_BATCH = 500  # where the task says nothing

Load = Callable[[Any, Sequence[list[int]]], Iterator[Any]]
"""(examples, lists of indices) -> their batches on the device."""


def outcome_of(task: Task, network: Network, split: Split, load: Load) -> dict[str, Tensor]:
    """Return the task's outcome of every example of a split, in order, on CPU; all of it on every rank.

    The ranks take the batches in turn, each a whole one: so the answers are to the bit those of one process.
    """
    examples, model, ranks = task.examples(split), network.model, network.ranks
    ranks.share_buffers_(model)
    model.eval()
    batch_size = getattr(task, "evaluation_batch", _BATCH)
    batches = list(Batches(len(examples), batch_size, lengths=lengths_of(examples)))
    mine = batches[ranks.rank :: ranks.world]
    rows: dict[str, list[Tensor]] = {}
    with evaluated(network.optimizer), torch.no_grad(), network.accelerator.autocast():
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


# --- the weights to evaluate at ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def evaluated(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Have the weights to evaluate at in the model, and afterwards those to train at again, to the bit."""
    if not _trains(optimizer):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    cast("Any", optimizer).eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
        for group in optimizer.param_groups:
            group["train_mode"] = True


def end_average_(optimizer: torch.optim.Optimizer) -> bool:
    """Leave the weights to evaluate at in the model, as a phase ends; return whether they are others."""
    if not _trains(optimizer):
        return False
    cast("Any", optimizer).eval()
    return True


def go_on_(optimizer: torch.optim.Optimizer) -> None:
    """Have the weights to train at in the model, as a phase begins or goes on."""
    if any(group.get("train_mode") is False for group in optimizer.param_groups):
        cast("Any", optimizer).train()


def _trains(optimizer: torch.optim.Optimizer) -> bool:
    return any(group.get("train_mode") is True for group in optimizer.param_groups)
