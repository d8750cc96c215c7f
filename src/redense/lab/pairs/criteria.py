"""The criteria of a schedule that are somebody's own: their code counts, and a process of its own has to know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from redense.schedule import Schedule
from redense.schedules.named_criteria import CRITERIA, OURS, WITH_ACTIVATIONS, WITH_GRADIENTS, Criterion, criterion


class Named(NamedTuple):
    """A criterion that is registered in this process, with what it asks for."""

    function: Criterion
    gradients: bool
    activations: bool


def own_criteria(schedule: Schedule | None) -> list[Criterion]:
    """Return the functions by which the phases of a schedule choose masks, without redense's own."""
    known = named_criteria(schedule)
    functions = (known[one].function if isinstance(one, str) and one in known else one for one in _asked(schedule))
    return [function for function in functions if not isinstance(function, str)]


def named_criteria(schedule: Schedule | None) -> dict[str, Named]:
    """Return the registered criteria that the phases of a schedule name, without redense's own."""
    return {
        name: Named(CRITERIA[name], name in WITH_GRADIENTS, name in WITH_ACTIVATIONS)
        for name in _asked(schedule)
        if isinstance(name, str) and name not in OURS and name in CRITERIA
    }


def _asked(schedule: Schedule | None) -> list[str | Criterion]:
    return [phase.criterion for phase in schedule.phases if phase.is_sparse] if schedule else []


def make_known(criteria: Mapping[str, Named]) -> None:
    """Register in this process the criteria of the one that has called: a script may have registered another again."""
    for name, own in criteria.items():
        if CRITERIA.get(name) is not own.function:
            CRITERIA.pop(name, None)
            criterion(name, gradients=own.gradients, activations=own.activations)(own.function)
