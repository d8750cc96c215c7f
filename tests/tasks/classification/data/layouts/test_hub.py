"""Hugging Face data sets: which splits and columns are taken, and what is refused by name."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redense.errors import DataError, MissingExtraError
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.sets import EncodedSet, ImageSet

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


@pytest.mark.parametrize("size", [None, 8])  # in memory, and row by row
def test_a_column_of_splits_divides_a_table_of_one_file(hf: Any, tmp_path: Path, size: int | None):
    said = [*["train"] * 20, *["dev"] * 2, *["TEST"] * 4]
    rows = table(hf, pictures(26), [0, 1] * 13).add_column("Split", said)
    source = parquet(tmp_path / "set", train=rows)
    splits = load_images(ImageData(source=source, size=size)) if size else load_splits(source)
    assert [len(part.labels) for part in (splits.train, splits.validation, splits.test)] == [20, 2, 4]
    assert splits.test.labels.tolist() == [0, 1] * 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["train", "left"] * 10, "'left' in the column 'split', expected train, validation or test"),
        (["train", ""] * 10, "row 2 names no split, where others do"),
        (["test"] * 20, "no row of its column 'split' says train"),
    ],
)
def test_a_column_of_splits_that_cannot_be_used_is_refused(hf: Any, tmp_path: Path, said: list[str], message: str):
    rows = table(hf, pictures(20), [0, 1] * 10).add_column("split", said)
    with pytest.raises(DataError, match=message):
        load_splits(parquet(tmp_path / "set", train=rows))


def test_a_split_whose_rows_say_another_split_is_refused(hf: Any, tmp_path: Path):
    rows = table(hf, pictures(20), [0, 1] * 10).add_column("split", ["train"] * 20)
    with pytest.raises(DataError, match="the files of test have rows whose column 'split' says train"):
        load_splits(parquet(tmp_path / "set", train=rows, test=rows))


@pytest.mark.parametrize("size", [None, 8])
def test_a_split_of_another_name_is_said(hf: Any, tmp_path: Path, size: int | None):
    rows = table(hf, pictures(20), [0, 1] * 10)
    hf.DatasetDict({"train": rows, "extra": rows, "test": rows}).save_to_disk(tmp_path / "saved")
    splits = load_images(ImageData(source=str(tmp_path / "saved"), size=size))
    said = "saved: the split 'extra' is called neither train nor validation nor test: 20 rows not used"
    assert splits.notes[0].endswith(said)
    assert sum(map(len, splits.by_name().values())) == 40


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize(("named", "classes"), [(True, ("bird", "dog")), (False, ("0", "2"))])
def test_a_class_that_no_image_shows_is_none_in_memory_as_by_row(
    hf: Any, tmp_path: Path, size: int | None, named: bool, classes: tuple[str, ...]
):
    kind = hf.ClassLabel(names=["bird", "cat", "dog"]) if named else hf.Value("int64")
    rows = table(hf, pictures(20), [0, 2] * 10, kind)
    splits = load_images(ImageData(source=parquet(tmp_path / "set", train=rows, test=rows), size=size))
    assert splits.train.classes == splits.test.classes == classes
    assert splits.test.labels.tolist() == [0, 1] * 10


def test_labels_without_names_are_digits_and_one_coloured_image_makes_all_coloured(hf: Any, tmp_path: Path):
    grey = pictures(20)
    train = table(hf, grey, [0, 2] * 10, hf.Value("int64"))
    test = table(hf, [*pictures(1, "RGBA"), *pictures(3)], [0, 2, 0, 2], hf.Value("int64"))
    splits = load_splits(parquet(tmp_path / "set", train=train, test=test))
    assert splits.train.classes == ("0", "2")
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
    rows["train"].save_to_disk(str(tmp_path / "split"))
    for size in (None, 8):
        for name in ("set", "split", "set/train"):
            splits = load_images(ImageData(source=str(tmp_path / name), size=size))
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


@pytest.mark.parametrize("size", [None, 8])  # in memory, and row by row
def test_parquet_files_of_pandas_are_read_and_labels_with_fractions_refused(hf: Any, tmp_path: Path, size: int | None):
    def written(name: str, images: list[Any], labels: list[Any]) -> ImageData:
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / name / "data.parquet")
        return ImageData(source=str(tmp_path / name), size=size)

    def encoded(image: Any) -> bytes:
        image.save(stream := io.BytesIO(), "png")
        return stream.getvalue()

    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from PIL import Image

    files = [*map(encoded, pictures(19)), encoded(Image.fromarray(np.full((4, 6), 9, np.uint16)))]
    cells = [{"bytes": file, "path": "a.png"} for file in files]
    for splits in (load_images(written("bytes", files, [0, 1] * 10)), load_images(written("both", cells, [0, 1] * 10))):
        assert sum(map(len, splits.by_name().values())) == 20
        assert "of 20 images 1 is of 16 bits or more of grey" in splits.notes[-1]
        assert "such as train: image 19" in splits.notes[-1]
    with pytest.raises(DataError, match=r"column 'label' has numbers with a fraction \(float64\).*astype\(int\)"):
        load_images(written("fractions", cells, [0.0, 1.0] * 10))


def test_without_the_extra_the_pip_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[hub\]'"):
        load_splits("hub:someone/pets")


@pytest.mark.parametrize("size", [None, 8])  # in memory, and row by row
def test_a_split_whose_classes_are_numbered_apart_is_read_by_their_names(hf: Any, tmp_path: Path, size: int | None):
    def saved(*names: str, labels: list[Any]) -> ImageData:
        part = table(hf, pictures(len(labels)), labels, hf.ClassLabel(names=names) if names else hf.Value("string"))
        place = tmp_path / "-".join(names or ("words",))
        hf.DatasetDict({"train": train, "test": part}).save_to_disk(place)
        return ImageData(source=str(place), size=size)

    train = table(hf, pictures(20), [0, 1] * 10)  # cat, dog
    for config in (saved("ant", "dog", labels=[1] * 5), saved(labels=["dog"] * 5)):
        splits = load_images(config)
        assert (splits.test.classes, splits.test.labels.tolist()) == (("cat", "dog"), [1] * 5)
    (note,) = [note for note in load_images(saved("dog", labels=[0] * 5)).notes if "by their names" in note]
    assert "test numbers the classes apart from train" in note
    assert not any("by their names" in note for note in load_images(saved("cat", labels=[0] * 5)).notes)
    with pytest.raises(DataError, match=r"class(es)? that no training image shows.*ant|test/ant has 5 images"):
        load_images(saved("ant", "cat", labels=[0] * 5))


def test_parquet_files_that_number_their_classes_apart_are_refused(hf: Any, tmp_path: Path):
    train = table(hf, pictures(20), [0, 1] * 10)
    other = table(hf, pictures(5), [0] * 5, hf.ClassLabel(names=["dog"]))
    with pytest.raises(DataError, match=r"number the classes of 'kind' apart \(dog; cat, dog\).*cast_column"):
        load_splits(parquet(tmp_path / "apart", train=train, test=other))
    other = table(hf, pictures(5), [0] * 5, hf.ClassLabel(names=["cat"]))
    assert load_splits(parquet(tmp_path / "alike", train=train, test=other)).test.labels.tolist() == [0] * 5


def test_a_set_that_was_saved_again_with_other_pictures_is_other_data(hf: Any, tmp_path: Path):
    paths = [tmp_path / f"{index}.bmp" for index in range(12)]

    def known(shown: list[Any]) -> str:
        for path, image in zip(paths, shown, strict=True):
            image.save(path)
        rows = {"image": list(map(str, paths)), "label": [0, 1] * 6}
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        hf.Dataset.from_dict(rows).cast_column("image", hf.Image()).save_to_disk(tmp_path / "saved")
        return load_images(ImageData(source=str(tmp_path / "saved"), size=8, validation=0.2)).fingerprint

    shown = pictures(24, "RGB", (20, 20))
    assert known(shown[:12]) != known(shown[12:])
