"""Small image folders, and a cache of their own for what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense.tasks import catalog

PIL_Image = Any


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


@pytest.fixture
def picture() -> Callable[..., PIL_Image]:
    """Make a smooth random image, so that JPEG and resizing change it little."""
    from PIL import Image

    def make(seed: int, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> PIL_Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        return Image.fromarray(pixels).resize(size).convert(mode)

    return make


@pytest.fixture
def make_folder(tmp_path: Path, picture: Callable[..., PIL_Image]) -> Callable[..., Path]:
    """Write ``{"train": {"cat": 10}}`` as a folder of class folders; sizes and suffixes take turns."""

    def make(
        layout: Mapping[str, Mapping[str, int]],
        *,
        name: str = "set",
        sizes: tuple[tuple[int, int], ...] = ((24, 20), (20, 30), (40, 40)),
        suffixes: tuple[str, ...] = ("jpg", "png", "JPEG"),
    ) -> Path:
        root = tmp_path / name
        number = 0
        for split, classes in layout.items():
            for kind, count in classes.items():
                folder = root / split / kind
                folder.mkdir(parents=True)
                for index in range(count):
                    image = picture(number, sizes[index % len(sizes)])
                    image.save(folder / f"{index:03}.{suffixes[index % len(suffixes)]}")
                    number += 1
        return root

    return make
