"""The learning rate of an optimizer, and whatever a scheduler computes later rates from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

from redense.errors import OptimizerError
from redense.schedules.numeric import as_float

from .optimizers import unwrap_optimizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rates:
    """The places where a class of schedulers keeps rates of its own, besides its base rates."""

    attributes: tuple[str, ...] = ()  # of the scheduler
    keys: tuple[str, ...] = ()  # of the optimizer's groups


_KNOWN: dict[type[LRScheduler], _Rates] = {
    lr_scheduler.LambdaLR: _Rates(),
    lr_scheduler.MultiplicativeLR: _Rates(),
    lr_scheduler.StepLR: _Rates(),
    lr_scheduler.MultiStepLR: _Rates(),
    lr_scheduler.ConstantLR: _Rates(),
    lr_scheduler.LinearLR: _Rates(),
    lr_scheduler.ExponentialLR: _Rates(),
    lr_scheduler.PolynomialLR: _Rates(),
    lr_scheduler.CosineAnnealingLR: _Rates(("eta_min",)),
    lr_scheduler.CosineAnnealingWarmRestarts: _Rates(("eta_min",)),
    lr_scheduler.CyclicLR: _Rates(("max_lrs",)),
    lr_scheduler.OneCycleLR: _Rates(keys=("max_lr", "min_lr")),
    lr_scheduler.ReduceLROnPlateau: _Rates(("min_lrs", "default_min_lr", "eps")),
    lr_scheduler.SequentialLR: _Rates(),
    lr_scheduler.ChainedScheduler: _Rates(),
    SWALR: _Rates(keys=("swa_lr",)),
}
_COMPUTE = ("step", "get_lr", "_get_closed_form_lr", "_update_lr", "_reduce_lr")  # a subclass with one may do anything
_WRAPPED_BY = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning")


def scale_lr(optimizer: Optimizer, factor: float, scheduler: Any = ()) -> None:
    """Multiply the learning rate of every parameter group by ``factor``, in place.

    For loops without a scheduler; with one use ``LambdaLR(optimizer, schedule.lr_factor)``. A scheduler that was made
    before computes the rate from rates of its own at its next step, which would undo this: give it too, and its base,
    highest and lowest rates are multiplied, so that all later rates are ``factor`` times what they would have been. One
    that is made afterwards has the new rate for its base; or, where the optimizer had a scheduler before, the rate that
    the first of them began with, times ``factor``.

    Args:
        optimizer: whose rate is changed.
        factor: above 0.
        scheduler: what else sets the rate of this optimizer, if the loop goes on stepping it: a scheduler of PyTorch,
            wrapped by Accelerate or Lightning or not, or several.

    Raises:
        OptimizerError: the factor is not a positive number, a group has no learning rate, or a scheduler is of a class
            whose rates are not known, or of another optimizer.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> scale_lr(optimizer, 0.1)
    >>> round(optimizer.param_groups[0]["lr"], 4)
    0.01
    """
    number = as_float(factor)
    if number is None or not 0 < number < float("inf"):
        raise OptimizerError(f"factor of the learning rate must be a positive number, got {factor!r}")
    inner = unwrap_optimizer(optimizer)
    if any(group.get("lr") is None for group in inner.param_groups):  # Adafactor's relative steps
        raise OptimizerError(
            f"a parameter group of the {type(inner).__name__} has no learning rate 'lr' that scale_lr could multiply: "
            "give the optimizer one, or change by hand what sets its steps"
        )
    schedulers = {id(each): (each, _rates_of(each, inner)) for each in _every(scheduler)}
    # PyTorch's schedulers leave a mark on the step, and those of most libraries (timm) the rate that they began with.
    marked = hasattr(inner.step, "_wrapped_by_lr_sched") or any("initial_lr" in group for group in inner.param_groups)
    if marked and not schedulers:
        _log.warning(
            "a learning-rate scheduler was made for this %s; if the loop still steps it, it may compute the rate anew "
            "and undo scale_lr(optimizer, %s): give it to scale_lr too, or use LambdaLR(optimizer, schedule.lr_factor)",
            type(inner).__name__,
            number,
        )
    keys = {"initial_lr", *(key for _, rates in schedulers.values() for key in rates.keys)}
    tensors = dict[int, Tensor]()  # groups may share one
    for group in inner.param_groups:
        if isinstance(group["lr"], Tensor):
            tensors[id(group["lr"])] = group["lr"]  # capturable optimizers hold on to this very tensor
        else:
            group["lr"] *= number
        group.update({key: group[key] * number for key in keys & group.keys()})
    for tensor in tensors.values():
        tensor.mul_(number)
    for each, rates in schedulers.values():
        for name in ("base_lrs", "_last_lr", *rates.attributes):
            if getattr(each, name, None) is not None:
                setattr(each, name, _times(getattr(each, name), number))


def _times(rate: Any, factor: float) -> Any:
    return [each * factor for each in cast("list[Any]", rate)] if isinstance(rate, (list, tuple)) else rate * factor


def _every(scheduler: Any) -> Iterator[Any]:
    """Give the schedulers that set rates themselves, and those that call others, without their wrappers."""
    if isinstance(scheduler, (list, tuple)):
        for each in cast("list[Any]", scheduler):
            yield from _every(each)
        return
    while type(scheduler).__module__.split(".")[0] in _WRAPPED_BY and hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler
    yield scheduler
    if isinstance(scheduler, (lr_scheduler.SequentialLR, lr_scheduler.ChainedScheduler)):
        yield from _every(list(scheduler._schedulers))  # pyright: ignore[reportPrivateUsage]


def _rates_of(scheduler: Any, optimizer: Optimizer) -> _Rates:
    """Return where a scheduler keeps its rates.

    Raises:
        OptimizerError: it is not known, or it sets the rates of another optimizer.
    """
    kind, known = cast("type[Any]", type(scheduler)), None
    for one in kind.__mro__:
        known = _KNOWN.get(one)
        if known is not None or any(name in vars(one) for name in _COMPUTE):
            break
    if not hasattr(scheduler, "optimizer"):
        raise OptimizerError(
            f"scheduler of scale_lr must be one of PyTorch's, or several, got {scheduler!r}: leave it out where the "
            "loop has none"
        )
    if known is None:
        raise OptimizerError(
            f"scale_lr knows PyTorch's own schedulers, but not where {kind.__name__} keeps its rates, which it would "
            "set again: multiply them yourself and leave it out, or make it anew after scale_lr"
        )
    if not {id(group) for group in scheduler.optimizer.param_groups} & {id(group) for group in optimizer.param_groups}:
        raise OptimizerError(
            f"the {kind.__name__} given to scale_lr sets the rates of another optimizer than the "
            f"{type(optimizer).__name__} given: call scale_lr for each optimizer with its own scheduler"
        )
    return known
