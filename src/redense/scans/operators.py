"""The kernels (aten operators) of one forward call: noted once, and then skipped as far as a frontier.

`Tracer` runs every kernel and notes what it was called with and what it gave. `Replay` follows such a trace: before
the place that the cache has reached, kernels are not run and return tensors without values; there, the values of what
is still needed are filled in; up to the frontier kernels run as noted, and what they leave is put into the cache; from
there on it gets out of the way. Whatever differs from the trace raises `Departed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

_INT_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Departed(BaseException):
    """The evaluation is not the noted one. No Exception, so that an evaluate that catches those does not hide it."""


@dataclass(frozen=True)
class _New:
    """An output with a storage of its own, the ``slot``-th of the call."""

    slot: int
    layout: tuple[Any, ...]
    size: int


@dataclass(frozen=True)
class _Argument:
    """An output that is one of the arguments."""

    index: int


@dataclass(frozen=True)
class _Op:
    """A kernel: what it was called with and what it gave. One that only makes views ``runs`` also when skipped.

    What is no tensor among the outputs is itself; ``form`` is how a tuple or a list holds them.
    """

    func: Any
    arguments: tuple[Any, ...]
    runs: bool
    outputs: tuple[Any, ...]
    form: TreeSpec


@dataclass
class Trace:
    """The kernels of one forward call; storages are numbered in the order of their making."""

    ops: list[_Op] = field(default_factory=list[_Op])
    sizes: list[int] = field(default_factory=list[int])
    made: list[int] = field(default_factory=list[int])
    last_use: list[int] = field(default_factory=list[int])
    first_use: dict[str, int] = field(default_factory=dict[str, int])

    def live(self, frontier: int) -> list[int]:
        """Return the storages that are made before the frontier and used after it."""
        return [slot for slot, made in enumerate(self.made) if made < frontier <= self.last_use[slot]]


@dataclass
class Call:
    """A forward call: its kernels, what came from outside, and what the kernels before ``at`` leave."""

    trace: Trace
    given: list[Tensor]
    at: int = 0
    saved: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    @property
    def saved_bytes(self) -> int:
        """Bytes of what the kernels before ``at`` leave."""
        return sum(tensor.numel() for tensor in self.saved.values())

    @property
    def bytes(self) -> int:
        """Bytes of everything that is kept of the call."""
        return self.saved_bytes + sum(tensor.numel() * tensor.element_size() for tensor in self.given)

    def forget(self) -> None:
        """Begin at the first kernel again."""
        self.at, self.saved = 0, {}


class Storages:
    """Tells in one call whose memory a tensor is: of a kernel of the call, of the model, or from outside."""

    def __init__(self, model: Mapping[int, tuple[str, ...]], given: list[Tensor] | None = None) -> None:
        self.model, self.own = model, dict[int, int]()
        self.given: list[Tensor] = []
        self._expected = given
        self._places: dict[tuple[Any, ...], int] = {}
        self.alive: list[StorageWeakRef] = []  # as long as these are there, no address is given out twice
        self._others: list[StorageWeakRef] = []

    def describe(self, args: Any, kwargs: Any) -> tuple[Any, ...]:
        """Return what identifies the arguments of a kernel: equal for equal ones of two calls."""
        named = tuple((name, self._describe(value)) for name, value in kwargs.items())
        return (*map(self._describe, args), *named)

    def _describe(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, Tensor):
            if isinstance(value, (list, tuple)):
                return tuple(map(self._describe, cast("list[Any]", value)))
            if isinstance(value, torch.Generator):
                raise Departed("the forward draws random numbers")
            return (cast("type[Any]", type(value)), value)
        address, layout = address_of(value), _layout_of(value)
        if address in self.own:
            return ("own", self.own[address], layout)
        if address in self.model:
            return ("model", self.model[address], layout)
        place = (address, layout)
        if place not in self._places:
            self._places[place] = len(self._places)
            self._others.append(StorageWeakRef(value.untyped_storage()))
            self._from_outside(value, self._places[place])
        return ("given", self._places[place], layout)

    def _from_outside(self, leaf: Tensor, index: int) -> None:
        if self._expected is None:
            self.given.append(leaf.detach().clone())
        elif index >= len(self._expected) or not same_bits(self._expected[index], leaf):
            raise Departed("evaluate gives the model other batches, or the pruned weight is used where it is not seen")

    def add(self, tensor: Tensor) -> int:
        """Number the storage that a kernel has made."""
        storage = storage_of(tensor)
        self.own[address_of(tensor)] = len(self.alive)
        self.alive.append(StorageWeakRef(storage))
        return len(self.alive) - 1


class Tracer(TorchDispatchMode):
    """Runs every kernel and notes it."""

    def __init__(self, storages: Storages, room: int) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._storages, self._room = storages, room
        self._trace = Trace()
        self._fits = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self._fits:
            return func(*args, **kwargs)
        arguments = self._storages.describe(args, kwargs)
        written = _written(func, args, kwargs)
        sizes = [storage_of(tensor).nbytes() for tensor in written]
        result = func(*args, **kwargs)
        if sizes != [storage_of(tensor).nbytes() for tensor in written]:
            raise Departed(f"{func} resizes a tensor")
        self._note(func, _tensors((args, kwargs)), arguments, written, result)
        if sum(tensor.numel() * tensor.element_size() for tensor in self._storages.given) > self._room:
            self._fits = False
        return result

    def _note(
        self, func: Any, tensors: list[Tensor], arguments: tuple[Any, ...], written: list[Tensor], out: Any
    ) -> None:
        trace, storages, index = self._trace, self._storages, len(self._trace.ops)
        known = {address_of(tensor) for tensor in tensors}
        for address in known:
            if address in storages.own:
                trace.last_use[storages.own[address]] = index
            for name in storages.model.get(address, ()):
                trace.first_use.setdefault(name, index)
        if any(address_of(tensor) not in storages.own for tensor in written):
            raise Departed(
                f"{func} writes to what comes from outside: a model in training mode, or a batch that changes"
            )
        made = _tensors(out)
        views = [tensor for tensor in made if address_of(tensor) in known]
        runs = torch.Tag.inplace_view in func.tags or (bool(views) and not written)
        if runs and len(views) < len(made):
            raise Departed(f"{func} returns views and new tensors")
        leaves, form = tree_flatten(out)
        outputs = () if runs else tuple(self._output(func, leaf, tensors) for leaf in leaves)
        trace.ops.append(_Op(func, arguments, runs, outputs, form))

    def _output(self, func: Any, out: Any, tensors: list[Tensor]) -> Any:
        if not isinstance(out, Tensor):
            return out
        same = next((index for index, tensor in enumerate(tensors) if tensor is out), None)
        if same is not None:
            return _Argument(same)
        storage, trace = storage_of(out), self._trace
        if address_of(out) in self._storages.own or address_of(out) in self._storages.model:
            raise Departed(f"{func} returns memory of something else")
        trace.sizes.append(storage.nbytes())
        trace.made.append(len(trace.ops))
        trace.last_use.append(len(trace.ops))
        return _New(self._storages.add(out), _layout_of(out), storage.nbytes())

    def finish(self) -> Call | None:
        """Return the call; None if what came from outside finds no room."""
        end = len(self._trace.ops)
        for slot, reference in enumerate(self._storages.alive):
            if not reference.expired():  # returned, or kept by the model
                self._trace.last_use[slot] = end
        return Call(self._trace, self._storages.given) if self._fits else None


class Replay(TorchDispatchMode):
    """Skips the kernels before ``call.at``, runs those up to the frontier as noted, and then gets out of the way."""

    def __init__(self, call: Call, storages: Storages, frontier: int, needed: list[int]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._call, self._storages, self._frontier, self._needed = call, storages, frontier, needed
        self.start, self.position = call.at, 0
        self._wanted = {*call.saved, *needed}
        self._held: dict[int, Tensor] = {}  # the bytes of the storages that are filled or kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.position >= self._frontier:
            return func(*args, **kwargs)
        op = self._call.trace.ops[self.position]
        if func is not op.func or self._storages.describe(args, kwargs) != op.arguments:
            raise Departed(f"the forward takes another way than when it was traced, at {func}")
        if op.runs or self.position >= self.start:
            result = func(*args, **kwargs)
            for output, made in zip(op.outputs, tree_leaves(result), strict=not op.runs):
                if isinstance(output, _New):
                    self._made(output, made)
        else:
            result = tree_unflatten([self._without_values(output, args, kwargs) for output in op.outputs], op.form)
        self.position += 1
        if self.position == self.start:
            for slot, values in self._call.saved.items():
                self._held[slot].copy_(values)
        if self.position == self._frontier:
            if self._needed:
                self._call.saved = {slot: self._held[slot].clone() for slot in self._needed}
                self._call.at = self._frontier
            self._held.clear()
        return result

    def _without_values(self, output: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(output, _Argument):
            return _tensors((args, kwargs))[output.index]
        if not isinstance(output, _New):
            return output
        shape, stride, offset, dtype, device = output.layout
        memory = torch.empty(output.size, dtype=torch.uint8, device=device)
        made = torch.empty(0, dtype=dtype, device=device).set_(memory.untyped_storage(), offset, shape, stride)
        self._made(output, made)
        return made

    def _made(self, output: _New, tensor: Tensor) -> None:
        storage = storage_of(tensor)
        if _layout_of(tensor) != output.layout or storage.nbytes() != output.size:
            raise Departed("a kernel returned a tensor of another layout than when it was traced")
        if self._storages.add(tensor) != output.slot:
            raise Departed("the forward takes another way than when it was traced")
        if output.slot in self._wanted:
            memory = torch.empty(0, dtype=torch.uint8, device=tensor.device)
            self._held[output.slot] = memory.set_(storage, 0, (output.size,), (1,))


# --- tensors and kernels --------------------------------------------------------------------------------------------


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """Return the memory of a plain tensor; any other kind departs."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        raise Departed(f"the forward uses a {type(tensor).__name__} of layout {tensor.layout}")
    return tensor.untyped_storage()


def address_of(tensor: Tensor) -> int:
    """Return what tells the memory of one tensor from that of another, as long as it is there."""
    return storage_of(tensor)._cdata  # pyright: ignore[reportPrivateUsage]  # PyTorch names storages by it itself


def _layout_of(tensor: Tensor) -> tuple[Any, ...]:
    return (tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device)


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that a kernel says it writes to."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        raise Departed(f"the forward uses {func}, which is no plain operator")
    found: list[Any] = []
    for index, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[index] if index < len(args) else kwargs.get(argument.name))
    return _tensors(found)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in the arguments or the result of a kernel."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same values to the bit."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    integer = _INT_OF_SIZE.get(a.element_size())
    if integer is None:  # complex128
        return torch.equal(torch.view_as_real(a), torch.view_as_real(b))
    return torch.equal(a.detach().view(integer), b.detach().view(integer))
