"""Folders: no two commands get the same one, and nobody's files are lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redense.errors import StateError
from redense.lab.folder import discard_folder, given_folder, new_folder, read_json


def test_folders_of_the_same_second_each_get_a_number(tmp_path: Path):
    folders = [new_folder(None, "a/b", tmp_path / "runs") for _ in range(20)]
    assert len(set(folders)) == 20
    assert all(folder.is_dir() and folder.name.startswith("a-b-") for folder in folders)
    assert sorted((tmp_path / "runs").iterdir()) == sorted(folders)


def test_a_folder_that_another_process_makes_at_the_same_moment_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make, taken = Path.mkdir, list[Path]()

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self.parent.name == "runs" and not taken:
            taken.append(self)
            make(self)  # the other process, between any look of ours and our own attempt
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    folder = new_folder(None, "x", tmp_path / "runs")
    assert folder == taken[0].with_name(f"{taken[0].name}-2")


def test_a_folder_that_is_named_in_python_is_below_the_home_that_it_says_and_is_no_empty_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (given_folder("~/runs"), given_folder("runs"), given_folder(".")) == (
        tmp_path / "runs",
        Path("runs"),
        Path(),
    )
    with pytest.raises(StateError, match="the name of the folder is empty"):
        given_folder(" ")


def test_a_folder_that_is_named_is_taken_only_when_it_is_empty(tmp_path: Path):
    assert new_folder(tmp_path / "deep" / "new", "x") == tmp_path / "deep" / "new"
    assert new_folder(tmp_path / "deep" / "new", "x").is_dir()  # empty still
    with pytest.raises(StateError, match="exists and is not empty: name another folder, or go on with --resume"):
        new_folder(tmp_path / "deep", "x")


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_one_line(below: str, tmp_path: Path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StateError, match=r"not empty|cannot make the folder") as caught:
        new_folder(tmp_path / below, "x")
    assert "\n" not in str(caught.value)
    with pytest.raises(StateError, match="cannot make the folder"):
        new_folder(None, "x", tmp_path / below)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_is_taken_back_unless_something_of_the_users_is_in_it(tmp_path: Path):
    for name, own in (("empty", False), ("full", True)):
        folder = new_folder(tmp_path / name, "x")
        (folder / "inner").mkdir()
        (folder / "mine.json").write_text("{}")
        if own:
            (folder / "inner" / "notes.txt").write_text("precious")
        discard_folder(folder, ("mine.json", "missing.json"), ("inner",))
        assert folder.exists() == own
    assert [path.name for path in (tmp_path / "full").rglob("*.*")] == ["notes.txt"]


def test_a_file_that_is_missing_or_damaged_is_one_line(tmp_path: Path):
    with pytest.raises(StateError, match=r"no result\.json in .*: the run has not got that far"):
        read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(StateError, match=r"result\.json is damaged"):
        read_json(tmp_path / "result.json")
