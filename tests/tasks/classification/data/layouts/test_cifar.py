"""CIFAR in its binary layout, read byte by byte; the pickled one is never opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from redense.errors import DataError
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.layouts import cifar
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.sets import ImageSet

RANDOM = np.random.default_rng(0)


def records(labels: list[list[int]]) -> bytes:
    pixels = RANDOM.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return b"".join(bytes(row) + pixel.tobytes() for row, pixel in zip(labels, pixels, strict=True))


def cifar10(folder: Path, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(records([[index % 10] for index in range(count)]))
    (folder / "batches.meta.txt").write_text("\n".join(f"name{n}" for n in range(10)) + "\n\n")
    return folder


def cifar100(folder: Path, count: int = 200) -> Path:
    folder.mkdir(parents=True)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(records([[index % 20, index % 100] for index in range(count)]))
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse{n}" for n in range(20)))
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{n}" for n in range(100)))
    return folder


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_cifar_10_is_read_pixel_by_pixel(below: str, tmp_path: Path):
    folder = cifar10(tmp_path / "set" / below)
    splits = load_splits(str(tmp_path / "set"))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [90, 10, 20]
    assert splits.train.classes == tuple(f"name{n}" for n in range(10))
    raw = np.frombuffer((folder / "test_batch.bin").read_bytes(), np.uint8).reshape(20, 3073)
    assert splits.test.images.shape == (20, 3, 32, 32)
    assert np.array_equal(splits.test.images.flatten(1).numpy(), raw[:, 1:])
    assert splits.test.labels.tolist() == raw[:, 0].tolist()
    assert "100 + 20 images, the usual cifar-10 has 50,000 + 10,000" in splits.notes[0]


def test_the_classes_of_cifar_10_are_known_without_their_file(tmp_path: Path):
    (cifar10(tmp_path / "set") / "batches.meta.txt").unlink()
    assert load_splits(str(tmp_path / "set")).train.classes[3] == "cat"


@pytest.mark.parametrize(("label", "classes"), [(None, 100), ("fine", 100), ("fine_label", 100), ("coarse", 20)])
def test_cifar_100_has_fine_classes_or_coarse_ones(label: str | None, classes: int, tmp_path: Path):
    cifar100(tmp_path / "set" / "cifar-100-binary")
    splits = load_images(ImageData(source=str(tmp_path / "set"), label=label))
    assert len(splits.train.classes) == classes
    assert splits.train.classes[0] == ("coarse0" if classes == 20 else "fine0")
    assert isinstance(splits.test, ImageSet)
    assert splits.test.labels.tolist() == [index % classes for index in range(200)]
    raw = np.frombuffer((tmp_path / "set/cifar-100-binary/test.bin").read_bytes(), np.uint8).reshape(200, 3074)
    assert torch.equal(splits.test.images.flatten(1), torch.from_numpy(raw[:, 2:].copy()))


def test_damage_is_named_by_its_file(tmp_path: Path):
    folder = cifar10(tmp_path / "set")
    whole = (folder / "data_batch_3.bin").read_bytes()

    def said(content: bytes) -> str:
        (folder / "data_batch_3.bin").write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_splits(str(folder))
        return str(caught.value)

    assert "data_batch_3.bin: truncated" in said(whole[:-5])
    assert "data_batch_3.bin: truncated" in said(b"")
    assert "data_batch_3.bin: has 19 images, fewer than the other files" in said(whole[: 19 * 3073])
    assert "data_batch_3.bin: image 2 has label 77, expected 0 to 9" in said(
        whole[: 2 * 3073] + b"\x4d" + whole[2 * 3073 + 1 :]
    )
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"no data_batch_3\.bin, expected all files of cifar-10"):
        load_splits(str(folder))


def test_names_that_do_not_fit_and_labels_that_are_none_are_refused(tmp_path: Path):
    folder = cifar100(tmp_path / "set")
    with pytest.raises(DataError, match=r"data\.label must be coarse or fine for cifar-100, got 'medium'"):
        load_images(ImageData(source=str(folder), label="medium"))
    (folder / "fine_label_names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"fine_label_names\.txt: 2 class names, expected 100"):
        load_splits(str(folder))


@pytest.mark.parametrize(
    ("files", "hub"),
    [
        (["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"], "hub:uoft-cs/cifar10"),
        (["data_batch_1"], "hub:uoft-cs/cifar10"),
        (["cifar-10-python.tar.gz"], "hub:uoft-cs/cifar10"),
        (["cifar-100-python/train", "cifar-100-python/meta"], "hub:uoft-cs/cifar100"),
        (["train", "test", "meta"], "hub:uoft-cs/cifar100"),
    ],
)
def test_the_pickled_version_is_refused_and_never_opened(files: list[str], hub: str, tmp_path: Path):
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # pyright: ignore[reportReturnType]

    for name in files:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=rf"Python version, pickled, .*get the binary version, cifar-.*or use {hub}$"):
        load_splits(str(tmp_path / "set"))
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_is_not_unpacked_is_said(tmp_path: Path):
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    with pytest.raises(DataError, match=r"not unpacked: run `tar xzf cifar-10-binary\.tar\.gz`"):
        cifar.find_cifar(tmp_path)
