"""Labelled images: which layouts are read, and what comes of them.

``loading`` finds out which layout a source has; ``idx``, ``cifar``, ``folder`` and ``hub`` read one each; ``checking``
looks at every file once; ``assemble`` makes three splits of what can be used; ``transforms`` brings images to size.
"""

from .expected import expected_data
from .inspecting import inspect_images
from .layouts.idx import FASHION_MNIST_CLASSES, IDX_NAMES, SAMPLE, read_idx
from .loading import load_images, load_splits
from .sets import EncodedSet, ImageSet, Splits
from .splits import limit_to, pick, split_off

__all__ = [
    "FASHION_MNIST_CLASSES",
    "IDX_NAMES",
    "SAMPLE",
    "EncodedSet",
    "ImageSet",
    "Splits",
    "expected_data",
    "inspect_images",
    "limit_to",
    "load_images",
    "load_splits",
    "pick",
    "read_idx",
    "split_off",
]
