"""Choosing the masks of a phase: criterion, scope and sparsity together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from . import distributed
from .criteria import get_criterion, magnitude
from .errors import ParameterError, RedenseError, SparsityError, nearest
from .parameters import matching
from .phase import Phase, Sparsity
from .sharding import cut, local, wrap


def choose(
    phase: Phase,
    parameters: Mapping[str, nn.Parameter],
    previous: Mapping[str, Tensor],
    seed: Callable[[str], int],
) -> dict[str, Tensor]:
    """Return the masks of a phase: parameter name -> bool, True = kept. What ``previous`` masks prune goes first.

    The mask of a sharded parameter is sharded alike; all ranks must choose together.

    Raises:
        ScoreError: a score is NaN or infinite, or a gradient is missing.
        ParameterError: a shape does not fit.
    """
    criterion = get_criterion(phase.criterion)
    absolute = criterion is magnitude and not previous
    scores: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        try:
            values = parameter.detach() if absolute else criterion(parameter, seed(name))
        except RedenseError as error:
            raise type(error)(f"'{name}': {error}") from None
        if values.shape != parameter.shape:
            raise ParameterError(
                f"criterion '{phase.criterion}' gave scores of shape {tuple(values.shape)} for '{name}' "
                f"of shape {tuple(parameter.shape)}"
            )
        values = cut(values.detach(), parameter)  # a criterion may have scored the whole of a sharded parameter
        if name in previous:
            if previous[name].shape != parameter.shape:
                raise ParameterError(
                    f"the mask given for '{name}' has shape {tuple(previous[name].shape)}, "
                    f"the parameter {tuple(parameter.shape)}"
                )
            lowest = torch.finfo(values.dtype).min
            kept = local(cut(previous[name], parameter)).to(local(values).device)
            values = wrap(local(values).masked_fill(~kept, lowest), values)
        scores[name] = values
    if phase.pattern:
        patterned = {name: values.abs() if absolute else values for name, values in scores.items()}
        return {name: distributed.select_pattern(v, phase.pattern, name=name) for name, v in patterned.items()}
    if phase.scope == "global":
        return distributed.select_global(scores, cast("float", phase.sparsity), absolute=absolute)
    chosen = per_parameter(phase.sparsity, list(scores))
    return {name: distributed.select(scores[name], s, name=name, absolute=absolute) for name, s in chosen.items()}


def check_left(phase: Phase, name: str, size: int, left: float) -> None:
    """Refuse to leave nothing of a parameter; ``left`` is a number or a share of its ``size`` weights.

    Raises:
        SparsityError: it is 0.
    """
    if size and not left:
        raise SparsityError(
            f"phase '{phase.name}' would prune all {size:,} weights of '{name}', so that nothing passes it: "
            "lower the sparsity, or exclude it"
        )


def per_parameter(sparsity: Sparsity | None, names: list[str]) -> dict[str, float]:
    """Return each parameter's sparsity: an exact name before a pattern, an earlier pattern before a later one."""
    if not isinstance(sparsity, Mapping):
        return dict.fromkeys(names, sparsity or 0.0)
    found = {pattern: matching(pattern, names) for pattern in sparsity}
    for pattern, own in found.items():
        if not own:
            raise ParameterError(f"sparsity names '{pattern}', which is no prunable parameter{nearest(pattern, names)}")
    chosen: dict[str, float] = {}
    for name in names:
        pattern = name if name in sparsity else next((p for p, own in found.items() if name in own), None)
        if pattern is not None:
            chosen[name] = sparsity[pattern]
    return chosen


def seed_of(seed: int, index: int, name: str) -> int:
    """Return a seed per phase and parameter that no order of calls or machine changes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{name}".encode()).digest()[:7], "big")
