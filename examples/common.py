"""What the examples share and redense has no part in: real images, a small network, its test error; mails."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

IMAGES = Path(__file__).resolve().parent.parent / "src" / "redense" / "samples" / "fashion-mnist"

# Optimizer steps of the three phases; `--quick` only shows that a script runs.
QUICK = "--quick" in sys.argv
DENSE, SPARSE, REDENSE = (4, 3, 3) if QUICK else (400, 200, 200)
STEPS = DENSE + SPARSE + REDENSE


class Net(nn.Sequential):
    """A small CNN of 28 x 28 grey images, ten classes."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(64 * 3 * 3, 128), nn.ReLU(), nn.Linear(128, 10))


def dataset(part: str) -> torch.utils.data.TensorDataset:
    """Return Fashion-MNIST images (N, 1, 28, 28) and labels: ``train`` or ``t10k``, 10,000 each."""
    files = (IMAGES / f"{part}-images-idx3-ubyte.gz", IMAGES / f"{part}-labels-idx1-ubyte.gz")
    contents = (bytearray(gzip.decompress(file.read_bytes())) for file in files)
    images, labels = (torch.frombuffer(content, dtype=torch.uint8) for content in contents)
    return torch.utils.data.TensorDataset(images[16:].view(-1, 1, 28, 28) / 255 - 0.29, labels[8:].long())


def loader(steps: int = STEPS, *, batch_size: int = 64) -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    """Return batches for so many steps of every rank, each image once an epoch; a rank has its own.

    With ``--quick`` a batch has 8 images.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    batch_size = 8 if QUICK else batch_size
    data = dataset("train")
    epochs = -(-steps * batch_size * world // len(data))
    generator = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(epochs)])
    mine = order[rank::world][: steps * batch_size].tolist()
    return torch.utils.data.DataLoader(data, batch_size=batch_size, sampler=mine)


def test_error(model: nn.Module) -> float:
    """Return the part of the 10,000 test images (500 with ``--quick``) that the model gets wrong."""
    images, labels = (tensor[: 500 if QUICK else 10_000] for tensor in dataset("t10k").tensors)
    model.eval()
    with torch.no_grad():
        wrong = sum(int((model(x).argmax(1) != y).sum()) for x, y in _batches(images, labels))
    return wrong / len(labels)


def _batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(images.split(500), labels.split(500), strict=True)


def mails() -> list[tuple[bytes, int]]:
    """Return mails and whether each is unwanted."""
    if QUICK:
        kinds = ((b"win a prize now", 1), (b"see you at noon", 0))
        return [(text + str(place).encode(), unwanted) for place in range(40) for text, unwanted in kinds]
    folder = Path(sys.argv[1])
    found = [
        (path.read_bytes().partition(b"\n\n")[2], int(path.parent.name.startswith("spam")))
        for path in sorted(folder.glob("*/*.txt"))
    ]
    if not found:
        raise SystemExit(f"{folder} has no mails: expected folders such as spam-1 and easy-ham-1 with text files")
    return found
