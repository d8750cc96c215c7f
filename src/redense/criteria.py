"""Criteria: what a weight is worth. The lowest scores are pruned.

A criterion is one function, ``(parameter, seed) -> scores``, that returns a tensor of the parameter's shape.
A schedule takes the function itself. Decorate it with `criterion` to use it by name, as recipes and saved schedules
do:

    @criterion("signed")
    def signed(parameter, seed):
        return parameter

One that scores with ``parameter.grad`` says so, ``@criterion("name", gradients=True)``: a recipe then takes the
gradients of some training batches before the phase; in a loop of your own you call ``loss.backward()``. One with
``activations=True`` has the inputs that each weight is multiplied with: `redense.layers.inputs.input_norms`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ScoreError
from .masks.sharding import Extent, extent_of, is_sharded, local, wrap
from .schedules.named_criteria import (
    CRITERIA,
    WITH_ACTIVATIONS,
    WITH_GRADIENTS,
    Criterion,
    check_criterion,
    criterion,
    criterion_name,
)

__all__ = [
    "CRITERIA",
    "WITH_ACTIVATIONS",
    "WITH_GRADIENTS",
    "Criterion",
    "criterion",
    "criterion_name",
    "get_criterion",
    "magnitude",
    "random",
    "saliency",
]

_DRAWN = 1 << 20  # random scores drawn at a time for a sharded parameter


def get_criterion(chosen: str | Criterion) -> Criterion:
    """Return the criterion of a name, or the function itself if one is given.

    >>> criterion_name(get_criterion("magnitude"))
    'magnitude'

    Raises:
        ScoreError: no criterion has this name, or the function does not take a parameter and a seed.
    """
    check_criterion(chosen)
    return CRITERIA[chosen] if isinstance(chosen, str) else chosen


@criterion("magnitude")
def magnitude(parameter: Tensor, seed: int = 0) -> Tensor:
    """Keepmax-Cut: ``|w|``, the paper's criterion (Han et al. 2017, section 2).

    It is the second-order Taylor term ``1/2 d2L/dw2 w^2`` with the Hessian left out as too expensive.

    >>> magnitude(torch.tensor([-2.0, 0.5]))
    tensor([2.0000, 0.5000])
    """
    return parameter.detach().abs()


@criterion("random")
def random(parameter: Tensor, seed: int = 0) -> Tensor:
    """Random-Cut: uniform scores, the paper's ablation. The same seed gives the same scores on every device.

    Scores are float64: float32 has only 2**24 values in [0, 1), so that large layers would tie.
    """
    generator = torch.Generator().manual_seed(seed)
    if is_sharded(parameter):
        return wrap(_random_part(extent_of(parameter), generator).to(local(parameter).device), parameter)
    return torch.rand(parameter.shape, generator=generator, dtype=torch.float64, device="cpu").to(parameter.device)


def _random_part(extent: Extent, generator: torch.Generator) -> Tensor:
    """Return a rank's part of the scores of the whole, which are drawn a few rows at a time and never held."""
    rows, *rest = extent.shape or (1,)
    each = max(1, _DRAWN // max(1, torch.Size(rest).numel()))
    mine = extent.positions[0] if extent.positions else torch.zeros(1, dtype=torch.int64, device="cpu")
    parts = [torch.empty(0, *(p.numel() for p in extent.positions[1:]), dtype=torch.float64, device="cpu")]
    for start in range(0, rows, each):
        drawn = torch.rand(min(each, rows - start), *rest, generator=generator, dtype=torch.float64, device="cpu")
        wanted = mine[(mine >= start) & (mine < start + each)] - start
        parts.append(Extent(tuple(drawn.shape), (wanted, *extent.positions[1:])).take(drawn).clone())
    return torch.cat(parts).view(extent.local_shape)


@criterion("saliency", gradients=True)
def saliency(parameter: Tensor, seed: int = 0) -> Tensor:
    """First-order saliency ``|w * dL/dw|`` (Mozer and Smolensky 1989), with the gradient that ``parameter.grad`` holds.

    Half-precision products are taken in float32, where they do not overflow.

    Raises:
        ScoreError: the parameter has no gradient.
    """
    if parameter.grad is None:
        raise ScoreError("criterion 'saliency' needs gradients: call loss.backward() before the phase starts")
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return (parameter.detach().to(dtype) * parameter.grad.to(dtype)).abs()
