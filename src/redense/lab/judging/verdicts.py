"""The rule: when a difference is shown, which control decides, and what is a gain (DESIGN.md, rule 7).

A gain beats the baseline and the strongest control without a mask, chosen on validation figures. Everything that says
so takes it from here: `redense judge`, `redense compare` and its page.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

from redense.errors import DataError

from .copies import alike, of_two_units, twins, unvaried
from .figures import ROUNDING, ArmFigures
from .power import detectable
from .statistics import LEVEL, Interval, Paired, compare_paired, holm, interval, significant

Verdict: TypeAlias = Literal["better", "worse", "equivalent", "no difference shown", "one seed shows nothing"]
Role: TypeAlias = Literal["baseline", "control", "arm"]
MOST_LOOKS = 10**6


@dataclass(frozen=True)
class Family:
    """The family that is corrected for: the comparisons printed together, and the number of looks at them."""

    comparisons: int
    looks: int = 1
    level: float = LEVEL


@dataclass(frozen=True)
class Arm:
    """An arm with its mean over seeds; no mean where every run diverged."""

    name: str
    role: Role
    n: int
    mean: float | None
    interval: Interval | None
    steps: float | None = None


@dataclass(frozen=True)
class Contrast:
    """An arm against another, and what may be said of it.

    Args:
        seeds: which are paired.
        p_adjusted: the p-value after Holm over the family, times the looks.
        detectable: the smallest true difference with which this very verdict is *better* in 80 % of experiments.
    """

    arm: str
    against: str
    seeds: tuple[str, ...]
    paired: Paired
    p_adjusted: float | None
    detectable: float | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what there is not is None."""
        paired = self.paired
        return {
            "arm": self.arm,
            "against": self.against,
            "n": paired.n,
            "difference": paired.mean,
            "interval": plain_interval(paired.interval),
            "interval_90": plain_interval(paired.interval_90),
            "p_t": paired.p_t,
            "p_flip": paired.p_flip,
            "p_adjusted": self.p_adjusted,
            "detectable": self.detectable,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Obstacle:
    """The reason why no gain can be claimed of an arm, whatever the verdicts are; `words.obstacle` says it.

    Args:
        code: ``diverged``: runs of ``arm`` have no figure; ``no-control``: there is no control; ``longer``: ``arm``
            trains longer than the control ``against``; ``same-seeds``: no arm has another figure for another seed;
            ``no-mask``: ``arm`` is known to have none, and is no control only because others were named.
        arm: of which it is said.
        against: the control.
        counts: runs that diverged and all runs, or steps of the arm and of the control.
        ended: what became of the runs, in a word.
    """

    code: Literal["diverged", "no-control", "longer", "same-seeds", "no-mask"]
    arm: str = ""
    against: str = ""
    counts: tuple[float, float] = (0, 0)
    ended: str = ""


@dataclass(frozen=True)
class Conclusion:
    """The conclusion on an arm. ``against`` has its verdict against the baseline and each control that decides.

    Args:
        gain: whether it is one.
        obstacle: why no gain can be claimed, whatever the verdicts are; None where they decide.
        note: in what the arm differs beside its phases.
        same: the arm that has trained the same networks.
    """

    arm: str
    role: Role
    gain: bool
    against: Mapping[str, Verdict]
    obstacle: Obstacle | None = None
    note: str = ""
    same: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in codes: no sentence has to be read to know what was decided."""
        return {
            "role": self.role,
            "gain": self.gain,
            "against": dict(self.against),
            "obstacle": self.obstacle.code if self.obstacle else None,
        }


@dataclass(frozen=True)
class Decision:
    """All that follows from the figures.

    Args:
        added: what was added after looking, and what it costs, as a sentence.
        deciding: the controls that decide: the strongest on validation figures, or all of them.
        chosen: whether validation figures have chosen it out of several.
        level: the controls whose validation mean is that of the chosen one.
        apart: the controls that end in another network: none of them decides.
        twins: seeds that have the same figures in every arm.
        unvaried: arms that have the same figure for every seed of a folder, where others have not.
        folders: the seeds of each that was joined.
        alike: arms that have the same figures as each other.
        two_units: a figure of each, where some look like fractions and others like percentages.
    """

    metric: str | None
    lower_is_better: bool
    baseline: str
    controls: tuple[str, ...]
    deciding: tuple[str, ...]
    chosen: bool
    family: Family
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    conclusions: Mapping[str, Conclusion]
    margin: float | None = None
    unit: str = ""
    validation_only: bool = False
    added: str = ""
    level: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    twins: tuple[tuple[str, ...], ...] = ()
    unvaried: tuple[str, ...] = ()
    folders: tuple[tuple[str, ...], ...] = ()
    alike: tuple[tuple[str, ...], ...] = ()
    two_units: tuple[float, float] | None = None

    def contrast(self, arm: str, against: str) -> Contrast | None:
        """Return an arm against another, if the two were compared."""
        return next((item for item in self.contrasts if (item.arm, item.against) == (arm, against)), None)

    @property
    def seeds(self) -> int:
        """The fewest seeds that any comparison has, of those that more than one is left to; 1 where none is."""
        counts = [item.paired.n for item in self.contrasts]
        return min((n for n in counts if n > 1), default=min(counts, default=0))


def decide(
    arms: Mapping[str, ArmFigures],
    *,
    lower_is_better: bool,
    baseline: str,
    controls: Sequence[str],
    metric: str | None = None,
    unit: str = "",
    margin: float | None = None,
    looks: int = 1,
    validation_only: bool = False,
    added: str = "",
    folders: Sequence[Collection[str]] = (),
) -> Decision:
    """Return what the figures of arms say.

    Args:
        arms: their figures by name, in the order of the table.
        lower_is_better: of the figure.
        baseline: which arm is trained no longer than its dense phase; empty where only controls are there.
        controls: the arms without a mask beside it.
        metric: the name of the figure.
        unit: of the figure.
        margin: differences within it are of no interest: they are called equivalent where that is shown.
        looks: how often the table will have been looked at when no more seeds are added.
        validation_only: the figures that decide are of validation data.
        added: what was added after looking, as a sentence for the caution.
        folders: the seeds of each that was joined; empty where there is one.

    Raises:
        DataError: the margin is not above 0, or the looks are below 1.
    """
    check_margin(margin)
    check_looks(looks)
    controls = [name for name in arms if name in controls]  # of equal ones the first in the table decides, everywhere
    apart = tuple(name for name in controls if arms[name].bound)
    deciding, level = strongest(arms, [name for name in controls if name not in apart], lower_is_better)
    pairs = _pairs(arms, baseline, controls, deciding)
    adjusted = holm([paired.p for *_, paired in pairs])
    # Of one seed there is no p-value, and nothing to correct for.
    family = Family(sum(p is not None for p in adjusted) or len(pairs), looks)
    contrasts: list[Contrast] = []
    for (arm, against, seeds, paired), corrected in zip(pairs, adjusted, strict=True):
        p = None if corrected is None else min(1.0, corrected * looks)
        seen = (paired.sd or math.nan) * (detectable(paired.n, family.comparisons, looks) or math.nan)
        word: Verdict = verdict(paired, p, lower_is_better=lower_is_better, margin=margin)
        contrasts.append(Contrast(arm, against, seeds, paired, p, seen if math.isfinite(seen) else None, word))
    by_pair: dict[tuple[str, str], Verdict] = {(item.arm, item.against): item.verdict for item in contrasts}
    summaries = tuple(_summary(name, figures, _role(name, baseline, controls)) for name, figures in arms.items())
    conclusions = {
        name: _conclude(name, arms, by_pair, _role(name, baseline, controls), baseline, deciding)
        for name in arms
        if name != baseline
    }
    return Decision(
        metric, lower_is_better, baseline, tuple(controls), deciding, bool(level), family, summaries, tuple(contrasts),
        conclusions, margin, unit, validation_only, added, level[1:], apart, twins(arms), unvaried(arms, folders),
        _in_order(folders, arms), alike(arms), of_two_units(arms),
    )  # fmt: skip


def _in_order(folders: Sequence[Collection[str]], arms: Mapping[str, ArmFigures]) -> tuple[tuple[str, ...], ...]:
    known = dict.fromkeys(seed for figures in arms.values() for seed in figures.values)
    return tuple(tuple(seed for seed in known if seed in own) for own in folders)


def verdict(paired: Paired, p_adjusted: float | None, *, lower_is_better: bool, margin: float | None = None) -> Verdict:
    """Return what may be said of an arm against another; the first that holds.

    Args:
        paired: the two.
        p_adjusted: ``paired.p`` after `holm` over all comparisons, times the looks.
        lower_is_better: of the figure.
        margin: whoever gives one calls less than that nothing.

    >>> verdict(compare_paired([10.1, 10.4, 10.0], [10.9, 11.1, 10.9]), 0.0104, lower_is_better=True)
    'better'

    Raises:
        DataError: `p_adjusted` cannot be of this comparison: it is missing, or below its p.
    """
    if paired.p is None or paired.p_flip is None:
        return "one seed shows nothing"
    if p_adjusted is None or not paired.p <= p_adjusted <= 1:
        raise DataError(f"expected the p-value after holm(), from {paired.p:.3g} to 1, got {p_adjusted}")
    within = paired.within
    if margin is not None and within is not None and -margin < within[0] and within[1] < margin:
        return "equivalent"
    if not significant(p_adjusted, paired.p_flip, paired.n):
        return "no difference shown"
    return "better" if (paired.mean < 0) == lower_is_better else "worse"


def strongest(
    arms: Mapping[str, ArmFigures], controls: Sequence[str], lower_is_better: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the controls that decide, and those with the best validation mean, where it has chosen between several.

    The best validation mean is *the* control, where each control has a validation figure for every seed; of equal
    ones the first in the table. Otherwise every control has to be beaten.
    """
    if len(controls) < 2:
        return tuple(controls), ()
    seeds = list(dict.fromkeys(seed for figures in arms.values() for seed in figures.values))
    means: dict[str, float] = {}
    for name in controls:
        validation = arms[name].validation
        if arms[name].diverged or any(seed not in validation for seed in seeds):
            return tuple(controls), ()
        means[name] = math.fsum(validation[seed] for seed in seeds) / len(seeds)
    sign = 1 if lower_is_better else -1
    best = min(sign * mean for mean in means.values())
    rounding = ROUNDING * max(abs(mean) for mean in means.values())
    level = tuple(name for name in controls if sign * means[name] <= best + rounding)
    return level[:1], level


def plain_interval(interval: Interval | None) -> list[float] | None:
    """Return an interval as JSON has it."""
    return None if interval is None else list(interval)


def check_margin(margin: float | None) -> None:
    """Raise unless a margin is none, or a finite number above 0.

    Raises:
        DataError: it is not.
    """
    if margin is not None and not (isinstance(margin, Real) and not isinstance(margin, bool) and 0 < margin < math.inf):
        raise DataError(f"the margin must be a number above 0, in the unit of the figures; got {margin}")


def check_looks(looks: int) -> None:
    """Raise unless the looks are a number from 1 on.

    Raises:
        DataError: they are not.
    """
    if isinstance(looks, bool) or not isinstance(looks, Integral) or not 1 <= looks <= MOST_LOOKS:
        raise DataError(f"looks must be a whole number from 1 to {MOST_LOOKS:,}, got {looks}")


def _pairs(
    arms: Mapping[str, ArmFigures], baseline: str, controls: Sequence[str], deciding: Sequence[str]
) -> list[tuple[str, str, tuple[str, ...], Paired]]:
    """Every arm against the baseline, and every arm that is no control against each control that decides."""
    wanted = [(arm, baseline) for arm in arms if arm != baseline and baseline in arms]
    wanted += [(arm, one) for one in deciding for arm in arms if arm != baseline and arm not in controls]
    found: list[tuple[str, str, tuple[str, ...], Paired]] = []
    for arm, against in wanted:
        mine, its = arms[arm].values, arms[against].values
        if seeds := tuple(seed for seed in mine if seed in its):
            paired = compare_paired([mine[s] for s in seeds], [its[s] for s in seeds])
            found.append((arm, against, seeds, paired))
    return found


def _role(name: str, baseline: str, controls: Sequence[str]) -> Role:
    return "baseline" if name == baseline else "control" if name in controls else "arm"


def _summary(name: str, figures: ArmFigures, role: Role) -> Arm:
    mean, around = interval(list(figures.values.values())) if figures.values else (None, None)
    return Arm(name, role, len(figures.values), mean, around, figures.steps)


def _conclude(
    name: str,
    arms: Mapping[str, ArmFigures],
    verdicts: Mapping[tuple[str, str], Verdict],
    role: Role,
    baseline: str,
    deciding: Sequence[str],
) -> Conclusion:
    first = (baseline,) if baseline in arms else ()
    others = (*first, *deciding) if role == "arm" else first
    against: dict[str, Verdict] = {other: verdicts[name, other] for other in others if (name, other) in verdicts}
    found = next(_obstacles(name, arms, others, deciding if role == "arm" else None), None)
    gain = role == "arm" and not found and all(against.get(other) == "better" for other in others)
    return Conclusion(name, role, gain, against, found, arms[name].note, arms[name].same)


def _obstacles(
    name: str, arms: Mapping[str, ArmFigures], others: Sequence[str], deciding: Sequence[str] | None
) -> Iterator[Obstacle]:
    """Give what stands against a gain; ``deciding`` is None for a control, which needs none itself."""
    for one in (name, *others):
        if count := arms[one].diverged:
            yield Obstacle("diverged", one, counts=(count, arms[one].runs), ended=arms[one].ended)
    if deciding is None:
        return
    if all(len(figures.values) != 1 and len(set(figures.values.values())) < 2 for figures in arms.values()):
        yield Obstacle("same-seeds")
    if not deciding:
        yield Obstacle("no-control")
    if arms[name].unmasked:
        yield Obstacle("no-mask", name)
    for one in deciding:
        mine, its = arms[name].steps, arms[one].steps
        if mine is not None and its is not None and mine > its:
            yield Obstacle("longer", name, one, (mine, its))
