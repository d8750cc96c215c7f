"""Tables as people write them: each cell is in the column that it belongs to, or the line is named."""

from pathlib import Path
from typing import Any

import pytest

from redense.errors import DataError
from redense.tasks.tables import FILES, read_rows


def rows(tmp_path: Path, text: str, name: str = "labels.csv") -> list[tuple[int, dict[str, Any]]]:
    (tmp_path / name).write_bytes(text.encode())
    return read_rows(tmp_path / name, known=(*FILES, "label"), texts=("label",))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("file,label\n0.png,cat,\n", [(2, {"file": "0.png", "label": "cat"})]),
        ("file,label\n0.png,cat,,,\n", [(2, {"file": "0.png", "label": "cat"})]),
        ("file,n,label\n0.png,1,dog, small\n", [(2, {"file": "0.png", "n": "1", "label": "dog, small"})]),
        ("file;n;label\n0.png;1;dog; small\n1.png;2;cat\n",
         [(2, {"file": "0.png", "n": "1", "label": "dog; small"}), (3, {"file": "1.png", "n": "2", "label": "cat"})]),
        ("file,what\n0.png,dog, small\n", [(2, {"file": "0.png", "what": "dog, small"})]),
        ('file,label\n0.png,"a\nb"\n1.png,5" disk\n',
         [(2, {"file": "0.png", "label": "a\nb"}), (4, {"file": "1.png", "label": '5" disk'})]),
    ],
    ids=["an empty end", "several", "the last column", "its delimiter", "one of two", "quotation marks"],
)  # fmt: skip
def test_cells_are_named_after_their_columns(text: str, found: object, tmp_path: Path):
    assert rows(tmp_path, text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label,note\n0.png,cat,x\n1.png,dog, small,x\n", "line 3: 4 cells in 3 columns; a cell with ',' in it"),
        ("label,file\ncat,0.png\ndog, small,1.png\n", "line 3: 3 cells in 2 columns"),
        ('file,label\n0.png,cat\n1.png,"dog\n2.png,cat\n', "line 3: this row cannot be read"),
        ('file,label\n0.png,"dog\n1.png,"cat, small"\n', "line 2: this row cannot be read"),
        ("file,label,label\n0.png,cat,good\n", "two columns are called 'label': rename one of them"),
        ("file,label,Label\n0.png,cat,good\n", "two columns are called 'label'"),
    ],
    ids=["a comma in the middle", "in the first", "not closed", "closed by the next", "twice", "in other letters"],
)
def test_what_cannot_be_told_is_refused_with_its_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        rows(tmp_path, text)


def test_a_tab_too_many_is_refused_and_a_quotation_mark_between_tabs_is_a_letter(tmp_path: Path):
    assert rows(tmp_path, 'file\tlabel\tn\n0.png\t"cat\t1\n', "a.tsv") == [
        (2, {"file": "0.png", "label": '"cat', "n": "1"})
    ]
    with pytest.raises(DataError, match=r"line 2: 4 cells in 3 columns$"):
        rows(tmp_path, "file\tlabel\tn\n0.png\tcat\tsmall\t1\n", "a.tsv")


@pytest.mark.parametrize("word", ["label", "Image", "path", "cat"])
def test_a_first_line_that_names_a_file_is_no_head_whatever_its_class_is_called(word: str, tmp_path: Path):
    (tmp_path / "labels.csv").write_text(f"0.png,{word}\n1.png,dog\n")

    def read(names: str) -> list[tuple[int, dict[str, Any]]]:
        known = (*FILES, "label")
        return read_rows(tmp_path / "labels.csv", known=known, bare=("image", "label"), is_file=names.__contains__)

    assert read("0.png 1.png") == [(1, {"image": "0.png", "label": word}), (2, {"image": "1.png", "label": "dog"})]
    (tmp_path / "labels.csv").write_text("image,label\n0.png,cat\n")  # beside a file image.png
    assert read("image 0.png") == [(2, {"image": "0.png", "label": "cat"})]
