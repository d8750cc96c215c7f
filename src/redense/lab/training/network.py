"""The network in training: the model and its optimizer, as precision, compilation and ranks have them train."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from redense.errors import RecipeError
from redense.lab.events import TrainingError
from redense.lab.ranks.launch import Ranks
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe
from redense.masks import sparsity_of
from redense.methods.base import Context, Method
from redense.parameters import prunable
from redense.tasks.task import Task

from .pretrained import heads_of
from .setup import LossOf, make_accelerator, make_optimizer, prune_rules


class Network:
    """A model and its optimizer. ``model`` is the plain one, whatever is wrapped around it for training.

    Args:
        task: gives the loss of a batch.
        recipe: says with which optimizer and precision.
        ranks: that train copies of it.
    """

    def __init__(self, task: Task, recipe: Recipe, ranks: Ranks) -> None:
        self.task, self.ranks, self._recipe = task, ranks, recipe
        self.own = recipe
        """The recipe as the phase at hand has it."""
        self.accelerator: Accelerator = make_accelerator(recipe)

    @property
    def device(self) -> torch.device:
        """The device of the training."""
        return self.accelerator.device

    def use(self, model: nn.Module) -> None:
        """Train this model from now on, with a new optimizer."""
        training = self._recipe.training
        if training.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model: nn.Module = model.to(self.device)
        self.optimizer = self.new_optimizer()
        # Only what the precision asks for: the ranks' gradients meet where the loss is made, in `LossOf`.
        prepared = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        # Accelerate's wrapper is for what scales the loss: each of its steps looks for a library on the whole path.
        scales = self.accelerator.scaler is not None
        self._prepared: Any = self.accelerator.prepare_optimizer(self.optimizer) if scales else self.optimizer
        if training.compile:
            prepared = cast("nn.Module", torch.compile(prepared))
        self.loss = self.ranks.parallel(LossOf(prepared))

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of the phase at hand over the model's parameters, as it would begin.

        Raises:
            RecipeError: the last layer is to be tuned otherwise than the others, and the task does not name it.
        """
        tune, own = self._recipe.tune, self.own.training.optimizer
        parts = tune is not None and tune.backbone_lr < 1
        heads = heads_of(self.task) if parts else frozenset[str]()
        if parts and not heads:
            raise RecipeError(
                f"tune.backbone_lr is for all layers but the last, which the task '{self.task.name}' does not name: "
                "give 1, which tunes all alike"
            )
        last = heads_of(self.task) if OPTIMIZERS[own.name].by_shape else frozenset[str]()
        return make_optimizer(self.model, own, heads, tune.backbone_lr if tune else 1.0, last)

    def settle(self, recipe: Recipe) -> None:
        """Take the recipe as a phase has it; another optimizer takes the place of the one before, with no state."""
        another = recipe.training.optimizer.name != self.own.training.optimizer.name
        self.own = recipe
        if another:
            self.use(self.model)

    def backward(self, method: Method, run: Context, batch: Any) -> Tensor:
        """Add the gradients of a batch to those that there are, and return its part of the step's loss: a scalar."""
        loss = self.loss(method, run, batch)
        self.accelerator.backward(loss)
        return loss.detach() / self._recipe.training.accumulate

    def steps(
        self, batches: Iterable[Any], method: Method, run: Context, set_lr: Callable[[], None]
    ) -> Generator[Tensor]:
        """Make the optimizer steps of some batches, and give the loss of each: float64, a scalar that is used again.

        Args:
            batches: on the device.
            method: may take the gradients of a step's batches again, as SAM does.
            run: what it sees; its number of batches is counted on.
            set_lr: called before every step.
        """
        self.loss.train()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        taken: list[Any] = []  # of the step at hand

        def again() -> None:
            self._prepared.zero_grad()
            for batch in taken:
                self.backward(method, run, batch)
            self._clip()

        try:
            for batch in batches:
                if method.gradient_evaluations > 1:
                    taken.append(batch)
                with self.accelerator.accumulate(self.loss):
                    loss += self.backward(method, run, batch)
                    run.batch_number += 1
                    if not self.accelerator.sync_gradients:
                        continue
                    set_lr()
                    self._clip()
                    with self._naming_overflow():
                        method.step(run, self._prepared, again)
                    self._prepared.zero_grad()
                    taken.clear()
                yield loss
                loss.zero_()
        finally:  # where it ends early, the processes that prepare batches end with it
            if isinstance(batches, Generator):
                batches.close()

    @contextlib.contextmanager
    def _naming_overflow(self) -> Iterator[None]:
        """Say that a rate is too large where PyTorch cannot bring it to the type of the weights."""
        try:
            yield
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            decay = self.own.training.optimizer.weight_decay
            raise TrainingError(
                f"the learning rate {self.lr:g} or the weight decay {decay:g} is more than a weight can hold: lower it"
            ) from None

    def _clip(self) -> None:
        training = self.own.training
        if training.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        if training.clip_value:
            self.accelerator.clip_grad_value_(self.model.parameters(), training.clip_value)

    def set_lr(self, factor: float, *, tunes: bool) -> None:
        """Set the learning rate, as a factor of the recipe's; where it ``tunes``, some groups have a part of it."""
        for group in self.optimizer.param_groups:
            part = (group.get("tuned", 1.0) if tunes else 1.0) * group.get("share", 1.0)
            group["lr"] = self.own.training.optimizer.lr * factor * part

    @property
    def lr(self) -> float:
        """The learning rate of the optimizer's first group."""
        return self.optimizer.param_groups[0]["lr"]

    # --- what is pruned ---------------------------------------------------------------------------------------------

    @property
    def include(self) -> list[str] | None:
        """The ``include`` of `redense.prunable`: the recipe's, or the task's."""
        return prune_rules(self._recipe, self.task, self.model)[0]

    @property
    def exclude(self) -> list[str]:
        """The ``exclude`` of `redense.prunable`: the task's and the recipe's."""
        return prune_rules(self._recipe, self.task, self.model)[1]

    def prunable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that pruning chooses from."""
        return prunable(self.model, include=self.include, exclude=self.exclude)

    def sparsity(self) -> float:
        """Return the fraction of exact zeros among the prunable weights."""
        return round(sparsity_of(*self.prunable().values()), 6)
