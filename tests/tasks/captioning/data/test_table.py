"""Captions in tables beside the images: which column of a line counts."""

from __future__ import annotations

import json
from pathlib import Path

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
