"""Transforms of images to the network's input size: torchvision's v2 transforms, seeded image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redense.pruning import derive_seed
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.vision import torchvision

from .pixels import is_reduced
from .sets import AnySet, EncodedSet, ImageSet

IN_MEMORY = 2**29
"""A split that nothing random happens to before its size is that of the network is kept decoded up to so many bytes."""

# AlexNet's and Inception's augmentation as it became the usual one; the paper's "scale and aspect ratio augmentation".
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)

_STRIP = 32  # times as long as wide
_ENOUGH = 2  # times the shorter side to which a picture is resized: what its JPEG is decoded to at least
# Times the network's side: what is cut out at random has as many pixels as the network, but for the smallest parts
# (below 1 / 9 of a picture), which have 0.85 of it in each direction.
_ENOUGH_TO_CUT = 3
_WORTH = 8  # times as many pixels as the network's: decoding takes much longer than reading what was kept

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


def _middle_of_strip(image: Any, height: int = 1, width: int = 1) -> Any:
    """Return the middle of a picture that is more than 32 times as long as what a network of that shape sees of it.

    A file of some hundred bytes can be 100,000 x 1 pixels: brought to a shorter side of 224, it would take 15 GB.
    """
    own = image.shape[-2:] if isinstance(image, Tensor) else (image.height, image.width)
    scale = max(height / own[0], width / own[1])
    longest = (round(_STRIP * height / scale), round(_STRIP * width / scale))
    if own[0] <= longest[0] and own[1] <= longest[1]:
        return image
    top, left = (max(0, (side - most) // 2) for side, most in zip(own, longest, strict=True))
    bottom, right = min(own[0], top + longest[0]), min(own[1], left + longest[1])
    if isinstance(image, Tensor):
        return image[..., top:bottom, left:right]
    return image.crop((left, top, right, bottom))


@dataclass(frozen=True, eq=False)
class Preparation:
    """The preparation of every picture before anything random: deterministic, so that its result can be kept.

    Args:
        name: tells it from others.
        transform: what is done; None: the picture stays as it is decoded.
        least: pixels of the shorter side that decoding has to leave, see `decode`; 0: all.
        size: the network's, where the result has it; 0: it has not.
    """

    name: str
    transform: Transform | None = None
    least: int = 0
    size: int = 0

    def picture(self, images: AnySet, index: int) -> Any:
        """Return a picture of a split as it is then, from what is kept where it is there."""
        if isinstance(images, ImageSet):
            return self._of(images.picture(index))
        worth = images.kept is not None and bool(self.is_large(images.sizes[index : index + 1])[0])
        if worth and images.kept and (pixels := images.kept.get(images.identity(index), self.name)) is not None:
            return torch.from_numpy(pixels) if self.transform else _as_picture(pixels)
        made = self._of(images.picture(index, least=self.least, exact=self.transform is None))
        if worth and images.kept:
            images.kept.put(images.identity(index), self.name, made.numpy() if self.transform else np.asarray(made))
        return made

    def is_large(self, sizes: np.ndarray) -> np.ndarray:
        """Return which pictures of these heights and widths are worth keeping once they are prepared: bool (n,)."""
        heights, widths = sizes.astype(np.int64).T
        if self.size:
            return heights * widths >= _WORTH * self.size**2
        return (np.minimum(heights, widths) >= 2 * self.least) & bool(self.least)

    def bytes_of(self, images: EncodedSet) -> np.ndarray:
        """Return about how many bytes each picture takes when it is kept: int64 (n,)."""
        if self.size:
            return np.full(len(images), images.channels * self.size**2, np.int64)
        heights, widths = images.sizes.astype(np.float64).T
        part = np.minimum(1.0, 1.25 * self.least / np.maximum(1, np.minimum(heights, widths)))
        return (images.channels * heights * widths * part**2).astype(np.int64)

    def reduces(self, images: AnySet) -> bool:
        """Whether a picture of a split may be decoded at less than its size."""
        if isinstance(images, ImageSet):
            return False
        return any(is_reduced(height, width, self.least) for height, width in np.unique(images.sizes, axis=0).tolist())

    def _of(self, picture: Any) -> Any:
        return self.transform(picture) if self.transform else picture


def evaluation(config: ImageData) -> Preparation:
    """Return what is done to every image that is not augmented."""
    least = _ENOUGH * config.shorter_side if config.size else 0
    name = f"evaluated {config.size} {config.shorter_side}"
    return Preparation(name, evaluation_transform(config), least, config.size or 0)


def before_random(config: ImageData) -> Preparation:
    """Return what is done to a training image before its augmentation."""
    if config.augment != "scale-aspect":
        return evaluation(config)
    return Preparation(f"whole {config.size}", None, _ENOUGH_TO_CUT * (config.size or 0))


def fitting(config: ImageData, shape: tuple[int, int, int]) -> Preparation:
    """Return what brings pictures of any set to what a network of ``shape`` sees."""
    return Preparation("fitted", fitting_transform(config, shape)) if config.size is None else evaluation(config)


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
        if pixels.shape[1:] == (height, width):
            return pixels
        pixels = _middle_of_strip(pixels, height, width)
        own = pixels.shape[1:]
        scale = max(height / own[0], width / own[1])
        covering = [max(height, round(own[0] * scale)), max(width, round(own[1] * scale))]
        # torchvision's Resize of a tensor does the same, and its import takes longer than all the rest of a prediction
        pixels = interpolate(pixels[None], covering, mode="bilinear", align_corners=False, antialias=True)[0]
        top, left = (round((side - seen) / 2) for side, seen in zip(covering, (height, width), strict=True))
        return pixels[:, top : top + height, left : left + width]

    return fit


def training_transform(config: ImageData, own: tuple[int, int]) -> Transform | None:
    """Return what is random in what is done to a training image; it draws from torch's CPU generator.

    Args:
        config: ``augment``, ``size``, ``flip``, ``crop``.
        own: height and width of the images themselves, used where no size is given.
    """
    size = (config.size, config.size) if config.size else own
    if config.augment == "none" and not config.flip and not config.crop:
        return None
    torchvision()
    from torchvision.transforms import v2

    if config.augment == "scale-aspect":
        crop = v2.RandomResizedCrop(size, scale=AREA, ratio=ASPECT, antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(), _to_tensor])
    steps: list[Any] = [v2.TrivialAugmentWide()] if config.augment == "trivial" else []
    if config.crop:
        steps.append(v2.RandomCrop(size, padding=config.crop))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)


def transform_all(
    images: AnySet, indices: Sequence[int], preparation: Preparation, augment: Transform | None = None, seed: int = 0
) -> Tensor:
    """Return the chosen images prepared and augmented: uint8 (b, c, h, w).

    What is random about an image depends on the seed and its index alone, whatever batch or process it is in, and
    torch's generator is left as it was.
    """
    if augment is None:
        return torch.stack([preparation.picture(images, index) for index in indices])
    out: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        for index in indices:
            torch.default_generator.manual_seed(derive_seed(seed, index))  # torch.manual_seed: the accelerators', too
            out.append(augment(preparation.picture(images, index)))
    return torch.stack(out)


def to_memory(images: AnySet, preparation: Preparation, shape: tuple[int, int, int]) -> ImageSet:
    """Decode and prepare a whole set once."""
    out = torch.empty((len(images), *shape), dtype=torch.uint8)
    for index in range(len(images)):
        out[index] = preparation.picture(images, index)
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


def _as_picture(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _to_tensor(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return image
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
