"""Gradients of removed weights take part in nothing: in no norm that is clipped, and in no optimizer's state.

A hook on each parameter masks its gradient as soon as backward has accumulated it, before any other hook of that kind.
That is before DDP reduces it, before a GradScaler unscales it and before anybody clips it. FSDP2 calls the same hook
when it has reduced a gradient.
What is written into ``.grad`` in another way is masked before the optimizer steps. Writes that PyTorch does not count
(through ``.data``, by a kernel of one's own, by the replay of a CUDA graph) are found by a look at some places.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from redense import masks as masking
from redense.masks.applying import overlaps
from redense.masks.sharding import local

from .optimizers import refuse_capture
from .watching import flat

_log = logging.getLogger(__name__)


class GradientMasks:
    """Masks the gradients of some parameters while it is attached.

    Args:
        mask_of: the mask of a parameter's name as its gradient lies in memory, of this rank's part.
        places_of: flat indices of some of its removed weights, in the order of memory, given that mask.
    """

    def __init__(self, mask_of: Callable[[str], Tensor], places_of: Callable[[str, Tensor], Tensor]) -> None:
        self.seen = 0  # backward passes of the parameter that had most
        self._mask_of, self._places_of = mask_of, places_of
        self._handles: list[RemovableHandle] = []
        self._masked: dict[str, tuple[weakref.ref[Any], int, int]] = {}  # the gradient that was masked, see `_written`
        self._passes: dict[str, int] = {}
        self._hooked: dict[str, int] = {}  # the very tensor below a parameter that the hook was put on

    def attach(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Mask from now on what backward accumulates, of a frozen parameter as soon as it is trained again."""
        self.detach()
        for name, parameter in parameters.items():
            if not parameter.is_leaf:
                continue
            frozen = not parameter.requires_grad
            parameter.requires_grad_()  # else PyTorch takes no hook
            self._handles.append(_hook_first(parameter, self._hook(name)))
            self._hooked[name] = parameter._cdata
            if frozen:
                parameter.requires_grad_(False)

    def detach(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked.clear()
        self._masked.clear()

    def mask(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Mask the gradients that were written or changed since they were masked last."""
        refuse_capture()
        together: list[tuple[Tensor, list[Tensor]]] = []
        missed: list[str] = []
        for name, parameter in parameters:
            gradient = parameter.grad
            if name in self._hooked and self._hooked[name] != parameter._cdata:
                missed += [name] if self._hook_again(name, parameter) else []
            if gradient is None:
                continue
            mask = self._mask_of(name)
            if mask.device.type != "cpu" and _is_plain(gradient):  # to look would be to wait; to mask costs less there
                together.append((mask, [local(_apart(parameter, gradient, mask))]))
            elif not self._is_masked(name, gradient, mask):
                self._mask(name, _apart(parameter, gradient, mask), mask)
        masking.apply_all_(together)
        if missed:
            _log.warning(
                "PyTorch has swapped '%s'%s for another tensor since the last step (by model.to(...) or the like), and "
                "left the hooks behind: until this step the gradients of removed weights were not masked, and a norm "
                "that was clipped had them in it",
                missed[0],
                f" and {len(missed) - 1} more" if len(missed) > 1 else "",
            )

    def _hook_again(self, name: str, parameter: nn.Parameter) -> bool:
        """Revive the hooks of a parameter, which a swap of its tensor leaves behind; return whether one was missed."""
        own = cast("Any", parameter)
        own._post_accumulate_grad_hooks = own._post_accumulate_grad_hooks
        self._hooked[name] = parameter._cdata
        gradient, mask = parameter.grad, self._mask_of(name)
        return gradient is not None and not gradient.is_sparse and bool((local(gradient).ne(0) & ~mask).any())

    def _is_masked(self, name: str, gradient: Tensor, mask: Tensor) -> bool:
        known, now = self._masked.get(name), _written(gradient)
        if known is None or known[0]() is not now[0]() or known[1:] != now[1:]:
            return False
        own = local(gradient)
        if not _is_plain(gradient) or own.stride() != mask.stride():
            return True
        return not bool(flat(own).index_select(0, self._places_of(name, mask)).any())

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        # The garbage collector does not look into a tensor's hooks: what they held would live as long as the model.
        weakly = weakref.ref(self)

        def mask_gradient(parameter: Tensor) -> None:
            own = weakly()
            if own and parameter.grad is not None:
                own._accumulated(name, parameter.grad)

        # Else a step that is compiled as a whole traces it, and once for each parameter and each backward.
        return cast("Any", torch.compiler).disable(mask_gradient)

    def _accumulated(self, name: str, gradient: Tensor) -> None:
        refuse_capture()
        self._passes[name] = self._passes.get(name, 0) + 1
        self.seen = max(self.seen, self._passes[name])
        self._mask(name, gradient, self._mask_of(name))

    def _mask(self, name: str, gradient: Tensor, mask: Tensor) -> None:
        mask_gradient_(gradient, mask)
        self._masked[name] = _written(gradient)


def _apart(parameter: nn.Parameter, gradient: Tensor, mask: Tensor) -> Tensor:
    """Return a gradient each element of which has its own place in memory: one that was expanded becomes a copy."""
    own = gradient._values() if gradient.is_sparse else local(gradient)
    if own.stride() == mask.stride() or not overlaps(own):
        return gradient
    parameter.grad = copied = gradient.clone()
    return copied


def _hook_first(parameter: nn.Parameter, hook: Callable[[Tensor], None]) -> RemovableHandle:
    """Let a hook see an accumulated gradient before those that others have registered: they may clip it, or step."""
    handle: RemovableHandle = cast("Any", parameter).register_post_accumulate_grad_hook(hook)
    hooks = cast("dict[int, Any]", cast("Any", parameter)._post_accumulate_grad_hooks)
    # PyTorch reads the dict below an OrderedDict, which move_to_end leaves as it is.
    for other in [key for key in hooks if key != handle.id]:
        hooks[other] = hooks.pop(other)
    return handle


def mask_gradient_(gradient: Tensor, mask: Tensor) -> None:
    """Set a gradient to zero where the mask is False, in place; NaN and infinity go too.

    Args:
        gradient: dense, sparse or sharded.
        mask: bool, True = kept; of a sharded gradient, this rank's part.
    """
    if gradient.is_sparse:  # of an embedding: whole rows are indexed, and the mask is zero or one in each place
        values, rows = gradient._values(), mask[tuple(gradient._indices())]
        values.masked_fill_(~rows, 0)
    elif gradient.requires_grad:  # of backward(create_graph=True), whose graph must know of the mask
        gradient.masked_fill_(~mask, 0)
    else:
        with torch.no_grad():
            masking.apply_(mask, local(gradient))


def _is_plain(gradient: Tensor) -> bool:
    """Whether a gradient is dense and has no graph of its own."""
    return not gradient.is_sparse and not gradient.requires_grad


def _written(gradient: Tensor) -> tuple[weakref.ref[Any], int, int]:
    """Return what changes when another gradient is put in the place of one, or when it is written.

    It refers to the memory and not to the tensor: PyTorch swaps no tensor that somebody has a weak reference to, and
    ``model.to(...)`` swaps gradients.
    """
    own = local(gradient)
    try:
        memory, address = own.untyped_storage(), own.data_ptr()
    except (RuntimeError, NotImplementedError):  # of a sparse one, which has several
        memory, address = gradient, 0
    return weakref.ref(memory), address, own._version
