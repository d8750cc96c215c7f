"""Idx files, the layout of MNIST and its look-alikes, whole in memory.

An idx file is two zero bytes, a type (8: unsigned bytes), the number of dimensions, 4 bytes for each, and the data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from redense.errors import DataError

from .sets import MAX_BYTES, ImageSet

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# idx files hold no names. The test labels tell Fashion-MNIST from its many look-alikes, wherever it lies.
_FASHION_MNIST_TEST_LABELS = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"

SAMPLE = Path(__file__).parents[3] / "samples" / "fashion-mnist"

_CHUNK = 2**20


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an idx file of unsigned bytes, plain or gzipped, into a uint8 tensor of that many dimensions.

    The header is checked before anything is read, and no more is decompressed than it announces.

    Raises:
        DataError: The file is missing, truncated, too long, of another type, or absurdly large.
    """
    try:
        with ExitStack() as stack:
            plain = stack.enter_context(path.open("rb"))
            zipped = plain.read(2) == b"\x1f\x8b"  # the bytes decide, whatever the name says
            plain.seek(0)
            return _parse_idx(path, stack.enter_context(gzip.GzipFile(fileobj=plain)) if zipped else plain, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error or type(error).__name__}); get the file again") from error


def _parse_idx(path: Path, stream: gzip.GzipFile | io.BufferedReader, dimensions: int) -> Tensor:
    expected = bytes((0, 0, 8, dimensions))
    magic = stream.read(4)
    if magic != expected:
        raise DataError(
            f"{path}: starts with {magic.hex(' ') or 'nothing'}, expected {expected.hex(' ')} "
            f"(an idx file of unsigned bytes with {dimensions} dimension{'s' * (dimensions > 1)})"
        )
    header = stream.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise DataError(f"{path}: ends within its header; get the file again")
    shape = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(0, len(header), 4))
    size = math.prod(shape)
    said = " x ".join(f"{length:,}" for length in shape)
    if size == 0 or size > MAX_BYTES:
        raise DataError(f"{path}: its header announces {said} bytes, expected between 1 and {MAX_BYTES:,}")
    data = bytearray()
    while len(data) < size:  # in pieces, so that a header that lies costs no memory
        piece = stream.read(min(_CHUNK, size - len(data)))
        if not piece:
            raise DataError(f"{path}: truncated, {len(data):,} bytes of the {said} that its header announces")
        data += piece
    if stream.read(1):
        raise DataError(f"{path}: longer than the {said} bytes that its header announces")
    return torch.frombuffer(data, dtype=torch.uint8).view(shape)


def find_idx(folder: Path) -> Path | None:
    """Return the folder of idx files: ``folder``, torchvision's below it, or an unpacked Debian package's.

    Raises:
        DataError: there are several sets.
    """
    candidates = [
        folder,
        folder / "raw",
        *sorted(folder.glob("*/raw")),
        *sorted(folder.glob("usr/share/datasets/*")),
    ]
    found = [candidate for candidate in candidates if any(_idx_path(candidate, name) for name in IDX_NAMES)]
    if len(found) > 1 and found[0] != folder:
        raise DataError(f"{folder} holds several sets: {', '.join(map(str, found))}; give the folder of one")
    return found[0] if found else None


def _idx_path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx_set(folder: Path) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test set of a folder of four idx files.

    Raises:
        DataError: a file is missing or broken.
    """
    paths = [path for name in IDX_NAMES if (path := _idx_path(folder, name)) is not None]
    if len(paths) != len(IDX_NAMES):
        missing = [name for name in IDX_NAMES if _idx_path(folder, name) is None]
        raise DataError(f"{folder}: no {' and no '.join(missing)} (plain or .gz), expected all four idx files")
    pairs = [_read_pair(*paths[:2]), _read_pair(*paths[2:])]
    if hashlib.sha256(pairs[1][1].numpy().tobytes()).hexdigest() == _FASHION_MNIST_TEST_LABELS:
        classes = FASHION_MNIST_CLASSES
    else:
        classes = tuple(str(label) for label in range(1 + max(int(labels.max()) for _, labels in pairs)))
    training, test = (ImageSet(images.unsqueeze(1), labels.long(), classes) for images, labels in pairs)
    return training, test


def _read_pair(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    labels, images = read_idx(labels_path, 1), read_idx(images_path, 3)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images):,} images but {labels_path} holds {len(labels):,} labels; "
            "they must come from the same set"
        )
    return images, labels
