"""Arms that are a schedule and nothing more, by name: each turns DSD's schedule into its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ... import variants
from ...errors import RecipeError, RedenseError, nearest
from ...schedule import Schedule

BASELINE = "baseline"
DEFAULT = ("dsd", "restart", "llr", "longer")
RATES = (1.0, 0.5, 0.25, 2.0, 0.1, 0.05, 4.0, 0.025)
"""Times the learning rates that ``restart`` and ``longer`` would have: what a search of theirs tries."""
LOWER = (0.1, 0.3, 0.03, 0.5, 0.01, 0.2, 0.05, 1.0)
"""The lower learning rates that a search of ``llr`` tries."""
TWIN = "restart-"
"""Begins the name of an arm's own control: ``restart-acdc`` has the steps and rates of ``acdc`` and no mask."""


@dataclass(frozen=True)
class NamedArm:
    """An arm: its name, one line of help, how it is made of DSD's schedule, where it comes from."""

    name: str
    about: str
    make: Callable[[Schedule], Schedule]
    source: str = "Han et al. 2017"
    masked: bool = True


def _itself(dsd: Schedule) -> Schedule:
    return dsd


_OWN = "our own control"
_LISTED = (
    NamedArm("dsd", "dense, sparse, dense again with the pruned weights restarted from zero", _itself),
    NamedArm("dsd-iter", "two cycles of DSD in the same steps, the second at half the sparsity", variants.iterated),
    NamedArm(
        "dsd-iter3",
        "three cycles of DSD in the same steps, each at half the sparsity before",
        lambda dsd: variants.iterated(dsd, cycles=3),
    ),
    NamedArm(
        "restart",
        "DSD's steps and learning rates, no mask: the first control",
        variants.restarted,
        _OWN,
        masked=False,
    ),
    NamedArm(
        "llr",
        "dense, then dense at a tenth of the learning rate: the paper's own control",
        variants.lowered,
        masked=False,
    ),
    NamedArm(
        "longer",
        "one dense phase over the whole budget, its schedule stretched",
        variants.lengthened,
        _OWN,
        masked=False,
    ),
    NamedArm("random", "DSD that prunes at random instead of by magnitude", variants.at_random),
    NamedArm("early", "DSD that prunes half-way through the dense phase, at the rate it has there", variants.earlier),
    NamedArm(
        "early-quarter",
        "DSD that prunes after a quarter of the dense phase, at the rate it has there",
        lambda dsd: variants.earlier(dsd, cut=0.25),
    ),
    NamedArm(
        "scratch-own",
        "sparse from the first step to the last, with a mask of its own first weights",
        variants.from_scratch,
    ),
    NamedArm("prune", "rising sparsity, never dense again", variants.pruned, "Han et al. 2015"),
    NamedArm(
        "surgery",
        "a mask that is revised while it trains, never dense again",
        variants.under_surgery,
        "Guo et al. 2016",
    ),
    NamedArm(
        "acdc",
        "short sparse and dense phases in turn, under a global mask",
        variants.alternating,
        "Peste et al. 2021",
    ),
)
NAMED = {arm.name: arm for arm in _LISTED}


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
        known = [*NAMED, *(f"{TWIN}{arm.name}" for arm in _LISTED if arm.masked)]
        raise RecipeError(
            f"unknown arm '{name}'{nearest(name, known)}; by name there are {', '.join(NAMED)}; one of your own is "
            'given with a schedule or a function, arms={"mine": ...}'
        )
    if not name.startswith(TWIN):
        return own
    if not own.masked:
        raise RecipeError(f"'{own.name}' has no mask, so that there is no control '{name}' of it")
    about = f"the steps and learning rates of {own.name}, no mask"
    return NamedArm(name, about, lambda dsd: variants.restarted(own.make(dsd)), _OWN, masked=False)


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


def rescaled(schedule: Schedule, rate: float, *, start: int = 0) -> Schedule:
    """Return the same steps with the learning rates of all phases from ``start`` on times ``rate``."""
    kept, rest = schedule.phases[:start], schedule.phases[start:]
    return Schedule((*kept, *(replace(phase, lr=phase.lr * rate) for phase in rest)))


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
        from ..arms import get_arms

        return frozenset(arm.name for arm in get_arms())
    except ImportError:
        return frozenset()
