"""An arm of a comparison by its name: its schedule, its own control, and the controls with settings of their own."""

from __future__ import annotations

from redense import variants
from redense.errors import RecipeError, RedenseError, nearest
from redense.schedule import Schedule

from .named import BASELINE, LOWER, NAMED, OWN, RATES, TWIN, NamedArm, rescaled


def named_arm(name: str) -> NamedArm:
    """Return an arm by its name.

    Raises:
        RecipeError: no arm has the name, or it is one of the lab's own training and no schedule alone.
    """
    own = NAMED.get(name.removeprefix(TWIN)) if name.startswith(TWIN) else NAMED.get(name)
    if own is None:
        if name in _of_the_lab():
            raise RecipeError(
                f"arm '{name}' is more than a schedule: it needs redense's own training (redense compare RECIPE); here "
                f'give it as a function of yours, arms={{"{name}": train_so}}'
            )
        known = [*NAMED, *(f"{TWIN}{arm.name}" for arm in NAMED.values() if arm.masked)]
        raise RecipeError(
            f"unknown arm '{name}'{nearest(name, known)}; by name there are {', '.join(NAMED)}; one of your own is "
            'given with a schedule or a function, arms={"mine": ...}'
        )
    if not name.startswith(TWIN):
        return own
    if not own.masked:
        raise RecipeError(f"'{own.name}' has no mask, so that there is no control '{name}' of it")
    about = f"the steps and learning rates of {own.name}, no mask"
    return NamedArm(name, about, lambda dsd: variants.restarted(own.make(dsd)), OWN, masked=False)


def schedule_of(name: str, dsd: Schedule) -> Schedule:
    """Return what an arm trains; ``baseline`` is the first phase alone.

    >>> dsd = Schedule.dsd(dense=100, sparse=50, redense=50, sparsity=0.3)
    >>> [phase.steps for phase in schedule_of("llr", dsd).phases], schedule_of("baseline", dsd).total_steps
    ([100, 100], 100)

    Raises:
        RecipeError: there is no such arm, or it cannot be made of this schedule.
    """
    if name == BASELINE:
        if len(dsd.phases) == 1 or dsd.phases[0].is_sparse:
            raise RecipeError(
                "the baseline is the dense phase that a schedule begins with, and this one has none before others: "
                "name the arm that is the baseline, baseline=..."
            )
        return Schedule(dsd.phases[:1])
    own = named_arm(name)
    try:
        return own.make(dsd)
    except RedenseError as error:  # an arm cannot be made of every schedule
        raise RecipeError(f"arm '{name}': {error}") from None


def tuned_controls(dsd: Schedule, count: int) -> dict[str, Schedule]:
    """Return so many controls without a mask, each with a setting of its own: those of the usual ones in turn.

    >>> list(tuned_controls(Schedule.dsd(dense=8, sparse=4, redense=4, sparsity=0.3), 5))
    ['restart', 'llr', 'longer', 'restart rate=0.5', 'llr lr=0.3']

    Raises:
        RecipeError: there are not so many settings.
    """
    found: dict[str, Schedule] = {}
    for place in range(len(RATES)):
        rate, lower = RATES[place], LOWER[place]
        usual = not place
        found["restart" if usual else f"restart rate={rate:g}"] = rescaled(variants.restarted(dsd), rate, start=1)
        found["llr" if usual else f"llr lr={lower:g}"] = variants.lowered(dsd, lr=lower)
        found["longer" if usual else f"longer rate={rate:g}"] = rescaled(variants.lengthened(dsd), rate)
    if count > len(found):
        raise RecipeError(f"the controls have {len(found)} settings, and {count} candidates: give controls of your own")
    return dict(list(found.items())[:count])


def _of_the_lab() -> frozenset[str]:
    """The lab's arms; none where its packages are missing."""
    try:
        from redense.lab.arms import get_arms

        return frozenset(arm.name for arm in get_arms())
    except ImportError:
        return frozenset()
