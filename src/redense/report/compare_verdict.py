"""What a comparison comes to. The verdicts are the lab's; no sentence here says more than they do."""

from __future__ import annotations

from .compare_numbers import decimals, has_intervals
from .compare_reading import Arm, Comparison
from .names import BASELINE, CONTROL
from .parts import BigFigure
from .quantities import count, difference, duration, listed, number, quantity


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


def key_figures(c: Comparison) -> list[BigFigure]:
    """Return the large figures: baseline, the first arm asked for, and the controls."""
    roles = {BASELINE: "the dense phase alone", CONTROL: "same budget, no mask", "llr": "lower learning rate"}
    first = [arm.name for arm in c.others[:1]]
    shown: list[BigFigure] = []
    for name in dict.fromkeys([BASELINE, *first, CONTROL, "llr"]):
        arm = c.arm(name)
        label = "Dense baseline" if name == BASELINE else name
        if arm is not None:
            value = quantity(arm.mean, c.metric.unit, decimals(c)) if arm.mean is not None else "diverged"
            half = number((arm.interval[1] - arm.interval[0]) / 2, decimals(c)) if arm.interval else None
            facts = [f"±\u00a0{half}" if half else count(len(arm.alive), "seed"), roles.get(name, "")]
            shown.append(BigFigure(label, value, ", ".join(filter(None, facts)), arm.mean is None))
        elif name == CONTROL:
            shown.append(BigFigure(label, "not run", "the control that matters", missing=True))
    return shown


def _are(names: list[str]) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"
