"""The end of a schedule that never came, and the beginning of a block: training that stops without them says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from redense.errors import StateError
from redense.phase import Phase
from redense.schedule import Schedule

from .optimizers import remove

_log = logging.getLogger(__name__)


class End:
    """Says once that a schedule was not trained to its end: when its DSD is closed, or goes with the program."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.step = 0
        self.said = False

    def say(self) -> None:
        """Say it, if it is so and was not said."""
        total = self.schedule.total_steps
        if self.said or self.step >= total:
            return
        self.said = True
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


def reminder(reminders: list[RemovableHandle]) -> Callable[[Optimizer, Any, Any], None]:
    """Return the hook of a block that was never entered."""

    def refuse(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        remove(reminders)
        raise StateError("redense.sparse(...) prunes nothing until it is entered: write `with redense.sparse(...):`")

    return refuse
