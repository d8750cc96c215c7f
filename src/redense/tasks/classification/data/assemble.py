"""Three splits from checked files: what cannot be used is named, counted, and refused or left out."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks.classification.config import ImageData
from redense.tasks.faults import Fault
from redense.tasks.names import like_another

from .checking import Checked, faint_note, turned_note
from .sets import Encoded, EncodedSet, SetT
from .splits import split_off

T = TypeVar("T")

_SHOWN = 5


@dataclass
class Part:
    """The files of one split as they were found: ``labels`` int64 (n,) number the classes of this part.

    A label of -1 is none. ``faults`` are those of the part itself, such as a class without images.
    """

    files: Encoded
    labels: np.ndarray
    classes: tuple[str, ...]
    checked: Checked
    faults: list[Fault] = field(default_factory=list[Fault])

    def usable(self) -> np.ndarray:
        """Return which images can be decoded and have a class: bool (n,)."""
        usable = self.labels >= 0
        usable[list(self.checked.faults)] = False
        return usable

    def all_faults(self) -> list[Fault]:
        """Return what is wrong with its files, and with the part itself."""
        own = [Fault(self.files.name(index), fault) for index, fault in self.checked.faults.items()]
        unknown = np.flatnonzero(self.labels < 0).tolist()
        own += [Fault(self.files.name(index), "has no class") for index in unknown if index not in self.checked.faults]
        return [*own, *self.faults]


def first_part(parts: Mapping[str, T]) -> T:
    """Return the part that is trained on: its classes are those of the set."""
    return parts["all"] if "all" in parts else parts["train"]


def shown_classes(part: Part) -> tuple[str, ...]:
    """Return the classes that the usable images of a part show, in order."""
    shown = set(np.unique(part.labels[part.usable()]).tolist())
    return tuple(name for label, name in enumerate(part.classes) if label in shown)


def unknown_classes(name: str, part: Part, known: Collection[str]) -> list[tuple[int, Fault]]:
    """Return the classes of a part that are not ``known``, each with the number of its usable images."""
    usable = part.usable()
    labels = np.array([*(kind in known for kind in part.classes), True])[part.labels]
    found: list[tuple[int, Fault]] = []
    for label in np.unique(part.labels[~labels & usable]).tolist():
        count = int(((part.labels == label) & usable).sum())
        own = part.classes[label]
        cause = f"has {counted(count, 'image')} of a class that no training image shows{like_another(own, known)}"
        found.append((count, Fault(f"{name}/{own}", cause)))
    return found


def assemble(place: str, parts: Mapping[str, Part], config: ImageData) -> tuple[dict[str, EncodedSet], list[str]]:
    """Return the usable images of every part, and notes on what was left out.

    A class is one that the training images show. Everything is grey only if all images are.

    Raises:
        DataError: there is something that cannot be used, and ``config.broken`` says to refuse it.
    """
    classes = shown_classes(first_part(parts))
    number = {name: label for label, name in enumerate(classes)}
    faults: list[Fault] = []
    out: dict[str, EncodedSet] = {}
    total = left_out = 0
    colour = any(bool((~part.checked.grey[part.usable()]).any()) for part in parts.values())
    for name, part in parts.items():
        usable = part.usable()
        unknown = unknown_classes(name, part, number)
        total += len(part.labels)
        left_out += int((~usable).sum()) + sum(count for count, _ in unknown)
        faults += [*part.all_faults(), *(fault for _, fault in unknown)]
        labels = np.array([*(number.get(known, -1) for known in part.classes), -1], np.int64)[part.labels]
        index = np.flatnonzero(usable & (labels >= 0))
        out[name] = EncodedSet(
            part.files,
            index,
            torch.from_numpy(labels[index]),
            classes,
            config.channels or (3 if colour else 1),
            part.checked.sizes[index],
            place,
            part.checked.marks[index],
            part.checked.turned[index],
        )
    if faults and config.broken == "refuse":
        raise DataError(
            f"{place}: {left_out:,} of {total:,} images cannot be used: {_some(faults)}; see all of it with "
            f"`redense data check {shlex.quote(place)}`, mend it, or leave it out with data.broken: skip"
        )
    notes = [f"{place}: {left_out:,} of {total:,} images were left out: {_some(faults)}"] if faults else []
    notes += turned_note(place, np.concatenate([parts[name].checked.upright[part.index] for name, part in out.items()]))
    faint = [
        parts[name].files.name(index)
        for name, part in out.items()
        for index in part.index[parts[name].checked.faint[part.index]].tolist()
    ]
    return out, notes + faint_note(place, faint, sum(map(len, out.values())))


def divide(place: str, sets: Mapping[str, SetT], share: float, seed: int) -> tuple[SetT, SetT, SetT]:
    """Return training, validation and test set from the parts that there are.

    - ``train``, ``validation`` and ``test``: as they are;
    - ``train`` and one more: that is the test set, and validation is a ``share`` of every training class;
    - ``all`` or ``train`` alone: test and validation are a ``share`` of every class each.

    Raises:
        DataError: ``share`` is not in (0, 1), or leaves nothing to train on.
    """
    training = first_part(sets)
    verify_labels(place, training.classes, training.labels)
    test = sets.get("test", sets.get("validation"))
    if "validation" in sets and "test" in sets:
        return training, sets["validation"], sets["test"]
    if test is None:
        if share >= 0.5:
            raise DataError(
                f"{place}: there is one folder for all splits, and validation and test cannot each take "
                f"{share} of it; lower data.validation"
            )
        kept, held = split_off(training.labels, share, seed)
        test, training = training.take(held), training.take(kept)
        share /= 1 - share
    kept, held = split_off(training.labels, share, seed)
    return training.take(kept), training.take(held), test


def verify_labels(place: str, classes: Sequence[str], labels: Tensor) -> None:
    """Refuse a training set that teaches nothing.

    Raises:
        DataError: there are no images, or all of one class.
    """
    known = labels.unique().tolist()
    if not known:
        raise DataError(f"{place}: there are no training images, expected at least one")
    if len(known) < 2:
        only = classes[known[0]]
        raise DataError(f"{place}: every training image is of class {only!r}, expected at least two classes")


def _some(faults: Sequence[Fault]) -> str:
    more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return "; ".join(map(str, faults[:_SHOWN])) + more
