"""A traced forward pass: the parameters that multiply the input itself.

Every tensor of the pass is one of four things, told by its memory: the input, as long as it is only moved, padded or
scaled; made of parameters; a constant, made of neither; or computed, once the two have met in a product or a look-up.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from redense.errors import ParameterError
from redense.holding.randomness import random_kept
from redense.masks.sharding import is_sharded

# Kernels by the words of their names: mm, addmm, _scaled_mm, mv, linear, _trilinear, convolution, deform_conv2d,
# mkldnn_rnn_layer, _scaled_dot_product_flash_attention and their like.
_MULTIPLIES = re.compile(r"mm(_|$)|mv$|dot(_|$)|matmul|linear|conv|lstm|gru|rnn|attention|encoder_layer_fwd")
_LOOKS_UP = frozenset(("embedding", "_embedding_bag", "embedding_bag", "index", "index_select", "gather"))
_ONLY_THE_SHAPE = re.compile(r"_like$|^new_")  # of what they are given: zeros_like, new_zeros


def stems_by_trace(model: nn.Module, inputs: Any, names: Mapping[int, str]) -> set[str]:
    """Return the names of the parameters that multiply the input itself in a forward pass.

    What only shapes, moves, pads or scales the input leaves it the input. The pass is in eval mode and without
    gradients; training mode, buffers and random state are as before afterwards.

    Args:
        model: the module; it is called once.
        inputs: what it is called with: a tensor, a tuple of arguments, or a mapping of keyword arguments.
        names: id of each parameter -> its name.

    Raises:
        ParameterError: a weight is sharded, the forward fails, or no parameter multiplies or looks up the input.
    """
    parameters = {names[id(p)]: p for p in model.parameters() if id(p) in names}
    if any(is_sharded(p) for p in parameters.values()):
        raise ParameterError(
            "inputs cannot be traced through sharded weights: name the first layers in exclude instead"
        )
    kind: str = type(inputs).__name__
    args, kwargs = (), cast("dict[str, Any]", {})
    if isinstance(inputs, Mapping):
        kwargs = dict(cast("Mapping[str, Any]", inputs))
    else:
        args = cast("tuple[Any, ...]", inputs if isinstance(inputs, tuple) else (inputs,))
    given = list(_tensors((args, kwargs)))
    if not given:
        raise ParameterError(
            f"inputs must be what the model is called with, a tensor, a tuple or a mapping; got {kind}"
        )
    reader = Reader(parameters, given)
    with as_before(model), torch.no_grad():
        try:
            with reader:
                model(*args, **kwargs)
        except Exception as error:
            raise ParameterError(
                f"the model fails on the inputs that are given: {type(error).__name__}: {error}"
            ) from error
    if not reader.reads and not reader.looked_up:
        raise ParameterError(
            "no weight multiplies or looks up the inputs that are given: are they what the model reads?"
        )
    return reader.reads


@contextlib.contextmanager
def as_before(model: nn.Module) -> Generator[None]:
    """Run the block in eval mode and kernel by kernel; put the modes, the buffers and the random state back.

    PyTorch's attention and its transformer layers have one kernel for all of a layer, which is given all its weights.
    """
    with random_kept():  # around all of it: it lets in one thread at a time, and the fast path is one for all threads
        modes = [(module, module.training) for module in model.modules()]
        buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        fused = torch.backends.mha.get_fastpath_enabled()
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            torch.clear_autocast_cache()  # weights that autocast has cast before would be seen as made of nothing
            model.eval()
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    if not buffer.is_meta and not torch.equal(buffer, before):
                        buffer.copy_(before)


class Reader(TorchDispatchMode):
    """Notes which parameters the kernels of a forward multiply the input with."""

    def __init__(self, parameters: Mapping[str, Tensor], given: list[Tensor]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.reads, self.looked_up = set[str](), set[str]()
        # Parameters may share one memory, as after vector_to_parameters: memory -> where in it each of them is.
        self._places: dict[int, list[tuple[int, int, str]]] = {}
        for name, parameter in parameters.items():
            self._places.setdefault(_memory(parameter), []).append((*_span(parameter), name))
        self._of: dict[int, frozenset[str]] = {}  # memory that is made of parameters -> of which
        self._input = {_memory(tensor) for tensor in given}
        self._computed = set[int]()
        # As long as these are there, no address is given out twice; the memory itself is freed.
        self._alive: list[StorageWeakRef] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        operands = [] if _ONLY_THE_SHAPE.search(name) else list(_tensors((args, kwargs or {})))
        reads, computed = self._any(operands, self._input), self._any(operands, self._computed)
        parameters = frozenset[str]().union(*map(self.made_of, operands))
        if reads and parameters and _MULTIPLIES.search(name):
            factors = list(_tensors(_factors(name, args)))
            if self._any(factors, self._input):
                self.multiplied([tensor for tensor in factors if self.made_of(tensor)])
            computed = True
        elif reads and parameters and name in _LOOKS_UP:
            self.looked_up |= parameters
            computed = True
        for tensor in _tensors(out):
            key = _memory(tensor)
            if key in self._places or key in self._computed:
                continue
            # A view is as what it views; what is written to becomes what is written.
            known = key in self._input or key in self._of
            if computed:
                self._input.discard(key)
                self._of.pop(key, None)
                self._computed.add(key)
            elif reads:
                self._of.pop(key, None)
                self._input.add(key)
            elif parameters:
                self._of[key] = parameters
            else:
                continue  # a constant
            if not known:
                self._alive.append(StorageWeakRef(tensor.untyped_storage()))
        return out

    def multiplied(self, weights: list[Tensor]) -> None:
        """Note that the input is multiplied with tensors that are, or are made of, parameters."""
        self.reads |= frozenset[str]().union(*map(self.made_of, weights))

    def made_of(self, tensor: Tensor) -> frozenset[str]:
        """Return the names of the parameters that a tensor is, or is made of, and of no input."""
        key = _memory(tensor)
        if key in self._input:
            return frozenset()
        if key not in self._places:
            return self._of.get(key, frozenset())
        first, end = _span(tensor)
        return frozenset(name for start, stop, name in self._places[key] if start < end and first < stop)

    def _any(self, tensors: list[Tensor], memory: set[int]) -> bool:
        return any(_memory(tensor) in memory for tensor in tensors)


def _factors(name: str, args: Any) -> Any:
    """Return the arguments that a kernel multiplies: without what it adds to the product, and an attention's mask."""
    if name.startswith(("add", "badd")):
        return args[1:]
    return args[:3] if "dot_product" in name else args


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]  # PyTorch names storages by it itself


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return where a tensor's first byte lies in its storage, and where its last one ends."""
    size, first = tensor.element_size(), int(tensor.storage_offset())
    if not tensor.numel():
        return first * size, first * size
    last = first + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (last + 1) * size


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout == torch.sparse_coo:
            yield value._values()
        else:
            yield value if value.layout == torch.strided else value.values()
    elif isinstance(value, Mapping):
        yield from _tensors(list(cast("Mapping[Any, Any]", value).values()))
    elif isinstance(value, (list, tuple)):
        for item in cast("list[Any]", value):
            yield from _tensors(item)
