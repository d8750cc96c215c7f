"""Small sets of captioned images, and a CNN that sees them in a blink."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from redense.tasks.captioning import task as task_module
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.features import Eyes

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


@pytest.fixture
def captioned(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder in Karpathy's layout: so many images a split, of three colours, each with two sentences."""

    def make(train: int = 12, val: int = 6, test: int = 6, **changes: Any) -> Path:
        folder = tmp_path / "set"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        images: list[dict[str, Any]] = []
        for split, count in (("train", train), ("val", val), ("test", test)):
            for number in range(count):
                colour = list(COLOURS)[number % 3]
                pixels = np.clip(np.array(COLOURS[colour]) + random.integers(-20, 20, (8, 8, 3)), 0, 255)
                name = f"{split}-{number}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name)
                said = [f"A {colour} square.", f"It is {colour}, all of it!"]
                images.append({"filename": name, "split": split, "sentences": [{"raw": text} for text in said]})
        (folder / "dataset.json").write_text(json.dumps({"images": images} | changes))
        return folder

    return make


def mean_colour(digest: str = "mean colour") -> Eyes:
    """Return a CNN whose features are the mean of each colour."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    mean, std = torch.full((3, 1, 1), 128.0), torch.full((3, 1, 1), 64.0)

    def to_tensor(picture: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    return Eyes(network.eval(), network[2], True, to_tensor, mean, std, digest)


@pytest.fixture
def colour_blind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have tasks see with `mean_colour`, and keep features in a folder of the test's."""
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(task_module, "open_eyes", lambda source: mean_colour())
    monkeypatch.setattr(task_module, "digest_of", lambda source: "mean colour")


@pytest.fixture
def config() -> Callable[..., CaptionData]:
    """Return the data section for a folder."""

    def make(folder: Path, **changes: Any) -> CaptionData:
        return CaptionData.model_validate({"source": str(folder), "threshold": 1, **changes})

    return make
