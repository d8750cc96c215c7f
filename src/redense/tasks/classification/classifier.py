"""A trained classifier with all that it needs to name what a picture shows, and without the data it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from redense.errors import DataError, StateError
from redense.files.json_text import read_json
from redense.files.opening import read_bytes
from redense.tasks.graphs import Standalone
from redense.tasks.names import in_utf8
from redense.tasks.weights import final_weights, load_weights_, verify_answer

from .config import ImageData, ImageModel
from .data.pixels import decode, require_pillow
from .data.sets import first_line
from .data.transforms import fitting, fitting_transform
from .models import build
from .networks import graphs, split_heads

_RANDOM = 32  # images that an export is compared with the network on where the data is not


@dataclass(frozen=True)
class Inputs:
    """The facts of its data that a classifier's run keeps: ``artifacts/inputs.json``.

    Args:
        classes: a name each.
        shape: channels, height, width of an image.
        mean: of each channel, (c, 1, 1), for pixels from 0 to 255.
        std: likewise.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network in evaluation mode with all that it needs to classify a picture.

    Args:
        network: images (b, c, h, w) -> logits (b, classes).
        known: the classes, and what images are brought to.
        data: how they are brought to it.
    """

    network: nn.Module
    known: Inputs
    data: ImageData

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's outputs."""
        return self.known.classes

    @property
    def grey(self) -> bool:
        """Whether it sees pictures without colours."""
        return self.known.shape[0] == 1

    @property
    def least(self) -> int:
        """The shorter side, in pixels, to which a large JPEG may be decoded for it; 0: whole."""
        return fitting(self.data, self.known.shape).least

    def inputs(self, pictures: Sequence[Any]) -> Tensor:
        """Return what the network sees of pictures of Pillow: float32 (b, c, h, w)."""
        transform = fitting_transform(self.data, self.known.shape)
        pixels = torch.stack([transform(picture) for picture in pictures]).float()
        return pixels.sub(self.known.mean).div(self.known.std)

    @torch.no_grad()
    def probabilities(self, pictures: Sequence[Any]) -> Tensor:
        """Return the probability of every class for pictures of Pillow, grey or RGB as `grey` says: (b, classes)."""
        device = next(self.network.parameters()).device
        logits = split_heads(self.network(self.inputs(pictures).to(device)))[0]
        return verify_answer(logits.float().softmax(1).cpu())

    def best(self, pictures: Sequence[Any], top: int = 5) -> list[list[tuple[str, float]]]:
        """Return for each picture of Pillow the ``top`` classes with their probabilities, the most likely first."""
        found = self.probabilities(pictures).topk(min(top, len(self.classes)), dim=1)
        return [
            [(self.classes[index], value) for value, index in zip(values, indices, strict=True)]
            for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]

    def predict(self, path: str | Path, top: int = 5) -> list[tuple[str, float]]:
        """Return the ``top`` classes of a picture's file with their probabilities, the most likely first.

        Raises:
            DataError: it is missing, or no picture.
        """
        return self.best([open_picture(Path(path), grey=self.grey, least=self.least)], top)[0]


def open_picture(path: Path, *, grey: bool = False, least: int = 0) -> Any:
    """Return a picture's file decoded: grey or RGB; a large JPEG at a fraction of its size, see `decode`.

    Raises:
        DataError: it is missing, or no picture.
        MissingExtraError: Pillow is not installed.
    """
    require_pillow()
    try:
        return decode(read_bytes(path), grey=grey, least=least)
    except Exception as error:  # noqa: BLE001  # Pillow raises a dozen kinds for a broken image
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        raise DataError(f"{path} cannot be decoded ({first_line(error)})") from None


def read_inputs(folder: Path) -> Inputs:
    """Return what a classifier's run has kept of its data.

    Raises:
        StateError: it is not there, or damaged.
    """
    path = folder / "artifacts" / "inputs.json"
    try:
        said: Any = read_json(path, finite=True)
        channels, height, width = map(int, said["shape"])
        mean, std = (torch.tensor(said[name], dtype=torch.float32).view(channels, 1, 1) for name in ("mean", "std"))
        classes = (in_utf8(str(name)) for name in said["classes"])  # once they were kept as the locale C has them
        return Inputs(tuple(classes), (channels, height, width), mean, std)
    except FileNotFoundError:
        raise StateError(
            f"{folder} has no artifacts/inputs.json: an older redense trained it; train it again, or copy all of it"
        ) from None
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise StateError(f"{path} is damaged ({first_line(error)}): take the whole run folder again") from None


def open_classifier(folder: Path, data: ImageData, model: ImageModel) -> Classifier:
    """Return the network of a finished run of these settings, or of its export.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    weights = final_weights(folder)
    known = read_inputs(folder)
    network = build(model, known.shape, len(known.classes))
    load_weights_(network, weights)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return Classifier(network.eval().to(device), known, data)


def alone(folder: Path, data: ImageData, model: ImageModel) -> Standalone:
    """Return the network of a run or export without its data.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    opened = open_classifier(folder, data, model)
    images = torch.randn(_RANDOM, *opened.known.shape, generator=torch.Generator().manual_seed(0))
    return Standalone(opened.network, lambda network: graphs(network, images, len(opened.classes)))
