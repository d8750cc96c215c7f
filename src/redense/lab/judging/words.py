"""The verdicts in words, the same on the command line, on a page and in Python. No sentence says more than they do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from redense.files.visible import counted

from .figures import BASELINES, CONTROLS, other_split_of, shown
from .power import seeds_for
from .statistics import LEVEL, Interval, Paired, veto_limit
from .verdicts import Conclusion, Contrast, Decision, Obstacle

ONE_SEED = "one seed shows nothing"
NO_DIFFERENCE = "no difference shown"
_NAMED = 5  # controls in one sentence; more are counted
_NO_MORE_SEEDS = (
    "The p-values hold for one look at seeds whose number was fixed before: seeds must not be added because of what is "
    "seen here, unless the looks are corrected for (--looks)."
)

_NO_LONGER = "a gain is one if its arm trains no longer than the control."


def said_of(decision: Decision, arm: str) -> str:
    """Return what is said of an arm, beginning with its name."""
    told = decision.conclusions[arm]
    if told.role == "control":
        which = "the control" if decision.deciding == (arm,) else "a control"
    else:
        which = "a gain" if told.gain else "no gain"
    text = f"{arm}: {which}. {_against(decision, told)}"
    if told.obstacle:
        claimed = ", so no gain can be claimed" if told.role == "arm" else ""
        text += f" {obstacle(told.obstacle)}{claimed}."
    if told.note:
        text += f" It differs in more: {told.note}."
    if told.same:
        text += f" It changes nothing here: its networks are those of {told.same}, to the bit."
    return shown(text)


def obstacle(found: Obstacle) -> str:
    """Return why no gain can be claimed, without the end of the sentence."""
    if found.code == "no-control":
        return "No arm beside the baseline counts as a control without a mask"
    if found.code == "same-seeds":
        return "No arm has another figure for another seed, as if none of them used its seed"
    if found.code == "no-mask":
        return f"{found.arm} has no mask, as a control has none"
    first, second = found.counts
    if found.code == "diverged":
        return f"{first:g} of {second:g} runs of {found.arm} {found.ended}"
    mine, its = (f"{steps:,.{0 if steps == int(steps) else 3}f}" for steps in found.counts)
    return f"{found.arm} trains for {mine} steps and {found.against} for {its} only"


def _against(decision: Decision, told: Conclusion) -> str:
    if not told.against:
        others = any(item.against == told.arm for item in decision.contrasts)
        return "It is what others are compared with." if others else "It was compared with nothing."
    if all(verdict == ONE_SEED for verdict in told.against.values()):
        return "One seed shows nothing."
    parts = [f"{other_name(decision, other)}: {verdict}" for other, verdict in told.against.items()]
    return f"Against {'; against '.join(parts)}."


def other_name(decision: Decision, other: str) -> str:
    """Return what an arm is compared with, in a sentence."""
    if other == decision.baseline:
        return called(decision, other)
    return f"{other}, {'the' if len(decision.deciding) == 1 else 'a'} control"


def called(decision: Decision, other: str, *, dense: bool = False) -> str:
    """Return what an arm that others are compared with is called in a sentence: ``the dense baseline``, ``restart``."""
    if other != decision.baseline:
        return other
    name = f"the {'dense ' if dense else ''}baseline"
    return name if other == "baseline" or (dense and other in BASELINES) else f"{name} {other}"


def control_sentence(decision: Decision) -> str:
    """Return which control decides, and how it was chosen."""
    return shown(" ".join(filter(None, (_deciding(decision), _apart(decision.apart)))))


def _deciding(decision: Decision) -> str:
    if not decision.deciding:
        usual = f"{', '.join(CONTROLS[:-1])} or {CONTROLS[-1]}"
        return f"No arm beside the baseline counts as a control without a mask ({usual}), so no gain can be claimed."
    if decision.chosen:
        first, others = decision.deciding[0], [name for name in decision.controls if name not in decision.apart]
        behind = [name for name in others if name not in (first, *decision.level)]
        ahead = f"ahead of {listed(behind) if len(behind) <= _NAMED else f'the {len(behind)} others'}" if behind else ""
        come = "comes" if len(decision.level) == 1 else "come"
        level = f"level with {listed(decision.level)}, which {come} later" if decision.level else ""
        return f"The control is {first}: on validation figures it is {' and '.join(filter(None, (ahead, level)))}."
    if len(decision.deciding) == 1:
        return f"The control is {decision.deciding[0]}, the only one."
    every = listed(decision.deciding)
    why = "not every control has a validation figure for every seed"
    if decision.validation_only:
        why = "validation figures decide here"
    return f"The controls are {every}, and each has to be beaten: {why}, so the strongest cannot be chosen."


def _apart(names: Sequence[str]) -> str:
    if not names:
        return ""
    many = len(names) > 1
    return f"{listed(names)} end{'' if many else 's'} in another network and decide{'' if many else 's'} nothing."


def caution(decision: Decision) -> str | None:
    """Return what has to be said once beside the verdicts."""
    said: list[str] = []
    if decision.validation_only:
        said.append(
            "There are validation figures alone: what was chosen by them looks better by them, and they cannot choose "
            "the control too."
        )
    name = shown(decision.metric or "")
    if other_split_of(name) == "training":
        said.append(f"By its name {name} is a figure of training data: it says nothing of other data.")
    if untold := _untold(decision):
        said.append(
            f"Nobody told for how many steps {listed(untold)} {'trains' if len(untold) == 1 else 'train'}: {_NO_LONGER}"
        )
    if decision.twins:
        first = [listed(group) for group in decision.twins[:_NAMED]]
        more = f"; and {len(decision.twins) - _NAMED} more" if len(decision.twins) > _NAMED else ""
        said.append(
            f"Seeds have the same figures in every arm, as if a run had been counted more than once: "
            f"{'; '.join(first)}{more}. The p-values do not hold if one was."
        )
    if decision.two_units:
        low, high = decision.two_units
        said.append(
            f"Some figures are a hundred times others, as {high:.4g} and {low:.4g} are: if these are percentages and "
            "those fractions, no verdict holds."
        )
    if hidden := _within_rounding(decision):
        said.append(
            f"Differences of up to {hidden:.2g} are taken for none: rounding alone can part figures of this size. If "
            "they are more, subtract from all figures what they have in common."
        )
    for group in decision.alike:
        said.append(f"{listed(group)} have the same figure as each other for every seed, as one training has.")
    if names := decision.unvaried:
        one = ("has", "one run has", "it") if len(names) == 1 else ("have", "one run of each has", "them")
        where = " of a folder" if decision.folders else ""
        said.append(
            f"{listed(names)} {one[0]} the same figure for every seed{where}, as {one[1]}: of other runs of {one[2]} "
            "nothing is known."
        )
    if decision.contrasts and all(arm.name != decision.baseline for arm in decision.arms):
        said.append("There is no baseline beside the controls: a gain here is over a control alone.")
    n = decision.seeds
    if n == 1:
        said.append("One seed shows nothing: how much of a difference is chance, only further seeds can say.")
    elif n and 2 ** (1 - n) > LEVEL and any(item.paired.p_t is not None for item in decision.contrasts):
        said.append(
            f"With {n} seeds the sign-flip test gives no p below {2 ** (1 - n):.3g}, so the verdicts rest on the "
            "t-test: they hold if the differences between seeds are roughly normal."
        )
    if n > 1 and decision.added:
        said.append(decision.added)
    elif n > 1 and decision.family.looks == 1:
        said.append(_NO_MORE_SEEDS)
    elif n > 1:
        said.append(f"Corrected for {decision.family.looks:,} looks in all, each at whatever number of seeds.")
    return " ".join(said) or None


def _within_rounding(decision: Decision) -> float:
    """Return the largest difference in comparisons all of whose differences rounding can have made; 0 without any."""
    pairs = [contrast.paired for contrast in decision.contrasts if contrast.paired.sd is None]
    largest = [(max(map(abs, paired.differences), default=0.0), paired.rounding) for paired in pairs]
    return max((size for size, rounding in largest if size <= rounding), default=0.0)


def _untold(decision: Decision) -> list[str]:
    """Return the gains, and the controls that they beat, whose steps nobody told, where those of any arm are known."""
    steps = {arm.name: arm.steps for arm in decision.arms}
    gains = [name for name, told in decision.conclusions.items() if told.gain]
    if not gains or all(known is None for known in steps.values()):
        return []
    return [name for name in (*gains, *decision.deciding) if steps[name] is None]


def sentence(decision: Decision, contrast: Contrast) -> str:
    """Return a contrast with its numbers, as one sentence. A difference of percentages is in points."""
    paired, p, word = contrast.paired, contrast.p_adjusted, contrast.verdict
    unit = _unit(decision)
    metric, other = decision.metric or "figure", called(decision, contrast.against)
    low, high = paired.interval or (paired.mean, paired.mean)
    point = _form((high - low) / 2 or abs(paired.mean))
    shift = f"{metric} {paired.mean:+z{point}}{unit}"
    if p is None or paired.p_flip is None:
        return shown(f"{contrast.arm} against {other}: {word} ({shift}).")
    shows = word in ("better", "worse")
    near, far = sorted((abs(low), abs(high))) if shows else (low, high)
    spread = f"95 % interval {near:z{point}} to {far:z{point}}" if paired.interval else _pairs(paired, point)
    corrected = "after Holm" if decision.family.looks == 1 else f"after Holm and {decision.family.looks:,} looks"
    numbers = f"({spread}, n = {paired.n}, {p_text(p)} {corrected})"
    if shows:
        side = "lower" if paired.mean < 0 else "higher"
        text = f"{contrast.arm}: {abs(paired.mean):{point}}{unit} {side} {metric} than {other} {numbers}: {word}."
        return shown(text)
    text = f"{contrast.arm} against {other}: {word}: {shift} {numbers}"
    if word == "equivalent":
        which = "the whole 90 % interval" if paired.interval else "each pair"
        return shown(f"{text}; {which} lies within ±{decision.margin:g}{unit}, uncorrected.")
    if p <= LEVEL:
        agree = min(paired.differences) * max(paired.differences) >= 0
        reason = "not every seed shows a difference" if agree else "the seeds do not agree on its sign"
        text += f"; {reason} (sign-flip test: {p_text(paired.p_flip)})"
    elif reach := reach_text(decision, contrast):
        text += f"; {reach}"
    if contrast.detectable is not None:
        seen = f"{contrast.detectable:{point}}{unit}"
        text += f"; a true difference of {seen} would be shown four times in five"
    return shown(f"{text}.")


def _pairs(paired: Paired, point: str) -> str:
    """Say what lies in the pairs where they have no spread."""
    low, high = (f"{value:z{point}}" for value in (min(paired.differences), max(paired.differences)))
    return "in every pair" if low == high else f"{low} to {high}, no further apart than the last digit"


def reach_text(decision: Decision, contrast: Contrast) -> str:
    """Return how much better and worse the 95 % interval allows an arm to be; nothing without an interval."""
    if contrast.paired.interval is None:
        return ""
    gain, loss = reach(decision, contrast.paired.interval)
    unit = _unit(decision)
    point = _form((gain + loss) / 2)
    parts = [f"{size:{point}}{unit} {word}" for word, size in (("better", gain), ("worse", loss)) if size > 0]
    return f"the interval allows up to {' and '.join(parts)}"


def reach(decision: Decision, interval: Interval) -> tuple[float, float]:
    """Return the largest gain and the largest loss inside an interval; what it excludes is not above 0."""
    low, high = interval
    return (-low, high) if decision.lower_is_better else (high, -low)


def seeds_needed(decision: Decision, contrast: Contrast) -> int | None:
    """Return how many seeds show a difference as large as the one observed in 80 %; None where there is no effect."""
    effect = contrast.paired.effect
    if not effect or abs(effect) < 1e-6:
        return None
    return seeds_for(abs(effect), decision.family.comparisons, decision.family.looks)


def rule(decision: Decision) -> str:
    """Return in some sentences what decides a verdict, and what a verdict of no difference is worth."""
    family = decision.family
    looks = f" and a level divided by {family.looks:,} looks" if family.looks > 1 else ""
    several = f" after Holm's correction over all {family.comparisons:,} comparisons" if family.comparisons > 1 else ""
    margin = ""
    if decision.margin is not None:
        margin = (
            f" Where the whole 90 % interval lies within ±{decision.margin:g}, which is two one-sided tests at 5 % "
            "without a correction, it is called equivalent instead."
        )
    return (
        "Arms are paired by seed, and a difference is called better or worse if the paired t-test gives p at most "
        f"{LEVEL:g}{several}{looks}, unless the sign-flip "
        f"test, which assumes no normal distribution, vetoes it with an uncorrected p above {_limits(decision)}."
        f"{margin} A gain is what is better than the baseline and than every control that decides. "
        f"“{NO_DIFFERENCE.capitalize()}” is no proof that there is none: the detectable difference is the smallest "
        "true one that this verdict, corrections and veto included, finds in 80 of 100 experiments, if differences "
        "are normal with the spread observed and nothing else differs. Smaller ones it mostly misses."
    )


def _limits(decision: Decision) -> str:
    """Return from which p on the sign-flip test has a veto: runs that failed leave some comparisons fewer seeds."""
    first, *others = sorted({item.paired.n for item in decision.contrasts}, reverse=True) or [1]
    text = f"{veto_limit(first):.3g}, its limit for {counted(first, 'seed')}"
    more = [f"{veto_limit(n):.3g} for {counted(n, 'seed')}" for n in others if n > 1]
    return f"{text} ({', '.join(more)})" if more else text


def size(decision: Decision, contrast: Contrast) -> str:
    """Return how large a difference is, with its unit: ``0.83 points``."""
    low, high = contrast.paired.interval or (0.0, 2 * contrast.paired.mean)
    return f"{abs(contrast.paired.mean):{_form(abs(high - low) / 2)}}{_unit(decision)}"


def _unit(decision: Decision) -> str:
    return f" {'points' if decision.unit == '%' else decision.unit}".rstrip()


def _form(size: float) -> str:
    """Return how numbers are written whose spread is of that size: two digits of it, and no row of zeros."""
    return f".{decimals(size)}f" if 1e-7 < size < 1e6 or not size else ".4g"


def decimals(size: float) -> int:
    """Return the decimals that show a number of that size to two digits."""
    return min(max(1 - math.floor(math.log10(size)), 0), 9) if size > 0 else 2


def p_text(p: float) -> str:
    """Return ``p = 0.004``, with as many decimals as it takes to stay on its side of the level."""
    if p < 0.001:
        return "p < 0.001"
    tried = (f"{p:.{decimals}f}" for decimals in range(3 if p < 0.1 else 2, 18))
    return "p = " + next(text for text in tried if (float(text) <= LEVEL) == (p <= LEVEL))


def interval_text(value: float, interval: Interval | None, *, sign: bool = False) -> str:
    """Return a number with its interval.

    >>> interval_text(-0.834, (-1.1, -0.568), sign=True)
    '-0.83 [-1.10, -0.57]'
    """
    # Without an interval two digits are those of a difference, and too few for a mean.
    half = (interval[1] - interval[0]) / 2 if interval else abs(value) / (1 if sign else 100)
    form = f"z{_form(half)}"
    text = format(value, f"{'+' if sign else ''}{form}")
    return f"{text} [{interval[0]:{form}}, {interval[1]:{form}}]" if interval else text


def listed(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
