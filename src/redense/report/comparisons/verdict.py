"""The verdict at the top of a comparison's page. It is the lab's: no sentence here says more."""

from __future__ import annotations

from redense.lab.judging.headline import headline as judged
from redense.lab.judging.words import listed
from redense.report.kit.parts import BigFigure
from redense.report.kit.quantities import count, duration, number, quantity
from redense.report.runs import commands

from .types import Arm, Comparison

_FIGURES = 5  # large figures, so that they stay in one row


def gains(c: Comparison) -> list[Arm]:
    """Return the arms that are a gain by the rule of `redense.lab.judging.verdicts`."""
    return [arm for arm in c.arms if (told := c.decision.conclusions.get(arm.name)) and told.gain]


def headline(c: Comparison) -> str:
    """Return the whole comparison in one or two sentences."""
    return judged(c.decision, seeds=len(c.seeds), figure=c.figure, dense=c.dense)


def said_of(c: Comparison, arm: str) -> str:
    """Return the lab's conclusion on an arm, without the name that it begins with."""
    text = c.conclusions[arm].removeprefix(f"{arm}: ")
    return text[:1].upper() + text[1:]


def remarks(c: Comparison) -> list[str]:
    """Return what has to be said beside the verdict: what diverged, what is worse, what it cost, what was measured."""
    found = list(filter(None, [unfinished(c)]))
    for arm in c.arms:
        if arm.diverged:
            rest = "; its figures are of the others alone" if arm.alive else ""
            found.append(f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} of {arm.name} {arm.ended}{rest}.")
    for control in c.controls:
        if worse := [item.arm for item in c.against(control) if item.verdict == "worse"]:
            found.append(f"{listed(worse)} {'is' if len(worse) == 1 else 'are'} worse than {control}.")
    found += [
        f"{arm.name} differs from the other arms in more than its phases: {arm.note}." for arm in gains(c) if arm.note
    ]
    found.append(cost(c))
    how = [c.metric.direction]
    if c.form == "recipe":
        on = f", on {count(c.test_examples, 'test example')}" if c.test_examples else ""
        how.append(f"measured once{on}, at the end of each run")
    told = "; ".join(filter(None, how))
    spread = "± is half a 95 % interval over seeds." if c.has_intervals else ""
    return [*found, " ".join(filter(None, [told and f"{told}.", spread]))]


def unfinished(c: Comparison) -> str:
    """Return a sentence where seeds were added to a comparison, and its figures are of before."""
    asked = {str(seed) for seed in c.asked.get("seeds") or ()}
    if not asked - {str(seed) for seed in c.seeds}:
        return ""
    on = "The same call" if c.form == "function" else commands.compare_again_command(c)
    there = f"{len(c.seeds):,} of {len(asked):,} seeds"
    return f"This is of {there}: the others were added, and are not all trained. {on} goes on."


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
    """Return the large figures: baseline, the first gain, or the first arm asked for if there is none, and controls."""
    known = (c.baseline, *c.decision.controls)
    first = [arm.name for arm in (*gains(c), *c.arms) if arm.name not in known][:1]
    shown: list[BigFigure] = []
    for name in dict.fromkeys([c.baseline, *first, *c.controls, *c.decision.controls][:_FIGURES]):
        arm = c.arm(name)
        if arm is None:
            continue
        value = quantity(arm.mean, c.metric.unit, c.decimals) if arm.mean is not None else arm.ended
        half = number((arm.interval[1] - arm.interval[0]) / 2, c.decimals) if arm.interval else None
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
