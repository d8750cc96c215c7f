"""Folders of idx files and their parser: what is read, and what is refused by name."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redense.errors import DataError
from redense.tasks.classification.data.layouts.idx import IDX_NAMES, read_idx
from redense.tasks.classification.data.loading import load_splits


def idx(array: np.ndarray, magic: bytes = b"\0\0\x08") -> bytes:
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return magic + bytes([array.ndim]) + lengths + array.astype(np.uint8).tobytes()


def arrays(train: int = 40, test: int = 20, classes: int = 4, size: int = 5) -> dict[str, np.ndarray]:
    """A set of random images with every class equally often."""
    random = np.random.default_rng(0)
    return {
        IDX_NAMES[0]: random.integers(0, 256, (train, size, size)),
        IDX_NAMES[1]: np.arange(train) % classes,
        IDX_NAMES[2]: random.integers(0, 256, (test, size, size)),
        IDX_NAMES[3]: np.arange(test) % classes,
    }


def write(folder: Path, contents: dict[str, np.ndarray], *, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in contents.items():
        (folder / f"{name}{'.gz' * zipped}").write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return folder


# Folders of idx files


@pytest.mark.parametrize("below", ["", "raw", "FashionMNIST/raw", "usr/share/datasets/fashion-mnist"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_idx_files_are_found_in_every_known_layout(below: str, zipped: bool, tmp_path: Path):
    contents = arrays()
    write(tmp_path / "set" / below, contents, zipped=zipped)
    splits = load_splits(str(tmp_path / "set"), validation=0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [32, 8, 20]
    assert splits.train.classes == ("0", "1", "2", "3")
    assert np.array_equal(splits.test.images[:, 0].numpy(), contents[IDX_NAMES[2]])
    assert splits.test.labels.tolist() == contents[IDX_NAMES[3]].tolist()
    seen = torch.cat([splits.train.images, splits.validation.images])[:, 0].numpy()
    assert sorted(map(bytes, seen)) == sorted(map(bytes, contents[IDX_NAMES[0]].astype(np.uint8)))


@pytest.mark.parametrize("place", range(len(IDX_NAMES)))
def test_one_changed_byte_anywhere_changes_the_fingerprint(place: int, tmp_path: Path):
    contents = arrays()
    before = load_splits(str(write(tmp_path, contents))).fingerprint
    flat = contents[IDX_NAMES[place]].reshape(-1)
    flat[3] = 2 if place % 2 else (flat[3] + 1) % 256
    assert load_splits(str(write(tmp_path, contents))).fingerprint != before


def changed(**changes: Any) -> dict[str, np.ndarray]:
    """The usual set with one array replaced (x, y: training images and labels; tx, ty: test)."""
    names: dict[str, str] = dict(zip(("x", "y", "tx", "ty"), IDX_NAMES, strict=True))
    return arrays() | {names[short]: array for short, array in changes.items()}


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (changed(y=np.arange(39) % 4), r"train-images.* 40 images but .*train-labels.* 39 labels"),
        (changed(ty=np.arange(21) % 4), r"t10k-images.* 20 images but .*t10k-labels.* 21 labels"),
        (changed(x=np.zeros((0, 5, 5)), y=np.zeros(0)), r"train-labels.* announces 0 bytes"),
        (changed(tx=np.zeros((0, 5, 5)), ty=np.zeros(0)), r"t10k-labels.* announces 0 bytes"),
        (changed(tx=np.zeros((20, 0, 5))), r"t10k-images.* announces 20 x 0 x 5 bytes"),
        (changed(y=np.full(40, 3)), r"every training image is of class '3', expected at least two"),
        (changed(ty=np.full(20, 7)), r"test images show classes that no training image shows: '7'"),
        (changed(tx=np.zeros((20, 6, 5))), r"training images are \(1, 5, 5\), test images \(1, 6, 5\)"),
        (changed(x=np.zeros((40, 5))), r"train-images.*starts with 00 00 08 02, expected 00 00 08 03"),
        (changed(y=np.arange(40)[:, None] % 4), r"train-labels.*starts with 00 00 08 02, expected 00 00 08 01"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused_by_name(contents: dict[str, np.ndarray], complaint: str, tmp_path: Path):
    write(tmp_path, contents)
    with pytest.raises(DataError, match=complaint):
        load_splits(str(tmp_path))


def test_a_validation_split_that_would_be_empty_is_refused(tmp_path: Path):
    write(tmp_path, arrays(train=4))
    with pytest.raises(DataError, match="validation split is empty"):
        load_splits(str(tmp_path))


def test_missing_idx_files_are_named(tmp_path: Path):
    write(tmp_path, arrays())
    (tmp_path / IDX_NAMES[1]).unlink()
    (tmp_path / IDX_NAMES[2]).unlink()
    with pytest.raises(DataError, match=r"no train-labels-idx1-ubyte and no t10k-images-idx3-ubyte"):
        load_splits(str(tmp_path))


def test_a_folder_with_two_sets_is_ambiguous(tmp_path: Path):
    write(tmp_path / "MNIST/raw", arrays())
    write(tmp_path / "FashionMNIST/raw", arrays())
    with pytest.raises(DataError, match=r"several sets: .*FashionMNIST/raw, .*/MNIST/raw"):
        load_splits(str(tmp_path))
    assert len(load_splits(str(tmp_path / "MNIST")).test) == 20


# The idx parser


def parse(content: bytes, dimensions: int) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some-idx"
        path.write_bytes(content)
        return read_idx(path, dimensions)


shapes = st.integers(1, 3).flatmap(lambda ndim: st.tuples(*[st.integers(1, 6)] * ndim))
idx_arrays = shapes.flatmap(
    lambda shape: st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
        lambda content: np.frombuffer(content, np.uint8).reshape(shape)
    )
)


@given(array=idx_arrays, zipped=st.booleans())
def test_an_idx_file_is_read_as_it_was_written(array: np.ndarray, zipped: bool):
    content = gzip.compress(idx(array)) if zipped else idx(array)
    assert np.array_equal(parse(content, array.ndim).numpy(), array)


@given(array=idx_arrays, zipped=st.booleans(), share=st.floats(0, 1, exclude_max=True))
def test_an_idx_file_cut_anywhere_is_refused(array: np.ndarray, zipped: bool, share: float):
    content = gzip.compress(idx(array)) if zipped else idx(array)
    with pytest.raises(DataError, match="some-idx"):
        parse(content[: int(share * len(content))], array.ndim)


@given(array=idx_arrays, zipped=st.booleans(), more=st.binary(min_size=1, max_size=4))
def test_an_idx_file_with_more_than_its_header_says_is_refused(array: np.ndarray, zipped: bool, more: bytes):
    content = gzip.compress(idx(array) + more) if zipped else idx(array) + more
    with pytest.raises(DataError, match="some-idx: longer than"):
        parse(content, array.ndim)


@given(array=idx_arrays, position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_gzipped_idx_file_never_yields_other_data(array: np.ndarray, position: int, bit: int):
    content = bytearray(gzip.compress(idx(array)))
    content[position % len(content)] ^= 1 << bit
    try:
        read = parse(bytes(content), array.ndim)
    except DataError:
        return
    assert np.array_equal(read.numpy(), array)  # a date or a flag of the gzip header


@settings(max_examples=300)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda tail: b"\0\0\x08\x03" + tail),
        st.binary(max_size=60).map(lambda tail: b"\x1f\x8b" + tail),
        st.binary(max_size=60).map(gzip.compress),
    )
)
def test_arbitrary_bytes_are_read_or_refused_but_never_crash(content: bytes):
    with contextlib.suppress(DataError):
        assert parse(content, 3).ndim == 3


@pytest.mark.parametrize("magic", [b"\0\0\x0d", b"\x01\0\x08", b"PK\x03"])
def test_another_magic_is_refused_with_what_was_found(magic: bytes):
    with pytest.raises(DataError, match=f"starts with {magic.hex(' ')} 01, expected 00 00 08 01"):
        parse(idx(np.arange(4), magic), 1)


@pytest.mark.parametrize("lengths", [(2**32 - 1, 2**32 - 1, 2**32 - 1), (2**31, 28, 28), (0, 28, 28)])
def test_an_absurd_size_is_refused_before_anything_is_read(lengths: tuple[int, ...]):
    header = b"\0\0\x08\x03" + b"".join(length.to_bytes(4, "big") for length in lengths)
    with pytest.raises(DataError, match="its header announces"):
        parse(header, 3)


def test_a_gzip_bomb_is_decompressed_no_further_than_its_header_says(monkeypatch: pytest.MonkeyPatch):
    bomb = gzip.compress(idx(np.zeros((2, 2, 2))) + bytes(50_000_000))
    assert len(bomb) < 60_000
    read = 0
    original = gzip.GzipFile.read

    def counting(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal read
        assert size is not None
        assert size >= 0
        content = original(self, size)
        read += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    with pytest.raises(DataError, match="longer than the 2 x 2 x 2 bytes"):
        parse(bomb, 3)
    assert read == 16 + 8 + 1


def test_a_header_that_promises_gigabytes_costs_no_memory():
    import tracemalloc

    header = b"\0\0\x08\x03" + b"".join(length.to_bytes(4, "big") for length in (4_000_000, 32, 32))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="33 bytes would become 4,096,000,000"):
            parse(gzip.compress(header + bytes(10)), 3)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_an_unreadable_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_idx(tmp_path / "nowhere", 1)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, 1)
