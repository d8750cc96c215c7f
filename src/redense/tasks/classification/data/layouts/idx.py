"""Idx files, the layout of MNIST and its look-alikes, whole in memory.

An idx file is two zero bytes, a type (8: unsigned bytes), the number of dimensions, 4 bytes for each, and the data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import math
import os
import re
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from redense.errors import DataError
from redense.files.opening import open_regular
from redense.tasks.classification.data.sets import MAX_BYTES, ImageSet, check_claim
from redense.tasks.folders import visible

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

SAMPLE = Path(__file__).parents[4] / "samples" / "fashion-mnist"

_CHUNK = 2**20
# train-images-idx3-ubyte.gz, train-images.idx3-ubyte, emnist-letters-test-labels-idx1-ubyte
_NAME = re.compile(
    r"(?:(?P<set>[\w-]+)-)?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?P<packed>\.gz)?"
)
_KEYS = dict(zip(IDX_NAMES, itertools.product(("train", "test"), ("images", "labels")), strict=True))


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an idx file of unsigned bytes, plain or gzipped, into a uint8 tensor of that many dimensions.

    The header is checked before anything is read, and no more is decompressed than it announces.

    Raises:
        DataError: The file is missing, truncated, too long, of another type, or absurdly large.
    """
    try:
        with ExitStack() as stack:
            plain = stack.enter_context(open_regular(path))
            zipped = plain.read(2) == b"\x1f\x8b"  # the bytes decide, whatever the name says
            plain.seek(0)
            stream = stack.enter_context(gzip.GzipFile(fileobj=plain)) if zipped else plain
            return _parse_idx(path, stream, dimensions, os.fstat(plain.fileno()).st_size if zipped else None)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error or type(error).__name__}); get the file again") from error


def _parse_idx(
    path: Path, stream: gzip.GzipFile | io.BufferedReader, dimensions: int, packed: int | None = None
) -> Tensor:
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
    if packed is not None:
        check_claim(size, packed, path)
    data = bytearray()
    while len(data) < size:  # in pieces, so that a header that lies costs no memory
        piece = stream.read(min(_CHUNK, size - len(data)))
        if not piece:
            raise DataError(f"{path}: truncated, {len(data):,} bytes of the {said} that its header announces")
        data += piece
    if stream.read(1):
        raise DataError(f"{path}: longer than the {said} bytes that its header announces")
    return torch.frombuffer(data, dtype=torch.uint8).view(shape)


@dataclass(frozen=True)
class IdxFiles:
    """The four files of a set; ``name`` is what stands before ``train-images-...`` in theirs, as EMNIST has it."""

    folder: Path
    name: str
    files: dict[tuple[str, str], Path]  # by split and kind

    def is_called(self, name: str) -> bool:
        """Whether a name means this set: the whole of its name, or the end, as ``letters`` of EMNIST."""
        return bool(self.name) and name in (self.name, self.name.rpartition("-")[2])

    @property
    def shown(self) -> str:
        """The name in a message."""
        return f"{self.folder}{f' ({self.name})' if self.name else ''}"


def find_idx(folder: Path, chosen: str | None = None) -> IdxFiles | None:
    """Return the idx files in ``folder``, in torchvision's below it, or in an unpacked Debian package's.

    Args:
        folder: of the set.
        chosen: the name of one of several in a folder, such as EMNIST's ``letters``.

    Raises:
        DataError: there are several sets.
    """
    places = [folder, folder / "raw", *sorted(folder.glob("*/raw")), *sorted(folder.glob("usr/share/datasets/*"))]
    found = [idx for place in places for idx in _sets_in(place)]
    if here := [idx for idx in found if idx.folder == folder]:
        found = here
    names = [idx.name for idx in found]
    if chosen:
        found = [idx for idx in found if idx.is_called(chosen)] or found
    if len(found) > 1:
        how = "choose one with data.label" if len(set(names)) == len(names) else "give the folder of one"
        raise DataError(
            f"{folder} holds several sets: {', '.join(idx.name or str(idx.folder) for idx in found)}; {how}"
        )
    return found[0] if found else None


def _sets_in(place: Path) -> list[IdxFiles]:
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for path in visible(place.glob("*ubyte*"), place) if place.is_dir() else []:
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            split = "train" if match["split"] == "train" else "test"
            files = sets.setdefault(match["set"] or "", {})
            if (split, match["kind"]) not in files or not match["packed"]:
                files[split, match["kind"]] = path
    return [IdxFiles(place, name, files) for name, files in sorted(sets.items())]


def read_idx_set(idx: IdxFiles) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test set of four idx files.

    EMNIST's images lie on their side in its files, and are set upright.

    Raises:
        DataError: a file is missing or broken.
    """
    if missing := [name for name, key in _KEYS.items() if key not in idx.files]:
        before = f"{idx.name}-" if idx.name else ""
        names = [f"{before}{name.replace('t10k', 'test') if before else name}" for name in missing]
        raise DataError(f"{idx.shown}: no {' and no '.join(names)} (plain or .gz), expected all four idx files")
    pairs = [_read_pair(idx.files[split, "images"], idx.files[split, "labels"]) for split in ("train", "test")]
    if idx.name.startswith("emnist"):
        pairs = [(images.transpose(1, 2).contiguous(), labels) for images, labels in pairs]
    if hashlib.sha256(pairs[1][1].numpy().tobytes()).hexdigest() == _FASHION_MNIST_TEST_LABELS:
        classes = FASHION_MNIST_CLASSES
    else:  # a label that no image has, such as 0 of EMNIST's letters, is no class
        used = torch.cat([labels for _, labels in pairs]).unique()
        pairs = [(images, torch.searchsorted(used, labels.contiguous())) for images, labels in pairs]
        classes = tuple(str(label) for label in used.tolist())
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
