"""The controllers that have hooks now, in all threads, and one hook of the process, on every optimizer's steps.

Another thread may be going through torch's hooks, or through the controllers, while one is made or goes. So torch's
dict is written once, by the first controller, and what is known here is never changed: it is replaced as a whole.
"""

from __future__ import annotations

import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    _global_optimizer_post_hooks,  # pyright: ignore[reportPrivateUsage]
    register_optimizer_step_post_hook,
)
from torch.utils.hooks import RemovableHandle

from redense.errors import OptimizerError


class Observer(Protocol):
    """Somebody who is asked about the steps of all optimizers."""

    @property
    def masks(self) -> Mapping[str, Any]:
        """The masks in force."""
        ...

    def against(self, optimizer: Optimizer) -> str:
        """Return what is wrong with the step of an optimizer, in a line; empty if it may step."""
        ...


class Registry:
    """Those that are asked about every optimizer's steps, as long as somebody has them."""

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[Any], ...] = ()
        self._lock = threading.RLock()
        self._handle: RemovableHandle | None = None

    def __iter__(self) -> Any:
        """Give those that are known now."""
        return iter([each for reference in self._known if (each := reference()) is not None])

    def add(self, one: Observer) -> None:
        """Ask one about all steps from now on."""
        with self._lock:
            if self._handle is None or self._handle.id not in _global_optimizer_post_hooks:
                hook = cast("Any", torch.compiler).disable(self._ask)
                self._handle = register_optimizer_step_post_hook(hook)
            self._known = (*self._without(one), weakref.ref(one))

    def discard(self, one: Observer) -> None:
        """Ask one no more."""
        with self._lock:
            self._known = tuple(self._without(one))

    def _without(self, one: Observer) -> Iterable[weakref.ref[Any]]:
        return (reference for reference in self._known if reference() not in (None, one))

    def answer(self, question: Callable[[Any], str]) -> str:
        """Return the first answer that is not empty of those that somebody has.

        What nobody has any more holds itself, by its hooks on its optimizer, until the garbage collector looks; and an
        interactive Python holds what the latest error has passed. So no variable here, or of the error that is raised
        then, may have any of those that are asked.
        """
        said = _first(self, question)
        for forget in (gc.collect, _forget_errors):
            if said:
                forget()
                said = _first(self, question)
        return said

    def _ask(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not _first(self, lambda one: one.against(optimizer)):
            return  # nearly every step ends here
        masking = _first(self, lambda one: one.masks and one.against(optimizer))
        if said := self.answer(lambda one: one.against(optimizer)):
            raise OptimizerError(said)
        if masking:
            raise OptimizerError(
                f"the gradients of this step of {type(optimizer).__name__} were masked by an object of redense that "
                "nobody has any more: it is gone now, so begin this training again; close() ends one that is not over"
            )


def _first(several: Iterable[Any], question: Callable[[Any], str]) -> str:
    return next(filter(None, map(question, several)), "")


def _forget_errors() -> None:
    """Let go of the variables of functions that the latest errors of an interactive Python have ended."""
    left: list[BaseException | None] = [getattr(sys, name, None) for name in ("last_exc", "last_value")]
    seen: set[int] = set()
    while left:
        error = left.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback.clear_frames(error.__traceback__)
            left += [error.__context__, error.__cause__]
    gc.collect()


attached = Registry()
