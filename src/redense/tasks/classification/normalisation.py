"""The mean and deviation that images are normalised by, for pixels from 0 to 255."""

from __future__ import annotations

import torch
from torch import Tensor

from redense.errors import DataError

from .config import ImageData
from .data.sets import AnySet, ImageSet
from .data.splits import limit_to
from .data.transforms import evaluation

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SAMPLE = 2000
"""So many training images stand for all where all would have to be decoded first.

No fingerprint covers which they are: they stay the same ones with every version of redense.
"""

_EXACT_BYTES = 2**28  # of pixels; four times that as floats


def mean_and_deviation(images: AnySet, data: ImageData, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each channel, (c, 1, 1) each.

    They are ImageNet's, or a half, if ``data.normalize`` says so; else those of the training images in memory, or of
    a seeded, stratified sample of them, not augmented.

    Raises:
        DataError: ImageNet's are asked for, and the images are grey.
    """
    if data.normalize == "half":
        half = torch.full((shape[0], 1, 1), 127.5)
        return half, half.clone()
    if data.normalize == "imagenet":
        if shape[0] != 3:
            raise DataError(f"{data.source or 'sample'}: normalize 'imagenet' is for colour images, these are grey")
        mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in IMAGENET)
        return mean, std
    if isinstance(images, ImageSet) and tuple(images.images.shape[1:]) == shape:
        chosen = images.images
        if chosen.numel() > _EXACT_BYTES:
            chosen = chosen[limit_to(images.labels, SAMPLE, 0, draw=False)]
        std, mean = torch.std_mean(chosen.transpose(0, 1).flatten(1).float(), dim=1)
        return mean.view(-1, 1, 1), std.clamp_min(1.0).view(-1, 1, 1)
    prepared = evaluation(data)
    count, total, squares = 0, torch.zeros(shape[0], dtype=torch.float64), torch.zeros(shape[0], dtype=torch.float64)
    for index in limit_to(images.labels, SAMPLE, 0, draw=False).tolist():
        pixels = prepared.picture(images, index).flatten(1).double()  # one at a time: 2,000 are 1.2 GB as floats
        count += pixels.shape[1]
        total += pixels.sum(1)
        squares += pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1.0).sqrt()
    return mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1)
