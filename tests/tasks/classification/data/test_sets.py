"""Sets of images: grey or with colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from redense.tasks.classification.data.sets import ImageSet


def test_colours_are_taken_away_as_pillow_takes_them_away():
    image = pytest.importorskip("PIL.Image")
    levels = torch.arange(0, 256, 5, dtype=torch.uint8)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, len(levels), -1)  # every mixture of them
    grey = ImageSet(colours, torch.zeros(1, dtype=torch.int64), ("a",)).with_channels(1).images
    picture = image.fromarray(colours[0].permute(1, 2, 0).numpy()).convert("L")
    assert np.array_equal(grey[0, 0].numpy(), np.asarray(picture))
