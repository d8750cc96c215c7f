"""Whether zeros of a weight are zeros of what a layer multiplies with: one call of the layer shows it."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.weak import WeakIdKeyDictionary

from redense.masks.sharding import is_sharded

from .tracing import Reader, as_before

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PART = 64  # weights of a part, or of copies in another arrangement, of which some were zero
_LOST: Any = WeakIdKeyDictionary()  # layer -> what `zeros_lost` has found


def zeros_lost(layer: nn.Module) -> bool:
    """Whether a linear layer or a convolution makes another weight of its own, in which zeros are zeros no more.

    A copy of the layer is called once, with a weight of which a seventh is zero and other parameters that are not, also
    those of layers inside it; what its kernels multiply with has as many zeros (of a part: some), or they are lost.
    PyTorch's own classes are not asked. False where the call tells nothing: the weight has no values here, or the layer
    cannot be called with one tensor.

    >>> class Centred(nn.Linear):
    ...     def forward(self, input):
    ...         return nn.functional.linear(input, self.weight - self.weight.mean())
    >>> zeros_lost(Centred(8, 4)), zeros_lost(nn.Linear(8, 4))
    (True, False)
    """
    if type(layer).__module__.partition(".")[0] == "torch":
        return False
    if layer not in _LOST:
        weight = layer._parameters.get("weight")
        if weight is None or weight.is_meta or weight.dtype not in _DTYPES or is_sharded(weight):
            return False
        if isinstance(weight, UninitializedParameter) or type(weight.data) is not Tensor:
            return False
        _LOST[layer] = _loses_zeros(layer, weight)
    return _LOST[layer]


def _loses_zeros(layer: nn.Module, weight: Tensor) -> bool:
    given = torch.ones(_input_of(layer), dtype=weight.dtype, device=weight.device)
    with as_before(layer), torch.no_grad():
        try:
            called = _with_known_values(layer, {}, torch.Generator().manual_seed(0))
            probe = _Probe(called.get_parameter("weight"), given)
            with probe:
                type(layer).forward(called, given)
        except Exception:  # noqa: BLE001  # it asks for other inputs or sizes: nothing is known of it
            return False
    return probe.lost


def _with_known_values(
    module: nn.Module, made: dict[int, nn.Module], random: torch.Generator, *, inside: bool = False
) -> nn.Module:
    """Return a copy of a layer in eval mode, and of those inside it, whose parameters have known values.

    What is added to the weight, and is zero at first, is not zero then, wherever it is kept.
    """
    if id(module) in made:
        return made[id(module)]
    # The layer itself keeps its attributes, for example a weight that it has computed before.
    called = made[id(module)] = copy.copy(module)
    called.training = False
    called._buffers = dict(module._buffers)
    called._parameters = {
        name: one
        if one is None or one.dtype not in _DTYPES
        else _known(one, random, zeros=not inside and name == "weight")
        for name, one in module._parameters.items()
    }
    called._modules = {
        name: None if one is None else _with_known_values(one, made, random, inside=True)
        for name, one in module._modules.items()
    }
    return called


def _known(parameter: Tensor, random: torch.Generator, *, zeros: bool) -> nn.Parameter:
    """Return a parameter of the same kind with values of 0.5 to 1.5, or with zeros in a seventh of its places.

    They are in no order: else the zeros of a weight could be those of its transpose, or of another parameter.
    """
    values, drawn = torch.rand(2, parameter.numel(), generator=random, dtype=torch.float32, device="cpu")
    values += 0.5
    if zeros:
        values[drawn < 1 / 7] = 0
        values[:1] = 0
    values = values.to(parameter.device, parameter.dtype)
    return nn.Parameter(values.reshape(parameter.shape), requires_grad=False)


def _input_of(layer: Any) -> tuple[int, ...]:
    """Return the shape of the smallest input: of a convolution as large as its kernel."""
    if isinstance(layer, nn.Linear):
        return (1, layer.in_features)
    sides = zip(cast("tuple[int, ...]", layer.kernel_size), cast("tuple[int, ...]", layer.dilation), strict=True)
    return (1, layer.in_channels, *(step * (side - 1) + 1 for side, step in sides))


class _Probe(Reader):
    """Counts the zeros of what a weight has become where it is multiplied with the input."""

    def __init__(self, weight: Tensor, given: Tensor) -> None:
        super().__init__({"weight": weight}, [given])
        self._size, self._zeros = weight.numel(), int((weight == 0).sum())
        self.lost = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "aten":  # a collective would wait for ranks that do not ask
            raise NotImplementedError(str(func))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def multiplied(self, weights: list[Tensor]) -> None:
        for weight in weights:
            least = self._zeros if weight.numel() == self._size else int(weight.numel() >= _PART)
            if int((weight == 0).sum()) < least:
                self.lost = True
