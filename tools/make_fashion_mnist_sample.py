"""Make the sample of Fashion-MNIST that redense ships: 10,000 of the training images and all test images.

    python tools/make_fashion_mnist_sample.py [--source FOLDER] [--out FOLDER]

The full set is fetched through ``redense.tasks.catalog`` unless ``--source`` names a folder with its files.
Running it twice writes identical bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import shutil
from pathlib import Path

from torch import Tensor

from redense.tasks import catalog
from redense.tasks.classification.data.layouts.idx import IDX_NAMES, SAMPLE, read_idx
from redense.tasks.classification.data.splits import pick

PER_CLASS = 1_000
SEED = 20_170_825  # Not the seed of the validation split: the two choices must be independent of each other.

README = """\
# A sample of Fashion-MNIST

10,000 training images (1,000 of each of the ten classes, in the order of the full set) and the 10,000
test images, 28 x 28 pixels, 8-bit grey, as gzipped idx files. The test files are the original ones,
byte for byte.

Classes 0 to 9: T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot.

Made by `tools/make_fashion_mnist_sample.py` (seed {seed}) from the full set of 60,000 + 10,000 images:
<https://github.com/zalandoresearch/fashion-mnist>, here from the Debian package `{package}`. Han Xiao,
Kashif Rasul and Roland Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", arXiv:1708.07747, 2017.

## sha256

Of the files here:

{shipped}

Of the files they were made from:

{originals}

## Licence

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction, including
without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN
NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def idx_gz(tensor: Tensor) -> bytes:
    """Return a uint8 tensor as a gzipped idx file, the same bytes every time (no name, no date within)."""
    header = bytes((0, 0, 8, tensor.ndim)) + b"".join(length.to_bytes(4, "big") for length in tensor.shape)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(header + tensor.numpy().tobytes())
    return packed.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Write the four files and the README, and say what was written."""
    parser = argparse.ArgumentParser(description="Make the sample of Fashion-MNIST that redense ships.")
    parser.add_argument("--source", type=Path, help="folder with the four .gz files of the full set")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="where to write (default: the package)")
    options = parser.parse_args(arguments)
    source = catalog.find("fashion-mnist")
    full: Path = options.source or catalog.get(source)
    for file in source.files:
        if hashlib.sha256((full / file.name).read_bytes()).hexdigest() != file.sha256:
            raise SystemExit(f"{full / file.name} is not the original file")

    images, labels = read_idx(full / f"{IDX_NAMES[0]}.gz", 3), read_idx(full / f"{IDX_NAMES[1]}.gz", 1)
    chosen = pick(labels, [PER_CLASS] * 10, SEED)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{IDX_NAMES[0]}.gz").write_bytes(idx_gz(images[chosen]))
    (out / f"{IDX_NAMES[1]}.gz").write_bytes(idx_gz(labels[chosen]))
    for name in IDX_NAMES[2:]:
        shutil.copyfile(full / f"{name}.gz", out / f"{name}.gz")

    digests = {name: hashlib.sha256((out / f"{name}.gz").read_bytes()).hexdigest() for name in IDX_NAMES}
    shipped = "\n".join(f"    {digest}  {name}.gz" for name, digest in digests.items())
    originals = "\n".join(f"    {file.sha256}  {file.name}" for file in source.files)
    text = README.format(seed=SEED, package=source.packages[0].name, shipped=shipped, originals=originals)
    (out / "README.md").write_text(text, encoding="utf-8")
    print(f"{len(chosen):,} training images and the test images, in {out}\n{shipped}")


if __name__ == "__main__":
    main()
