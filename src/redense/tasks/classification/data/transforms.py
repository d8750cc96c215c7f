"""From an image to the network's input size: torchvision's v2 transforms, seeded image by image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import ImageData
from ..vision import torchvision
from .sets import AnySet, EncodedSet, ImageSet

IN_MEMORY = 2**29
"""A split that nothing random happens to before its size is that of the network is kept decoded up to so many bytes."""

# AlexNet's and Inception's augmentation as it became the usual one; the paper's "scale and aspect ratio augmentation".
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)

_STRIP = 32  # times as long as wide

Transform = Callable[[Any], Tensor]
"""A Pillow image, or uint8 (c, h, w), to uint8 (c, h, w) of the network's size."""


def evaluation_transform(config: ImageData) -> Transform:
    """Return what is done to every image that is not augmented: shorter side to ``resize``, middle ``size``."""
    if config.size is None:
        return _to_tensor
    torchvision()
    from torchvision.transforms import v2

    resize = v2.Resize(config.shorter_side, antialias=True)
    return v2.Compose([_middle_of_strip, resize, v2.CenterCrop(config.size), _to_tensor])


def _middle_of_strip(image: Any) -> Any:
    """Return the middle of a picture that is more than 32 times as long as wide; what is then cropped lies inside it.

    A file of some hundred bytes can be 100,000 x 1 pixels: brought to a shorter side of 224, it would take 15 GB.
    """
    height, width = image.shape[-2:] if isinstance(image, Tensor) else (image.height, image.width)
    longest = _STRIP * min(height, width)
    if max(height, width) <= longest:
        return image
    top, left = (max(0, (side - longest) // 2) for side in (height, width))
    bottom, right = min(height, top + longest), min(width, left + longest)
    if isinstance(image, Tensor):
        return image[..., top:bottom, left:right]
    return image.crop((left, top, right, bottom))


def fitting_transform(config: ImageData, shape: tuple[int, int, int]) -> Transform:
    """Return what brings any picture to what a network of ``shape`` sees, as `evaluation_transform` does.

    Without a size in the recipe a picture of another size is scaled until it covers the network's, and its middle is
    cut out; one of that size stays as it is.
    """
    if config.size is not None:
        return evaluation_transform(config)
    _, height, width = shape

    def fit(picture: Any) -> Tensor:
        pixels = _to_tensor(picture)
        own = pixels.shape[1:]
        if tuple(own) == (height, width):
            return pixels
        torchvision()
        from torchvision.transforms import v2

        scale = max(height / own[0], width / own[1])
        covering = [max(height, round(own[0] * scale)), max(width, round(own[1] * scale))]
        return v2.Compose([v2.Resize(covering, antialias=True), v2.CenterCrop([height, width])])(pixels)

    return fit


def training_transform(config: ImageData, own: tuple[int, int]) -> Transform:
    """Return what is done to a training image; what is random in it draws from torch's CPU generator.

    Args:
        config: ``augment``, ``size``, ``flip``, ``crop``.
        own: height and width of the images themselves, used where no size is given.
    """
    size = (config.size, config.size) if config.size else own
    if config.augment == "none" and not config.flip and not config.crop:
        return evaluation_transform(config)
    torchvision()
    from torchvision.transforms import v2

    if config.augment == "scale-aspect":
        crop = v2.RandomResizedCrop(size, scale=AREA, ratio=ASPECT, antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), _to_tensor])
    steps: list[Any] = [evaluation_transform(config)]
    if config.crop:
        steps.append(v2.RandomCrop(size, padding=config.crop))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)


def transform_all(images: AnySet, indices: Sequence[int], transform: Transform, seed: int | None = None) -> Tensor:
    """Return the chosen images transformed: uint8 (b, c, h, w).

    With a seed, what is random about an image depends on the seed and its index alone, whatever batch or process it
    is in, and torch's generator is left as it was.
    """
    if seed is None:
        return torch.stack([transform(images.picture(index)) for index in indices])
    out: list[Tensor] = []
    with _kept_generator() as generator:
        for index in indices:
            generator.manual_seed(image_seed(seed, index))
            out.append(transform(images.picture(index)))
    return torch.stack(out)


def image_seed(seed: int, index: int) -> int:
    """Return the seed of one image in one epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:7], "big")


def to_memory(images: AnySet, transform: Transform, shape: tuple[int, int, int]) -> ImageSet:
    """Decode and transform a whole set once."""
    out = torch.empty((len(images), *shape), dtype=torch.uint8)
    for index in range(len(images)):
        out[index] = transform(images.picture(index))
    return ImageSet(out, images.labels, images.classes)


def fits_in_memory(count: int, shape: tuple[int, int, int]) -> bool:
    """Whether so many images of that shape are few enough to be kept decoded."""
    return count * shape[0] * shape[1] * shape[2] <= IN_MEMORY


def shape_of(images: AnySet, size: int | None) -> tuple[int, int, int]:
    """Return channels, height and width of the images after their transform."""
    channels = images.channels if isinstance(images, EncodedSet) else images.images.shape[1]
    if size is not None:
        return channels, size, size
    height, width = images.sizes[0].tolist() if isinstance(images, EncodedSet) else images.images.shape[2:]
    return channels, height, width


@contextmanager
def _kept_generator() -> Iterator[torch.Generator]:
    # Not torch.random.fork_rng with torch.manual_seed: that would seed the accelerators, too.
    generator = torch.default_generator
    state = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(state)


def _to_tensor(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return image
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
