"""The controllers that have hooks now, in all threads, and one hook of the process, on every optimizer's steps.

Another thread may be going through torch's hooks, or through the controllers, while one is made or goes. So torch's
dict is written once, by the first controller, and what is known here is never changed: it is replaced as a whole.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any, Protocol, cast

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    _global_optimizer_post_hooks,  # pyright: ignore[reportPrivateUsage]
    register_optimizer_step_post_hook,
)
from torch.utils.hooks import RemovableHandle


class Observer(Protocol):
    """Somebody who is told of the steps of all optimizers."""

    def refuse_foreign(self, optimizer: Optimizer) -> None:
        """Refuse the step of an optimizer that must not step."""
        ...


class Registry:
    """Those that are told of every optimizer's steps, as long as somebody has them."""

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[Any], ...] = ()
        self._lock = threading.RLock()
        self._handle: RemovableHandle | None = None

    def __iter__(self) -> Any:
        """Give those that are known now."""
        return iter([each for reference in self._known if (each := reference()) is not None])

    def add(self, one: Observer) -> None:
        """Tell one of all steps from now on."""
        with self._lock:
            if self._handle is None or self._handle.id not in _global_optimizer_post_hooks:
                hook = cast("Any", torch.compiler).disable(self._tell)
                self._handle = register_optimizer_step_post_hook(hook)
            self._known = (*self._without(one), weakref.ref(one))

    def discard(self, one: Observer) -> None:
        """Tell one no more."""
        with self._lock:
            self._known = tuple(self._without(one))

    def _without(self, one: Observer) -> Iterable[weakref.ref[Any]]:
        return (reference for reference in self._known if reference() not in (None, one))

    def _tell(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for each in self:
            each.refuse_foreign(optimizer)


attached = Registry()
