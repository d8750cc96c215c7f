"""A phase of a plan before its first step: its settings, its technique, and what its mask is chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense.controller import DSD
from redense.criteria import WITH_ACTIVATIONS, WITH_GRADIENTS
from redense.errors import SparsityError
from redense.lab.recipe.recipe import Recipe
from redense.layers.inputs import measured_inputs
from redense.methods.base import Context, Method, make_method
from redense.parameters import prunable
from redense.pruning import derive_seed
from redense.scans import allocation
from redense.scans.sensitivity import sensitivity
from redense.schedule import Schedule
from redense.tasks.task import Task

from .batches import Feed
from .changes import changed, set_optimizer_, varied
from .network import Network
from .plan import PlannedPhase, check_flow

SALIENCY_STEPS = 50  # optimizer steps' worth of batches whose gradients score the weights


class Preparation:
    """The phases of a plan, and what each needs before it trains.

    Args:
        recipe: how it is trained.
        plan: the phases.
        network: that is trained.
        length: optimizer steps of an epoch.
        resolve: gives the weights of a stored phase by its key.
        made: tasks with settings that change for a phase, by those settings; what is made is added.

    Raises:
        RecipeError: a phase changes a setting that cannot change.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Sequence[PlannedPhase],
        network: Network,
        length: int,
        resolve: Callable[[str], dict[str, Tensor]] | None,
        made: dict[str, Task],
    ) -> None:
        self.task, self.recipe, self.plan, self.network = network.task, recipe, tuple(plan), network
        self._length, self._resolve, self._made = length, resolve, made
        self.recipes = tuple(changed(recipe, planned.changes) for planned in self.plan)
        self.tasks = tuple(self._task_of(own) for own in self.recipes)
        network.own = self.recipes[0]
        self.feed = self._feed(self.task, recipe)

    def _feed(self, task: Task, recipe: Recipe) -> Feed:
        return Feed(task, recipe, self.network.ranks, self.network.device)

    def _task_of(self, own: Recipe) -> Task:
        """Return the task as a phase has it, made once."""
        if own is self.recipe:
            return self.task
        key = own.model_dump_json(include={"data", "training"})
        if key not in self._made:
            self._made[key] = varied(self.task, self.recipe, own)
        return self._made[key]

    def check(self) -> None:
        """Raise what a later phase would, before anything is trained.

        Raises:
            RedenseError: a phase cannot be trained.
        """
        check_flow(self.plan, "the plan")
        for index in range(len(self.plan)):
            self.method(index).check(self.network.model, self.tasks[index])
        # A phase that cannot train is not waited for; the sparsities of one that is allocated are not known yet.
        phases = tuple(
            p.phase if p.allocation == "uniform" or not p.phase.is_sparse else replace(p.phase, sparsity=0.0)
            for p in self.plan
        )
        include, exclude = self.network.include, self.network.exclude
        DSD(self.network.model, self.network.optimizer, Schedule(phases), include=include, exclude=exclude).close()

    def settle(self, index: int) -> None:
        """Take the settings that a phase changes: the optimizer's, the task's."""
        self.network.settle(self.recipes[index])
        if any(planned.changes for planned in self.plan):
            own = self.recipes[index].training.optimizer
            set_optimizer_(self.network.optimizer, self.network.new_optimizer(), own)
            self.feed = self._feed(self.tasks[index], self.recipes[index])

    def method(self, index: int) -> Method:
        """Return the technique of a phase."""
        planned = self.plan[index]
        return make_method(planned.method, planned.options, derive_seed(self.recipe.seed, index, "method"))

    def context(self, index: int, model: nn.Module | None = None) -> Context:
        """Return what the technique of a phase sees; of a ``model`` that is being made, only that."""
        return Context(
            self.network.model if model is None else model,
            self.plan[index].phase,
            self.tasks[index],
            optimizer=self.network.optimizer if model is None else None,
            prunable=self.network.prunable() if model is None else {},
            seed=derive_seed(self.recipe.seed, index, "method"),
            build=self.task.build_model,
            stored=self._resolve,
            # Statistics are taken over whole batches, the same on every rank.
            batches=lambda: self.feed.batches(index, 0, 0, self._length, whole=True),
            steps_per_epoch=self._length,
        )

    # --- what the mask is chosen by ---------------------------------------------------------------------------------

    def allocate(self, index: int, evaluate: Callable[[nn.Module], float]) -> dict[str, float]:
        """Share the one sparsity of a phase over the layers, from the weights as they are now.

        Args:
            index: of the phase.
            evaluate: gives the network's loss on validation data.
        """
        phase, by = self.plan[index].phase, cast("Any", self.plan[index].allocation)
        overall, network = float(cast("float", phase.sparsity)), self.network
        return allocate_for(network.model, evaluate, overall, by, include=network.include, exclude=network.exclude)

    def score(self, index: int) -> None:
        """Measure what the criterion of a phase scores with: gradients, left in the parameters, or sizes of inputs."""
        criterion = self.plan[index].phase.criterion
        if criterion in WITH_GRADIENTS:
            self.network.loss.train()
            run = self.context(index)
            for batch in self._some(index):
                self.network.backward(Method({}, 0), run, batch)
        if criterion in WITH_ACTIVATIONS:
            self.network.model.eval()
            with torch.no_grad(), measured_inputs(self.network.model, self.network.prunable()):
                for batch in self._some(index, whole=True):
                    self.task.outputs(self.network.model, batch)

    def loss(self) -> float:
        """Return the mean loss of the weights as they are, as an epoch of training would have reported it."""
        self.network.model.eval()
        with torch.no_grad():
            losses = [float(self.task.loss(self.network.model, batch)) for batch in self._some(0)]
        return self.network.ranks.mean(sum(losses) / len(losses))

    def _some(self, index: int, *, whole: bool = False) -> Iterator[Any]:
        """Give some training batches of a phase."""
        return iter(self.feed.batches(index, 0, 0, min(self._length, SALIENCY_STEPS), whole=whole))


def allocate_for(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float],
    overall: float,
    by: allocation.Method = "sensitivity",
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> dict[str, float]:
    """Return a sparsity for each prunable parameter of a network: parameter name -> fraction removed.

    It depends on the network's weights and, for ``sensitivity``, on what ``evaluate`` says, and on nothing else.

    Args:
        model: the network.
        evaluate: its loss on validation data; lower is better.
        overall: fraction removed of all prunable weights together, in [0, 1).
        by: how it is shared.
        include: see `redense.prunable`.
        exclude: see `redense.prunable`.

    Raises:
        SparsityError: the overall sparsity is not in [0, 1) or above what a scan measures, or ``by`` is unknown.
    """
    if by == "sensitivity":
        scan = sensitivity(model, evaluate, overall=overall, include=include, exclude=exclude)
        return scan.allocate(overall).to_dict()
    parameters = prunable(model, include=include, exclude=exclude)
    if by == "erk":
        return allocation.erk({name: tuple(parameter.shape) for name, parameter in parameters.items()}, overall)
    if by == "global":
        return allocation.global_magnitude(parameters, overall)
    if by == "uniform":
        return allocation.uniform({name: parameter.numel() for name, parameter in parameters.items()}, overall)
    raise SparsityError(f"by must be one of {', '.join(allocation.METHODS)}, got {by!r}")
