"""Splits, idx files and Hugging Face folders: what is read, and what is refused by name."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redense.errors import DataError, MissingExtraError
from redense.tasks import catalog
from redense.tasks.classification import data
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data import (
    IDX_NAMES,
    EncodedSet,
    ImageSet,
    Splits,
    limit_to,
    load_images,
    load_splits,
    pick,
    read_idx,
    split_off,
)


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


@pytest.fixture(scope="module")
def sample() -> Splits:
    return load_splits(None)


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


# The shipped sample


def test_the_sample_has_9000_training_1000_validation_and_10000_test_images(sample: Splits):
    for part, per_class in ((sample.train, 900), (sample.validation, 100), (sample.test, 1000)):
        assert part.images.shape == (10 * per_class, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert torch.bincount(part.labels).tolist() == [per_class] * 10
        assert part.classes == data.FASHION_MNIST_CLASSES


def test_no_training_image_of_the_sample_is_in_its_validation_split(sample: Splits):
    train = {image.numpy().tobytes() for image in sample.train.images}
    shared = sum(image.numpy().tobytes() in train for image in sample.validation.images)
    assert shared == 0


def test_the_test_files_of_the_sample_are_the_original_ones():
    for file in catalog.find("fashion-mnist").files[2:]:
        assert hashlib.sha256((data.SAMPLE / file.name).read_bytes()).hexdigest() == file.sha256


def test_the_readme_of_the_sample_has_the_licence_and_the_checksums():
    text = (data.SAMPLE / "README.md").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text
    for name in IDX_NAMES:
        digest = hashlib.sha256((data.SAMPLE / f"{name}.gz").read_bytes()).hexdigest()
        assert f"{digest}  {name}.gz" in text


def test_the_sample_and_its_split_are_the_same_as_ever(sample: Splits):
    # If this fails, every earlier result was measured on other data: say so in the changelog.
    assert sample.fingerprint == "4ddbc8277ed2da4724f547e9cf7150a39de6cf9924c19425e0a25013cd13a884"
    assert load_splits("sample").fingerprint == sample.fingerprint


def test_another_split_seed_changes_the_fingerprint_and_not_the_test_split(sample: Splits):
    other = load_splits("sample", seed=1)
    assert other.fingerprint != sample.fingerprint
    assert torch.equal(other.test.images, sample.test.images)


@pytest.mark.slow
def test_the_sample_is_made_from_the_full_set_byte_for_byte(tmp_path: Path):
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
    try:
        import make_fashion_mnist_sample as tool  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    full = catalog.get(catalog.find("fashion-mnist"))
    tool.main(["--out", str(tmp_path / "sample")])
    read = {path.name: path.read_bytes() for path in (tmp_path / "sample").iterdir()}
    assert read == {path.name: path.read_bytes() for path in data.SAMPLE.iterdir()}

    splits = load_splits("debian")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [54_000, 6_000, 10_000]
    assert torch.bincount(splits.validation.labels).tolist() == [600] * 10
    assert splits.fingerprint == load_splits("fashion-mnist").fingerprint == load_splits(str(full)).fingerprint


# Splitting


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(lambda counts: sum(counts) > 0),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_a_split_is_disjoint_complete_stratified_and_exact(counts: list[int], share: float, seed: int):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    kept, held = split_off(labels, share, seed)
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    for part in (kept, held):
        assert part.tolist() == sorted(part.tolist())
    taken = torch.bincount(labels[held], minlength=len(counts)).tolist()
    for count, take in zip(counts, taken, strict=True):
        assert take <= max(count - 1, 0)
        assert abs(take - share * count) <= 1 + 1e-6
    possible = sum(max(count - 1, 0) for count in counts)
    assert len(held) <= max(round(share * len(labels)), 0)
    if all(count >= 1 / (1 - share) + 1 for count in counts):
        assert len(held) == min(round(share * len(labels)), possible)


def test_a_split_depends_on_its_seed_alone():
    labels = torch.arange(100) % 2
    torch.manual_seed(1)
    first = split_off(labels, 0.3, 0)[1].tolist()
    torch.manual_seed(2)
    assert split_off(labels, 0.3, 0)[1].tolist() == first
    assert split_off(labels, 0.3, 1)[1].tolist() != first


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(lambda counts: sum(counts) > 0),
    limit=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_a_limit_is_exact_and_stratified_and_keeps_every_class_it_can(counts: list[int], limit: int, seed: int):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kept = limit_to(labels, limit, seed)
    assert len(kept) == min(limit, len(labels))
    assert kept.tolist() == sorted(set(kept.tolist()))
    taken = torch.bincount(labels[kept], minlength=len(counts)).tolist()
    if limit >= sum(count > 0 for count in counts):
        assert all(take > 0 for take, count in zip(taken, counts, strict=True) if count)
    if limit >= 10 * len(counts) and min(counts) * limit >= len(labels):  # no class needs a favour
        for take, count in zip(taken, counts, strict=True):
            assert abs(take - min(limit / len(labels), 1) * count) <= 1 + 1e-6


def test_pick_is_the_same_on_every_version():
    assert pick(torch.arange(20) % 2, [3, 2], seed=7).tolist() == [3, 6, 8, 10, 11]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_validation_share_outside_0_to_1_is_refused(share: float):
    with pytest.raises(DataError, match=r"in \(0, 1\)"):
        load_splits("sample", validation=share)


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


def test_the_shipped_sample_as_a_plain_folder_is_the_same_set(sample: Splits, tmp_path: Path):
    for name in IDX_NAMES:
        (tmp_path / name).write_bytes(gzip.decompress((data.SAMPLE / f"{name}.gz").read_bytes()))
    splits = load_splits(str(tmp_path))
    assert splits.fingerprint == sample.fingerprint
    assert splits.train.classes == data.FASHION_MNIST_CLASSES


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


@pytest.mark.parametrize("name", ["fashion-mnist", "debian"])
def test_a_source_that_is_not_there_says_how_to_get_it(name: str):
    with pytest.raises(DataError, match="redense data get fashion-mnist"):
        load_splits(name)


def test_a_source_that_is_nothing_names_what_could_be_meant(tmp_path: Path):
    with pytest.raises(DataError, match=r"no data at 'sampel'.*hub:OWNER/NAME; did you mean 'sample'"):
        load_splits("sampel")
    with pytest.raises(DataError, match=r"neither idx files.*parquet files.*nor images in folders"):
        load_splits(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="no data at"):
        load_splits(str(tmp_path / "file"))


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


# Hugging Face data sets


@pytest.fixture
def hf(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets


def pictures(count: int, mode: str = "L", size: tuple[int, int] = (6, 4)) -> list[Any]:
    from PIL import Image

    random = np.random.default_rng(count)
    return [
        Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
        for _ in range(count)
    ]


def table(hf: Any, images: list[Any], labels: list[int], label: Any = None) -> Any:
    features = hf.Features(
        {"id": hf.Value("string"), "img": hf.Image(), "kind": label or hf.ClassLabel(names=["cat", "dog"])}
    )
    ids = [str(index) for index in range(len(images))]
    return hf.Dataset.from_dict({"id": ids, "img": images, "kind": labels}, features=features)


def parquet(folder: Path, **splits: Any) -> str:
    (folder / "data").mkdir(parents=True)
    for name, rows in splits.items():
        rows.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return str(folder)


def test_a_parquet_folder_is_read_by_the_types_of_its_columns(hf: Any, tmp_path: Path):
    images = pictures(20)
    train, test = table(hf, images, [0, 1] * 10), table(hf, pictures(6), [1, 0] * 3)
    splits = load_splits(parquet(tmp_path / "set", train=train, test=test))
    assert splits.train.classes == ("cat", "dog")
    assert splits.train.images.shape == (18, 1, 4, 6)
    assert splits.validation.labels.tolist() == [0, 1]
    assert splits.test.labels.tolist() == [1, 0] * 3
    seen = torch.cat([splits.train.images, splits.validation.images])[:, 0].numpy()
    assert sorted(map(bytes, seen)) == sorted(np.asarray(image).tobytes() for image in images)


def test_labels_without_names_are_digits_and_one_coloured_image_makes_all_coloured(hf: Any, tmp_path: Path):
    grey = pictures(20)
    train = table(hf, grey, [0, 2] * 10, hf.Value("int64"))
    test = table(hf, [*pictures(1, "RGBA"), *pictures(3)], [0, 2, 0, 2], hf.Value("int64"))
    splits = load_splits(parquet(tmp_path / "set", train=train, test=test))
    assert splits.train.classes == ("0", "1", "2")
    assert splits.train.images.shape[1:] == splits.test.images.shape[1:] == (3, 4, 6)
    assert torch.equal(splits.train.images[:, 0], splits.train.images[:, 2])
    assert not torch.equal(splits.test.images[0, 0], splits.test.images[0, 2])


def test_a_folder_of_class_folders_is_read(hf: Any, tmp_path: Path):
    for split, count in (("train", 10), ("test", 2)):
        for name in ("boot", "bag"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for index, image in enumerate(pictures(count, "RGB")):
                image.save(folder / f"{index}.png")
    splits = load_splits(str(tmp_path / "set"))
    assert splits.train.classes == ("bag", "boot")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 2, 4]
    assert splits.train.images.shape[1:] == (3, 4, 6)
    (tmp_path / "set/train/bag/3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match=r"1 of 24 images cannot be used: train/bag/3.png is no image"):
        load_splits(str(tmp_path / "set"))


def test_a_hub_name_is_loaded_by_that_name(hf: Any, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def load_dataset(path: str, streaming: bool) -> Any:
        asked.append(path)
        assert not streaming
        rows = table(hf, pictures(20), [0, 1] * 10)
        return hf.DatasetDict({"train": rows, "test": rows})

    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    assert len(load_splits("hub:someone/pets").test) == 20
    assert asked == ["someone/pets"]


def test_a_hub_that_fails_is_one_line_with_its_reason(hf: Any, monkeypatch: pytest.MonkeyPatch):
    def load_dataset(path: str, streaming: bool) -> Any:
        raise ConnectionError("couldn't reach the hub\nand a lot more")

    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"^hub:someone/pets: cannot be loaded \(couldn't reach the hub\)") as caught:
        load_splits("hub:someone/pets")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["validation", "test"])
def test_with_one_more_split_that_is_the_test_split_and_validation_is_taken_from_train(
    other: str, hf: Any, tmp_path: Path
):
    splits = load_splits(
        parquet(
            tmp_path / "set", train=table(hf, pictures(20), [0, 1] * 10), **{other: table(hf, pictures(6), [1, 0] * 3)}
        )
    )
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18, 2, 6]


def test_three_splits_are_taken_as_they_are(hf: Any, tmp_path: Path):
    sizes = {"train": 20, "validation": 8, "test": 6}
    parts = {name: table(hf, pictures(count), [0, 1] * (count // 2)) for name, count in sizes.items()}
    splits = load_splits(parquet(tmp_path / "set", **parts))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 8, 6]


def test_a_train_split_alone_is_divided_in_three(hf: Any, tmp_path: Path):
    splits = load_splits(parquet(tmp_path / "set", train=table(hf, pictures(20), [0, 1] * 10)))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [16, 2, 2]
    images = torch.cat([splits.train.images, splits.validation.images, splits.test.images])[:, 0].numpy()
    assert sorted(map(bytes, images)) == sorted(np.asarray(image).tobytes() for image in pictures(20))


def test_a_set_without_a_train_split_is_refused_with_what_it_has(hf: Any, monkeypatch: pytest.MonkeyPatch):
    rows = table(hf, pictures(4), [0, 1] * 2)
    monkeypatch.setattr(hf, "load_dataset", lambda path, streaming: hf.DatasetDict({"test": rows, "extra": rows}))
    with pytest.raises(DataError, match=r"no split 'train' \(it has 'test', 'extra'\)"):
        load_splits("hub:someone/pets")


def test_a_configuration_of_a_hub_set_is_given_behind_a_colon(hf: Any, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str]] = []

    def load_dataset(path: str, name: str, streaming: bool) -> Any:
        asked.append((path, name))
        return hf.DatasetDict({"train": table(hf, pictures(20), [0, 1] * 10)})

    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    assert len(load_splits("hub:someone/pets:small").train) == 16
    assert asked == [("someone/pets", "small")]


def test_a_set_that_was_saved_to_disk_is_read(hf: Any, tmp_path: Path):
    rows = hf.DatasetDict({"train": table(hf, pictures(20), [0, 1] * 10)})
    rows.save_to_disk(str(tmp_path / "set"))
    for size in (None, 8):
        splits = load_images(ImageData(source=str(tmp_path / "set"), size=size))
        assert len(splits.train) == 16


def test_one_of_several_label_columns_is_chosen_by_name(hf: Any, tmp_path: Path):
    rows = table(hf, pictures(20), [0, 1] * 10)
    rows = rows.add_column("fine", [0, 1, 2, 3] * 5).cast_column("fine", hf.ClassLabel(names=["a", "b", "c", "d"]))
    source = parquet(tmp_path / "two", train=rows)
    for label, classes in (("fine", ("a", "b", "c", "d")), ("kind", ("cat", "dog"))):
        assert load_images(ImageData(source=source, label=label)).train.classes == classes
    with pytest.raises(DataError, match=r"data.label is 'fin', which is no column; did you mean 'fine'"):
        load_images(ImageData(source=source, label="fin"))


def test_a_table_of_images_of_all_sizes_is_read_row_by_row_where_a_size_is_given(hf: Any, tmp_path: Path):
    images = [*pictures(10, "RGB"), *pictures(10, "L", size=(40, 30))]
    source = parquet(tmp_path / "set", train=table(hf, images, [0, 1] * 10), test=table(hf, images, [0, 1] * 10))
    with pytest.raises(DataError, match=r"image 10 is 30 x 40 pixels but the first is 4 x 6; set data.size"):
        load_images(ImageData(source=source))
    splits = load_images(ImageData(source=source, size=16, resize=16, augment="scale-aspect"))
    assert isinstance(splits.train, EncodedSet)
    assert isinstance(splits.test, ImageSet)
    assert splits.test.images.shape == (20, 3, 16, 16)
    assert splits.train.name(0).startswith("train: image ")
    assert splits.train.picture(0).mode == "RGB"
    assert splits.fingerprint == load_images(ImageData(source=source, size=8, resize=9)).fingerprint


def test_a_broken_row_is_refused_or_left_out_by_its_number(hf: Any, tmp_path: Path):
    buffer = io.BytesIO()
    pictures(1, "RGB", size=(40, 30))[0].save(buffer, "png")
    cells: list[Any] = [{"bytes": buffer.getvalue(), "path": None} for _ in range(20)]
    cells[3] = {"bytes": buffer.getvalue()[:500], "path": None}
    cells[5] = None
    source = parquet(tmp_path / "set", train=table(hf, cells, [0, 1] * 10))
    with pytest.raises(DataError, match=r"2 of 20 images cannot be used: train: image 3 is trunc.*image 5 is empty"):
        load_images(ImageData(source=source, size=8))
    splits = load_images(ImageData(source=source, size=8, broken="skip"))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 18
    assert "2 of 20 images were left out" in splits.notes[0]


def test_an_image_folder_with_a_metadata_table_is_read_as_hugging_face_does(hf: Any, tmp_path: Path):
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    lines: list[str] = []
    for index, image in enumerate(pictures(20, "RGB")):
        image.save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "label": index % 2}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    splits = load_splits(str(tmp_path / "set"))
    assert splits.train.classes == ("0", "1")
    assert len(splits.train) == 16


def test_columns_that_cannot_be_told_are_listed(hf: Any, tmp_path: Path):
    rows = table(hf, pictures(4), [0, 1] * 2)
    two = rows.add_column("fine", [0, 1, 0, 1]).cast_column("fine", hf.ClassLabel(names=["a", "b"]))
    with pytest.raises(DataError, match=r"one label column, but the columns 'kind', 'fine' could all be it"):
        load_splits(parquet(tmp_path / "two", train=two, test=two))
    none = rows.remove_columns("img")
    with pytest.raises(
        DataError, match=r"one image column, but there is none \(columns: id: Value, kind: ClassLabel\)"
    ):
        load_splits(parquet(tmp_path / "none", train=none, test=none))


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (
            lambda: [*pictures(3), *pictures(1, size=(7, 4))],
            [0, 1] * 2,
            "image 3 is 4 x 7 pixels but the first is 4 x 6",
        ),
        (lambda: pictures(4), [0, 1, -1, 0], "image 2 has label -1"),
        (lambda: pictures(4), [0, 1, None, 0], "image 2 has label None"),
        (lambda: [*pictures(1), None, *pictures(2)], [0, 1] * 2, "image 1 cannot be decoded"),
        (list, [], "there are no images"),
    ],
)
def test_rows_that_cannot_be_used_are_named(images: Any, labels: list[Any], complaint: str, hf: Any, tmp_path: Path):
    good, bad = table(hf, pictures(4), [0, 1] * 2), table(hf, images(), labels)
    with pytest.raises(DataError, match=rf"\(test\): .*{complaint}"):
        load_splits(parquet(tmp_path / "set", train=good, test=bad))


def test_without_the_extra_the_pip_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[hub\]'"):
        load_splits("hub:someone/pets")
