"""A classifier as a graph: images to logits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from redense.tasks.graphs import Graph, Standalone

from .classifier import open_classifier
from .config import ImageData, ImageModel
from .networks import split_heads

COMPARED = 32  # images that an export is compared with the network on


def graphs(network: nn.Module, images: Tensor, classes: int) -> list[Graph]:
    """Return the network as a graph.

    Args:
        network: in evaluation mode.
        images: to compare on, (b, c, h, w).
        classes: how many.
    """
    c, h, w = images.shape[1:]
    about = f"normalised images (batch, {c}, {h}, {w}) to logits (batch, {classes})"
    logits = OnlyLogits(network)
    return [Graph("model", logits, logits, {"images": {0: "batch"}}, ("logits",), [(images,), (images[:1],)], about)]


def alone(folder: Path, data: ImageData, model: ImageModel) -> Standalone:
    """Return the network of a run or export without its data.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    opened = open_classifier(folder, data, model)
    images = torch.randn(COMPARED, *opened.known.shape, generator=torch.Generator().manual_seed(0))
    return Standalone(opened.network, lambda network: graphs(network, images, len(opened.classes)))


class OnlyLogits(nn.Module):
    """A network without what it gives beside its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, c, h, w) to logits (b, classes)."""
        return split_heads(self.network(images))[0]
