"""Captions in tables beside the images: which column of a line counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from redense.errors import DataError
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.data.loading import read_source
from redense.tasks.captioning.data.table import find_caption_tables, read_caption_tables


def test_a_null_in_a_line_is_as_if_its_key_were_not_there(tmp_path: Path):
    lines = [
        {"file_name": "a.png", "caption": None, "captions": ["one", "two"], "split": None},
        {"file_name": None, "image": "b.png", "caption": "three", "captions": None},
        {"file_name": "c.png", "caption": None},
        {"file_name": "d.png", "caption": "", "captions": ["the cell says that there is none"]},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = read_caption_tables(find_caption_tables(tmp_path), tmp_path, None, "set")
    said = {entry.name: entry.sentences for entry in source.entries}
    assert said == {"a.png": ("one", "two"), "b.png": ("three",), "c.png": (), "d.png": ("",)}
    assert {entry.split for entry in source.entries} == {None}


@pytest.mark.parametrize("name", ["metadata.csv", "captions.csv", "train.csv", "metadata.jsonl"])
def test_the_column_that_is_named_makes_a_table_one_of_captions(tmp_path: Path, name: str):
    if name.endswith("jsonl"):
        rows = [{"file_name": f"{n}.png", "words_0": f"dog {n}", "words_1": "one, two"} for n in range(2)]
        content, text = "\n".join(map(json.dumps, rows)), "words_0,words_1"
    else:
        content, text = "file_name,n,words\n0.png,0,dog 0\n1.png,1,dog 1\n", "words"
    (tmp_path / name).write_text(content)
    expected = {"words": ("dog 0",), "words_0,words_1": ("dog 0", "one, two")}
    assert read_source(CaptionData(source=str(tmp_path), text=text)).entries[0].sentences == expected[text]
    with pytest.raises(DataError, match=f"{name}, line [12]: data.text: 'word' is no column; did you mean 'words"):
        read_source(CaptionData(source=str(tmp_path), text="word"))
    with pytest.raises(
        DataError, match=f"{name} names images, and no column .* choose one with data.text .*: '.*words"
    ):
        read_source(CaptionData(source=str(tmp_path)))


def test_the_column_that_is_named_may_have_commas_as_the_last_one(tmp_path: Path):
    (tmp_path / "metadata.csv").write_text("file_name,n,words\n0.png,0,dog, one\n")
    source = read_source(CaptionData(source=str(tmp_path), text="words"))
    assert source.entries[0].sentences == ("dog, one",)


@pytest.mark.parametrize("name", ["metadata.csv", "captions.txt"])
def test_a_list_that_is_written_into_a_cell_is_several_sentences(tmp_path: Path, name: str):
    (tmp_path / "images").mkdir()
    cells = {
        "['a red dog', \"it's \\\\n so\"]": ("a red dog", "it's \\n so"),
        "['a red'\n 'a circle']": ("a red", "a circle"),  # as NumPy writes it
        json.dumps(["a red", "caf\u00e9 \U0001f600"]): ("a red", "caf\u00e9 \U0001f600"),
        "[]": (),
        "[a man] and a dog": ("[a man] and a dog",),
        "[laughs]": ("[laughs]",),
        "[2]": ("[2]",),
        "['a dog' runs]": ("['a dog' runs]",),
        "[" + "1" * 5000 + "!]": ("[" + "1" * 5000 + "!]",),
    }
    table = Path(tmp_path / name)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{n}.png", cell) for n, cell in enumerate(cells))])
    source = read_source(CaptionData(source=str(tmp_path)))
    found = {entry.name: entry.sentences for entry in source.entries}
    none = () if name == "metadata.csv" else ("",)
    assert found == {f"{n}.png": own or none for n, own in enumerate(cells.values())}
    with table.open("a") as file:
        file.write("a.png,\"['a dog', None]\"\n")
    with pytest.raises(DataError, match=rf"{name}, line 1[0-9]: \"\['a dog', None\]\", expected .* list of"):
        read_source(CaptionData(source=str(tmp_path)))
