"""Reading a folder of large pictures, augmented, into normalised batches: redense against torchvision's ImageFolder.

    python benchmarks/load_large_images.py [--check] [--images 16] [--rounds 5]

JPEGs of 4000 x 3000 pixels, as a telephone takes them, in the system's file cache. Of each a random part is taken by
the same torchvision transforms (RandomResizedCrop to 224, mirroring). redense decodes such a JPEG at a fraction of its
size and keeps the result in its cache: in the first epoch it decodes and writes, in the second it reads what it kept.
Counted is processor time, which others on the machine disturb least. Bars: torchvision takes at least 3 times as long
as the first epoch, 10 times as long as the second.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import Bar, Contestant, finish, measure, parser, ratio, table
from load_images import CLASSES, SIZE, ByRedense, ByTorchvision
from PIL import Image

from redense.tasks.caches import PICTURES

AT_MOST_IN_THE_FIRST, AT_MOST_IN_THE_SECOND = 1 / 3, 1 / 10


def make_folder(folder: Path, images: int, width: int, height: int) -> None:
    """Write JPEGs with the detail of photographs: most of it coarse, a little of every size down to a few pixels.

    One picture a class is made; it is written under as many names as there are images.
    """
    random = np.random.default_rng(0)
    for kind in range(CLASSES):
        layers = [
            Image.fromarray(random.integers(0, 256, (max(1, height // step), max(1, width // step), 3), dtype=np.uint8))
            for step in (500, 100, 20, 4)
        ]
        weights = (0.5, 0.25, 0.15, 0.1)
        pixels = np.zeros((height, width, 3), np.float32)
        for weight, layer in zip(weights, layers, strict=True):
            pixels += weight * np.asarray(layer.resize((width, height)), np.float32)
        picture = Image.fromarray(pixels.astype(np.uint8))
        for index in range(kind, images + CLASSES, CLASSES):  # the last ones are the test split
            path = folder / ("train" if index < images else "val") / f"class{kind}" / f"{index:05}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=90, comment=str(index).encode())


def main(arguments: list[str] | None = None) -> int:
    """Time both epochs and torchvision, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--images", type=int, default=16, help="images a round (default: 16)")
    options.add_argument("--batch", type=int, default=4, help="images a batch (default: 4)")
    options.add_argument("--width", type=int, default=4000, help="pixels (default: 4000)")
    options.add_argument("--height", type=int, default=3000, help="pixels (default: 3000)")
    given = options.parse_args(arguments)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        make_folder(folder, given.images, given.width, given.height)
        os.environ["REDENSE_CACHE"] = str(Path(name) / "cache")
        ours = ByRedense(folder, given.batch, given.images)
        theirs = ByTorchvision(folder, given.batch, len(ours.examples))
        fill = functools.partial(ours.run, 0)
        contestants = {
            "torchvision": Contestant(functools.partial(theirs.run, 0)),
            "first epoch": Contestant(fill, prepare=PICTURES.clear),
            "second epoch": Contestant(fill, prepare=fill),
        }
        seconds = measure(contestants, given.rounds, time.process_time)  # the files lie in the system's cache
        size = sum(path.stat().st_size for path in (folder / "train").glob("*/*")) / given.images
        kept = PICTURES.size() / len(ours.examples)

    images = len(ours.examples)
    rates = {who: [images / second for second in times] for who, times in seconds.items()}
    notes = {who: f"{sorted(times)[len(times) // 2]:.1f} images/s" for who, times in rates.items()}
    table(f"{images} JPEGs of {given.width} x {given.height} to {SIZE} pixels", seconds, ("torchvision",), notes)
    print(f"a file has {size / 1e6:.1f} MB, what is kept of it {kept / 1e6:.1f} MB")
    first, second = (ratio(seconds, f"{which} epoch", "torchvision") for which in ("first", "second"))
    return finish(
        "load_large_images",
        given,
        settings={"images": images, "batch": given.batch, "size": SIZE, "width": given.width, "height": given.height},
        seconds={"load": seconds},
        ratios=[first, second],
        bars=[Bar(first, at_most=AT_MOST_IN_THE_FIRST), Bar(second, at_most=AT_MOST_IN_THE_SECOND)],
        facts={"images_a_second": rates, "bytes_a_file": round(size), "bytes_kept": round(kept)},
    )


if __name__ == "__main__":
    sys.exit(main())
