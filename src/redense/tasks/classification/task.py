"""Image classification as the engine sees it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.files.opening import at_home
from redense.tasks.graphs import Graph
from redense.tasks.task import Settings, Split

from . import METRIC
from .classifier import read_inputs
from .config import ImageData, ImageModel
from .data.checking import OnChecked
from .data.loading import load_images
from .data.png import thumbnail
from .data.sets import AnySet, ImageSet
from .data.transforms import before_random, evaluation, shape_of, training_transform
from .evidence import evidence
from .examples import ImageExamples, TransformedExamples
from .models import build
from .networks import graphs as graphs_of
from .networks import pretrained, scale_of, split_heads
from .normalisation import mean_and_deviation

_TOP = 5
_COMPARED = 32  # images that an export is compared with the network on
_EVALUATED = 1 << 24  # numbers evaluated at once


class Classification:
    """Image classification: cross-entropy, error of the first and of the first five answers."""

    name = "classification"
    own_data = "the shipped sample of Fashion-MNIST"
    metric = METRIC
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()

    def __init__(
        self,
        data: ImageData,
        model: ImageModel,
        *,
        label_smoothing: float = 0.0,
        on_checked: OnChecked | None = None,
    ) -> None:
        splits = load_images(data, on_checked=on_checked)
        self.fingerprint, self.known_as, self.notes = splits.fingerprint, splits.known_as, splits.notes
        self.classes = splits.train.classes
        self.shape = shape_of(splits.train, data.size)
        self._data, self._model, self._smoothing, self.sets = data, model, label_smoothing, splits
        self.scale = mean_and_deviation(splits.train, data, self.shape)
        self._splits: dict[Split, ImageExamples | TransformedExamples] = {
            "train": self._examples(splits.train, training=True),
            "validation": self._examples(splits.validation),
            "test": self._examples(splits.test),
        }

    def _examples(self, images: AnySet, *, training: bool = False) -> ImageExamples | TransformedExamples:
        data = self._data
        mean, std = self.scale
        if self._is_ready(images) and not (training and data.augment != "none"):
            flip, crop = (data.flip, data.crop) if training else (False, 0)
            return ImageExamples(images, mean, std, flip=flip, crop=crop)
        if not training:
            return TransformedExamples(images, evaluation(data), mean, std)
        augment = training_transform(data, self.shape[1:])
        return TransformedExamples(images, before_random(data), mean, std, augment=augment)

    def _is_ready(self, images: AnySet) -> TypeGuard[ImageSet]:
        return isinstance(images, ImageSet) and tuple(images.images.shape[1:]) == self.shape

    @property
    def evaluation_batch(self) -> int:
        """Images evaluated at once: as many as take 64 MB, at most 500."""
        return max(1, min(500, _EVALUATED // math.prod(self.shape)))

    def examples(self, split: Split) -> ImageExamples | TransformedExamples:
        """Return a split."""
        return self._splits[split]

    def pictures(self, split: Split, indices: Sequence[int]) -> list[bytes]:
        """Return small PNG files of chosen images of a split, as the network sees them but for augmentation.

        None has a side of more than 96 pixels.
        """
        images = self._splits[split].images
        if self._is_ready(images):
            return [thumbnail(images.picture(index)) for index in indices]
        prepared = evaluation(self._data)
        return [thumbnail(prepared.picture(images, index)) for index in indices]

    def varied(self, settings: Settings) -> Classification:
        """Return the task with another label smoothing, or other augmentation of the same training images."""
        other = copy.copy(self)
        other._data, other._smoothing = settings.data, settings.training.label_smoothing
        other._splits = {**self._splits, "train": other._examples(self.sets.train, training=True)}
        return other

    def inputs(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the images of a batch: (b, c, h, w)."""
        return batch[0]

    def targets(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the classes of a batch: (b,)."""
        return batch[1]

    def replaced(
        self, batch: tuple[Tensor, Tensor], inputs: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return a batch of other images, and of other classes if they are given."""
        return inputs, batch[1] if targets is None else targets

    def build_model(self) -> nn.Module:
        """Return a freshly initialised network."""
        return build(self._model, self.shape, len(self.classes))

    def heads(self) -> frozenset[str]:
        """Return the names of the weights and buffers whose shape depends on the number of classes."""
        with torch.device("meta"):
            one, more = (build(self._model, self.shape, len(self.classes) + extra).state_dict() for extra in (0, 1))
        return frozenset(name for name, value in one.items() if more[name].shape != value.shape)

    def pretrained(self, weights: str) -> dict[str, Tensor]:
        """Return a library's weights of the recipe's network: ``torchvision:NAME`` or ``timm:TAG``."""
        return pretrained(self._model, weights)

    def start_scale(self, start: str) -> tuple[Tensor, Tensor] | None:
        """Return what pictures were normalised by where a recipe's ``start`` was trained; None where nothing says it.

        Mean and deviation of each channel, (c, 1, 1), of pixels from 0 to 255; `scale` has those of this task.
        """
        folder = at_home(start)
        if (folder / "artifacts" / "inputs.json").is_file():
            known = read_inputs(folder)
            return known.mean, known.std
        scale = scale_of(self._model.name, start)
        if scale is None:
            return None
        mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in scale)
        return mean, std

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy of a batch, with label smoothing, and its part for auxiliary heads."""
        images, labels = batch
        logits, auxiliary, part = split_heads(model(images))
        loss = F.cross_entropy(logits, labels, label_smoothing=self._smoothing)
        for head in auxiliary:
            loss = loss + part * F.cross_entropy(head, labels, label_smoothing=self._smoothing)
        return loss

    def outputs(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the logits of a batch: (b, classes)."""
        return split_heads(model(batch[0]))[0]

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

    def artifacts(self) -> dict[str, str]:
        """Return ``inputs.json``: the names of the classes, the shape of an image, and how pixels are normalised."""
        mean, std = (values.flatten().tolist() for values in self.scale)
        inputs = {"classes": list(self.classes), "shape": list(self.shape), "mean": mean, "std": std}
        return {"inputs.json": json.dumps(inputs) + "\n"}

    def graphs(self, model: nn.Module) -> list[Graph]:
        """Return the network as a graph of images to logits."""
        examples = self.examples("validation")
        images = examples.__getitems__(list(range(min(len(examples), _COMPARED))))[0]
        return graphs_of(model, images, len(self.classes))

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return figures of every class, the confusions, and the test images that were fixed and broken."""
        return evidence(outcomes, self.classes, partial(self.pictures, "test"))


def _percent(wrong: Tensor) -> float:
    return 100 * int(wrong.sum()) / len(wrong)
