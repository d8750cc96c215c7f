"""Labels mean the same in every layout: which of them are classes, which say nothing, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redense.errors import DataError
from redense.tasks import catalog
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images

from . import making as make


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


def table(at: Path, labels: list[Any]) -> None:
    make.pictures(at, range(len(labels)))
    make.rows(at / "labels.csv", [("id", "label"), *((f"{n}.png", label) for n, label in enumerate(labels))])


def lines(at: Path, labels: list[Any]) -> None:
    make.pictures(at, range(len(labels)))
    make.json_lines(at / "labels.jsonl", [{"id": f"{n}.png", "label": label} for n, label in enumerate(labels)])


def parquet(at: Path, labels: list[Any]) -> None:
    kinds = {int: "int64", bool: "bool", str: "string"}
    make.parquet(at, {"train": labels}, kind=kinds[type(labels[0])])


def arrays(at: Path, labels: list[Any]) -> None:
    at.mkdir()
    pixels, _ = make.arrays(len(labels))
    np.savez(at / "a.npz", x=pixels, y=np.array(labels))


MAKERS: tuple[Callable[[Path, list[Any]], None], ...] = (table, lines, parquet, arrays)


def loaded(write: Callable[[Path, list[Any]], None], at: Path, labels: list[Any], **more: Any) -> Any:
    write(at / "set", labels)
    return load_images(ImageData(source=str(at / "set"), **more))


@pytest.mark.parametrize("write", MAKERS)
@pytest.mark.parametrize("word", ["none", "NaN", "N/A"])
def test_a_word_that_may_say_nothing_is_a_class_and_named(
    write: Callable[[Path, list[Any]], None], word: str, tmp_path: Path
):
    found = loaded(write, tmp_path, ["crack", word] * 10)
    assert sorted(found.train.classes) == sorted([word, "crack"])
    assert any(f"'{word}' is a class like others here, of 10 training images" in note for note in found.notes)


@pytest.mark.parametrize("write", MAKERS)
@pytest.mark.parametrize("nothing", ["", "-1"])
def test_a_label_that_says_nothing_is_refused(write: Callable[[Path, list[Any]], None], nothing: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"has no class|has (the )?label '(-1)?', expected"):
        loaded(write, tmp_path, ["cat", "dog"] * 10 + [nothing])


def test_numbers_yes_and_no_and_null_of_a_table_of_json_are_what_a_parquet_file_says(tmp_path: Path):
    assert loaded(lines, tmp_path / "a", [0, 1] * 10).train.classes == ("0", "1")
    assert loaded(lines, tmp_path / "b", [True, False] * 10).train.classes == ("False", "True")
    hidden = loaded(lines, tmp_path / "c", [*["cat", "dog"] * 10, None, -1], broken="skip")
    assert any("2 of 22 images were left out" in note for note in hidden.notes)


@pytest.mark.parametrize("label", [["cat", "dog"], {"x": 1}, 1.0])
def test_a_label_that_is_no_class_is_refused_with_its_line(label: Any, tmp_path: Path):
    with pytest.raises(DataError, match=r"labels.jsonl, line 3: the label is .*, expected one class for the image"):
        loaded(lines, tmp_path, ["cat", "dog", label])


@pytest.mark.parametrize("label", ["['cat', 'dog']", "[1, 2]", '["cat", "dog"]'])
def test_a_list_of_several_classes_in_a_cell_of_csv_is_refused_with_its_line(label: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"labels.csv, line 4: the label is .*, expected one class for the image"):
        loaded(table, tmp_path, ["cat", "dog", label])
    assert loaded(table, tmp_path / "words", ["[cat]", "(a, b)"] * 10).train.classes == ("(a, b)", "[cat]")


@pytest.mark.parametrize("size", [None, 8])  # in memory, and row by row
def test_one_large_number_makes_no_class_of_every_number_below_it(size: int | None, tmp_path: Path):
    assert loaded(parquet, tmp_path / "large", [0, 10**12] * 10, size=size).train.classes == ("0", "1000000000000")
    assert loaded(parquet, tmp_path / "small", [0, 3] * 10, size=size).train.classes == ("0", "3")
