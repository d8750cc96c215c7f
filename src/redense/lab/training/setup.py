"""Setting up a training from a recipe: the accelerator, the optimizer, the rules of pruning."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Collection, Iterator
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn

from redense.errors import RecipeError, RedenseError
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe
from redense.lab.recipe.sections import OptimizerRecipe
from redense.methods.base import Context, Method
from redense.parameters import first_layers
from redense.tasks.task import Batch, Task

_NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
)


class BatchError(RedenseError, ValueError):
    """A batch that is too small for a layer of the network."""


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Return Accelerate's object for the recipe's precision and accumulation, whatever was there in this process."""
    # Accelerate keeps one precision per process; two runs in one process may differ. Its process group stays.
    if PartialState._shared_state:
        AcceleratorState._reset_state(reset_partial_state=not PartialState().use_distributed)
    return Accelerator(
        mixed_precision="bf16" if recipe.training.precision == "bf16" else "no",
        # As a plugin, because a number would give way to the launcher's environment.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=recipe.training.accumulate),
    )


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let a GPU compute so that the same training gives the same bits: else a resumed run would end with others.

    Of an operator that has no such form there (the gradient of CTC in some shapes) PyTorch warns and takes what it has.
    A CPU does so by itself.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    memory = cast("Any", torch.utils.deterministic)
    filling = memory.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=before != (True, False))  # who wants an error keeps it
    memory.fill_uninitialized_memory = False  # a pass over every new tensor, to find bugs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filling


def prune_rules(recipe: Recipe, task: Task, model: nn.Module) -> tuple[list[str] | None, list[str]]:
    """Return what `redense.prunable` is told to include and to exclude: the recipe's word, or the task's."""
    prune = recipe.prune
    own = prune.include if prune.include is not None else task.include
    include = None if own is None else list(own)
    if prune.first_layer:
        include = [*(["*"] if include is None else include), *first_layers(model)]
    return include, [*task.exclude, *prune.exclude]


class LossOf(nn.Module):
    """A phase's loss of a batch as one module: whatever a technique does to the model, DDP sees one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: Method, run: Context, batch: Batch) -> Tensor:
        """Return the loss that the technique makes of a batch.

        Raises:
            BatchError: the batch is too small for a batch normalisation.
        """
        try:
            return method.loss(run, self.model, batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BatchError(
                f"{self._normalisation(error)} has one value of each channel in a batch, and cannot normalise it: "
                "raise training.batch_size"
            ) from None

    def _normalisation(self, error: ValueError) -> str:
        """Name the layer that has raised."""
        names = {id(module): name for name, module in self.model.named_modules()}
        found = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        named = [names[id(module)] for module in found if isinstance(module, _NORMALISATIONS) and id(module) in names]
        return f"batch normalisation '{named[-1]}'" if named else "batch normalisation"


def make_optimizer(
    model: nn.Module,
    recipe: OptimizerRecipe,
    heads: Collection[str] = (),
    part: float = 1.0,
    last: Collection[str] = (),
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over all of the model's parameters.

    With ``heads``, names of parameters, those make a group of their own, the first; the ``part`` of its learning rate
    that tuning gives the others is kept in their group, as ``tuned``. An optimizer that treats matrices otherwise has
    those in a group of their own, but for embeddings and the ``last`` layer's, by name.

    Raises:
        RecipeError: the optimizer has groups of its own, and tuning would make others; or it does not take the options
            of the recipe.
    """
    kind, named = OPTIMIZERS.get_named(recipe.name), dict(model.named_parameters())
    parameters: Any = list(named.values())
    own = [value for name, value in named.items() if name in heads]
    if own and kind.by_shape:
        raise RecipeError(f"the optimizer {recipe.name} makes groups of its own: tune.backbone_lr must be 1 with it")
    if own:
        rest = [value for name, value in named.items() if name not in heads]
        parameters = [{"params": own}, {"params": rest, "tuned": part}]
    elif kind.by_shape:
        embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        hidden = {
            name: value.ndim >= 2 and name not in last and id(value) not in embedded for name, value in named.items()
        }
        parameters = [
            {"params": [named[name] for name, is_hidden in hidden.items() if is_hidden == wanted], "use_muon": wanted}
            for wanted in (True, False)
        ]
    try:
        return kind.make(parameters, recipe)
    except (TypeError, ValueError) as error:
        if not recipe.options:
            raise
        raise RecipeError(f"training.optimizer.options {recipe.options} are none of {recipe.name}: {error}") from error
