"""A technique around the training of one phase: what it may change, and when the engine asks it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from redense.errors import ScheduleError, StateError, nearest

# name -> module and class; a technique is loaded when a phase names it
_HOME = {
    "anew": ("anew", "Anew"),
    "average": ("averaging", "Average"),
    "distill": ("distillation", "Distillation"),
    "dropconnect": ("dropconnect", "DropConnect"),
    "jump": ("annealing", "Jump"),
    "lowrank": ("lowrank", "LowRank"),
    "momentum": ("momentum", "KeptMomentum"),
    "release": ("release", "Release"),
    "sam": ("sharpness", "SharpnessAware"),
}


class Method:
    """Changes nothing; a technique overrides what it changes.

    The engine calls, for one phase: `begin` before its first step and before anything is pruned, `pruned` right after
    the masks of the phase are chosen; then for every step
    `loss` (once a batch) and `step`, then `after_step`; and `finish` when the phase is over and its masks are released.
    A phase that is interrupted goes on with a new object that was given `load_state_dict` instead of `begin`.

    Args:
        options: the settings of the phase, plain data; an unknown one is an error.
        seed: of everything random in it.
    """

    name = ""
    defaults: Mapping[str, Any] = {}
    gradient_evaluations = 1
    """Gradients of a batch that one optimizer step takes."""
    keeps_gradients = False
    """Whether the gradients of removed weights take part in the steps of a sparse phase."""

    def __init__(self, options: Mapping[str, Any], seed: int) -> None:
        for key in options:
            if key not in self.defaults:
                raise ScheduleError(f"unknown option '{key}' of method '{self.name}'{nearest(key, self.defaults)}")
        self.options: dict[str, Any] = {**self.defaults, **options}
        self.seed = seed
        self.resolve: Callable[[str], dict[str, Tensor]] = _nothing_stored
        self.build: Callable[[], nn.Module] | None = None  # the engine sets it: makes the network with new weights
        self.optimizer: Optimizer | None = None  # the engine sets the one that trains the phase, before `begin`

    def begin(self, model: nn.Module, prunable: Mapping[str, nn.Parameter]) -> None:
        """Prepare, with the weights that the phase before left; may change their values in place."""

    def pruned(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Look at the masks that were just chosen, True = kept; may change the weights that are kept, in place."""

    def loss(self, model: nn.Module, batch: Any, outputs: Callable[[nn.Module, Any], Tensor], hard: LossFn) -> Tensor:
        """Return the training loss of a batch.

        Args:
            model: what is trained.
            batch: one batch of the task.
            outputs: (model, batch) -> logits, (rows, classes).
            hard: (model, batch) -> the task's own loss.
        """
        return hard(model, batch)

    def step(self, optimizer: Optimizer, again: Callable[[], object]) -> None:
        """Make the optimizer step; ``again()`` clears the gradients and computes them anew at the current weights."""
        optimizer.step()

    def after_step(self, model: nn.Module, step: int) -> None:
        """Look at the weights after optimizer step ``step`` of the phase, from 0."""

    def finish(self, model: nn.Module, masks: Mapping[str, Tensor], batches: Callable[[], Iterable[Any]]) -> None:
        """Leave the weights that the phase ends with.

        Args:
            model: what was trained.
            masks: the masks that the phase held, True = kept; empty after a dense phase.
            batches: gives the training batches once more, for statistics of batch normalisation.
        """

    def reshape(self, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        """Return the model that the phase trains, in another structure, and plain data that says what was made.

        Given that data again as ``made``, it makes the same structure from a freshly built model. ``None`` in its place
        says that the structure is unchanged.
        """
        return model, None

    def state_dict(self) -> dict[str, Any]:
        """Return what an interrupted phase needs to go on: tensors and plain data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        """Go on where `state_dict` was taken."""


LossFn = Callable[[nn.Module, Any], Tensor]


def _nothing_stored(key: str) -> dict[str, Tensor]:
    raise StateError(f"phase {key} is not in a store here: this technique needs other arms, use `redense compare`")


def make_method(name: str | None, options: Mapping[str, Any], seed: int) -> Method:
    """Return the technique called ``name``, or one that changes nothing.

    Raises:
        ScheduleError: no technique has this name, or an option is unknown.
    """
    if name is None:
        return Method(options, seed)
    if name not in _HOME:
        raise ScheduleError(f"unknown method '{name}'{nearest(name, _HOME)} (known: {', '.join(sorted(_HOME))})")
    module, cls = _HOME[name]
    return getattr(importlib.import_module(f".{module}", __package__), cls)(options, seed)
