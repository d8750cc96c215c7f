"""The inputs that the layers of a network see: the size of each, measured over some batches, for criteria."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from redense.errors import ScoreError

_NORMS: Any = WeakIdKeyDictionary()  # parameter -> what `input_norms` returns


@contextmanager
def measured_inputs(model: nn.Module, names: Collection[str] | None = None) -> Iterator[None]:
    """Measure the inputs of the model's layers in every forward pass of the block; `input_norms` then has them.

    Args:
        model: whose layers are watched; its hooks are gone after the block.
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
    chosen = {id(parameter) for name, parameter in model.named_parameters() if names is None or name in names}
    watched = [m for m in model.modules() if _channels(m) is not None and id(_weight(m)) in chosen]

    def watch(module: nn.Module) -> Any:
        channels, key = _channels(module), id(_weight(module))

        def look(own: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen = (inputs[0] if inputs else next(iter(named.values()))).detach()
            if channels == 1:  # (b, c, ...) of a convolution, or (c, ...) of one picture
                dimensions = len(cast("tuple[int, ...]", own.kernel_size))
                seen = seen.movedim(seen.ndim - dimensions - 1, -1)
            squares = seen.reshape(-1, seen.shape[-1]).double().square()
            sums[key] = sums.get(key, torch.zeros(())).to(squares.device) + squares.sum(0)
            counts[key] = counts.get(key, 0) + len(squares)

        return module.register_forward_pre_hook(look, with_kwargs=True)

    handles = [watch(module) for module in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for module in watched:
        weight = module.get_parameter("weight")
        if (key := id(weight)) in sums:
            _NORMS[weight] = _laid_out((sums[key] / counts[key]).sqrt(), module, weight)


def input_norms(parameter: Tensor) -> Tensor:
    """Return the root mean square of the inputs that each weight of a layer is multiplied with, as measured.

    Returns:
        float64 that broadcasts with the parameter: (1, in) of a linear layer, (1, in, 1, 1) of a convolution,
        (out, in / groups, 1, 1) of one with groups.

    Raises:
        ScoreError: nothing was measured for it.
    """
    if parameter not in _NORMS:
        raise ScoreError(
            "no inputs were measured for a parameter that the criterion scores: register it with activations=True, or "
            "run the model inside `redense.layers.inputs.measured_inputs(model)` before the phase begins; only linear "
            "layers and convolutions have them"
        )
    return _NORMS[parameter]


def forget_inputs(model: nn.Module) -> None:
    """Forget what was measured: a later phase measures anew."""
    forget_inputs_of(model.parameters())


def forget_inputs_of(parameters: Iterable[Tensor]) -> None:
    """Forget what was measured of the layers of some parameters."""
    for parameter in parameters:
        _NORMS.pop(parameter, None)


def _channels(module: nn.Module) -> int | None:
    """Return where a layer has its input channels: -1, or 1 of a convolution; None for other layers."""
    if isinstance(module, nn.Linear):
        return -1
    return 1 if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else None


def _laid_out(norms: Tensor, module: nn.Module, weight: Tensor) -> Tensor:
    groups = getattr(module, "groups", 1)
    if groups == 1:
        return norms.reshape(1, -1, *(1,) * (weight.ndim - 2))
    each = norms.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)  # (out, in / groups)
    return each.reshape(*each.shape, *(1,) * (weight.ndim - 2))


def _weight(module: nn.Module) -> nn.Parameter | None:
    return dict(module.named_parameters(recurse=False)).get("weight")
