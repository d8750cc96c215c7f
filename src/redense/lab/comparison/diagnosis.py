"""``redense compare --diagnose``: the paper's hypotheses measured for DSD and for its control, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from redense.lab.diagnosis.report import Cycle, Probes, Settings, diagnose
from redense.lab.training.engine import Engine
from redense.masks import unpack
from redense.tasks.task import Batch, Split, Task

from .comparison import CONTROL, Cell
from .grid import Grid

DIAGNOSED = ("dsd", CONTROL)
_LOSS_EXAMPLES = 500  # training examples behind loss, sharpness and the line
_METRIC_EXAMPLES = 1000  # validation examples behind the metric under noise
_HIDDEN_EXAMPLES = 5000  # training examples behind similarity, whose bias falls with examples per unit
_BATCH = 250


def diagnose_grid(
    grid: Grid, *, settings: Settings | None = None, progress: Callable[[int, int, str], None] = lambda *what: None
) -> dict[str, Any]:
    """Return what `redense.lab.diagnosis.report.diagnose` finds for the first seed of ``dsd`` and of ``restart``.

    Loss, line and sharpness are over 500 training examples, similarity of hidden units over 5,000, the metric under
    noise over 1,000 validation examples, or fewer where a split has fewer.
    """
    seed = grid.comparison.seeds[0]
    chosen = [cell for cell in grid.cells if cell.seed == seed and cell.label.split(" ")[0] in DIAGNOSED]
    found = {
        cell.label: _diagnose(
            cell, grid, settings, lambda done, total, what, arm=cell.label: progress(done, total, f"{arm}: {what}")
        )
        for cell in chosen
        if grid.store.has(cell.keys[-1])
    }
    losses, metrics = _count(grid.task, "train", _LOSS_EXAMPLES), _count(grid.task, "validation", _METRIC_EXAMPLES)
    return {"seed": seed, "loss_examples": losses, "metric_examples": metrics, "arms": found}


def _diagnose(
    cell: Cell, grid: Grid, settings: Settings | None, progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    engine = Engine(grid.task, cell.flow.recipe, cell.flow.phases)
    names = [planned.phase.name for planned in cell.flow.phases]
    snapshots = [grid.store.state(key) for key in cell.keys]
    states = {name: snapshot["model"] for name, snapshot in zip(names, snapshots, strict=True)}
    cycle = None
    if len(names) == 3 and snapshots[1]["masks"]:
        masks = {name: unpack(item["bits"], item["shape"]) for name, item in snapshots[1]["masks"].items()}
        cycle = Cycle(masks, names[0], names[1], names[2])
    model = engine.model.eval()
    return diagnose(model, states, probes(engine.task, model), cycle=cycle, settings=settings, progress=progress)


def probes(task: Task, model: nn.Module) -> Probes:
    """Return what can be measured of a model of this task."""
    device = next(model.parameters()).device
    train = list(_batches(task, "train", _LOSS_EXAMPLES, device))
    validation = list(_batches(task, "validation", _METRIC_EXAMPLES, device))

    def loss(model: nn.Module) -> Tensor:
        return torch.stack([task.loss(model, batch) for batch in train]).mean()

    def metric(model: nn.Module) -> float:
        return _metric(task, model, validation)

    def noisy(model: nn.Module, scale: float, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return _metric(task, model, [_disturbed(batch, scale, generator) for batch in validation])

    def activations(model: nn.Module) -> Tensor:
        batches = _batches(task, "train", _HIDDEN_EXAMPLES, device)
        return torch.cat([_hidden(task, model, batch) for batch in batches])

    has_linear = any(isinstance(module, nn.Linear) for module in model.modules())
    return Probes(loss, metric, activations if has_linear else None, noisy)


def _batches(task: Task, split: Split, limit: int, device: torch.device) -> Iterator[Batch]:
    count = _count(task, split, limit)
    size = min(_BATCH, count)
    for first in range(0, count, size):
        batch = task.examples(split).__getitems__(range(first, first + size))
        yield tuple(tensor.to(device) for tensor in batch)


def _count(task: Task, split: Split, limit: int) -> int:
    """Return the number of examples that make equal batches: the mean over batches is then the mean over examples."""
    count = min(limit, len(task.examples(split)))
    return count - count % min(_BATCH, count)


def _metric(task: Task, model: nn.Module, batches: list[Batch]) -> float:
    with torch.no_grad():
        rows = [task.outcome(model, batch) for batch in batches]
    return task.metrics({name: torch.cat([row[name] for row in rows]) for name in rows[0]})[task.metric.name]


def _disturbed(batch: Batch, scale: float, generator: torch.Generator) -> Batch:
    """The batch with Gaussian noise of this standard deviation on its inputs, which are normalised."""
    inputs, *rest = batch
    noise = torch.randn(inputs.shape, generator=generator).to(inputs)
    return (inputs + scale * noise, *rest)


def _hidden(task: Task, model: nn.Module, batch: Batch) -> Tensor:
    """Return the inputs of the last linear layer: (examples, units)."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().flatten(1)))
    try:
        with torch.no_grad():
            task.outcome(model, batch)
    finally:
        hook.remove()
    return seen[0]
