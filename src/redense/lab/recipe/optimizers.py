"""The optimizers that a recipe can name. No torch here: each is imported when it is made.

One of your own, in a plugin:

    @optimizer("lion", settings=("betas",))
    def lion(parameters, settings):  # groups of parameters, and training.optimizer of the recipe
        return Lion(parameters, lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas)

A recipe that sets another of redense's settings is refused then; what Lion takes besides comes in ``settings.options``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redense.errors import MissingExtraError, RecipeError
from redense.optional.extras import refuse_folder
from redense.plugins import Registry

Make = Callable[[Any, Any], Any]
"""``(parameters, settings) -> optimizer``; settings are `training.optimizer` of a recipe."""

_ADAM_RATE = 0.015  # of Muon's own, for what it leaves to Adam: 3e-4 at 0.02


@dataclass(frozen=True)
class OptimizerKind:
    """A way to make an optimizer.

    Args:
        make: makes it.
        settings: what of ``training.optimizer`` it takes beside rate and weight decay.
        libraries: packages that it is from.
        by_shape: weights of two and more axes of hidden layers come in a group of their own, the first, with
            ``use_muon`` true.
    """

    make: Make
    settings: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    by_shape: bool = False


OPTIMIZERS: Registry[OptimizerKind] = Registry("optimizer", RecipeError)


def optimizer(
    name: str, *, settings: tuple[str, ...] = (), libraries: tuple[str, ...] = (), by_shape: bool = False
) -> Callable[[Make], Make]:
    """Register an optimizer, so that ``training.optimizer.name`` can be its name; see `OptimizerKind`.

    Raises:
        RecipeError: the name is taken, or no recipe could give it.
    """

    def register(make: Make) -> Make:
        OPTIMIZERS.register(name, OptimizerKind(make, settings, libraries, by_shape), maker=make)
        return make

    return register


def _of_torch(name: str, kind: str, *settings: str) -> None:
    """Register an optimizer of `torch.optim` whose arguments the recipe calls as PyTorch does."""

    @optimizer(name, settings=settings)
    def make(parameters: Any, own: Any) -> Any:
        import torch

        return getattr(torch.optim, kind)(parameters, **_values(own, *settings))


_of_torch("sgd", "SGD", "momentum", "nesterov")
_of_torch("adam", "Adam", "betas", "eps")
_of_torch("adamw", "AdamW", "betas", "eps")
_of_torch("rmsprop", "RMSprop", "alpha", "eps", "momentum")


@optimizer("muon", settings=("momentum",), libraries=("pytorch_optimizer",), by_shape=True)
def muon(parameters: Any, settings: Any) -> Any:
    """Muon for the matrices of hidden layers, AdamW for the rest at 0.015 times the rate."""
    matrices, rest = parameters
    rate, decay, momentum = settings.lr, settings.weight_decay, settings.momentum or 0.95
    groups = [
        {**matrices, "lr": rate, "weight_decay": decay, "momentum": momentum},
        {**rest, "lr": rate * _ADAM_RATE, "weight_decay": decay, "share": _ADAM_RATE},
    ]
    return _library().Muon([group for group in groups if group["params"]])


@optimizer("schedule-free", settings=("momentum",), libraries=("pytorch_optimizer",))
def schedule_free(parameters: Any, settings: Any) -> Any:
    """Schedule-free SGD: evaluated at an average of the weights on the way."""
    return _library().ScheduleFreeSGD(parameters, momentum=settings.momentum or 0.9, **_values(settings))


def _values(settings: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("lr", "weight_decay", *names)}


def _library() -> Any:
    try:
        import pytorch_optimizer

        refuse_folder(pytorch_optimizer)
    except ImportError:
        raise MissingExtraError(
            "the optimizers 'muon' and 'schedule-free' are from a library: pip install 'redense[methods]'"
        ) from None
    return pytorch_optimizer
