"""Image classification on random images of the real shape: for plans and dry runs where the data is not at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from redense.tasks.task import Split

from .config import ImageData, ImageModel
from .task import Classification


class RandomImages:
    """A split of random images: a list of indices -> (float32 (b, c, h, w), int64 (b,)). Each index has its own."""

    def __init__(self, count: int, shape: tuple[int, int, int], classes: int) -> None:
        self.count, self.shape, self.classes = count, shape, classes

    def __len__(self) -> int:
        return self.count

    def begin_epoch(self, seed: int) -> None:
        """Change nothing: nothing is augmented."""

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = [torch.randn(self.shape, generator=torch.Generator().manual_seed(index)) for index in indices]
        return torch.stack(images), torch.tensor([index % self.classes for index in indices])


class SketchedClassification(Classification):
    """The task with ``examples`` random images of ``shape`` (channels, height, width) in every split."""

    def __init__(
        self,
        data: ImageData,
        model: ImageModel,
        *,
        shape: tuple[int, int, int],
        classes: int,
        examples: int,
        label_smoothing: float = 0.0,
    ) -> None:
        self.fingerprint = f"sketch/{shape}/{classes}/{examples}"
        self.classes = tuple(str(index) for index in range(classes))
        self.shape, self.notes = shape, ()
        self._model, self._smoothing = model, label_smoothing
        self._images = RandomImages(examples, shape, classes)

    def examples(self, split: Split) -> RandomImages:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a split; all are the same."""
        return self._images
