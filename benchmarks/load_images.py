"""Reading an ImageNet-like folder, augmented, into normalised batches: redense against torchvision's ImageFolder.

    python benchmarks/load_images.py [--check] [--images 400] [--rounds 7]

Both decode the same JPEG files (500 x 375 pixels, about 65 KB each, in the system's file cache), take a random part of
each by the same torchvision transforms (RandomResizedCrop to 224, mirroring), normalise, and give float batches; in the
process itself and with workers. The bar: in one process redense is not slower. Beside it: how much memory the list of
a million paths takes, which each worker would copy in time if it were made of Python objects.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Bar, Contestant, finish, measure, parser, ratio, table
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from redense.lab.training.batches import Batches, loader
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data.layouts.folder import Files
from redense.tasks.classification.task import Classification
from redense.tasks.classification.vision import torchvision

AT_MOST_TORCHVISION = 1.0
SIZE, CLASSES, PATHS = 224, 4, 1_000_000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_folder(folder: Path, images: int) -> None:
    """Write JPEGs whose spectrum falls as that of photographs does, so that they are as large and as slow to decode."""
    random = np.random.default_rng(0)
    for index in range(images):
        layers = [
            Image.fromarray(random.integers(0, 256, (375 // step, 500 // step, 3), dtype=np.uint8)).resize((500, 375))
            for step in (64, 16, 4, 1)
        ]
        weights = (0.5, 0.25, 0.15, 0.1)
        pixels = sum(weight * np.asarray(layer, float) for weight, layer in zip(weights, layers, strict=True))
        for split in ("train", "val"):
            path = folder / split / f"class{index % CLASSES}" / f"{index:05}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            if split == "train" or index < CLASSES:
                Image.fromarray(np.asarray(pixels, np.uint8)).save(path, quality=90)


class ByRedense:
    """The training split of a recipe, in the engine's own loader."""

    def __init__(self, folder: Path, batch: int, images: int) -> None:
        share = CLASSES / images  # one image of each class
        data = ImageData(source=str(folder), size=SIZE, augment="scale-aspect", normalize="imagenet", validation=share)
        self.examples, self.batch = Classification(data, ImageModel()).examples("train"), batch

    def run(self, workers: int) -> int:
        self.examples.begin_epoch(1)
        batches = Batches(len(self.examples), self.batch, seed=0)
        return sum(len(labels) for _, labels in loader(self.examples, batches, workers=workers))


class ByTorchvision:
    """As torchvision's own training script reads ImageNet."""

    def __init__(self, folder: Path, batch: int, images: int) -> None:
        torchvision()
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import v2

        steps: list[nn.Module] = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        dataset = ImageFolder(str(folder / "train"), transform=v2.Compose(steps))
        self.dataset, self.batch = torch.utils.data.Subset(dataset, range(images)), batch

    def run(self, workers: int) -> int:
        batches = DataLoader(self.dataset, batch_size=self.batch, shuffle=True, num_workers=workers)
        return sum(len(labels) for _, labels in batches)


def bytes_of_paths() -> dict[str, float]:
    """Return the bytes that a path of a million takes, as arrays and as the tuples that ImageFolder keeps."""
    names = [f"train/n{index % 1000:08}/n{index % 1000:08}_{index}.JPEG" for index in range(PATHS)]
    files = Files(Path("/data"), [name.encode() for name in names], [None] * PATHS)
    ours = sum(value.nbytes for value in vars(files).values() if isinstance(value, np.ndarray))
    samples = [("/data/" + name, index % 1000) for index, name in enumerate(names)]
    theirs = sum(sys.getsizeof(pair) + sys.getsizeof(pair[0]) for pair in samples) + sys.getsizeof(samples)
    return {"redense": ours / PATHS, "torchvision": theirs / PATHS, "redense pickled": len(pickle.dumps(files)) / PATHS}


def main(arguments: list[str] | None = None) -> int:
    """Time both with each number of workers, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=7)
    options.add_argument("--images", type=int, default=400, help="images a round (default: 400)")
    options.add_argument("--batch", type=int, default=50, help="images a batch (default: 50)")
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    given = options.parse_args(arguments)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        make_folder(folder, given.images)
        os.environ["REDENSE_CACHE"] = str(Path(name) / "cache")
        ours = ByRedense(folder, given.batch, given.images)
        theirs = ByTorchvision(folder, given.batch, len(ours.examples))
        contestants: dict[str, Contestant] = {}
        for workers in given.workers:
            for who, reader in (("redense", ours), ("torchvision", theirs)):
                assert reader.run(0) == len(ours.examples)
                contestants[f"{who}, {workers} workers"] = Contestant(functools.partial(reader.run, workers))
        seconds = measure(contestants, given.rounds)
        size = sum(path.stat().st_size for path in (folder / "train").glob("*/*")) / given.images

    images = len(ours.examples)
    rates = {who: [images / second for second in times] for who, times in seconds.items()}
    notes = {who: f"{sorted(times)[len(times) // 2]:.0f} images/s" for who, times in rates.items()}
    first = given.workers[0]
    table(f"{images} JPEGs of {size / 1e3:.0f} KB to {SIZE} pixels", seconds, (f"torchvision, {first} workers",), notes)
    ratios = [ratio(seconds, f"redense, {n} workers", f"torchvision, {n} workers") for n in given.workers]
    paths = bytes_of_paths()
    print(f"a path of a million: {paths['redense']:.0f} bytes in arrays, {paths['torchvision']:.0f} as Python objects")
    return finish(
        "load_images",
        given,
        settings={"images": images, "batch": given.batch, "size": SIZE, "bytes_a_file": round(size)},
        seconds={"load": seconds},
        ratios=ratios,
        bars=[Bar(ratios[0], at_most=AT_MOST_TORCHVISION)],
        facts={"images_a_second": rates, "bytes_a_path": paths},
    )


if __name__ == "__main__":
    sys.exit(main())
