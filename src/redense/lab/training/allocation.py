"""One sparsity shared over the layers of a network in training, when its sparse phase begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from redense.errors import SparsityError
from redense.parameters import prunable
from redense.scans import allocation
from redense.scans.allocation import Method
from redense.scans.sensitivity import sensitivity


def allocate_for(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float],
    overall: float,
    by: Method = "sensitivity",
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
