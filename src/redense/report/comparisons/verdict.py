"""What a comparison comes to. The verdicts are the lab's; no sentence here says more than they do."""

from __future__ import annotations

from collections.abc import Mapping

from redense.report.kit.parts import BigFigure
from redense.report.kit.quantities import count, difference, duration, listed, number, quantity

from .numbers import decimals, has_intervals
from .reading import Arm, Comparison

_FIGURES = 5  # large figures, so that they stay in one row


def gains(c: Comparison) -> list[Arm]:
    """Return the arms that are a gain by the rule of `redense.lab.judging.verdicts`."""
    return [arm for arm in c.arms if (told := c.decision.conclusions.get(arm.name)) and told.gain]


def headline(c: Comparison) -> str:
    """Return the whole comparison in one or two sentences."""
    over = f"over {count(len(c.seeds), 'seed')}"
    verdicts = {item.arm: item.verdict for item in c.against(c.baseline)}
    if not c.differences:
        return "Nothing can be compared: too few runs came to their end."
    if len(c.seeds) == 1:
        return "One seed was run, and one seed shows nothing: whether any arm is a gain is open."
    compared = [arm.name for arm in c.others if arm.name in verdicts]
    if not compared:
        controls = listed([f"{name} {verdict}" for name, verdict in verdicts.items()])
        return f"Only controls were compared with {c.named(c.baseline)}, {over}: {controls}. There is no arm to judge."
    better = [name for name in compared if verdicts[name] == "better"]
    if not c.controls:
        shown = f"{_are(better)} better than {c.named(c.baseline)}" if better else "No arm is better than the baseline"
        return (
            f"No gain can be claimed {over}: no control without a mask was run. "
            f"{shown}{'; whether training longer does the same is open' if better else ''}."
        )
    won = gains(c)
    if len(won) == 1:
        return f"{_one_gain(c, won[0])} {over}."
    if won:
        names = listed([arm.name for arm in won])
        return f"{names} are gains {over}: each better than {_beaten(c)}."
    return f"No arm shows a gain {over}. {_why_not(c, better, verdicts)}"


def _one_gain(c: Comparison, arm: Arm) -> str:
    side = "lower" if c.metric.lower_is_better is not False else "higher"
    than = [
        f"{difference(found.mean, c.metric.unit, decimals(c))} {side} than "
        f"{'its dense baseline' if c.named(other) == 'the dense baseline' else c.named(other)}'s"
        for other in dict.fromkeys((c.baseline, *c.controls))
        if (found := c.difference(arm.name, other))
    ]
    no_mask = "which has no mask" if len(c.controls) == 1 else "which have no mask"
    return f"{arm.name} is a gain: its {c.figure} is {listed(than)}, {no_mask},"


def _why_not(c: Comparison, better: list[str], verdicts: Mapping[str, str]) -> str:
    longer = [name for name in c.controls if verdicts.get(name) == "better"]
    if not better:
        too = f"; {_are(longer)}, without a mask" if longer else ""
        return f"None is shown to be better than {_its(c)}{too}."
    told = c.decision.conclusions
    ahead = [name for name in better if all(verdict == "better" for verdict in told[name].against.values())]
    if ahead:  # better than all, and something else is against it
        return " ".join(f"{told[name].why_none}, so {name} is none." for name in ahead)
    if longer:
        so = f"so {'is' if len(longer) == 1 else 'are'} {listed(longer)}"
        return (
            f"{_are(better)} better than {c.named(c.baseline)}, but {so}, without a mask: training longer helps by "
            "itself, and nothing more is shown."
        )
    return f"{_are(better)} better than {c.named(c.baseline)}, but not shown to be better than {_controls(c)}."


def _its(c: Comparison) -> str:
    return "its dense baseline" if c.named(c.baseline) == "the dense baseline" else c.named(c.baseline)


def _beaten(c: Comparison) -> str:
    return f"{c.named(c.baseline)} and than {_controls(c)}" if c.decision.baseline else _controls(c)


def _controls(c: Comparison) -> str:
    which = "the control" if len(c.controls) == 1 else "the controls"
    return f"{listed(list(c.controls))}, {which} without a mask"


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
            found.append(f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} of {arm.name} {arm.ended}{rest}.")
    for control in c.controls:
        if worse := [item.arm for item in c.against(control) if item.verdict == "worse"]:
            found.append(f"{_are(worse)} worse than {control}.")
    found += [
        f"{arm.name} differs from the other arms in more than its phases: {arm.note}." for arm in gains(c) if arm.note
    ]
    found.append(cost(c))
    if c.form != "recipe":
        sides = {True: "Lower is better.", False: "Higher is better."}
        how = "" if c.metric.lower_is_better is None else sides[c.metric.lower_is_better]
        spread = "± is half a 95 % interval over seeds." if has_intervals(c) else ""
        return [*found, " ".join(filter(None, [how, spread]))]
    where = f"measured once, on {count(c.test_examples, 'test example')}" if c.test_examples else "measured once"
    sides = {True: "Lower is better; ", False: "Higher is better; "}
    better = sides[c.metric.lower_is_better] if c.metric.lower_is_better is not None else ""
    interval = " ± is half a 95 % interval over seeds." if has_intervals(c) else ""
    found.append(f"{better}{where}, at the end of each run.{interval}")
    return found


def cost(c: Comparison) -> str:
    """Return what the arms cost beside the baseline."""
    baseline = c.arm(c.decision.baseline)
    rest = [arm for arm in c.arms if arm.name != c.decision.baseline]
    spent_by = [arm.gradients for arm in rest if arm.gradients is not None]
    if not spent_by or len(spent_by) < len(rest):
        return ""
    low, high = min(spent_by), max(spent_by)
    evaluations = f"{low:,} to {high:,}" if low != high else f"{low:,}"
    text = f"One run of an arm takes {evaluations} gradient evaluations"
    known = [arm.seconds for arm in rest if arm.seconds is not None]
    if known:
        text += f" ({_range(min(known), max(known))})"
    if baseline and baseline.gradients is not None:
        spent = f" ({duration(baseline.seconds)})" if baseline.seconds is not None else ""
        text += f", one of the baseline {baseline.gradients:,}{spent}"
    return f"{text}."


def _range(low: float, high: float) -> str:
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"


def key_figures(c: Comparison) -> list[BigFigure]:
    """Return the large figures: baseline, the first arm asked for, and the controls."""
    first = [arm.name for arm in c.others[:1]]
    shown: list[BigFigure] = []
    for name in dict.fromkeys([c.baseline, *first, *c.controls, *c.decision.controls][:_FIGURES]):
        arm = c.arm(name)
        if arm is None:
            continue
        value = quantity(arm.mean, c.metric.unit, decimals(c)) if arm.mean is not None else arm.ended
        half = number((arm.interval[1] - arm.interval[0]) / 2, decimals(c)) if arm.interval else None
        facts = [f"±\u00a0{half}" if half else count(len(arm.alive), "seed"), _role(c, name)]
        label = "Dense baseline" if c.named(name) == "the dense baseline" else name
        shown.append(BigFigure(label, value, ", ".join(filter(None, facts)), arm.mean is None))
    if not c.controls:
        shown.append(BigFigure("Control", "not run", "an arm without a mask", missing=True))
    return shown


def _role(c: Comparison, name: str) -> str:
    if name == c.decision.baseline:
        return "the dense phase alone" if c.form == "recipe" else "the baseline"
    if name not in c.decision.controls:
        return ""
    return "the control, no mask" if c.controls == (name,) else "a control, no mask"


def _are(names: list[str]) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"
