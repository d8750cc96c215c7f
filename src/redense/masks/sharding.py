"""Sharded tensors: which elements of the whole a rank holds, and masks that are cut as their weights are.

FSDP2 (``fully_shard``) and tensor parallelism turn parameters into DTensors: every rank holds a part of each. Masks
of such parameters are boolean DTensors of the same placement, so that holding them is local and needs no communication.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense.errors import ParameterError

from . import applying

Reduce = Callable[[Tensor], Tensor]
"""A rank's tensor -> its sum (or another reduction) over all ranks, on CPU. Every rank calls it alike."""


_PLAIN = (Tensor, nn.Parameter)  # of a DTensor a parameter is of its class


@dataclass(frozen=True)
class Extent:
    """The elements of a whole tensor that a rank holds: those at ``positions`` along every dimension.

    Args:
        shape: of the whole tensor.
        positions: for every dimension, int64 indices into the whole, ascending.
        counted: False for a replica of elements that another rank counts.
    """

    shape: tuple[int, ...]
    positions: tuple[Tensor, ...]
    counted: bool = True

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Shape of what the rank holds."""
        return tuple(p.numel() for p in self.positions)

    @property
    def numel(self) -> int:
        """Number of elements of the whole tensor."""
        return int(torch.Size(self.shape).numel())

    def take(self, whole: Tensor) -> Tensor:
        """Return the rank's part of a whole tensor; a view where it is one block."""
        for dimension, positions in enumerate(self.positions):
            first, held = (int(positions[0]), positions.numel()) if positions.numel() else (0, 0)
            if not held or int(positions[-1]) - first + 1 == held:
                whole = whole.narrow(dimension, first, held)
            else:
                whole = whole.index_select(dimension, positions.to(whole.device))
        return whole

    def index(self, where: Tensor) -> Tensor:
        """Return the flat index in the whole tensor of elements given by their flat index in the rank's part."""
        out, stride = torch.zeros_like(where), 1
        for positions, size in zip(reversed(self.positions), reversed(self.shape), strict=True):
            held = max(positions.numel(), 1)
            out += positions.to(where.device)[where % held] * stride
            where, stride = where // held, stride * size
        return out

    @classmethod
    def whole(cls, shape: tuple[int, ...], *, counted: bool = True) -> Extent:
        """Return the extent of a rank that holds everything."""
        return cls(tuple(shape), tuple(torch.arange(size, device="cpu") for size in shape), counted)


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor."""
    if type(tensor) in _PLAIN:  # nearly always, and asked some hundred times a step
        return False
    module = sys.modules.get("torch.distributed.tensor")  # whoever has a DTensor has imported it
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return the part of a DTensor that this rank holds, in the same memory; a plain tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return _dtensor(tensor).to_local().detach()


def wrap(part: Tensor, weight: Tensor) -> Tensor:
    """Return this rank's ``part`` as a DTensor of the weight's shape and placement; as it is for a plain weight."""
    if not is_sharded(weight):
        return part
    from torch.distributed.tensor import DTensor

    like = _dtensor(weight)
    if part.device.type != like.device_mesh.device_type:  # FSDP2 has offloaded it: from_local would move it back
        meta = like._spec.tensor_meta._replace(dtype=part.dtype)
        return cast("Any", DTensor)(part, replace(like._spec, tensor_meta=meta), requires_grad=False)
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def whole(tensor: Tensor) -> Tensor:
    """Return all of a DTensor on every rank, which all ranks must ask for; a plain tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    if tensor.dtype == torch.bool:  # not every backend sends booleans
        return _dtensor(wrap(local(tensor).to(torch.uint8), tensor)).full_tensor().bool()
    return _dtensor(tensor.detach()).full_tensor()


def cut(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return a tensor of the weight's shape with the weight's placement: every rank takes its part of what it has."""
    if not is_sharded(weight):
        return whole(tensor)
    if not is_sharded(tensor):
        return wrap(extent_of(weight).take(tensor).to(local(weight).device), weight)
    mesh, placements = _dtensor(weight).device_mesh, _dtensor(weight).placements
    if _dtensor(tensor).device_mesh == mesh and _dtensor(tensor).placements == placements:
        return tensor
    return cut(whole(tensor), weight)


def like(mask: Tensor, weight: Tensor) -> Tensor:
    """Return the mask cut as the weight is, on its device and in its memory layout."""
    return wrap(applying.like(local(cut(mask, weight)), local(weight)), weight)


def extent_of(weight: Tensor) -> Extent:
    """Return which elements of a DTensor this rank holds.

    Raises:
        ParameterError: the DTensor is a partial sum, whose values no rank knows.
    """
    mesh, placements = _dtensor(weight).device_mesh, _dtensor(weight).placements
    coordinate = mesh.get_coordinate() or [0] * mesh.ndim  # a rank outside the mesh holds nothing
    positions: list[Tensor] = [torch.arange(size, device="cpu") for size in weight.shape]
    counted = mesh.get_coordinate() is not None
    for axis, placement in enumerate(placements):
        if placement.is_replicate():
            counted = counted and coordinate[axis] == 0
        elif hasattr(placement, "dim"):
            # Its own way of splitting is asked: it chunks unevenly, and interleaves under tensor parallelism and FSDP2.
            dimension = int(placement.dim)
            column = positions[dimension].view(tuple(-1 if d == dimension else 1 for d in range(weight.dim())))
            parts = placement._split_tensor(column, mesh.size(axis), with_padding=False, contiguous=True)[0]
            positions[dimension] = parts[coordinate[axis]].reshape(-1)
        else:
            raise ParameterError(f"a DTensor that is a partial sum ({placement}) has no values to choose from")
    return Extent(tuple(weight.shape), tuple(positions), counted)


@dataclass(frozen=True)
class Ranks:
    """Reductions over ranks: the sum, and the largest, of what each of them gives."""

    sum: Reduce
    largest: Reduce

    @classmethod
    def alone(cls) -> Ranks:
        """Return those of a rank that is the only one."""
        return cls(lambda own: own, lambda own: own)


def ranks_of(mesh: Any, axes: Iterable[int] | None = None) -> Ranks:
    """Return the ranks of a device mesh, or those along some of its dimensions."""
    groups = [mesh.get_group(axis) for axis in (range(mesh.ndim) if axes is None else axes)]
    return ranks_of_groups(groups, mesh.device_type)


def ranks_of_groups(groups: Iterable[Any], device: torch.device | str) -> Ranks:
    """Return the ranks of process groups, one group after the other, which can send from a device."""
    every = list(groups)
    return Ranks(_reduction(every, device, "SUM"), _reduction(every, device, "MAX"))


def summed_over(mesh: Any) -> Reduce:
    """Return the function that adds up a rank's tensor over all ranks of a device mesh."""
    return ranks_of(mesh).sum


def largest_over(mesh: Any) -> Reduce:
    """Return the function that takes the elementwise maximum of a rank's tensor over all ranks of a device mesh."""
    return ranks_of(mesh).largest


def _reduction(groups: Iterable[Any], device: torch.device | str, operation: str) -> Reduce:
    import torch.distributed

    dist = cast("Any", torch.distributed)

    def reduce(own: Tensor) -> Tensor:
        total = own.to(device)  # the backend may not send from CPU
        for group in groups:
            dist.all_reduce(total, op=getattr(dist.ReduceOp, operation), group=group)
        return total.cpu()

    return reduce


def reshard(modules: Iterable[nn.Module]) -> None:
    """Let FSDP2 modules show their sharded parameters, which an evaluation may have left gathered."""
    for module in modules:
        if any(cls.__name__ == "FSDPModule" for cls in type(module).__mro__):
            module.reshard()  # pyright: ignore[reportCallIssue]


def sparsity_of(weight: Tensor) -> float:
    """Return the fraction of exact zeros in the whole of a DTensor, which all ranks must ask for, or in a tensor."""
    return sparsities_of({"": weight})[""]


def sparsities_of(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what `sparsity_of` gives for each of many tensors, in one call to the other ranks of a mesh."""
    found = {name: applying.sparsity_of(weight) for name, weight in weights.items() if not is_sharded(weight)}
    sharded: dict[Any, dict[str, int]] = {}
    for name, weight in weights.items():
        if is_sharded(weight):
            zeros = local(weight).numel() - applying.nonzeros(local(weight))
            of_mesh = sharded.setdefault(_dtensor(weight).device_mesh, {})
            of_mesh[name] = zeros if extent_of(weight).counted else 0
    for mesh, counts in sharded.items():
        totals = summed_over(mesh)(torch.tensor(list(counts.values()), device="cpu"))
        found |= {
            n: int(t) / weights[n].numel() if weights[n].numel() else 0.0 for n, t in zip(counts, totals, strict=True)
        }
    return {name: found[name] for name in weights}


def refuse_fsdp1(module: nn.Module) -> None:
    """Refuse a module that FSDP1 has sharded.

    Raises:
        ParameterError: it is one.
    """
    strategy = getattr(module, "sharding_strategy", None)
    if type(module).__name__ == "FullyShardedDataParallel" and getattr(strategy, "name", "") != "NO_SHARD":
        raise ParameterError(
            "FullyShardedDataParallel (FSDP1) flattens the weights, so that no mask can be chosen: shard the "
            "model with torch.distributed.fsdp.fully_shard (FSDP2; fsdp_version: 2 in Accelerate)"
        )


def refuse_flattened(modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse a model whose weights are parts of flat buffers, where no weight has its own shape; given by name.

    Raises:
        ParameterError: it is sharded by FSDP1 or by DeepSpeed ZeRO-3.
    """
    for path, module in modules:
        refuse_fsdp1(module)
        for name, parameter in module.named_parameters(path, recurse=False):
            if hasattr(parameter, "ds_id"):
                raise ParameterError(
                    f"'{name}' is partitioned by DeepSpeed ZeRO-3, which leaves no rank a weight of its own shape: "
                    "shard the model with torch.distributed.fsdp.fully_shard (FSDP2) instead"
                )


def _dtensor(tensor: Tensor) -> Any:
    return tensor
