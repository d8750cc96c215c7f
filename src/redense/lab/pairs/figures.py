"""The figures of one pair of arm and seed, from whatever a training returned or printed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from redense.errors import DataError, nearest
from redense.lab.judging.figures import SPLITS, is_lower_better, quoted, split_of
from redense.lab.judging.reading.cells import finite, is_number

FACTS = ("steps", "gradients", "parameters", "nonzeros")
UNNAMED = "figure"  # what a number without a name is called
_MOST = 1000  # figures of one pair


class AnswerError(DataError):
    """A training has ended well, and what it returned or printed is not what it is asked for."""


@dataclass(frozen=True)
class Figures:
    """The figures of one training.

    Args:
        test: the figures that decide, by name; those of no named split are here.
        validation: those on validation data, which choose the control.
        facts: steps, gradients, parameters and nonzeros, as far as they were told.
        unusable: the names of figures that are NaN or infinite, where none was named as the one that decides.
    """

    test: Mapping[str, float] = field(default_factory=dict[str, float])
    validation: Mapping[str, float] = field(default_factory=dict[str, float])
    facts: Mapping[str, float] = field(default_factory=dict[str, float])
    unusable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        own = {"test": dict(self.test), "validation": dict(self.validation), "facts": dict(self.facts)}
        return {**own, "unusable": list(self.unusable)} if self.unusable else own

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figures:
        """Return the figures that `to_dict` gave."""
        unusable = tuple(map(str, data.get("unusable", ())))
        return cls(dict(data["test"]), dict(data["validation"]), dict(data["facts"]), unusable)

    @property
    def names(self) -> list[str]:
        """The names of the figures, each once."""
        return list(dict.fromkeys([*self.test, *self.validation]))

    @property
    def told(self) -> list[str]:
        """The names of all that could decide: of two figures none does because the other is NaN."""
        return [*self.names, *self.unusable]


def read_figures(given: Any, metric: str | None = None) -> Figures:
    """Return the figures of what a training returned.

    A number; numbers by name, as ``{"error": 0.13, "steps": 900}`` or ``{"validation_error": 0.1, "test_error": 0.2}``;
    or by split, as ``{"validation": 0.12, "test": 0.13}`` or ``{"test": {"error": 0.13, "loss": 0.4}}``. What is no
    number, as a name or a list, is passed over.

    Args:
        given: what was returned.
        metric: the name of a number that has none; the figure of that name has to be a finite number, and is none
            where it is None, as of a run that diverged.

    >>> read_figures({"validation": 0.12, "test": 0.13, "steps": 900}, "error").to_dict()
    {'test': {'error': 0.13}, 'validation': {'error': 0.12}, 'facts': {'steps': 900.0}}

    Raises:
        AnswerError: there is no figure in it.
        DataError: one is NaN or infinite.
    """
    found: dict[str, dict[str, float]] = {"test": {}, "validation": {}, "facts": {}}
    told: dict[tuple[str, str], dict[str, float]] = {}  # split and name: what each key says
    name = metric or UNNAMED
    if not isinstance(given, Mapping):
        if (value := _number(given)) is None:
            raise AnswerError(f"expected a number or a dict of figures such as {{'error': 0.13}}, got {_kind(given)}")
        found["test"][name] = value
    else:
        for key, value in given.items():
            for split, own, number in _told(str(key), value, name):
                told.setdefault((split, own), {})[str(key)] = number
                if own not in found[split] or str(key) != own:  # of two, the one that says its split
                    found[split][own] = number
    names = Figures(found["test"], found["validation"], found["facts"]).names
    if not names:
        texts = given.items() if isinstance(given, Mapping) else ()
        text = next((key for key, one in texts if isinstance(one, str) and is_number(one)), None)
        quotes = "" if text is None else f"; {quoted(text)} is a text: write it without quotes"
        raise AnswerError(f"no figure is in it: expected numbers such as {{'error': 0.13}}, got {_kind(given)}{quotes}")
    if len(names) > _MOST:
        raise DataError(f"{len(names):,} figures are more than {_MOST:,}")
    deciding = {metric, *(names if len(names) == 1 else ())}
    for split in ("test", "validation"):
        for own in deciding & found[split].keys():
            finite(found[split][own], f"the {split} figure {quoted(own)}")
            if len(set((said := told.get((split, own), {})).values())) > 1:
                raise DataError(
                    f"{' and '.join(map(quoted, said))} are all the {split} figure {quoted(own)}, and they differ: "
                    "give the one that decides alone, or the others another name"
                )
        # Of the other figures those that are no finite number are passed over, as names are.
        found[split] = {own: value for own, value in found[split].items() if math.isfinite(value)}
    left = Figures(found["test"], found["validation"], found["facts"])
    return replace(left, unusable=tuple(own for own in names if own not in left.names) if metric is None else ())


def missing_metric(figures: Figures, metric: str | None) -> str:
    """Return a line that says that a figure is not there, and which are; empty if it, or one without a name, is."""
    if metric is None or metric in figures.names or UNNAMED in figures.names:
        return ""
    if metric in figures.unusable:
        return f"the figure {quoted(metric)} is no finite number: a run that diverged has none"
    return (
        f"there is no figure {quoted(metric)}{nearest(metric, figures.names)}; there are "
        f"{', '.join(map(quoted, figures.names[:20]))}"
    )


def choose_metric(names: list[str], metric: str | None, lower_is_better: bool | None) -> tuple[str, bool]:
    """Return the name of the figure that decides, and whether lower is better.

    Raises:
        DataError: there are several and none is named, or its name does not say which way is better.
    """
    if metric is None:
        if len(names) != 1:
            listed = ", ".join(map(quoted, names[:20]))
            raise DataError(f"there is more than one figure: say which decides, metric= (or --metric), one of {listed}")
        metric = names[0]
    return metric, is_lower_better(None if metric == UNNAMED else metric, lower_is_better)


def _told(key: str, value: Any, name: str) -> Iterator[tuple[str, str, float]]:
    """Give the numbers that lie under a key, each with its split, or ``facts``, and its name."""
    if split := SPLITS.get(key.casefold()):
        if isinstance(value, Mapping):
            named = ((str(own), _number(one, none=str(own) == name)) for own, one in value.items())
            yield from ((split, own, number) for own, number in named if number is not None)
        elif (number := _number(value)) is not None:
            yield split, name, number
        else:
            raise AnswerError(f"{quoted(key)} must be a number or a dict of numbers, got {_kind(value)}")
        return
    split, own = split_of(key)
    # That which decides may be named by all of its key; on validation data it is then that of the same figure.
    own = name if key == name or (split == "validation" and split_of(name) == ("test", own)) else own
    if (number := _number(value, none=own == name)) is None:
        if key in FACTS and value is not None:
            raise AnswerError(f"{quoted(key)} must be a number, got {_kind(value)}")
        return
    if key in FACTS:
        yield "facts", key, finite(number, quoted(key))
        return
    yield split or "test", own, number


def _number(value: Any, *, none: bool = False) -> float | None:
    """Return a number of Python, NumPy, or a tensor of one element; None for anything else.

    With ``none`` a figure that is None is no number (NaN), and not a name that is passed over.
    """
    if value is None and none:
        return math.nan
    if isinstance(value, (bool, np.bool_, str, bytes, complex)) or value is None:
        return None
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(quoted(key) for key in list(value)[:5]) or 'nothing in it'}"
    return f"a {type(value).__name__}"
