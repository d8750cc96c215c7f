"""Arms that are a schedule and nothing more, by name: each turns DSD's schedule into its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from redense import variants
from redense.schedule import Schedule

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


OWN = "our own control"
_LISTED = (
    NamedArm("dsd", "dense, sparse, dense again with the pruned weights restarted from zero", lambda dsd: dsd),
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
        OWN,
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
        OWN,
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


def rescaled(schedule: Schedule, rate: float, *, start: int = 0) -> Schedule:
    """Return the same steps with the learning rates of all phases from ``start`` on times ``rate``."""
    kept, rest = schedule.phases[:start], schedule.phases[start:]
    return Schedule((*kept, *(replace(phase, lr=phase.lr * rate) for phase in rest)))
