"""The sentences of a comparison's page. The verdicts are the lab's; no sentence here says more than they do."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from .compare_reading import BASELINE, CONTROL, Arm, Comparison
from .quantities import NONE, count, decimals_for, difference, duration, number, quantity
from .words import Figure, _place

NO_DIFFERENCE = "no difference shown"


# --- figures --------------------------------------------------------------------------------------------------------


def decimals(c: Comparison) -> int:
    """Return how many decimals the metric is shown with, everywhere alike."""
    if c.metric.unit == "%":
        return 2
    return decimals_for(max((abs(arm.mean) for arm in c.arms if arm.mean is not None), default=0.0))


def points(c: Comparison) -> str:
    """Return the unit of a difference: points where the metric is a percentage."""
    return "points" if c.metric.unit == "%" else c.metric.unit


def with_interval(
    mean: float | None, interval: tuple[float, float] | None, places: int, *, signed: bool = False
) -> str:
    """Return a mean and half its interval's width.

    >>> with_interval(-0.834, (-1.1, -0.568), 2, signed=True).replace(chr(160), " ")
    '−0.83 ± 0.27'
    """
    if mean is None:
        return NONE
    text = ("+" if signed and mean > 0 else "") + number(mean, places)
    return f"{text}\u00a0±\u00a0{number((interval[1] - interval[0]) / 2, places)}" if interval else text


def p_value(p: float | None) -> str:
    """Return a p-value with as many digits as are of use.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.25), p_value(None)
    ('< 0.001', '0.031', '0.25', '–')
    """
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return names as a list in a sentence.

    >>> listed(["dsd"]), listed(["dsd", "llr"]), listed(["dsd", "llr", "random"])
    ('dsd', 'dsd and llr', 'dsd, llr and random')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


# --- the verdict ----------------------------------------------------------------------------------------------------


def verdict_on(c: Comparison, arm: str, against: str) -> str | None:
    """Return the lab's verdict on an arm against another; None where the two were not compared."""
    found = c.difference(arm, against)
    return found.verdict if found else None


def gains(c: Comparison) -> list[Arm]:
    """Return the arms that are better than the baseline and than the control, and of which no run diverged."""
    return [
        arm
        for arm in c.others
        if not arm.diverged and verdict_on(c, arm.name, BASELINE) == verdict_on(c, arm.name, CONTROL) == "better"
    ]


def headline(c: Comparison) -> str:
    """Return the whole comparison in one or two sentences."""
    over = f"over {count(len(c.seeds), 'seed')}"
    compared = [arm.name for arm in c.others if verdict_on(c, arm.name, BASELINE)]
    better = [name for name in compared if verdict_on(c, name, BASELINE) == "better"]
    control = verdict_on(c, CONTROL, BASELINE)
    if not c.differences:
        return "Nothing can be compared: too few runs came to their end."
    if len(c.seeds) == 1:
        return "One seed was run, and one seed shows nothing: whether any arm is a gain is open."
    if not compared:
        return f"Only the control was compared with the dense baseline, {over}: {control}. There is no arm to judge."
    if not c.against(CONTROL):
        shown = f"{_are(better)} better than the dense baseline" if better else "No arm is better than the baseline"
        return (
            f"No gain can be claimed {over}: {CONTROL}, the equal-budget control, was not run. "
            f"{shown}{'; whether training longer does the same is open' if better else ''}."
        )
    won = gains(c)
    if len(won) == 1:
        return f"{_one_gain(c, won[0])} {over}."
    if won:
        names = listed([arm.name for arm in won])
        better_than = f"each better than the dense baseline and than {CONTROL}, the same budget without a mask"
        return f"{names} are gains {over}: {better_than}."
    return f"No arm shows a gain {over}. {_why_not(c, better, control)}"


def _one_gain(c: Comparison, arm: Arm) -> str:
    apart = {
        other: difference(found.mean, c.metric.unit, decimals(c))
        for other in (BASELINE, CONTROL)
        if (found := c.difference(arm.name, other))
    }
    side = "lower" if c.metric.lower_is_better is not False else "higher"
    return (
        f"{arm.name} is a gain: its test {c.metric.label} is {apart[BASELINE]} {side} than its dense baseline's and "
        f"{apart[CONTROL]} {side} than {CONTROL}'s, the same budget without a mask,"
    )


def _why_not(c: Comparison, better: list[str], control: str | None) -> str:
    if not better:
        too = f"; {CONTROL}, the same budget without a mask, is" if control == "better" else ""
        return f"None is shown to be better than its dense baseline{too}."
    if control == "better":
        return (
            f"{_are(better)} better than the dense baseline, but so is {CONTROL}, the same budget without a mask: "
            "training longer helps by itself, and nothing more is shown."
        )
    stable = [name for name in better if not (arm := c.arm(name)) or not arm.diverged]
    if not stable:
        return f"{_are(better)} better than the dense baseline in the runs that came to their end; others diverged."
    return f"{_are(stable)} better than the dense baseline, but not shown to be better than {CONTROL}, the control."


def _are(names: list[str]) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"


def conclusion(c: Comparison, arm: str) -> str:
    """Return the lab's conclusion on an arm, without the name that it begins with."""
    text = c.conclusions[arm].removeprefix(f"{arm}: ")
    return text[:1].upper() + text[1:]


def remarks(c: Comparison) -> list[str]:
    """Return what has to be said beside the verdict: what diverged, what is worse, what it cost, what was measured."""
    found: list[str] = []
    for arm in c.arms:
        if arm.diverged:
            rest = "; its figures are of the others alone" if arm.alive else ""
            found.append(f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} of {arm.name} diverged{rest}.")
    worse = [item.arm for item in c.against(CONTROL) if item.verdict == "worse"]
    if worse:
        found.append(f"{_are(worse)} worse than {CONTROL}.")
    found += [
        f"{arm.name} differs from the other arms in more than its phases: {arm.note}." for arm in gains(c) if arm.note
    ]
    found.append(cost(c))
    where = f"measured once, on {count(c.test_examples, 'test example')}" if c.test_examples else "measured once"
    sides = {True: "Lower is better; ", False: "Higher is better; "}
    better = sides[c.metric.lower_is_better] if c.metric.lower_is_better is not None else ""
    interval = " ± is half a 95 % interval over seeds." if has_intervals(c) else ""
    found.append(f"{better}{where}, at the end of each run.{interval}")
    return found


def has_intervals(c: Comparison) -> bool:
    """Whether any mean has an interval: with one seed none has."""
    return any(arm.interval for arm in c.arms)


def cost(c: Comparison) -> str:
    """Return what the arms cost beside the baseline."""
    baseline = c.arm(BASELINE)
    rest = [arm for arm in c.arms if arm.name != BASELINE]
    if not rest:
        return ""
    low, high = min(arm.gradients for arm in rest), max(arm.gradients for arm in rest)
    evaluations = f"{low:,} to {high:,}" if low != high else f"{low:,}"
    text = f"One run of an arm takes {evaluations} gradient evaluations"
    known = [arm.seconds for arm in rest if arm.seconds is not None]
    if known:
        text += f" ({_range(min(known), max(known))})"
    if baseline:
        spent = f" ({duration(baseline.seconds)})" if baseline.seconds is not None else ""
        text += f", one of the baseline {baseline.gradients:,}{spent}"
    return f"{text}."


def _range(low: float, high: float) -> str:
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"


def figures(c: Comparison) -> list[Figure]:
    """Return the large figures: baseline, the first arm asked for, and the controls."""
    roles = {BASELINE: "the dense phase alone", CONTROL: "same budget, no mask", "llr": "lower learning rate"}
    first = [arm.name for arm in c.others[:1]]
    shown: list[Figure] = []
    for name in dict.fromkeys([BASELINE, *first, CONTROL, "llr"]):
        arm = c.arm(name)
        label = "Dense baseline" if name == BASELINE else name
        if arm is not None:
            value = quantity(arm.mean, c.metric.unit, decimals(c)) if arm.mean is not None else "diverged"
            half = number((arm.interval[1] - arm.interval[0]) / 2, decimals(c)) if arm.interval else None
            facts = [f"±\u00a0{half}" if half else count(len(arm.alive), "seed"), roles.get(name, "")]
            shown.append(Figure(label, value, ", ".join(filter(None, facts)), arm.mean is None))
        elif name == CONTROL:
            shown.append(Figure(label, "not run", "the control that matters", missing=True))
    return shown


# --- the sections' opening sentences --------------------------------------------------------------------------------


def table_sentence(c: Comparison) -> str:
    """Return the sentence above the table of arms."""
    known = [arm for arm in c.arms if arm.mean is not None]
    if not known:
        return "No run came to its end."
    sign = -1 if c.metric.lower_is_better is False else 1
    best = min(known, key=lambda arm: sign * (arm.mean or 0.0))
    extreme = "highest" if sign < 0 else "lowest"
    value = quantity(best.mean, c.metric.unit, decimals(c))
    text = f"The {extreme} mean test {c.metric.label} is that of {best.name}, {value}"
    budgets = {arm.gradients for arm in c.arms if arm.name != BASELINE}
    same = "all arms but the baseline spend the same number of gradient evaluations"
    return f"{text}; {same if len(budgets) == 1 else 'the arms do not all spend the same, see gradients'}."


def forest_sentence(c: Comparison) -> str:
    """Return the sentence above the forest plots."""
    total, shown = len(c.differences), [item for item in c.differences if item.verdict in ("better", "worse")]
    if not total:
        return "There is nothing to compare."
    if not shown:
        return f"Of {count(total, 'comparison')}, none shows a difference."
    groups: dict[tuple[str, str], list[str]] = {}
    for item in shown:
        groups.setdefault((item.verdict, item.against), []).append(item.arm)
    parts = [f"{listed(arms)} {word} than {_other(against)}" for (word, against), arms in groups.items()]
    show = "shows" if len(shown) == 1 else "show"
    return f"Of {count(total, 'comparison')}, {len(shown)} {show} a difference: {'; '.join(parts)}."


def _other(against: str) -> str:
    return "the dense baseline" if against == BASELINE else against


def forest_caption(c: Comparison) -> str:
    """Return how to read the forest plots."""
    left, right = sides(c)
    return (
        f"Difference in test {c.metric.label}, {_in(points(c))}paired by seed: large, the mean with its 95 % interval, "
        f"filled where a difference is shown; small dots, the single seeds. {left.capitalize()} on the left, {right} "
        "on the right. The band is what so few seeds easily miss: a true difference inside it is found less than four "
        "times in five. Intervals and band are those of one comparison alone; the verdict is corrected for all."
    )


def pairs(c: Comparison, against: str) -> str:
    """Return over how many seeds the arms are compared."""
    low, high = _extent([item.n for item in c.against(against)])
    return f"n = {low:g} to {high:g} seeds" if low != high else f"n = {count(high, 'seed')}"


def sides(c: Comparison) -> tuple[str, str]:
    """Return what a difference to the left and to the right of zero means."""
    if c.metric.lower_is_better is None:
        return "lower", "higher"
    return ("better", "worse") if c.metric.lower_is_better else ("worse", "better")


def _in(unit: str) -> str:
    return f"{unit}, " if unit else ""


def curves_sentence(c: Comparison) -> str:
    """Return the sentence above the curves."""
    ends = [(arm, arm.curve[-1]) for arm in c.arms if arm.curve and arm.name != BASELINE]
    baseline = c.arm(BASELINE)
    if not ends:
        return f"The validation {c.metric.label} of the dense baseline while it trains."
    values = [quantity(value, c.metric.unit, decimals(c)) for value in _extent([point.mean for _, point in ends])]
    text = f"The arms end at a mean validation {c.metric.label} of {values[0]}" + (
        f" to {values[1]}" if values[0] != values[1] else ""
    )
    if baseline and baseline.curve:
        at = quantity(baseline.curve[-1].mean, c.metric.unit, decimals(c))
        text += f"; the dense baseline, from which most of them go on, ends at {at}"
    return f"{text}."


def _extent(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def cost_sentence(c: Comparison) -> str:
    """Return the sentence above the plot of cost against the metric."""
    baseline = c.arm(BASELINE)
    known = [arm for arm in c.arms if arm.mean is not None and arm.name != BASELINE]
    if not known or baseline is None or baseline.mean is None or not baseline.gradients:
        return f"What each arm costs, and its test {c.metric.label}."
    most = max(known, key=lambda arm: arm.gradients)
    times = most.gradients / baseline.gradients
    lower = c.metric.lower_is_better is not False
    ahead = sum((arm.mean or 0.0) < baseline.mean if lower else (arm.mean or 0.0) > baseline.mean for arm in known)
    word = "below" if lower else "above"
    return (
        f"For up to {times:.2g} times the baseline's gradient evaluations, {ahead} of {count(len(known), 'arm')} "
        f"{'has' if ahead == 1 else 'have'} a mean {word} the baseline's; which by more than chance, the verdict says."
    )


def mcnemar_sentence(c: Comparison) -> str:
    """Return the sentence above McNemar's tests."""
    first = next((item for item in c.differences if item.flips), None)
    if first is None:
        return "The task has no right and wrong answer for each example, so McNemar's test does not apply."
    fixed, broken = (
        sum(values) / len(first.flips) for values in zip(*((f.fixed, f.broken) for f in first.flips), strict=True)
    )
    return (
        f"Against {_other(first.against)}, {first.arm} gets {fixed:,.0f} test examples right that the other gets "
        f"wrong, and {broken:,.0f} the other way round, in the mean over seeds. This compares trained networks, not "
        "methods, so it decides no verdict."
    )


def statistics_sentences(c: Comparison) -> str:
    """Return in two sentences what decides a verdict, and what a verdict of no difference is worth."""
    from ..lab.statistics import LEVEL, POWER

    n = max((item.n for item in c.differences), default=len(c.seeds))
    veto = max(LEVEL, 2.0 ** (1 - n))
    comparisons, seeds = count(len(c.differences), "comparison"), count(n, "seed")
    return (
        "Arms are paired by seed, and a difference is called better or worse if the paired t-test gives p at most "
        f"{LEVEL:g} after Holm's correction over all {comparisons} on this page, unless the sign-flip test, which "
        f"assumes no normal distribution, vetoes it with an uncorrected p above {veto:.3g}, its limit for {seeds}. "
        f"“{NO_DIFFERENCE.capitalize()}” is no proof that there is none: the detectable difference is the smallest "
        f"true one that so many seeds find {100 * POWER:g} times in 100 before Holm's correction, and smaller ones "
        "they mostly miss."
    )


def arms_sentence(c: Comparison) -> str:
    """Return the sentence above the list of what each arm is."""
    masked = sum(any(span.sparse for span in arm.phases) for arm in c.arms)
    return f"{masked} of {count(len(c.arms), 'arm')} {'trains' if masked == 1 else 'train'} under a mask at some time."


def describe_forest(c: Comparison, against: str) -> str:
    """Return what a forest plot shows, for someone who cannot see it."""
    parts = [f"Forest plot of the differences against {_other(against)}."]
    parts += [item.sentence for item in c.against(against)]
    return " ".join(parts)


def describe_curves(c: Comparison) -> str:
    """Return what the curves show, arm by arm."""
    parts = [
        f"Line plot of the validation {c.metric.label} over the optimizer steps, and a strip of each arm's phases."
    ]
    for arm in c.arms:
        if arm.curve:
            first, last = arm.curve[0], arm.curve[-1]
            parts.append(
                f"{arm.name}: {number(first.mean, decimals(c))} at step {first.step:,} to "
                f"{number(last.mean, decimals(c))} at step {last.step:,}."
            )
    return " ".join([*parts, "The table below the plot has the numbers."])


def describe_cost(c: Comparison) -> str:
    """Return what the plot of cost shows, arm by arm."""
    shown = [
        f"{arm.name}: {arm.gradients:,} gradients, {with_interval(arm.mean, arm.interval, decimals(c))}"
        for arm in c.arms
        if arm.mean is not None
    ]
    return f"Scatter plot of gradient evaluations against the mean test {c.metric.label}. {'; '.join(shown)}."


# --- commands -------------------------------------------------------------------------------------------------------


def reproduce_command(c: Comparison, recipe: str = "recipe.yaml") -> str:
    """Return the command that compares the same again, from the recipe as this page has it."""
    words = ["redense", "compare", recipe, "--arms", ",".join(c.asked.get("arms") or [arm.name for arm in c.others])]
    seeds = list(c.asked.get("seeds") or c.seeds)
    words += ["--seeds", str(len(seeds)) if seeds == list(range(len(seeds))) else ",".join(map(str, seeds))]
    sweep = c.asked.get("sweep") or {}
    if sweep:
        words += ["--sweep", " ".join(f"{key}={','.join(map(_swept, values))}" for key, values in sweep.items())]
    return shlex.join(words)


def again_command(c: Comparison) -> str:
    """Return the command that writes the results again, from what the store has."""
    return shlex.join(["redense", "compare", "--resume", _place(c.path)])


def _swept(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
