"""From checked files to three splits: what cannot be used is named, counted, and refused or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError

from ..config import ImageData
from .checking import Checked
from .sets import Encoded, EncodedSet, SetT
from .splits import split_off

_SHOWN = 5


@dataclass
class Part:
    """The files of one split as they were found: ``labels`` int64 (n,) number the classes of this part."""

    files: Encoded
    labels: np.ndarray
    classes: tuple[str, ...]
    checked: Checked
    faults: list[str] = field(default_factory=list)  # of the part itself, such as a class without images


def assemble(place: str, parts: Mapping[str, Part], config: ImageData) -> tuple[dict[str, EncodedSet], list[str]]:
    """Return the usable images of every part, and notes on what was left out.

    A class is one that the training images show. Everything is grey only if all images are.

    Raises:
        DataError: there is something that cannot be used, and ``config.broken`` says to refuse it.
    """
    first = "all" if "all" in parts else "train"
    usable = {name: _usable(part) for name, part in parts.items()}
    shown = set(np.unique(parts[first].labels[usable[first]]).tolist())
    classes = tuple(name for label, name in enumerate(parts[first].classes) if label in shown)
    number = {name: label for label, name in enumerate(classes)}
    faults: list[str] = []
    out: dict[str, EncodedSet] = {}
    total = left_out = 0
    colour = any(bool((~part.checked.grey[usable[name]]).any()) for name, part in parts.items())
    for name, part in parts.items():
        total += len(part.labels)
        left_out += len(part.checked.faults)
        faults += [f"{part.files.name(index)} {fault}" for index, fault in part.checked.faults.items()]
        faults += part.faults
        labels = np.array([number.get(known, -1) for known in part.classes], np.int64)[part.labels]
        for label in np.unique(part.labels[(labels < 0) & usable[name]]).tolist():
            count = int(((part.labels == label) & usable[name]).sum())
            left_out += count
            faults.append(f"{name}/{part.classes[label]} has {count:,} images of a class that no training image shows")
        index = np.flatnonzero(usable[name] & (labels >= 0))
        out[name] = EncodedSet(
            part.files,
            index,
            torch.from_numpy(labels[index]),
            classes,
            3 if colour else 1,
            part.checked.sizes[index],
            place,
        )
    if faults and config.broken == "refuse":
        raise DataError(
            f"{place}: {left_out:,} of {total:,} images cannot be used: {_some(faults)}; see all of it with "
            f"`redense data check {place}`, mend it, or leave it out with data.broken: skip"
        )
    return out, [f"{place}: {left_out:,} of {total:,} images were left out: {_some(faults)}"] if faults else []


def divide(place: str, sets: Mapping[str, SetT], share: float, seed: int) -> tuple[SetT, SetT, SetT]:
    """Return training, validation and test set from the parts that there are.

    - ``train``, ``validation`` and ``test``: as they are;
    - ``train`` and one more: that is the test set, and validation is a ``share`` of every training class;
    - ``all`` or ``train`` alone: test and validation are a ``share`` of every class each.

    Raises:
        DataError: ``share`` is not in (0, 1), or leaves nothing to train on.
    """
    training = sets["all"] if "all" in sets else sets["train"]
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


def verify_labels(place: str, classes: Sequence[str], labels: Tensor, name: str = "training ") -> None:
    """Refuse a training set that teaches nothing.

    Raises:
        DataError: there are no images, or all of one class.
    """
    known = labels.unique().tolist()
    if not known:
        raise DataError(f"{place}: there are no {name}images, expected at least one")
    if len(known) < 2:
        raise DataError(f"{place}: every {name}image is of class {classes[known[0]]!r}, expected at least two classes")


def _usable(part: Part) -> np.ndarray:
    usable = np.ones(len(part.labels), bool)
    usable[list(part.checked.faults)] = False
    return usable


def _some(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    return "; ".join(faults[:_SHOWN]) + more
