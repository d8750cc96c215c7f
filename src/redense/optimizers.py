"""Optimizers: the one under a wrapper, the parameters it holds, its states of a weight, whether a step was skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .errors import OptimizerError
from .sharding import local

# Layer-wise GaLore and APOLLO of transformers, LOMO, and torchtune's wrapper: their step() does nothing.
_IN_BACKWARD = ("LayerWiseDummyOptimizer", "Lomo", "AdaLomo", "OptimizerInBackwardWrapper")


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return the torch optimizer under the wrappers of Accelerate and others."""
    _refuse_unsteppable(optimizer)
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
        _refuse_unsteppable(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise OptimizerError(f"an optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def _refuse_unsteppable(optimizer: Any) -> None:
    kind = cast("type[object]", type(optimizer))
    if kind.__module__.split(".")[0] == "deepspeed" or kind.__name__ == "DeepSpeedOptimizerWrapper":
        raise OptimizerError(
            "DeepSpeed's optimizers update flat partitions of the weights, in which no parameter can be masked: "
            "use FSDP2 (torch.distributed.fsdp.fully_shard) or DDP, which redense supports"
        )
    if kind.__name__ in _IN_BACKWARD:
        raise OptimizerError(
            f"{kind.__name__} updates the weights inside backward, where no step can be counted or masked: "
            "use an optimizer whose step() does it"
        )


def held(optimizer: Optimizer) -> set[int]:
    """Return the ids of the parameters that the optimizer updates."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def state_of(optimizer: Optimizer, name: str, parameter: nn.Parameter) -> Iterator[Tensor]:
    """Give every floating-point state tensor of the parameter's shape."""
    shapes = (parameter.shape, local(parameter).shape)  # of a sharded parameter some optimizers keep plain local states
    inner = getattr(optimizer, "optim", None)  # of torch's ZeroRedundancyOptimizer, which has this rank's states
    if isinstance(inner, Optimizer):
        yield from state_of(inner, name, parameter)
    # .get, for the state of a fresh optimizer is a defaultdict that would grow by being read
    for key, value in optimizer.state.get(parameter, {}).items():
        for tensor in cast("list[Any]", value) if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(tensor, Tensor) or tensor.shape not in shapes or not tensor.dim():
                continue
            if tensor.is_floating_point():
                yield tensor
            elif tensor.dtype in (torch.uint8, torch.int8):
                raise OptimizerError(
                    f"{type(optimizer).__name__} keeps a quantised state '{key}' for '{name}', in which 0 is not zero: "
                    "use the optimizer's 32-bit form for the prunable parameters"
                )


def forget_curvature(optimizer: Optimizer) -> None:
    """Drop what an optimizer knows of the loss with other weights."""
    # LBFGS keeps flat vectors over all parameters: they describe the loss with the other weights.
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()


def was_skipped(optimizer: Optimizer) -> bool:
    """Whether the step that has just been called changed nothing, for a GradScaler had found an infinity."""
    # For fused optimizers GradScaler calls step() also when it found an infinity, and lets the kernel skip.
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())
