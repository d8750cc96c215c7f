"""Batches of a split: in memory all at once, else decoded image by image; normalised, and augmented by the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from redense.pruning import derive_seed
from redense.tasks.task import Part

from .data.sets import AnySet, ImageSet
from .data.transforms import Preparation, Transform, transform_all


class ImageExamples:
    """A split of images in memory: a list of indices -> (images float32 (b, c, h, w), labels int64 (b,))."""

    def __init__(self, images: ImageSet, mean: Tensor, std: Tensor, *, flip: bool = False, crop: int = 0) -> None:
        self.images, self.mean, self.std = images, mean, std
        self.flip, self.crop = flip, crop
        self.seed = 0

    def __len__(self) -> int:
        return len(self.images)

    def begin_epoch(self, seed: int) -> None:
        """Make the augmentation of the coming epoch depend on ``seed`` and the indices alone."""
        self.seed = seed

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        where = torch.as_tensor(indices)
        images = self.images.images[where]
        if self.flip or self.crop:
            images = self._augment(images, indices)
        return (images - self.mean) / self.std, self.images.labels[where]

    def _augment(self, images: Tensor, indices: Sequence[int]) -> Tensor:
        # Seeded by the epoch and the batch's own indices, so that neither workers nor a resumed run change it. Drawn
        # for the whole batch, also where a rank has a part of it, so that the number of ranks does not either.
        whole, first = (indices.whole, indices.start) if isinstance(indices, Part) else (indices, 0)
        mine = slice(first, first + len(indices))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, list(whole)))
        if self.flip:
            mirrored = torch.rand(len(whole), generator=generator)[mine] < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.crop:
            height, width = images.shape[-2:]
            padded = F.pad(images, (self.crop,) * 4)
            corners = torch.randint(2 * self.crop + 1, (len(whole), 2), generator=generator)[mine].tolist()
            pairs = zip(padded, corners, strict=True)
            images = torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in pairs])
        return images


class TransformedExamples:
    """A split whose images are prepared one by one: indices -> (float32 (b, c, h, w), labels int64 (b,)).

    An image's augmentation, if there is one, depends on the epoch and its own index alone: batches, workers and
    resumed runs never change it.
    """

    def __init__(
        self, images: AnySet, preparation: Preparation, mean: Tensor, std: Tensor, *, augment: Transform | None = None
    ) -> None:
        self.images, self.preparation, self.mean, self.std, self.augment = images, preparation, mean, std, augment
        self.seed = 0

    def __len__(self) -> int:
        return len(self.images)

    def begin_epoch(self, seed: int) -> None:
        """Make the augmentation of the coming epoch depend on ``seed`` and the indices alone."""
        self.seed = seed

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = transform_all(self.images, indices, self.preparation, self.augment, self.seed)
        return images.float().sub_(self.mean).div_(self.std), self.images.labels[torch.as_tensor(indices)]
