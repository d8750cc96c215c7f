"""Images that a network was not trained on, but whose classes it knows: to evaluate it on, whole or a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks.names import like_another
from redense.tasks.task import OtherData, Split, Task

from .classifier import Inputs, read_inputs
from .config import ImageData, ImageModel
from .data.reading import read_images, usable_sets
from .data.sets import AnySet, fingerprint
from .data.transforms import fitting
from .examples import TransformedExamples
from .task import Classification

_NAMES = {"train": "training", "validation": "validation", "test": "test", "all": "all"}


def other_images(folder: Path, data: ImageData, model: ImageModel, split: str | None) -> OtherData:
    """Return images that a run was not trained on, to evaluate its network on.

    Raises:
        DataError: there are none, or of a class that the network does not know.
        StateError: the run is not finished.
    """
    task = OtherImages(data, model, read_inputs(folder), split)
    said = f"{data.source} is other data than the run's: {task.what}"
    return OtherData(cast("Task", task), "test", (said, *task.notes), task.split)


class OtherImages(Classification):
    """The task with other images in place of its test split, brought to the network's size and scale.

    Args:
        data: names the images.
        model: the network.
        known: what its run has kept.
        split: of the images; None: their test split if they have one, else all of them.

    Raises:
        DataError: there are none, or of a class that the network does not know.
    """

    def __init__(self, data: ImageData, model: ImageModel, known: Inputs, split: str | None = None) -> None:
        self._data, self._model, self._smoothing = data, model, 0.0
        self.classes, self.shape = known.classes, known.shape
        self.scale = known.mean, known.std
        found = read_images(data, by_row=True)
        place = data.source or "sample"
        sets, notes = usable_sets(place, found, data)
        self.split = split or ("test" if "test" in sets else "all")
        chosen = sets if self.split == "all" else {name: part for name, part in sets.items() if name == self.split}
        if not any(map(len, chosen.values())):
            have = ", ".join(name for name in sets if name != "all") or "no splits"
            raise DataError(f"{place} has no {self.split} split (it has {have}): give --split all")
        self.notes = tuple(notes)
        self.fingerprint = fingerprint(chosen.values())
        preparation = fitting(data, known.shape)
        relabelled = [self._relabelled(part, place) for part in chosen.values() if len(part)]
        self._parts = [TransformedExamples(part, preparation, *self.scale) for part in relabelled]
        count = sum(map(len, self._parts))
        which = "all of it" if self.split == "all" else f"its {_NAMES[self.split]} split"
        self.what = f"{counted(count, 'image')} to evaluate, {which}"

    def examples(self, split: Split) -> _Parts:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the images that are evaluated, whatever the split is called."""
        return _Parts(self._parts)

    def _relabelled(self, part: AnySet, place: str) -> AnySet:
        """Return the images with their labels as the network numbers its classes."""
        number = {name: index for index, name in enumerate(self.classes)}
        shown = [part.classes[label] for label in part.labels.unique().tolist()]
        if unknown := [name for name in shown if name not in number]:
            raise DataError(
                f"{place} shows {', '.join(unknown[:5])}, which the network does not know: its classes are "
                f"{', '.join(self.classes[:5])}{', ...' if len(self.classes) > 5 else ''}"
                f"{like_another(unknown[0], self.classes)}"
            )
        labels = torch.tensor([number.get(name, -1) for name in part.classes])[part.labels]
        return replace(part.with_channels(self.shape[0]), labels=labels)


class _Parts:
    """Several splits one after the other."""

    def __init__(self, parts: list[TransformedExamples]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def begin_epoch(self, seed: int) -> None:
        """Change nothing: nothing is augmented."""

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        found = [self._one(index) for index in indices]
        return torch.cat([images for images, _ in found]), torch.cat([labels for _, labels in found])

    def _one(self, index: int) -> tuple[Tensor, Tensor]:
        for part in self._parts:
            if index < len(part):
                return part.__getitems__([index])
            index -= len(part)
        raise IndexError(index)
