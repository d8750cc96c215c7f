"""`redense data check PATH`: what it counts, what it finds, and that it finds what training would refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from redense.cli import main
from redense.errors import DataError
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.inspecting import check
from redense.tasks.classification.data.layouts.idx import SAMPLE
from redense.tasks.classification.data.loading import load_images


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder({"train": {"cat": 10, "dog": 12}, "val": {"cat": 3, "dog": 3}})


def test_a_folder_is_counted_by_split_and_class_with_its_sizes(folder: Path):
    found = check(ImageData(source=str(folder)), False)
    train, val = found.facts["splits"].values()
    assert list(found.facts["splits"]) == ["train", "validation"]
    assert (train["classes"], train["images"]) == ({"cat": 10, "dog": 12}, 22)
    assert train["sizes"] == [(20, 24, 8), (30, 20, 7), (40, 40, 7)]
    assert (val["images"], found.faults) == (6, [])
    assert found.lines[4:8] == [
        "validation: 6 images of 2 classes",
        "  cat          3",
        "  dog          3",
        "  height x width: 20 x 24 to 40 x 40 pixels, 3 sizes",
    ]


def test_what_the_check_names_is_what_training_refuses(folder: Path):
    (folder / "train/cat/001.png").write_bytes(b"")
    (folder / "val/dog").rename(folder / "val/wolf")
    (folder / "train/owl").mkdir()
    found = check(ImageData(source=str(folder), size=16), False)
    faults = [str(fault) for fault in found.faults]
    assert faults == [
        "train/cat/001.png is empty",
        "train/owl is an empty class folder",
        "validation/wolf has 3 images of a class that no training image shows",
    ]
    with pytest.raises(DataError) as caught:
        load_images(ImageData(source=str(folder), size=16))
    assert all(fault in str(caught.value) for fault in faults)
    assert found.refusal == str(caught.value)


def test_sets_in_memory_are_counted_too(image_folder: Path):
    facts = check(ImageData(source=str(image_folder)), False).facts
    assert [split["images"] for split in facts["splits"].values()] == [400, 100]  # as they lie there
    assert facts["trained"] == {"training": 360, "validation": 40, "test": 100}
    train = check(ImageData(), False).facts["splits"]["train"]
    assert train["sizes"] == [(28, 28, 10_000)]
    assert set(train["classes"].values()) == {1000}
    assert check(ImageData(source=str(SAMPLE)), False).facts["splits"]["train"]["classes"] == train["classes"]


def test_the_command_prints_what_is_there_and_says_by_its_status_whether_it_is_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["data", "check", str(folder)]) == 1
    assert "set data.size to bring them to one size" in capsys.readouterr().out
    sized = ["data", "check", str(folder), "--data.size", "16"]
    assert main(sized) == 0
    said = capsys.readouterr().out
    assert "train: 22 images of 2 classes\n  cat         10\n" in said
    assert "--full decodes every image" in said
    (folder / "train/cat/001.png").write_bytes((folder / "train/cat/001.png").read_bytes()[:-60])
    assert main([*sized, "--full"]) == 1
    said = capsys.readouterr().out
    assert "  1 cannot be used:\n    train/cat/001.png is truncated\n" in said
    assert "data.broken: skip" in said


def test_the_plan_says_what_is_small_as_the_check_does(folder: Path, capsys: pytest.CaptureFixture[str]):
    settings = ["--data.size", "16"]
    main(["data", "check", str(folder), *settings])
    noted = {line.removeprefix("note: ") for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")}
    assert any("one wrong answer is 16.7 points of error" in note for note in noted)
    assert any("2 classes with fewer than 20 training images" in note for note in noted)
    batch = ["--training.batch_size", "4"]
    assert main(["recipes", "show", "quickstart", "--data", str(folder), *settings, *batch, "--json"]) == 0
    assert noted <= set(json.loads(capsys.readouterr().out)["notes"])


def test_classes_that_a_split_lacks_are_noted_whether_it_is_drawn_or_given(make_folder: Callable[..., Path]):
    drawn = str(make_folder({"": dict.fromkeys("abcdef", 3)}, sizes=((8, 8),)))
    lacking = [note for note in check(ImageData(source=drawn), False).facts["notes"] if "has no image of" in note]
    assert lacking == [
        f"{drawn}: validation has no image of 4 of the 6 classes of the training set: a, b, e and 1 more",
        f"{drawn}: test has no image of 4 of the 6 classes of the training set: b, c, d and 1 more",
    ]
    few = ImageData(source=drawn, limit=2)
    assert f"{drawn}: training has no image of 4 of the 6 classes: a, c, d and 1 more" in load_images(few).notes
    parts = {"train": dict.fromkeys("ab", 3), "val": dict.fromkeys("ab", 2), "test": {"b": 2}}
    given = str(make_folder(parts, sizes=((8, 8),), name="given"))
    assert load_images(ImageData(source=given)).notes == (
        f"{given}: test has no image of 1 of the 2 classes of the training set: a",
    )


def test_a_class_makes_no_line_of_its_own(make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    folder = make_folder({"": {"a\nnote: all is well": 12, "b": 12}})
    assert main(["data", "check", str(folder), "--data.size", "16"]) == 0
    said = capsys.readouterr().out
    assert "2 classes with fewer than 20 training images: a\\u000anote: all is well has 10" in said
    assert not any(line.startswith("note: all") for line in said.splitlines())
