"""CIFAR-10 and CIFAR-100 in their binary layout, whole in memory. The Python one is pickled, and never opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from redense.errors import DataError
from redense.files.opening import read_bytes
from redense.tasks.classification.data.sets import MAX_BYTES, ImageSet

_PIXELS = 3 * 32 * 32
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _Layout:
    name: str
    inside: str
    train: tuple[str, ...]
    test: str
    labels: dict[str, tuple[str, int]]  # one byte each before the pixels of a record: the file of its classes, how many
    pickled: str  # a file of the Python version, which the binary one does not have


_LAYOUTS = (
    _Layout(
        name="cifar-10",
        inside="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        labels={"label": ("batches.meta.txt", 10)},
        pickled="data_batch_1",
    ),
    _Layout(
        name="cifar-100",
        inside="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        labels={"coarse": ("coarse_label_names.txt", 20), "fine": ("fine_label_names.txt", 100)},
        pickled="meta",
    ),
)


def find_cifar(folder: Path) -> tuple[Path, _Layout] | None:
    """Return where binary CIFAR files are in a folder, and which ones.

    Raises:
        DataError: there is the Python version, or the archive that is not unpacked.
    """
    for layout in _LAYOUTS:
        for place in (folder, folder / layout.inside):
            if any((place / name).is_file() for name in (*layout.train, layout.test)):
                return place, layout
        archive, other = f"{layout.name}-binary.tar.gz", f"{layout.name}-python.tar.gz"
        hub = f"hub:uoft-cs/{layout.name.replace('-', '')}"
        for place in (folder, folder / "cifar-10-batches-py", folder / "cifar-100-python"):
            pickles = [place / layout.pickled, place / other]
            if layout.name == "cifar-100":
                pickles[:1] = [place / layout.pickled] if (place / "train").is_file() else []
            if found := next((path for path in pickles if path.is_file()), None):
                raise DataError(
                    f"{found} is {layout.name}'s Python version, pickled, which could run any code and is never "
                    f"opened; get the binary version, {archive}, or use {hub}"
                )
        if (folder / archive).is_file():
            raise DataError(f"{folder / archive} is not unpacked: run `tar xzf {archive}` there")
    return None


def read_cifar(folder: Path, layout: _Layout, label: str | None) -> tuple[dict[str, ImageSet], list[str]]:
    """Return training and test set, and a note if they are not of the usual size.

    Args:
        folder: where the files are.
        layout: as `find_cifar` said.
        label: of CIFAR-100, ``"fine"`` (100 classes, the default) or ``"coarse"`` (20).

    Raises:
        DataError: a file is missing, truncated, or has a label that is none.
    """
    *_, usual = layout.labels
    which = usual if label is None else label.removesuffix("_label")
    if which not in layout.labels:
        raise DataError(f"{folder}: data.label must be {' or '.join(layout.labels)} for {layout.name}, got {label!r}")
    column = list(layout.labels).index(which)
    names = _read_names(folder, *layout.labels[which])
    missing = [name for name in (*layout.train, layout.test) if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: no {' and no '.join(missing)}, expected all files of {layout.name}")
    batches = [_read(folder / name, len(layout.labels), column, len(names)) for name in layout.train]
    if len({len(labels) for _, labels in batches}) > 1:
        shortest = min(range(len(batches)), key=lambda index: len(batches[index][1]))
        raise DataError(
            f"{folder / layout.train[shortest]}: has {len(batches[shortest][1]):,} images, fewer than the other "
            "files; get it again"
        )
    images, labels = (torch.cat(list(column)) for column in zip(*batches, strict=True))
    sets = {
        "train": ImageSet(images, labels, names),
        "test": ImageSet(*_read(folder / layout.test, len(layout.labels), column, len(names)), names),
    }
    counts = len(labels), len(sets["test"])
    note = f"{folder}: {counts[0]:,} + {counts[1]:,} images, the usual {layout.name} has 50,000 + 10,000"
    return sets, [] if counts == (50_000, 10_000) else [note]


def _read(path: Path, labels: int, column: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        content = np.frombuffer(read_bytes(path, MAX_BYTES), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    record = labels + _PIXELS
    if not len(content) or len(content) % record:
        raise DataError(
            f"{path}: truncated, or no CIFAR file: {len(content):,} bytes are no multiple of {record:,}; get it again"
        )
    rows = content.reshape(-1, record)
    chosen = rows[:, column].astype(np.int64)
    if len(wrong := np.flatnonzero(chosen >= classes)):
        raise DataError(
            f"{path}: image {wrong[0]} has label {chosen[wrong[0]]}, expected 0 to {classes - 1}; get it again"
        )
    images = np.ascontiguousarray(rows[:, labels:]).reshape(-1, 3, 32, 32)
    return torch.from_numpy(images), torch.from_numpy(chosen)


def _read_names(folder: Path, name: str, count: int) -> tuple[str, ...]:
    path = folder / name
    if not path.is_file():
        return _NAMES if count == len(_NAMES) else tuple(map(str, range(count)))
    names = tuple(
        line.strip() for line in read_bytes(path, MAX_BYTES).decode("utf-8", "replace").splitlines() if line.strip()
    )
    if len(names) != count or len(set(names)) != count:
        raise DataError(f"{path}: {len(names)} class names, expected {count} different ones")
    return names
