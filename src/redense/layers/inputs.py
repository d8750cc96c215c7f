"""The inputs that the layers of a network see: the size of each, measured over some batches, for criteria."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from redense.errors import ScoreError
from redense.masks.sharding import Ranks, extent_of, is_sharded, local, whole, wrap

from .names import walk


@dataclass(frozen=True)
class _Measured:
    """The inputs of a layer, or of all that share its weight.

    Args:
        squares: of each input the sum of its squares, float64.
        count: how often each was seen.
        groups: of the layer.
    """

    squares: Tensor
    count: int
    groups: int


_MEASURED: Any = WeakIdKeyDictionary()  # parameter -> _Measured


@contextmanager
def measured_inputs(model: nn.Module, names: Collection[str] | None = None) -> Iterator[None]:
    """Measure the inputs of the model's layers in every forward pass of the block; `input_norms` then has them.

    Of ranks that train one model each may measure batches of its own: what they saw is added up when a phase begins.

    Args:
        model: whose layers are watched, wrapped or not; its hooks are gone after the block.
        names: parameters whose layers are watched; by default all weights.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> with measured_inputs(layer):
        ...     _ = layer(torch.tensor([[3.0, 0.0], [4.0, 1.0]]))
        >>> [round(float(norm), 3) for norm in input_norms(layer.weight)[0]]
        [3.536, 0.707]
    """
    sums: dict[int, Tensor] = {}  # by the weight's id: layers may share one
    counts: dict[int, int] = {}
    modules = walk(model)
    chosen = {id(parameter) for name, parameter in model.named_parameters() if names is None or name in names}
    # Each with its weight as it is now: in a forward FSDP2 has gathered it, and may leave it so.
    watched = [
        (module, weight)
        for _, module in modules
        if _channels(module) is not None and (weight := _weight(module)) is not None and id(weight) in chosen
    ]

    def watch(module: nn.Module, key: int) -> Any:
        channels = _channels(module)

        def look(own: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen = (inputs[0] if inputs else next(iter(named.values()))).detach()
            if channels == 1:  # (b, c, ...) of a convolution, or (c, ...) of one picture
                dimensions = len(cast("tuple[int, ...]", own.kernel_size))
                seen = seen.movedim(seen.ndim - dimensions - 1, -1)
            if is_sharded(seen):  # of tensor parallelism: every rank then has all of it
                squares = whole(seen[None].double().square().sum(tuple(range(seen.ndim))))
            else:
                squares = seen.reshape(-1, seen.shape[-1]).double().square().sum(0)
            sums[key] = sums.get(key, torch.zeros(())).to(squares.device) + squares
            counts[key] = counts.get(key, 0) + seen.numel() // max(1, seen.shape[-1])

        return module.register_forward_pre_hook(look, with_kwargs=True)

    handles = [watch(module, id(weight)) for module, weight in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for module, weight in watched:
        if (key := id(weight)) in sums:
            _MEASURED[weight] = _Measured(sums[key], counts[key], getattr(module, "groups", 1))


def input_norms(parameter: Tensor) -> Tensor:
    """Return the root mean square of the inputs that each weight of a layer is multiplied with, as measured.

    Returns:
        float64 that broadcasts with the parameter: (1, in) of a linear layer, (1, in, 1, 1) of a convolution,
        (out, in / groups, 1, 1) of one with groups. For a DTensor a DTensor of its shape and placement.

    Raises:
        ScoreError: nothing was measured for it.
    """
    if parameter not in _MEASURED:
        raise ScoreError(
            "no inputs were measured for a parameter that the criterion scores: register it with activations=True, or "
            "run the model inside `redense.layers.inputs.measured_inputs(model)` before the phase begins; only linear "
            "layers and convolutions have them"
        )
    measured = _MEASURED[parameter]
    norms = _laid_out((measured.squares / measured.count).sqrt(), measured.groups, parameter)
    if not is_sharded(parameter):
        return norms
    part = extent_of(parameter).take(norms.expand(parameter.shape)).contiguous()
    return wrap(part.to(local(parameter).device), parameter)


def add_up_inputs(parameters: Collection[Tensor], ranks: Ranks) -> None:
    """Add up what each of several ranks has measured, as if one process had seen all their batches.

    All ranks ask for it together. What they have measured alike stays as it is, to the bit: in a recipe each rank sees
    the whole batches.

    Args:
        parameters: the same on all ranks, in the same order; a rank may have measured nothing of some.
        ranks: reductions over them.
    """
    own = [_MEASURED.get(parameter) for parameter in parameters]
    sizes = [size for each in own for size in ((each.squares.numel(), each.groups) if each else (0, 0))]
    sizes = ranks.largest(torch.tensor(sizes, dtype=torch.int64, device="cpu")).tolist()
    widths, groups = sizes[::2], sizes[1::2]
    if not any(widths):
        return
    parts = [each.squares.cpu() if each else _zeros(width) for each, width in zip(own, widths, strict=True)]
    counts = torch.tensor([each.count if each else 0 for each in own], dtype=torch.float64, device="cpu")
    seen = torch.cat([counts, *parts])
    bits = seen.view(torch.int64)  # NaN equals itself then
    highest, lowest = ranks.largest(torch.cat([bits, -bits])).chunk(2)
    if torch.equal(highest, -lowest):
        return
    counts, *parts = ranks.sum(seen).split([len(widths), *widths])
    for index, parameter in enumerate(parameters):
        if widths[index]:
            squares = parts[index].to(local(parameter).device)
            _MEASURED[parameter] = _Measured(squares, int(counts[index]), groups[index])


def forget_inputs(model: nn.Module) -> None:
    """Forget what was measured: a later phase measures anew."""
    forget_inputs_of(model.parameters())


def forget_inputs_of(parameters: Iterable[Tensor]) -> None:
    """Forget what was measured of the layers of some parameters."""
    for parameter in parameters:
        _MEASURED.pop(parameter, None)


def _channels(module: nn.Module) -> int | None:
    """Return where a layer has its input channels: -1, or 1 of a convolution; None for other layers."""
    if isinstance(module, nn.Linear):
        return -1
    return 1 if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else None


def _zeros(width: int) -> Tensor:
    return torch.zeros(width, dtype=torch.float64, device="cpu")


def _laid_out(norms: Tensor, groups: int, weight: Tensor) -> Tensor:
    if groups == 1:
        return norms.reshape(1, -1, *(1,) * (weight.ndim - 2))
    each = norms.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)  # (out, in / groups)
    return each.reshape(*each.shape, *(1,) * (weight.ndim - 2))


def _weight(module: nn.Module) -> nn.Parameter | None:
    return dict(module.named_parameters(recurse=False)).get("weight")
