"""Simulated annealing's jump: a random step of the weights, as large as what pruning would have removed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from redense import masks
from redense.errors import ParameterError, ScheduleError
from redense.pruning import derive_seed
from redense.schedules.numeric import as_float, check_sparsity

from .base import Context, Method, technique


def jump_(parameters: Mapping[str, Tensor], *, sparsity: float = 0.3, scale: float = 1.0, seed: int = 0) -> None:
    """Add to every weight matrix a random vector of norm scale * ||part that pruning would remove||, in place.

    The control for "any perturbation of this size would do".

    Args:
        parameters: by name, as `redense.prunable` gives them.
        sparsity: that pruning would have.
        scale: of the jump.
        seed: of the random vectors, each of which depends on the name too.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScheduleError: the scale is no finite number of at least 0.
        ParameterError: the parameters are not given by name.
    """
    _check_jump(sparsity, scale)
    if not isinstance(parameters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        got = type(parameters).__name__
        raise ParameterError(f"jump_ takes parameters by name, as redense.prunable(model) gives them, got {got}")
    with torch.no_grad():
        for name, weight in parameters.items():
            kept = masks.select(weight, sparsity, name=name, absolute=True)
            removed = weight.masked_fill(kept, 0.0).norm()
            generator = torch.Generator().manual_seed(derive_seed(seed, name))
            step = torch.randn(weight.shape, generator=generator, device="cpu").to(weight)
            weight.add_(step * (scale * removed / step.norm().clamp_min(1e-12)))


def _check_jump(sparsity: object, scale: object) -> None:
    check_sparsity(sparsity, "a jump")
    number = as_float(scale)
    if number is None or not 0 <= number < math.inf:
        raise ScheduleError(f"scale of a jump must be a finite number of at least 0, got {scale!r}")


@technique("jump")
class Jump(Method):
    """Makes the jump of `jump_`, then trains dense. Options: its ``sparsity`` and ``scale``, which an arm lets fall."""

    defaults: Mapping[str, Any] = {"sparsity": 0.3, "scale": 1.0}

    @override
    def check_options(self) -> None:
        _check_jump(**self.options)

    @override
    def begin(self, run: Context) -> None:
        jump_(run.prunable, **self.options, seed=self.seed)
