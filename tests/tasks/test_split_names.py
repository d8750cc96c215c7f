"""Names of splits: a share that divides nothing, because the split is given, is noted for every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images
from redense.tasks.split_names import idle_shares


@pytest.mark.parametrize("names", [("train", "test"), ("train", "validation", "test")])
def test_a_share_of_images_that_divides_nothing_is_noted(names: tuple[str, ...], tmp_path: Path):
    arrays = {f"x_{name}": np.zeros((20, 8, 8), np.uint8) for name in names}
    arrays |= {f"y_{name}": np.arange(20) % 2 for name in names}
    np.savez(tmp_path / "a.npz", **cast("dict[str, Any]", arrays))
    notes = load_images(ImageData(source=str(tmp_path / "a.npz"), validation=0.2)).notes
    said = "data.validation 0.2 divides nothing: the data has a validation split of its own"
    assert (said in notes) == ("validation" in names)
    assert idle_shares(ImageData(validation=0.1), names, "validation") == []  # which is what it is anyway
