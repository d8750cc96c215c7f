"""The figures of arms, as they are judged: one number for each seed, and what else decides."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from redense.errors import DataError, nearest
from redense.files.visible import folded, visible_line

BASELINES = ("baseline", "dense")  # which arm is the baseline where none is named: the first of these that there is
CONTROLS = ("restart", "llr", "longer")  # which arms are controls where none is named
ROUNDING = 1e-14
"""A part of a mean by which rounding alone can part it from an equal one."""
SPLITS = {"test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
"""What the split of a figure may be called, in whatever capitals: that -> the split."""
_MINUS = ("-", "\N{MINUS SIGN}")
_OTHERS = {"training": "training", "train": "training", "evaluation": "evaluation", "eval": "evaluation"}
_LOWER = frozenset({"error", "loss", "wer", "cer", "perplexity"})
_HIGHER = frozenset({"accuracy", "bleu", "f1", "auc"})
_TURNED = frozenset(  # neg_loss, 1 - accuracy, reduction_in_error
    {"neg", "negative", "minus", "inverse", "inv", "less", "1", "100", "non", "no", "not", "opposite", "decrease"}
    | {"drop", "gain", "improvement", "reduction", "reduced", "saved", "avoided", "lost", "degradation", "decline"}
    | {"change", "delta", "diff", "difference", "gap", "lack", "missing", "damage", "deterioration", "sacrifice"}
    # decrements in accuracy, forfeited BLEU: no list has all such words, but what they are said of stands behind one of
    | {"in", "of", "from", "to", "against", "vs", "versus", "over", "under", "below", "above", "than", "per"}
)
# A row of a spreadsheet, or of pandas's margins and `describe`, is called so in the column of seeds or of arms.
_SUMMARIES = frozenset(
    {"mean", "average", "avg", "median", "std", "sd", "stdev", "std dev", "standard deviation", "sem", "stderr"}
    | {"std err", "standard error", "var", "variance", "count", "total", "overall", "all", "summary", "mean std"}
    | {"25%", "50%", "75%", "ci", "95% ci", "mean ± std", "mean±std", "mean +/ std"}
)
_ENDS = {"min": min, "minimum": min, "max": max, "maximum": max, "sum": math.fsum}


@dataclass(frozen=True)
class ArmFigures:
    """The figures of an arm.

    Args:
        values: the figure that decides, by seed; without the runs that diverged.
        validation: the figure on validation data, by seed: it chooses the control.
        steps: optimizer steps of a run, mean over seeds; None where they are not known.
        runs: how many there were; more than ``values`` where some diverged.
        failures: why a run has no figure, by seed, where that is told.
        note: how the arm differs from the others in more than its phases.
        same: the arm before it that has trained the same networks.
        ended: what became of the runs without a figure, in a word.
        bound: it ends in another network than the others, or in several: no arm has to beat it, and it is no gain.
        unmasked: it is known to have no mask, and others were named as the controls: it is no gain either.
        steps_of: the steps of each run, by seed, where they are told.
    """

    values: Mapping[str, float]
    validation: Mapping[str, float] = field(default_factory=dict[str, float])
    steps: float | None = None
    runs: int = 0
    note: str = ""
    same: str = ""
    ended: str = "diverged"
    bound: bool = False
    unmasked: bool = False
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    steps_of: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def seeds(self) -> tuple[str, ...]:
        """The seeds of all runs, those that failed among them."""
        return (*self.values, *self.failures)

    @property
    def diverged(self) -> int:
        """The number of runs without a figure."""
        return max(0, self.runs - len(self.values))


@dataclass(frozen=True)
class Table:
    """A table that can be judged: every arm has the same seeds.

    Args:
        metric: the name of the figure; None where there is none.
        validation_only: there are no test figures, and those of validation are in their place.
        by_split: it says of which split each figure is.
    """

    metric: str | None
    arms: Mapping[str, ArmFigures]
    validation_only: bool = False
    by_split: bool = False


def shown(name: object) -> str:
    r"""Return a name for a terminal: what would act on it, such as an escape sequence, is written out.

    >>> print(shown("dsd\x1b[2J\n"))
    dsd\u001b[2J\u000a
    """
    return visible_line(str(name))


def quoted(name: object) -> str:
    """Return a name or value as a message has it: in quotes, on one line, and no longer than can be read."""
    text = shown(name)
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"


def all_quoted(names: Iterable[object], most: int = 8) -> str:
    """Return names as a message lists them: the first ones quoted, the others counted."""
    names = list(names)
    text = ", ".join(map(quoted, names[:most]))
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def is_lower_better(metric: str | None, given: bool | None) -> bool:
    """Return which way is better: as given, or as a well-known name of the figure says.

    >>> is_lower_better("test_error", None), is_lower_better("BLEU", None), is_lower_better("neg_loss", False)
    (True, False, False)
    >>> is_lower_better("loss_of_accuracy", None)
    Traceback (most recent call last):
    ...
    redense.errors.DataError: which way of 'loss_of_accuracy' is better is not known: say it, with...

    Raises:
        DataError: it is not given, and the name does not say it.
    """
    check_metric(metric or None)
    check_side(given)
    if given is not None:
        return bool(given)
    *before, last = re.split(r"[^a-z0-9]+", split_of(metric or "")[1].casefold())
    if (
        (last in _LOWER or (last in _HIGHER and not _LOWER.intersection(before)))  # a loss of accuracy
        and not _TURNED.intersection(before)
        and not (metric or "").startswith(_MINUS)
    ):
        return last in _LOWER
    what = f"of {quoted(metric)}" if metric else "of numbers without a name"
    raise DataError(
        f"which way {what} is better is not known: say it, with --lower-is-better or --higher-is-better "
        "(in Python lower_is_better=True or False)"
    )


def split_of(name: str) -> tuple[str, str]:
    """Return of which split a figure is by its name, ``test`` or ``validation``, and its name without that; or nothing.

    >>> split_of("val_loss"), split_of("test/error"), split_of("error")
    (('validation', 'loss'), ('test', 'error'), ('', 'error'))
    >>> split_of("Dev WER"), split_of("loss/val"), split_of("error (test)"), split_of("test")
    (('validation', 'WER'), ('validation', 'loss'), ('test', 'error'), ('', 'test'))
    """
    word, bare = _parted(name, SPLITS)
    return SPLITS.get(word, ""), bare


def other_split_of(name: str) -> str:
    """Return what other data a figure is of by its name, ``training`` or ``evaluation``; empty if it says nothing.

    >>> other_split_of("train_loss"), other_split_of("accuracy/eval"), other_split_of("trained_error")
    ('training', 'evaluation', '')
    """
    return _OTHERS.get(_parted(name, _OTHERS)[0], "")


def _parted(name: str, words: Iterable[str]) -> tuple[str, str]:
    """Return the word that a name begins or ends with, and the rest of it; or nothing and the name."""
    one = "|".join(words)
    if found := re.match(rf"({one})[_/. -](?=.)", name, re.IGNORECASE):
        return found[1].casefold(), name[found.end() :]
    if found := re.search(rf"(?<=.)(?:[_/. -]({one})|\(({one})\))\Z", name, re.IGNORECASE):
        bare = name[: found.start()]
        return (found[1] or found[2]).casefold(), bare.rstrip() if found[2] else bare
    return "", name


def check_side(given: object) -> None:
    """Raise unless it is True or False, NumPy's too, or None.

    Raises:
        DataError: it is not.
    """
    if given is not None and type(given).__name__ not in ("bool", "bool_"):
        raise DataError(f"lower_is_better is True or False, got {quoted(given)}")


def check_metric(given: object) -> None:
    """Raise unless it is a name, or None.

    Raises:
        DataError: it is not.
    """
    if given is not None and not (isinstance(given, str) and given.strip()):
        raise DataError(f"metric is the name of a figure, got {quoted(given)}")


def choose_baseline(arms: Iterable[str], given: str | None) -> str:
    """Return the arm that the others are compared with.

    Raises:
        DataError: there is none of that name, or none is named and none has a usual name.
    """
    arms = list(arms)
    if given is not None:
        return _known("--baseline", given, arms)
    found = usual_baseline(arms)
    if found is None:
        raise DataError(f"no arm is named 'baseline' or 'dense': name it with --baseline, one of {all_quoted(arms)}")
    return found


def usual_baseline(arms: Iterable[str]) -> str | None:
    """Return the arm with a usual name of a baseline, also in capitals; None if there is none."""
    named = {folded(name): name for name in reversed(list(arms))}
    return next((named[usual] for usual in BASELINES if usual in named), None)


def choose_controls(arms: Iterable[str], given: Iterable[str] | None, baseline: str) -> tuple[str, ...]:
    """Return the arms without a mask, those named or those of `CONTROLS` that there are; each once.

    Raises:
        DataError: there is none of that name, or it is the baseline.
    """
    arms = list(arms)
    if given is None:
        found = [name for name in arms if name != baseline and _is_named_as_control(name)]
        return tuple(sorted(found, key=lambda name: (*CONTROLS, folded(name)).index(folded(name))))
    named = tuple(dict.fromkeys([given] if isinstance(given, str) else given))
    for name in named:
        if _known("--control", name, arms) == baseline:
            raise DataError(f"--control {quoted(name)} is the baseline: a control is trained as long as the arms are")
    return named


def _known(option: str, name: object, arms: Collection[str]) -> str:
    if not isinstance(name, str):
        raise DataError(f"{option} is the name of an arm, got {quoted(name)}; there are {all_quoted(arms)}")
    if name not in arms:
        close = nearest(name, map(shown, arms))
        raise DataError(f"{option} {quoted(name)}: no such arm{close}; there are {all_quoted(arms)}")
    return name


def _is_named_as_control(name: str) -> bool:
    """``restart``, and what is named after it: a setting, ``restart rate=0.5``, or an arm's own, ``restart-acdc``.

    Capitals, and characters that are not seen, make no other name: what was a control would be a gain.
    """
    first = folded(name).partition(" ")[0].replace("_", "-")
    return first in CONTROLS or first.startswith("restart-")


def check_names(arms: Iterable[str]) -> None:
    """Raise if two arms are called alike.

    Raises:
        DataError: they are; the message names both.
    """
    seen: dict[str, str] = {}
    for name in arms:
        if (other := seen.setdefault(folded(name), name)) != name:
            raise DataError(
                f"arms {quoted(other)} and {quoted(name)} differ in capitals, spaces or characters that are not seen "
                "or look alike: give one arm one name, and two arms names that can be told apart"
            )


def check_seeds(arms: Mapping[str, ArmFigures]) -> None:
    """Raise unless all arms have the same seeds, and none is a summary of the others, as spreadsheets add a row.

    Raises:
        DataError: they have not, or one is; the message names arms and seeds.
    """
    for name, figures in arms.items():
        if summary := next((seed for seed in figures.seeds if _is_summary(seed, figures)), None):
            raise DataError(
                f"arm {quoted(name)}, seed {quoted(summary)} is a summary of runs and no run: leave it out, or give a "
                "seed that is called so another name"
            )
    first, reference = next(iter(arms.items()))
    everywhere = set(reference.seeds)
    for name, figures in arms.items():
        seeds = set(figures.seeds)
        if seeds == everywhere:
            continue
        lacks = [seed for seed in reference.seeds if seed not in seeds]
        more = [seed for seed in figures.seeds if seed not in everywhere]
        # Where most arms lack a seed, it is the first arm that has one too many: both are named.
        parts = [f"{quoted(name)} has no seed {all_quoted(lacks)}, which {quoted(first)} has"] if lacks else []
        parts += [f"{quoted(name)} has seed {all_quoted(more)}, which {quoted(first)} has not"] if more else []
        raise DataError(f"arms need the same seeds, because they are paired by seed: {'; '.join(parts)}")


def check_arms(arms: Mapping[str, ArmFigures], known: Collection[str]) -> None:
    """Raise if an arm is a summary of the others, as spreadsheets and pandas's margins add a row.

    Args:
        arms: of a table.
        known: those of which a folder says that they were trained; they may be called so.

    Raises:
        DataError: one is; the message names it.
    """
    for name, figures in arms.items():
        if name in known:
            continue
        others = [other for other in arms.values() if other is not figures]
        if _word(name) in _SUMMARIES or _word(name) == "sum" or _is_end(_ENDS.get(_word(name)), figures, others):
            raise DataError(
                f"arm {quoted(name)} is a summary of arms and no arm: leave its rows out, or give an arm that is "
                "called so another name"
            )


def _is_end(end: Callable[[list[float]], float] | None, figures: ArmFigures, others: Collection[ArmFigures]) -> bool:
    """Whether an arm that is called so, as a way of pooling may be, has the least or largest figure of each seed."""
    if end is None or len(others) < 2:
        return False
    pairs = [
        (value, [other.values[seed] for other in others if seed in other.values])
        for seed, value in figures.values.items()
    ]
    return bool(pairs) and all(len(their) > 1 and value == end(their) for value, their in pairs)


def _word(name: str) -> str:
    return re.sub(r"[\s._-]+", " ", folded(name)).strip()


def _is_summary(seed: str, figures: ArmFigures) -> bool:
    word = _word(seed)
    if (ends := _ENDS.get(word)) and seed in figures.values:  # else a name, as of a person
        others = [value for other, value in figures.values.items() if other != seed]
        return len(others) > 1 and figures.values[seed] == ends(others)
    return word in _SUMMARIES
