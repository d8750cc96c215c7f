"""JSON of others: a key that is there twice is an error with its name, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redense.files.json_text import read_json
from redense.lab.judging.reading.tables import read_table
from redense.lab.pairs.printed import figures_of
from redense.tasks.tables import json_lines

ROW = '{"arm": "dsd", "seed": 0, "error": 30.1, "error": 5.2}'
READERS: dict[str, Callable[[Path], Any]] = {
    "a file": read_json,
    "lines": lambda path: list(json_lines(path)),
    "results to judge": read_table,
    "what a program has printed": lambda path: figures_of(path.parent, path, expression=None, metric=None),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_key_that_is_there_twice_is_an_error_with_its_name(reader: str, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(ROW + "\n")
    with pytest.raises(ValueError, match="the key 'error' is there twice in one object"):
        READERS[reader](tmp_path / "a.jsonl")


def test_the_line_of_a_table_is_named(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"a": {"b": 1}, "b": 2}\n{"a": {"b": 1, "b": 2}}\n')
    with pytest.raises(ValueError, match=r"line 2: .*the key 'b'"):
        list(json_lines(tmp_path / "a.jsonl"))
