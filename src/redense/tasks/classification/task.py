"""Image classification as the engine sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..metrics import METRICS
from ..task import Split
from .config import ImageData, ImageModel
from .data import ImageSet, load_splits
from .evidence import evidence
from .models import build
from .pictures import png

_TOP = 5


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
        # Seeded by the epoch and the batch's own indices, so that neither workers nor a resumed run change it.
        digest = hashlib.sha256(f"{self.seed}/{list(indices)}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.crop:
            height, width = images.shape[-2:]
            padded = F.pad(images, (self.crop,) * 4)
            corners = torch.randint(2 * self.crop + 1, (len(images), 2), generator=generator).tolist()
            pairs = zip(padded, corners, strict=True)
            images = torch.stack([p[:, y : y + height, x : x + width] for p, (y, x) in pairs])
        return images


class Classification:
    """Image classification: cross-entropy, error of the first and of the first five answers."""

    name = "classification"
    metric = METRICS["classification"]
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()

    def __init__(self, data: ImageData, model: ImageModel, *, label_smoothing: float = 0.0) -> None:
        splits = load_splits(data.source, validation=data.validation)
        self.fingerprint = splits.fingerprint
        self.classes = splits.train.classes
        self.shape: tuple[int, int, int] = tuple(splits.train.images.shape[1:])  # pyright: ignore[reportAttributeAccessIssue]
        self._model, self._smoothing = model, label_smoothing
        pixels = splits.train.images.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(pixels.float(), dim=1)
        mean, std = mean.view(-1, 1, 1), std.clamp_min(1.0).view(-1, 1, 1)
        self._splits: dict[Split, ImageExamples] = {
            "train": ImageExamples(splits.train, mean, std, flip=data.flip, crop=data.crop),
            "validation": ImageExamples(splits.validation, mean, std),
            "test": ImageExamples(splits.test, mean, std),
        }

    def examples(self, split: Split) -> ImageExamples:
        """Return a split."""
        return self._splits[split]

    def build_model(self) -> nn.Module:
        """Return a freshly initialised network."""
        return build(self._model, self.shape, len(self.classes))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy of a batch, with label smoothing."""
        images, labels = batch
        return F.cross_entropy(model(images), labels, label_smoothing=self._smoothing)

    def outputs(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the logits of a batch: (b, classes)."""
        return model(batch[0])

    def outcome(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return label, loss, rank of the true class (0 = right) and answer of every image: (b,) each."""
        images, labels = batch
        logits = model(images).float()
        true = logits.gather(1, labels.unsqueeze(1))
        # Ties and NaN count against the network: a constant output is not right by luck.
        rank = (~(logits < true)).sum(1) - 1
        loss = F.cross_entropy(logits, labels, reduction="none")
        return {"label": labels, "loss": loss, "rank": rank, "answer": logits.argmax(1)}

    def metrics(self, outcome: Mapping[str, Tensor]) -> dict[str, float]:
        """Return mean loss, error and top-5 error in %."""
        rank = outcome["rank"]
        out = {"loss": float(outcome["loss"].double().mean()), "error": _percent(rank > 0)}
        if len(self.classes) > _TOP:
            out["top5_error"] = _percent(rank >= _TOP)
        return out

    def pictures(self, split: Split, indices: Sequence[int]) -> list[bytes]:
        """Return examples of a split as small PNG files, for the report."""
        images = self._splits[split].images.images
        return [png(images[index]) for index in indices]

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return figures of every class, the confusions, and the test images that were fixed and broken."""
        return evidence(outcomes, self.classes, partial(self.pictures, "test"))


def _percent(wrong: Tensor) -> float:
    return 100 * int(wrong.sum()) / len(wrong)
