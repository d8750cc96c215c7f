"""Labelled images in memory: the shipped sample, a fetched set, idx files, or a Hugging Face data set."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import math
import random
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError, MissingExtraError, nearest
from redense.tasks import catalog

SAMPLE = Path(__file__).parents[2] / "samples" / "fashion-mnist"

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

MAX_BYTES = 4 * 2**30
"""Splits are held in memory; a file that claims more than this is refused before anything is allocated."""

_CHUNK = 2**20


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what they show: ``images`` uint8 (n, c, h, w), ``labels`` int64 (n,), one name a class."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Splits:
    """Three disjoint splits; ``fingerprint`` is the sha256 over their shapes and bytes, in this order."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    fingerprint: str


def load_splits(source: str | None, *, validation: float = 0.1, seed: int = 0) -> Splits:
    """Load a classification set, with a share ``validation`` of every class's training images held out.

    ``source`` is one of: None or ``"sample"`` (10,000 + 10,000 images of Fashion-MNIST, shipped); a name that
    ``redense data list`` shows, or ``"debian"`` for Fashion-MNIST; a folder of idx files (flat, torchvision's
    ``FashionMNIST/raw/``, or an unpacked Debian package); a folder of parquet files or of images in class
    folders; ``"hub:OWNER/NAME"``. The last two need the extra ``hub``.

    ``seed`` is the seed of this split alone. Leave it as it is from run to run, so that runs are comparable.

    >>> splits = load_splits("sample")
    >>> len(splits.train), len(splits.validation), len(splits.test), splits.train.images.shape[1:]
    (9000, 1000, 10000, torch.Size([1, 28, 28]))

    Raises:
        DataError: The data is missing, broken or unfit; the message names the file.
        MissingExtraError: The source needs Hugging Face's ``datasets``.
    """
    training, test = _load(source)
    _verify(source or "sample", training, test)
    kept, held = split_off(training.labels, validation, seed)
    splits = [
        ImageSet(training.images[kept], training.labels[kept], training.classes),
        ImageSet(training.images[held], training.labels[held], training.classes),
        test,
    ]
    for name, part in zip(("training", "validation", "test"), splits, strict=True):
        if len(part) == 0:
            raise DataError(
                f"{source or 'sample'}: the {name} split is empty ({len(training):,} training images, "
                f"validation share {validation}), expected images in every split"
            )
    return Splits(*splits, fingerprint=fingerprint(splits))


def split_off(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the sorted indices (kept, held out): round(share * n) of ``labels`` (n,) are held, stratified.

    Every class gives its share, rounded so that the total is exact, but never its last example.

    Raises:
        DataError: ``share`` is not in (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise DataError(f"the validation share must be in (0, 1), got {share}")
    counts = torch.bincount(labels).tolist()
    quotas = [share * count for count in counts]
    takes = [min(math.floor(quota), max(count - 1, 0)) for quota, count in zip(quotas, counts, strict=True)]
    # Largest remainders first, lower classes first among equals.
    for index in sorted(range(len(counts)), key=lambda index: takes[index] - quotas[index]):
        if sum(takes) < round(share * len(labels)) and takes[index] + 1 < counts[index]:
            takes[index] += 1
    held = pick(labels, takes, seed)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero().flatten(), held


def pick(labels: Tensor, counts: list[int], seed: int) -> Tensor:
    """Return the sorted indices of ``counts[i]`` random examples of every class i of ``labels`` (n,).

    The choice is the same with every version of Python, NumPy and torch: ``random.random`` is the one stream
    that is promised never to change.
    """
    stream = random.Random(seed)
    order = np.argsort([stream.random() for _ in range(len(labels))], kind="stable")
    ordered = labels.numpy()[order]
    chosen = [order[ordered == index][:count] for index, count in enumerate(counts)]
    return torch.from_numpy(np.sort(np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64)))


def fingerprint(parts: Iterable[ImageSet]) -> str:
    """Return the sha256 (hex) over the shapes and bytes of images and labels, in the order given."""
    digest = hashlib.sha256()
    for part in parts:
        for tensor in (part.images, part.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _load(source: str | None) -> tuple[ImageSet, ImageSet]:
    if source is None or source == "sample":
        return _read_idx_set(SAMPLE)
    if source == "debian":
        source = "fashion-mnist"
    if source in catalog.SOURCES:
        return _read_idx_set(catalog.check(catalog.SOURCES[source]))
    if source.startswith("hub:"):
        return _read_hub(source.removeprefix("hub:"), source, local=False)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        names = ["sample", "debian", *catalog.SOURCES]
        raise DataError(
            f"no data at {source!r}: expected one of {', '.join(names)}, an existing folder, "
            f"or hub:OWNER/NAME{nearest(source, names)}"
        )
    found = _find_idx(folder)
    if found is not None:
        return _read_idx_set(found)
    if _holds_images(folder):
        return _read_hub(str(folder.absolute()), source, local=True)
    raise DataError(
        f"{folder}: neither idx files ({', '.join(IDX_NAMES)}, each plain or .gz), nor parquet files, "
        "nor images in folders train/CLASS/ and test/CLASS/"
    )


def _verify(source: str, training: ImageSet, test: ImageSet) -> None:
    """Refuse what no classifier can be trained and tested on."""
    for name, part in (("training", training), ("test", test)):
        if len(part) == 0:
            raise DataError(f"{source}: there are no {name} images, expected at least one")
    if training.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{source}: training images are {_shape(training.images)}, test images {_shape(test.images)} "
            "(channels, height, width); they must be alike"
        )
    known, tested = set(training.labels.tolist()), set(test.labels.tolist())
    if len(known) < 2:
        only = training.classes[next(iter(known))]
        raise DataError(f"{source}: every training image is of class {only!r}, expected at least two classes")
    if unknown := sorted(tested - known):
        names = ", ".join(repr(test.classes[label]) for label in unknown[:5])
        raise DataError(f"{source}: the test images show classes that no training image shows: {names}")


def _shape(images: Tensor) -> str:
    return str(tuple(images.shape[1:]))


# idx files: two zero bytes, a type (8: unsigned bytes), the number of dimensions, 4 bytes for each, the data


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


def _find_idx(folder: Path) -> Path | None:
    """Return the folder of idx files: ``folder``, torchvision's below it, or an unpacked Debian package's."""
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


def _read_idx_set(folder: Path) -> tuple[ImageSet, ImageSet]:
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


# Hugging Face data sets, on the hub or in a folder


def _holds_images(folder: Path) -> bool:
    suffixes = {".parquet", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    below = itertools.chain.from_iterable(folder.glob(pattern) for pattern in ("*", "*/*", "*/*/*"))
    return any(path.suffix.lower() in suffixes for path in below)


def _read_hub(path: str, source: str, *, local: bool) -> tuple[ImageSet, ImageSet]:
    try:
        import datasets
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{source} is a Hugging Face data set, which needs another package: pip install 'redense[hub]'"
        ) from error
    try:
        # A local folder is read where it lies; only what is downloaded goes through the cache of `datasets`.
        parts: Any = datasets.load_dataset(path, streaming=local)
    except Exception as error:  # `datasets` raises what its many back ends raise
        check = "its files" if local else "the name and the network"
        raise DataError(f"{source}: cannot be loaded ({_first_line(error)}); check {check}") from error
    if missing := [name for name in ("train", "test") if name not in parts]:
        raise DataError(
            f"{source}: no split {' and '.join(map(repr, missing))} (it has {', '.join(map(repr, parts))}); "
            "expected 'train', from which the validation split is taken, and 'test'"
        )
    image, label = _columns(parts["train"].features or {}, source, datasets)
    names: list[str] | None = getattr(parts["train"].features[label], "names", None)
    tensors = [_decode(parts[name], image, label, f"{source} ({name})") for name in ("train", "test")]
    channels = max(images.shape[1] for images, _ in tensors)
    top = max(int(labels.max()) for _, labels in tensors)
    classes = tuple(names) if names else tuple(str(index) for index in range(top + 1))
    if top >= len(classes):
        raise DataError(f"{source}: label {top} has no name, expected labels below {len(classes)}")
    training, test = (
        ImageSet(images.expand(-1, channels, -1, -1).contiguous(), labels, classes) for images, labels in tensors
    )
    return training, test


def _columns(features: dict[str, Any], source: str, datasets: Any) -> tuple[str, str]:
    """Find the image column and the label column by their types: a ClassLabel, or else the only integer."""

    def only(kind: str, names: list[str]) -> str:
        if len(names) != 1:
            have = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
            found = f"the columns {', '.join(map(repr, names))} could all be it" if names else "there is none"
            raise DataError(f"{source}: expected one {kind} column, but {found} (columns: {have or 'unknown'})")
        return names[0]

    image = only("image", [name for name, feature in features.items() if isinstance(feature, datasets.Image)])
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels:
        labels = [name for name, feature in features.items() if "int" in str(getattr(feature, "dtype", ""))]
    return image, only("label", labels)


def _decode(rows: Iterable[dict[str, Any]], image: str, label: str, where: str) -> tuple[Tensor, Tensor]:
    """Decode every row: uint8 (n, 1 or 3, h, w), grey only if all are grey, and int64 (n,)."""
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    stream = iter(rows)
    for index in itertools.count():
        try:
            row = next(stream)
            array = _pixels(row[image])
        except StopIteration:
            break
        except Exception as error:  # Pillow raises a dozen kinds for a broken image
            raise DataError(f"{where}: image {index} cannot be decoded ({_first_line(error)})") from error
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise DataError(
                f"{where}: image {index} is {array.shape[0]} x {array.shape[1]} pixels but the first is "
                f"{arrays[0].shape[0]} x {arrays[0].shape[1]}; resize them to one size first"
            )
        if array.size * (index + 1) > MAX_BYTES:
            raise DataError(f"{where}: more than {MAX_BYTES:,} bytes of pixels, expected a set that fits in memory")
        if not isinstance(row[label], int) or row[label] < 0:
            raise DataError(f"{where}: image {index} has label {row[label]!r}, expected a class number from 0")
        arrays.append(array)
        labels.append(row[label])
    if not arrays:
        raise DataError(f"{where}: there are no images, expected at least one")
    channels = max(array.shape[2] for array in arrays)
    images = np.empty((len(arrays), channels, *arrays[0].shape[:2]), np.uint8)
    for index, array in enumerate(arrays):
        images[index] = array.transpose(2, 0, 1)  # a grey image is repeated over the colours
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def _pixels(image: Any) -> np.ndarray:
    """Return (h, w, 1) of a grey Pillow image, or (h, w, 3); transparency is dropped."""
    if image is None:
        raise ValueError("it is empty")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"mode {image.mode}, expected 8 bits a channel")
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
