"""Networks for image classification."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from ...errors import RecipeError
from .config import ImageModel


def build(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network that a recipe names, for images of ``shape`` (channels, height, width).

    Raises:
        RecipeError: the images are too small for the number of convolutions.
    """
    if config.name == "mlp":
        return mlp(shape[0] * shape[1] * shape[2], config.widths, classes, config.dropout)
    if min(shape[1:]) < 2 ** len(config.widths):
        raise RecipeError(
            f"model.widths has {len(config.widths)} convolutions, each halving the image, "
            f"but the images are {shape[1]} x {shape[2]} pixels: give fewer widths"
        )
    return cnn(shape, config.widths, classes, config.dropout)


def cnn(shape: tuple[int, int, int], widths: Sequence[int], classes: int, dropout: float) -> nn.Sequential:
    """3x3 convolutions with ReLU, each max-pooled by 2; dropout; one linear layer. (b, c, h, w) -> (b, classes)."""
    layers: list[tuple[str, nn.Module]] = []
    for i, (before, after) in enumerate(itertools.pairwise((shape[0], *widths)), start=1):
        layers += [
            (f"conv{i}", nn.Conv2d(before, after, 3, padding=1)),
            (f"relu{i}", nn.ReLU()),
            (f"pool{i}", nn.MaxPool2d(2)),
        ]
    features = widths[-1] * (shape[1] >> len(widths)) * (shape[2] >> len(widths))
    layers += [("flatten", nn.Flatten()), ("dropout", nn.Dropout(dropout)), ("fc", nn.Linear(features, classes))]
    return _named(layers)


def mlp(inputs: int, widths: Sequence[int], classes: int, dropout: float) -> nn.Sequential:
    """Fully-connected layers with ReLU and dropout. (b, c, h, w) -> (b, classes)."""
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i, (before, after) in enumerate(itertools.pairwise((inputs, *widths)), start=1):
        layers += [
            (f"fc{i}", nn.Linear(before, after)),
            (f"relu{i}", nn.ReLU()),
            (f"dropout{i}", nn.Dropout(dropout)),
        ]
    layers.append((f"fc{len(widths) + 1}", nn.Linear(widths[-1], classes)))
    return _named(layers)


def _named(layers: list[tuple[str, nn.Module]]) -> nn.Sequential:
    network = nn.Sequential()
    for name, layer in layers:
        network.add_module(name, layer)
    return network
