"""The schema of ``evidence.json`` for image classification: answers by class and by example."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Self

from pydantic import model_validator

from redense.tasks.evidence import Count, Evidence, Plain, Reason, Text, check_each

KIND = "classification"


class OfClass(Plain):
    """The answers for the examples of a class; ``top5_wrong`` is there for more than five classes."""

    wrong: Count
    top5_wrong: Count | None = None
    loss: float | None


class ClassRow(Plain):
    """A class in the test split, with an entry for each network."""

    name: Text
    examples: Count
    fixed: Count
    broken: Count
    networks: tuple[OfClass, ...]

    @property
    def errors(self) -> list[float | None]:
        """The error of every network in %; None for a class without examples."""
        return [self._percent(network.wrong) for network in self.networks]

    @property
    def top5_errors(self) -> list[float | None]:
        """The top-5 error of every network in %; nothing where it is not known."""
        return [self._percent(network.top5_wrong) for network in self.networks if network.top5_wrong is not None]

    @property
    def change(self) -> float | None:
        """The last network's error less the first one's, in points."""
        return self._percent(self.networks[-1].wrong - self.networks[0].wrong)

    def _percent(self, count: int) -> float | None:
        return 100 * count / self.examples if self.examples else None


class Example(Plain):
    """A test example that was fixed or broken: its class, both answers, the true class's probability, a picture."""

    index: Count
    label: Count
    answers: tuple[Count, Count]
    probabilities: tuple[float, float]
    picture: str | None
    """PNG in base64."""


class Changes(Plain):
    """The number of examples that were fixed, or broken, and those that are shown."""

    total: Count
    shown: tuple[Example, ...]


class ClassificationEvidence(Evidence):
    """The answers of several classifiers to the same test examples.

    Args:
        examples: how many there are.
        classes: a row each.
        confusion: of the first and of the last network: class, answer, examples, where that is not 0.
        ties: answers of both that are right only by the order of the classes.
        fixed: examples that were wrong and are right.
        broken: examples that were right and are wrong.
        no_pictures: why there are none.
    """

    kind: ClassVar[str] = KIND
    examples: Count
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[tuple[Count, Count, Count], ...], tuple[tuple[Count, Count, Count], ...]]
    ties: tuple[Count, Count]
    fixed: Changes
    broken: Changes
    no_pictures: Reason

    @cached_property
    def confusions(self) -> tuple[Mapping[tuple[int, int], int], Mapping[tuple[int, int], int]]:
        """Return (class, answer) -> examples, where that is not 0, of the first and of the last network."""
        before, after = ({(row, column): count for row, column, count in cells} for cells in self.confusion)
        return before, after

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_each(self.networks, "a class", *(row.networks for row in self.classes))
        shown = (*self.fixed.shown, *self.broken.shown)
        named = [place for cells in self.confusion for row, column, _ in cells for place in (row, column)]
        named += [place for example in shown for place in (example.label, *example.answers)]
        if max(named, default=-1) >= len(self.classes):
            raise ValueError(f"class {max(named)} of {len(self.classes)}")
        return self
