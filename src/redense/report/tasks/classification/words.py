"""The sentences on what classifiers did, class by class and example by example."""

from __future__ import annotations

from redense.report.kit.names import of_control
from redense.report.kit.quantities import count, percent, quantity
from redense.tasks.classification.schema import ClassificationEvidence as Evidence
from redense.tasks.classification.schema import ClassRow

_DECIMALS = 2


def classes_sentence(e: Evidence) -> str:
    """Return the sentence above the classes."""
    known = [row for row in e.classes if row.examples]
    if not known:
        return "The test split has no examples."
    worst, best = max(known, key=_last), min(known, key=_last)
    extremes = f"the hardest class is {worst.name}, with an error of {_error(worst)}"
    if best is not worst:
        extremes += f", the easiest {best.name}, with {_error(best)}"
    better, worse = (sum(sign * (row.change or 0) > 0 for row in known) for sign in (-1, 1))
    same = len(known) - better - worse

    def ahead(place: int) -> str:
        return f"lower in {sum(row.networks[place].wrong < row.networks[0].wrong for row in known):,}"

    return (
        f"For the {e.after} network {extremes}; against the {e.before} network the error is lower in "
        f"{better:,} of {len(known):,} classes, higher in {worse:,} and the same in {same:,}."
        f"{of_control(e.networks, ahead)}"
    )


def _last(row: ClassRow) -> float:
    return row.errors[-1] or 0.0


def _error(row: ClassRow) -> str:
    return quantity(row.errors[-1], "%", _DECIMALS)


def confused(e: Evidence) -> list[tuple[int, int]]:
    """Return the pairs (class, answer) that either network confuses, what the last one confuses most first."""
    before, after = e.confusions
    pairs = {pair for pair in (*before, *after) if pair[0] != pair[1]}
    return sorted(pairs, key=lambda pair: (-after.get(pair, 0), -before.get(pair, 0), pair))


def confusion_sentence(e: Evidence) -> str:
    """Return the sentence above the confusions."""
    pairs = confused(e)
    if not pairs:
        return "Neither network takes any class for another."
    before, after = e.confusions
    (row, column), most = pairs[0], after.get(pairs[0], 0)
    if not most:
        return f"The {e.after} network takes no class for another."
    of = e.classes[row]
    return (
        f"The {e.after} network most often takes {of.name} for {e.classes[column].name}: "
        f"{most:,} of {of.examples:,} times ({percent(round(most / of.examples, 4))}); the {e.before} network does so "
        f"{before.get((row, column), 0):,} times."
    )


def ties_sentence(e: Evidence) -> str | None:
    """Return what has to be said of answers that are right only by the order of the classes; None without any."""
    if not any(e.ties):
        return None
    return (
        f"Right only by the order of the classes, as another has the same score: {count(e.ties[0], 'answer')} of the "
        f"{e.before} network and {e.ties[1]:,} of the {e.after} network. They count as wrong, and lie on the diagonal."
    )


def changes_sentence(e: Evidence) -> str:
    """Return the sentence above the examples that were fixed and broken."""
    fixed, broken = e.fixed.total, e.broken.total
    if not fixed and not broken:
        return f"The {e.after} network is right and wrong where the {e.before} network is."
    balance = fixed - broken
    total = (
        f"{count(abs(balance), 'fewer error' if balance > 0 else 'more error')} in all"
        if balance
        else "as many errors in all"
    )
    shown = ""
    if fixed > len(e.fixed.shown) or broken > len(e.broken.shown):
        shown = "; shown are those where the probability of the true class changed the most"
    return (
        f"Of {count(e.examples, 'test example')} the {e.after} network gets {fixed:,} right that the {e.before} "
        f"network gets wrong, and {broken:,} wrong that it gets right: {total}{shown}."
    )


def describe_classes(e: Evidence) -> str:
    """Return what the plot of the classes shows, for someone who cannot see it."""
    return (
        f"Dot plot: the test error of each class for the {e.before} and the {e.after} network, the hardest class "
        "first; the table below has the numbers."
    )


def classes_caption(e: Evidence) -> str:
    """Return how to read the plot of the classes."""
    return f"Hollow: {e.before}; full: {e.after}. The hardest class first."


def cards_sentence(e: Evidence) -> str:
    """Return how to read the examples."""
    return (
        f"Each with its class, the answers of the {e.before} and of the {e.after} network, and the probability that "
        "they gave to its class."
    )
