"""What classifiers did, class by class and example by example: ``evidence.json`` as data, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.report.kit.loading import load_object

KIND = "classification"


@dataclass(frozen=True)
class ClassRow:
    """A class in the test split; what has an entry a network is in the order of the networks."""

    name: str
    examples: int
    fixed: int
    broken: int
    wrong: tuple[int, ...]
    top5_wrong: tuple[int, ...] | None
    loss: tuple[float | None, ...]

    @property
    def errors(self) -> list[float | None]:
        """The error of every network in %; None for a class without examples."""
        return self._percent(self.wrong)

    @property
    def top5_errors(self) -> list[float | None]:
        """The top-5 error of every network in %."""
        return self._percent(self.top5_wrong or ())

    @property
    def change(self) -> float | None:
        """The last network's error less the first one's, in points."""
        return 100 * (self.wrong[-1] - self.wrong[0]) / self.examples if self.examples else None

    def _percent(self, counts: tuple[int, ...]) -> list[float | None]:
        return [100 * count / self.examples if self.examples else None for count in counts]


@dataclass(frozen=True)
class Example:
    """A test example that was fixed or broken: its class, both answers, the true class's probability, a picture."""

    index: int
    label: int
    answers: tuple[int, int]
    probabilities: tuple[float, float]
    picture: str | None
    """PNG in base64."""


@dataclass(frozen=True)
class Changes:
    """How many examples were fixed, or broken, and those that are shown."""

    total: int
    shown: tuple[Example, ...]


@dataclass(frozen=True)
class Evidence:
    """What several networks answered for the same test examples; the first is the baseline, the last is judged."""

    networks: tuple[str, ...]
    examples: int
    classes: tuple[ClassRow, ...]
    confusion: tuple[Mapping[tuple[int, int], int], Mapping[tuple[int, int], int]]
    """Of the first and of the last network: (class, answer) -> examples, where that is not 0."""
    ties: tuple[int, int]
    fixed: Changes
    broken: Changes
    no_pictures: str | None

    @property
    def before(self) -> str:
        """The name of the baseline."""
        return self.networks[0]

    @property
    def after(self) -> str:
        """The name of the network that is judged."""
        return self.networks[-1]


def read_evidence(path: Path) -> Evidence | str | None:
    """Return what ``evidence.json`` says, the reason why it says nothing, or None where it is none of classifiers.

    Raises:
        DataError: it is damaged.
    """
    data = load_object(path)
    if data.get("kind") != KIND:
        return None
    if "missing" in data:
        return str(data["missing"])
    try:
        classes = tuple(_class(item, len(data["networks"])) for item in data["classes"])
        before, after = (_confusion(cells, len(classes)) for cells in data["confusion"])
        fixed, broken = (_changes(data[name], len(classes)) for name in ("fixed", "broken"))
        return Evidence(
            networks=tuple(str(name) for name in data["networks"]),
            examples=int(data["examples"]),
            classes=classes,
            confusion=(before, after),
            ties=(int(data["ties"][0]), int(data["ties"][1])),
            fixed=fixed,
            broken=broken,
            no_pictures=str(data["no_pictures"]) if data["no_pictures"] else None,
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not what redense writes: {error!r}") from None


def _class(item: Mapping[str, Any], networks: int) -> ClassRow:
    rows = item["networks"]
    if not networks or len(rows) != networks:
        raise ValueError(f"{len(rows)} of {networks} networks")
    return ClassRow(
        name=str(item["name"]),
        examples=int(item["examples"]),
        fixed=int(item["fixed"]),
        broken=int(item["broken"]),
        wrong=tuple(int(row["wrong"]) for row in rows),
        top5_wrong=tuple(int(row["top5_wrong"]) for row in rows) if "top5_wrong" in rows[0] else None,
        loss=tuple(None if row["loss"] is None else float(row["loss"]) for row in rows),
    )


def _confusion(cells: Any, classes: int) -> dict[tuple[int, int], int]:
    return {(_index(row, classes), _index(column, classes)): int(count) for row, column, count in cells}


def _changes(item: Mapping[str, Any], classes: int) -> Changes:
    return Changes(int(item["total"]), tuple(_example(one, classes) for one in item["shown"]))


def _example(item: Mapping[str, Any], classes: int) -> Example:
    (a, b), (p, q) = item["answers"], item["probabilities"]
    return Example(
        index=int(item["index"]),
        label=_index(item["label"], classes),
        answers=(_index(a, classes), _index(b, classes)),
        probabilities=(float(p), float(q)),
        picture=None if item["picture"] is None else str(item["picture"]),
    )


def _index(value: Any, classes: int) -> int:
    if not 0 <= int(value) < classes:
        raise ValueError(f"class {value} of {classes}")
    return int(value)
