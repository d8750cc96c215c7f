"""Folders of class folders: which layouts are understood, what is listed, and which split is which."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from redense.errors import DataError
from redense.tasks.classification.classifier import read_inputs
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.layouts.folder import Files, find_parts, list_folder
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.sets import EncodedSet

MakeFolder = Callable[..., Path]
PAIR = {"cat": 10, "dog": 10}


def load(folder: Path, **how: object) -> tuple[list[int], tuple[str, ...]]:
    splits = load_images(ImageData.model_validate({"source": str(folder), "size": 16, **how}))
    return [len(part) for part in (splits.train, splits.validation, splits.test)], splits.train.classes


def test_splits_inside_the_names_of_folders_are_no_classes(make_folder: MakeFolder):
    with pytest.raises(DataError, match=r"es_t\w+: is it of the (test|train) split\?"):
        load(make_folder({"es_train": PAIR, "es_test": PAIR}))


def test_folders_may_be_links(make_folder: MakeFolder, tmp_path: Path):
    own = make_folder({"train": PAIR, "val": PAIR})
    for folder in ("split", "classes/train", "classes/val"):
        (tmp_path / folder).mkdir(parents=True)
    for part in ("train", "val"):
        (tmp_path / "split" / part).symlink_to(own / part)
        for name in PAIR:
            (tmp_path / "classes" / part / name).symlink_to(own / part / name)
    (tmp_path / "alone").mkdir()
    for name in PAIR:
        (tmp_path / "alone" / name).symlink_to(own / "train" / name)
    assert load(own) == load(tmp_path / "split") == load(tmp_path / "classes") == ([18, 2, 20], ("cat", "dog"))
    assert load(tmp_path / "alone")[0] == [16, 2, 2]


@pytest.mark.parametrize(
    ("layout", "lengths"),
    [
        ({"train": PAIR, "val": {"cat": 2, "dog": 3}}, [18, 2, 5]),
        ({"train": PAIR, "test": {"cat": 2, "dog": 3}}, [18, 2, 5]),
        ({"train": PAIR, "valid": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 2}}, [20, 4, 3]),
        ({"training": PAIR, "validation": {"cat": 2}, "testing": {"cat": 1}}, [20, 2, 1]),
        ({"train": PAIR}, [16, 2, 2]),
        ({"": PAIR}, [16, 2, 2]),
    ],
    ids=["val", "test", "valid and test", "other names", "train alone", "class folders alone"],
)
def test_each_layout_gives_its_splits(layout: dict[str, dict[str, int]], lengths: list[int], make_folder: MakeFolder):
    assert load(make_folder(layout)) == (lengths, ("cat", "dog"))


def test_a_test_folder_without_labels_is_passed_over_as_in_imagenet(make_folder: MakeFolder):
    folder = make_folder({"train": PAIR, "val": {"cat": 2, "dog": 3}})
    (folder / "test").mkdir()
    (folder / "test" / "unlabelled.jpg").write_bytes((folder / "train/cat/000.jpg").read_bytes())
    assert load(folder)[0] == [18, 2, 5]


def test_validation_images_that_are_not_sorted_into_classes_are_explained(make_folder: MakeFolder):
    folder = make_folder({"train": PAIR})
    (folder / "val").mkdir()
    for index in range(3):
        (folder / "val" / f"ILSVRC2012_val_{index}.JPEG").write_bytes(b"x")
    with pytest.raises(DataError, match=r"val: 3 images lie in no class folder; move each into .*val/CLASS/"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [("labels.csv", "{}.png {}"), ("labels.txt", "{}.png,{}"), ("labels.json", '{{"{}.png": "{}"}}')],
)
def test_a_table_of_classes_that_is_not_understood_is_named(name: str, text: str, tmp_path: Path):
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes(b"x")
    (tmp_path / name).write_text("\n".join(text.format(index, ("cat", "dog")[index % 2]) for index in range(4)))
    with pytest.raises(DataError, match=rf"4 images lie in no class.*; {name} beside them .*expected labels.csv"):
        load(tmp_path)


def test_a_single_folder_is_divided_without_overlap_and_the_same_way_every_time(make_folder: MakeFolder):
    folder = make_folder({"": {"cat": 20, "dog": 30}})
    config = ImageData(source=str(folder), size=16, augment="scale-aspect", validation=0.2)

    def names() -> list[set[str]]:
        splits = load_images(config.model_copy(update={"augment": "scale-aspect"}))
        assert isinstance(splits.train, EncodedSet)
        return [{splits.train.name(index) for index in range(len(splits.train))}]

    splits = load_images(config)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 10, 10]
    assert np.bincount(splits.validation.labels.numpy()).tolist() == [4, 6]
    assert np.bincount(splits.test.labels.numpy()).tolist() == [4, 6]
    assert names() == names()


def test_a_share_that_leaves_nothing_to_train_on_is_refused(make_folder: MakeFolder):
    with pytest.raises(DataError, match=r"validation and test cannot each take 0.5 of it; lower data.validation"):
        load(make_folder({"": PAIR}), validation=0.5)


def test_other_splits_without_train_and_two_names_for_one_split_are_refused(make_folder: MakeFolder):
    with pytest.raises(DataError, match=r"has val/ but no train/"):
        load(make_folder({"val": PAIR}, name="a"))
    with pytest.raises(DataError, match=r"has both val/ and valid/"):
        load(make_folder({"train": PAIR, "val": PAIR, "valid": PAIR}, name="b"))


def test_images_are_found_at_any_depth_and_hidden_or_other_files_are_not(make_folder: MakeFolder):
    folder = make_folder({"train": PAIR})
    image = (folder / "train/cat/000.jpg").read_bytes()
    for name in ("deep/er/a.jpg", ".hidden.jpg", "._b.jpg", ".cache/c.jpg", "__MACOSX/d.jpg", "notes.txt"):
        path = folder / "train" / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    (folder / "train" / "README.md").write_text("about")
    listing = list_folder(folder / "train", folder)
    names = [listing.files.name(index) for index in range(len(listing.files))]
    assert len(names) == 21
    assert "train/cat/deep/er/a.jpg" in names
    assert listing.others == {".txt": 1, ".md": 1}
    assert listing.labels.tolist() == [0] * 11 + [1] * 10


def test_classes_have_the_same_names_in_the_locale_c(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = "dog", "\u0939\u093f", os.fsdecode(b"\xff")
    half = [name.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape") for name in names]
    root = make_folder({"": dict.fromkeys(names, 2)})
    monkeypatch.setattr("redense.tasks.classification.data.layouts.folder.subfolders", lambda folder: half)
    listing = list_folder(root, root)
    assert listing.classes == names
    assert listing.labels.tolist() == [0, 0, 1, 1, 2, 2]
    inputs = {"classes": half, "shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "inputs.json").write_text(json.dumps(inputs))
    assert read_inputs(tmp_path).classes == names  # of a run of before


def test_a_link_to_a_folder_is_followed_once(make_folder: MakeFolder, tmp_path: Path):
    folder = make_folder({"train": PAIR})
    (folder / "train" / "cat").rename(tmp_path / "elsewhere")
    (folder / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    assert len(list_folder(folder / "train", folder).files) == 20


def test_the_order_is_that_of_the_names_whatever_the_file_system_says(make_folder: MakeFolder):
    folder = make_folder({"train": {"b": 3, "a": 3}})
    listing = list_folder(folder / "train", folder)
    names = [listing.files.name(index) for index in range(6)]
    assert names == sorted(names)
    assert listing.classes == ("a", "b")


def test_a_name_that_is_no_unicode_is_read(make_folder: MakeFolder):
    folder = make_folder({"train": PAIR})
    (folder / "train/cat/000.jpg").rename(folder / "train/cat" / os.fsdecode(b"\xff\xfe.jpg"))
    assert load(folder)[0] == [16, 2, 2]


def test_a_million_paths_are_a_few_arrays_and_not_a_million_objects():
    names = [f"train/n{index % 1000:08}/n{index:08}_{index}.JPEG".encode() for index in range(100_000)]
    files = Files(Path("/data"), names, [Path(__file__).stat()] * len(names))
    assert [files.name(index).encode() for index in (0, 5, 99_999)] == [names[0], names[5], names[99_999]]
    assert len(pickle.dumps(files)) < 100_000 * 68  # what a worker that is spawned is sent
    assert all(isinstance(value, np.ndarray | Path) for value in vars(files).values())


def test_a_folder_with_no_images_is_refused_with_the_layouts(tmp_path: Path):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"neither idx files.*nor images in folders train/CLASS/"):
        load(tmp_path / "empty")


def test_parts_are_those_of_the_folder_names(make_folder: MakeFolder):
    folder = make_folder({"train": PAIR, "val": PAIR})
    assert find_parts(folder) == {"train": folder / "train", "validation": folder / "val"}
    assert find_parts(folder / "train") == {"all": folder / "train"}
