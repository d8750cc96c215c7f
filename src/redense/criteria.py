"""Criteria: what a weight is worth. The lowest scores are pruned.

A criterion is one function, ``(parameter, seed) -> scores``, that returns a tensor of the parameter's shape.
A schedule takes the function itself. Decorate it with `criterion` to use it by name, as recipes and saved schedules
do::

    @criterion("signed")
    def signed(parameter, seed):
        return parameter

One that scores with ``parameter.grad`` says so, ``@criterion("name", gradients=True)``: a recipe then takes the
gradients of some training batches before the phase; in a loop of your own you call ``loss.backward()``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import ScoreError, nearest
from .sharding import Layout, is_sharded, layout_of, local, wrap

Criterion = Callable[[Tensor, int], Tensor]
"""``(parameter, seed) -> scores``; scores have the parameter's shape and are finite."""

_F = TypeVar("_F", bound=Criterion)

CRITERIA: dict[str, Criterion] = {}
WITH_GRADIENTS: set[str] = set()
"""The criteria that need ``parameter.grad``."""

_DRAWN = 1 << 20  # random scores drawn at a time for a sharded parameter


def criterion(name: str, *, gradients: bool = False) -> Callable[[_F], _F]:
    """Register a criterion under ``name``, so that a schedule or a recipe can name it; ``gradients``: it needs them."""

    def register(function: _F) -> _F:
        CRITERIA[name] = function
        (WITH_GRADIENTS.add if gradients else WITH_GRADIENTS.discard)(name)
        return function

    return register


def get_criterion(chosen: str | Criterion) -> Criterion:
    """Return the criterion of a name, or the function itself if one is given.

    Raises:
        ScoreError: no criterion has this name, or the function does not take a parameter and a seed.
    """
    if isinstance(chosen, str):
        if chosen not in CRITERIA:
            known = ", ".join(sorted(CRITERIA))
            hint = (
                f": a function is not loaded by its name, register it before with @redense.criterion('{chosen}')"
                if ":" in chosen
                else f"{nearest(chosen, CRITERIA)} (known: {known})"
            )
            raise ScoreError(f"unknown criterion '{chosen}'{hint}")
        return CRITERIA[chosen]
    if not callable(chosen) or isinstance(chosen, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ScoreError(f"a criterion is a name or a function (parameter, seed) -> scores, got {chosen!r}")
    try:
        inspect.signature(chosen).bind(None, 0)
    except TypeError as error:
        raise ScoreError(f"criterion '{criterion_name(chosen)}' is called with (parameter, seed): {error}") from None
    except ValueError:  # a function of C has no signature
        pass
    return chosen


def criterion_name(chosen: str | Criterion) -> str:
    """Return what a saved schedule calls a criterion: its registered name, else ``module:qualified name``.

    >>> criterion_name(magnitude)
    'magnitude'
    """
    if isinstance(chosen, str):
        return chosen
    registered = next((name for name, function in CRITERIA.items() if function is chosen), None)
    if registered is not None:
        return registered
    named: Any = chosen if hasattr(chosen, "__qualname__") else type(chosen)
    return f"{named.__module__ or 'builtins'}:{named.__qualname__}"


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
        return wrap(_random_part(layout_of(parameter), generator).to(local(parameter).device), parameter)
    return torch.rand(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.device)


def _random_part(layout: Layout, generator: torch.Generator) -> Tensor:
    """Return a rank's part of the scores of the whole, which are drawn a few rows at a time and never held."""
    rows, *rest = layout.shape or (1,)
    each = max(1, _DRAWN // max(1, torch.Size(rest).numel()))
    mine = layout.positions[0] if layout.positions else torch.zeros(1, dtype=torch.int64)
    parts = [torch.empty(0, *(p.numel() for p in layout.positions[1:]), dtype=torch.float64)]
    for start in range(0, rows, each):
        drawn = torch.rand(min(each, rows - start), *rest, generator=generator, dtype=torch.float64)
        wanted = mine[(mine >= start) & (mine < start + each)] - start
        parts.append(Layout(tuple(drawn.shape), (wanted, *layout.positions[1:])).take(drawn).clone())
    return torch.cat(parts).view(layout.local_shape)


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
