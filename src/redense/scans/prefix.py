"""Reusing what the layers before a pruned weight compute: their kernels are skipped, and what they leave is put back.

A scan evaluates one model many times, and each time only one weight is another one. All that is computed before that
weight's first use is the same every time. So the kernels (aten operators) of every forward call are noted while the
unpruned model is evaluated. When the pruned model is evaluated, the kernels before the weight's first use are not run:
they return tensors of the right kind without values, and at the weight's first use the values of those that are still
needed are filled in from a cache. The model's Python code runs as always, so branches, skip connections, modules that
are called twice and state that a module keeps need no care of their own.

Nothing is trusted. A kernel is skipped only if its operator and arguments are the noted ones: constants equal, tensors
from the same noted kernels, what comes from outside (the batch) equal bit for bit. At the first difference the
evaluation is thrown away, reuse ends for good, and the model is evaluated plainly. The same goes for random numbers,
for a model that changes its own buffers (training mode), and for an evaluation that gives two values for one model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from redense.holding.randomness import generators

from .operators import Call, Departed, Replay, Storages, Tracer, address_of, same_bits

_READS = ("numpy", "tolist", "__dlpack__")  # what hands a tensor's values to Python without any kernel


class Prefix:
    """Evaluates a model of which one parameter is pruned, computing only what comes after that parameter's first use.

    First `trace` the unpruned model, then `evaluate` the pruned ones in the order of `order`, in which the cache moves
    forward. Each call of the model's forward is cached by itself, as long as all of them stay within ``cache_bytes``;
    a call that finds no room is computed from the last place that did.

    Args:
        model: the module that is called; a wrapper of it may be what calls it.
        parameters: name -> what will be pruned.
        cache_bytes: most bytes of cached values: batches, and what is needed at the weight's first use.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, Tensor], *, cache_bytes: int) -> None:
        self.model, self.parameters, self.cache_bytes = model, dict(parameters), cache_bytes
        self.reason = "" if cache_bytes > 0 else "cache_bytes is 0"
        """Why nothing is reused; empty as long as something is."""
        self.skipped = 0
        """Kernels that did not have to run."""
        self._calls: list[Call | None] = []
        self._state: list[tuple[str, Tensor]] = []
        self._storages: dict[int, tuple[str, ...]] = {}
        self._index = 0
        self._inside = False
        if any(isinstance(m, torch.jit.ScriptModule) or type(m).__name__ == "OptimizedModule" for m in model.modules()):
            self.reason = "a compiled or scripted module is in the model"

    def trace(self, evaluate: Callable[[], float], expected: float) -> None:
        """Note what the unpruned model computes; ``expected`` is what a plain evaluation of it gave."""
        if self.reason:
            return
        before = {name: buffer.detach().clone() for name, buffer in self.model.named_buffers()}
        try:
            with self._calling(self._traced):
                value = evaluate()
        except Departed as departed:
            self._give_up(str(departed))
            return
        if not self._calls:
            self._give_up("evaluate does not call the model's forward")
        elif not _same_float(value, expected):
            self._give_up(f"two evaluations of the unpruned model differ, {expected} and {value}")
        elif any(not same_bits(before[name], buffer) for name, buffer in self.model.named_buffers()):
            self._give_up("evaluating changes the model's buffers: it is not in eval mode")

    def evaluate(self, evaluate: Callable[[], float], pruned: str) -> float:
        """Return ``evaluate()`` for the model whose parameter ``pruned`` alone is another one than in `trace`."""
        if not self.reason:
            try:
                with self._calling(functools.partial(self._replayed, pruned)):
                    value = evaluate()
            except Departed as departed:
                self._give_up(str(departed))
            else:
                if not self.reason:  # also when evaluate swallowed what a forward raised
                    return value
        return evaluate()

    def order(self) -> list[str]:
        """Return the parameters in the order of their first use; those that no forward used come last."""
        first = [trace.first_use for trace in (call.trace for call in self._calls[:1] if call)]
        found = dict(first[0]) if first else {}
        return sorted(self.parameters, key=lambda name: found.get(name, 1 << 62))

    def close(self) -> None:
        """Free the cache."""
        self._calls = []

    @property
    def cached_bytes(self) -> int:
        """Bytes of values that the cache holds now."""
        return sum(call.bytes for call in self._calls if call)

    # --- one evaluation ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _calling(self, how: Callable[..., Any]) -> Generator[None]:
        """Let every forward call of the model go through ``how(forward, args, kwargs, versions)``."""
        own = vars(self.model).get("forward")
        self._index, self._inside = 0, False
        self._state = [*self.model.named_parameters(), *self.model.named_buffers()]
        self._storages = self._names_of_storages()
        versions = self._versions()
        self.model.forward = _Forward(self.model.forward, lambda *call: self._call(how, versions, *call))
        try:
            yield
            if self._versions() != versions:
                raise Departed("evaluate changes the model's parameters or buffers")
        finally:
            if own is None:
                del self.model.forward
            else:
                self.model.forward = own

    def _call(
        self,
        how: Callable[..., Any],
        versions: list[tuple[int, int]],
        forward: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> Any:
        if self._inside or self.reason:
            return forward(*args, **kwargs)
        if torch.is_grad_enabled():
            self._depart("evaluate turns gradients on")
        if self._versions() != versions:
            self._depart("evaluate changes the model's parameters or buffers")
        index, self._index, self._inside = self._index, self._index + 1, True
        try:
            # In inference mode PyTorch hands whole layers to a dispatch mode, and computes some of them (a linear one
            # of a transposed batch) in another order than without it. Without gradients alone it does not.
            with torch.inference_mode(False), torch.no_grad():
                return how(forward, args, kwargs, index)
        except Departed as departed:  # noted here, for evaluate may swallow it
            self._give_up(str(departed))
            raise
        except RuntimeError as error:
            if "inference tensor" not in str(error).lower():
                raise
            self._depart("the forward changes a tensor of inference mode in place")
        finally:
            self._inside = False

    def _traced(self, forward: Callable[..., Any], args: Any, kwargs: Any, index: int) -> Any:
        tracer = Tracer(Storages(self._storages), self.cache_bytes - self.cached_bytes)
        random = _random_state()
        with _no_reads(), tracer:
            result = forward(*args, **kwargs)
        if any(not torch.equal(a, b) for a, b in zip(random, _random_state(), strict=True)):
            self._depart("the forward draws random numbers: the model is not in eval mode")
        call = tracer.finish()
        previous = self._calls[-1] if self._calls else None
        if call and previous and call.trace == previous.trace:  # most calls differ in their batch alone
            call.trace = previous.trace
        self._calls.append(call)
        return result

    def _replayed(self, pruned: str, forward: Callable[..., Any], args: Any, kwargs: Any, index: int) -> Any:
        call = self._calls[index] if index < len(self._calls) else None
        if call is None:  # no room for it, or a call that was not there when the model was traced
            return forward(*args, **kwargs)
        frontier = call.trace.first_use.get(pruned, len(call.trace.ops))
        if call.at > frontier:
            call.forget()
        needed = call.trace.live(frontier)
        size = sum(call.trace.sizes[slot] for slot in needed)
        keep = frontier > call.at and self.cached_bytes - call.saved_bytes + size <= self.cache_bytes
        replay = Replay(call, Storages(self._storages, call.given), frontier, needed if keep else [])
        with replay:
            result = forward(*args, **kwargs)
        if replay.position < frontier:
            self._depart("a forward call ended before it came to the pruned weight")
        self.skipped += replay.start
        return result

    def _depart(self, reason: str) -> NoReturn:
        self._give_up(reason)
        raise Departed(reason)

    def _give_up(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.close()

    def _versions(self) -> list[tuple[int, int]]:
        """Address and version of every parameter and buffer: any write through PyTorch changes them."""
        try:
            return [(tensor.data_ptr(), tensor._version) for _, tensor in self._state]
        except RuntimeError as error:  # inference tensors have no version
            self._depart(f"the model's parameters are not tracked ({next(iter(str(error).splitlines()), '')})")

    def _names_of_storages(self) -> dict[int, tuple[str, ...]]:
        """Address of a storage -> the names of what lies in it; views of one storage are not told apart."""
        names: dict[int, tuple[str, ...]] = {}
        pruned = {id(tensor): name for name, tensor in self.parameters.items()}
        for name, tensor in self._state:
            address = address_of(tensor)
            names[address] = (*names.get(address, ()), pruned.get(id(tensor), name))
        return names


class _Forward:
    """A forward that goes through another function; it stays with its model."""

    def __init__(self, forward: Callable[..., Any], through: Callable[..., Any]) -> None:
        functools.update_wrapper(self, forward)
        self._forward, self._through = forward, through

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._through(self._forward, args, kwargs)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise Departed("evaluate copies the model")

    def __reduce__(self) -> NoReturn:
        raise Departed("evaluate copies the model")


# --- what is looked at ----------------------------------------------------------------------------------------------


def _same_float(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)  # a NaN is one value


def _random_state() -> list[Tensor]:
    return [generator.get_state() for generator in generators()]


@contextlib.contextmanager
def _no_reads() -> Generator[None]:
    """Refuse what reads a tensor's values past PyTorch's kernels: a tensor without values would give any."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise Departed("the forward reads a tensor's values in Python (numpy or tolist)")

    before = {name: vars(torch.Tensor).get(name) for name in _READS}
    for name in _READS:
        setattr(torch.Tensor, name, refuse)
    try:
        yield
    finally:
        for name, function in before.items():
            if function is None:  # it was inherited
                delattr(torch.Tensor, name)
            else:
                setattr(torch.Tensor, name, function)
