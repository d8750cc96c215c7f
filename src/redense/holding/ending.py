"""The end of a schedule that never came, and the beginning of one that should have gone on, or of a block, are told."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from redense.errors import ScheduleError, StateError
from redense.phase import Phase
from redense.schedule import Schedule

from .masked import Masked
from .optimizers import hooks_of, remove

_log = logging.getLogger(__name__)


class End:
    """The end of each phase, and of the schedule: says once that this never came, when its DSD is closed or goes.

    It also says once that the schedule starts with an optimizer that has loaded the state of a training.
    """

    def __init__(self, schedule: Schedule, optimizers: Sequence[Optimizer]) -> None:
        self.schedule = schedule
        self.said = False
        self.calls = False  # `on_phase_end`, just now
        self.broken = False  # an exception has ended the latest call of it
        self._kinds = [type(optimizer).__name__ for optimizer in optimizers]  # and not they: this outlives them
        self._steps = [0] * len(optimizers)
        # In the place of each, loading puts another. Nothing is kept here after the first step.
        self._empty_stores = list(map(_empty_store, optimizers))

    def tell_of_loaded(self, optimizers: Sequence[Optimizer]) -> None:
        """Say before the first step that an optimizer has loaded the state of a training, and the DSD has not."""
        loaded = [
            optimizer
            for optimizer, store in zip(optimizers, self._empty_stores, strict=False)
            if store is not None and store is not optimizer.state and optimizer.state
        ]
        if loaded:
            self._empty_stores = []
            _log.warning(
                "%s has loaded the state of a training, and the DSD none: its schedule starts here. If that training "
                "was in one, load what the DSD's state_dict() gave too (Fabric's load of a sharded model only puts it "
                "into the dictionary)",
                type(loaded[0]).__name__,
            )

    def call(self, on_phase_end: Callable[[Any], None], dsd: object) -> None:
        """Call what is to be called when a phase ends; once more, before the next step, if an exception ends it."""
        if self.broken:
            _log.warning("an exception has ended on_phase_end: it is called again, and the phase ends before this step")
        self.calls = self.broken = True
        try:
            on_phase_end(dsd)
            self.broken = False
        finally:
            self.calls = False

    def refuse_step(self, optimizer: Optimizer) -> None:
        """Refuse a step inside of `on_phase_end`.

        Raises:
            StateError: it is one.
        """
        if self.calls:
            raise StateError(
                f"a step of {type(optimizer).__name__} inside of on_phase_end: a phase is over, and the next has not "
                "begun, so that it belongs to none. Train in the loop: a phase of the schedule is as long as you say"
            )

    def note(self, steps: Sequence[int]) -> None:
        """Note the steps of each optimizer so far, made or loaded."""
        self._empty_stores = []
        self._steps = list(steps)

    def resume(self, steps: Sequence[int], *, over: bool) -> None:
        """Note the steps of a state that was loaded, and say if it is of a `DSD` that was closed before its end."""
        self.note(steps)
        self.said = self.broken = False
        if over and self.step < self.schedule.total_steps:
            self.said = True
            _log.warning(
                "the saved state is of a DSD that close() had ended after %d of %d steps: nothing is pruned any more. "
                "To go on with the schedule, save the state before close()",
                self.step,
                self.schedule.total_steps,
            )

    @property
    def step(self) -> int:
        """Number of complete steps."""
        return min(self._steps)

    def say(self) -> None:
        """Say it, if it is so and was not said."""
        total = self.schedule.total_steps
        if self.said or self.step >= total:
            return
        self.said = True
        if not self.step and any(self._steps):
            which = [f"{kind} (number {i})" for i, kind in enumerate(self._kinds, 1) if not self._steps[i - 1]]
            _log.warning(
                "no step of a schedule of %d was complete: of %d optimizers, %s made none, and another made %d. Give "
                "redense those alone that the loop steps",
                total,
                len(self._kinds),
                " and ".join(which),
                max(self._steps),
            )
            return
        if not self.step:
            _log.warning(
                "no step of a schedule of %d was seen: if the loop did train, give redense the optimizer whose step() "
                "it calls",
                total,
            )
            return
        phase = cast("Phase", self.schedule.phase_at(self.step))  # none only after the end
        left = "the removed weights were not trained again" if phase.is_sparse else "the rest was not trained"
        _log.warning("training ended after %d of %d steps, in phase '%s': %s", self.step, total, phase.name, left)


def _empty_store(optimizer: Optimizer) -> Mapping[Any, Any] | None:
    """Return what holds the states of an optimizer that has none yet; None of another, or if each look gives another.

    With states in it, it would keep the parameters alive, and so the DSD, and nobody would be told of its end.
    """
    once, again = (getattr(optimizer, "state", None) for _ in range(2))
    return cast("Mapping[Any, Any]", once) if once is again and isinstance(once, Mapping) and not once else None


def check_callback(on_phase_end: Any) -> None:
    """Refuse now what could not be called when a phase ends.

    Raises:
        ScheduleError: it is no function, or one that does not take the `DSD`.
    """
    if on_phase_end is None:
        return
    try:
        inspect.signature(on_phase_end).bind(None)
    except TypeError as error:
        raise ScheduleError(
            f"on_phase_end must be called with the DSD when a phase ends, got {on_phase_end!r}: {error}"
        ) from None
    except ValueError:  # a function of C has no signature
        pass


def written_since(masked: Masked | None) -> bool:
    """Whether somebody has written removed weights since the last step, which are not to be released then; say so.

    The weights of a step that an exception has ended in its midst are the step's own.
    """
    name = masked.not_zero() if masked and not masked.broken_off else None
    if name is not None:
        _log.warning(
            "removed weights of '%s' are not zero any more: something has written them since the last step, such as a "
            "checkpoint that was loaded. All weights are left as they are, and none is released from zero",
            name,
        )
    return name is not None


def reminder(reminders: list[RemovableHandle]) -> Callable[[Optimizer, Any, Any], None]:
    """Return the hook of a block that was never entered."""

    def refuse(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        remove(reminders)
        raise StateError("redense.sparse(...) prunes nothing until it is entered: write `with redense.sparse(...):`")

    cast("Any", refuse).reminders = reminders
    return refuse


def forget_reminders(optimizer: Optimizer) -> None:
    """Forget the blocks of an optimizer that were never entered: something else prunes now."""
    for hook in list(hooks_of(optimizer)):
        remove(getattr(hook, "reminders", []))
