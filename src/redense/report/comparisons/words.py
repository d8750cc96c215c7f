"""The sentences above, below and beside the tables and plots of a comparison, also for someone who cannot see them."""

from __future__ import annotations

from redense.lab.judging.words import listed, rule
from redense.report.kit.quantities import count, estimate, number, quantity

from .types import Comparison

POOLED = (
    "All seeds share one test set. The p is McNemar's with the seeds of an example as one cluster: these networks on "
    "other examples. The interval has both in it, other seeds and other examples of the same kind, and is never "
    "narrower than the seeds alone would make it. Neither is corrected, and neither decides a verdict, which is about "
    "other seeds on this test set."
)


def named(c: Comparison, against: str) -> str:
    """Return what the arms are compared with, in a heading."""
    if against == c.decision.baseline:
        return c.named(against)
    return f"{against}, {'the' if len(c.controls) == 1 else 'a'} control without a mask"


def table_sentence(c: Comparison) -> str:
    """Return the sentence above the table of arms."""
    known = [arm for arm in c.arms if arm.mean is not None]
    if not known:
        return "No run came to its end."
    sign = -1 if c.metric.lower_is_better is False else 1
    best = min(known, key=lambda arm: sign * (arm.mean or 0.0))
    extreme = "highest" if sign < 0 else "lowest"
    value = quantity(best.mean, c.metric.unit, c.decimals)
    names = [arm.name for arm in known if arm.mean == best.mean]
    text = f"The {extreme} mean {c.figure} is that of {listed(names)}, {value}"
    budgets = {arm.gradients for arm in c.arms if arm.name != c.decision.baseline}
    if not budgets or None in budgets:
        return f"{text}."
    but = " but the baseline" if c.decision.baseline else ""
    same = f"all arms{but} spend the same number of gradient evaluations"
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
    parts = [f"{listed(arms)} {word} than {c.named(against)}" for (word, against), arms in groups.items()]
    show = "shows" if len(shown) == 1 else "show"
    return f"Of {count(total, 'comparison')}, {len(shown)} {show} a difference: {'; '.join(parts)}."


def forest_caption(c: Comparison) -> str:
    """Return how to read the forest plots."""
    left, right = sides(c)
    unit = f"{c.points}, " if c.points else ""
    seen = any(item.paired.interval for item in c.differences)
    what = "large and small, that of the only seed"
    if has_pairs(c):
        interval = " with its 95 % interval, filled where a difference is shown" if seen else ""
        what = f"large, the mean{interval}; small dots, the single seeds"
    where = f"{left.capitalize()} on the left, {right} on the right."
    text = f"Difference in {c.figure}, {unit}paired by seed: {what}. {where}"
    if any(item.detectable is not None for item in c.differences):
        text += (
            " The band is what so few seeds easily miss: a true difference inside it is shown less than four times in "
            f"five. Band and verdict are corrected for all comparisons{'; the intervals are of one alone' * seen}."
        )
    return text


def has_pairs(c: Comparison) -> bool:
    """Whether some arm is compared over more than one seed: with one alone nothing is decided."""
    return any(item.paired.n > 1 for item in c.differences)


def method(c: Comparison) -> str:
    """Return how the verdicts were decided, or why there are none."""
    if has_pairs(c):
        return rule(c.decision)
    return (
        "No difference is decided here: without a second seed nothing tells which part of it is chance. With more, "
        "arms are paired by seed, and a difference is called better or worse by the paired t-test, unless the "
        "sign-flip test vetoes it. A gain is what is better than the baseline and than every control that decides."
    )


def pairs(c: Comparison, against: str) -> str:
    """Return over how many seeds the arms are compared."""
    low, high = _extent([item.paired.n for item in c.against(against)])
    return f"n = {low:g} to {high:g} seeds" if low != high else f"n = {count(high, 'seed')}"


def sides(c: Comparison) -> tuple[str, str]:
    """Return what a difference to the left and to the right of zero means."""
    if c.metric.lower_is_better is None:
        return "lower", "higher"
    return ("better", "worse") if c.metric.lower_is_better else ("worse", "better")


def curves_sentence(c: Comparison) -> str:
    """Return the sentence above the curves."""
    ends = [(arm, arm.curve[-1]) for arm in c.arms if arm.curve and arm.name != c.baseline]
    baseline = c.arm(c.baseline)
    if not ends:
        return f"The validation {c.metric.label} of the dense baseline while it trains."
    values = [quantity(value, c.metric.unit, c.decimals) for value in _extent([point.mean for _, point in ends])]
    text = f"The arms end at a mean validation {c.metric.label} of {values[0]}" + (
        f" to {values[1]}" if values[0] != values[1] else ""
    )
    if baseline and baseline.curve:
        at = quantity(baseline.curve[-1].mean, c.metric.unit, c.decimals)
        text += f"; the dense baseline, from which most of them go on, ends at {at}"
    return f"{text}."


def _extent(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def cost_sentence(c: Comparison) -> str:
    """Return the sentence above the plot of cost against the metric."""
    baseline = c.arm(c.decision.baseline)
    known = [arm for arm in c.arms if arm.mean is not None and arm.name != c.baseline]
    spent = [arm.gradients for arm in known if arm.gradients is not None]
    if not spent or baseline is None or baseline.mean is None or not baseline.gradients:
        return f"What each arm costs, and its {c.figure}."
    times = max(spent) / baseline.gradients
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
        f"Against {c.named(first.against)}, {first.arm} gets {fixed:,.0f} test examples right that the other gets "
        f"wrong, and {broken:,.0f} the other way round, in the mean over seeds. This compares trained networks, not "
        "methods, so it decides no verdict."
    )


def arms_sentence(c: Comparison) -> str:
    """Return the sentence above the list of what each arm is."""
    known = [arm for arm in c.arms if arm.phases]
    if not known:
        return "Whether an arm trains under a mask, nobody told."
    masked = sum(any(span.sparse for span in arm.phases) for arm in known)
    which = "" if len(known) == len(c.arms) else " whose phases are known"
    word = "trains" if masked == 1 else "train"
    return f"{masked} of {count(len(known), 'arm')}{which} {word} under a mask at some time."


def describe_forest(c: Comparison, against: str) -> str:
    """Return what a forest plot shows, for someone who cannot see it."""
    parts = [f"Forest plot of the differences against {c.named(against)}."]
    parts += [item.sentence for item in c.against(against)]
    return " ".join(parts)


def describe_curves(c: Comparison) -> str:
    """Return what the curves show, arm by arm."""
    parts = [
        f"Line plots of the validation {c.metric.label}, the training loss, the learning rate and the sparsity over "
        "the optimizer steps, and a strip of each arm's phases."
    ]
    for arm in c.arms:
        if arm.curve:
            first, last = arm.curve[0], arm.curve[-1]
            parts.append(
                f"{arm.name}: {number(first.mean, c.decimals)} at step {first.step:,} to "
                f"{number(last.mean, c.decimals)} at step {last.step:,}."
            )
    return " ".join([*parts, "The table below the plot has the numbers."])


def describe_cost(c: Comparison) -> str:
    """Return what the plot of cost shows, arm by arm."""
    shown = [
        f"{arm.name}: {arm.gradients:,} gradients, {estimate(arm.mean, arm.interval, c.decimals)}"
        for arm in c.arms
        if arm.mean is not None and arm.gradients is not None
    ]
    return f"Scatter plot of gradient evaluations against the mean {c.figure}. {'; '.join(shown)}."
