"""Checksums of a folder: what is damaged is named, and a list that is damaged itself vouches for nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from redense.errors import CheckpointError
from redense.files.checksums import (
    NAME,
    add_sums,
    check_folder,
    check_sums,
    drop_sums,
    is_intact,
    note_sum,
    read_sums,
    remembered_sum,
    write_sums,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "recipe.yaml", "artifacts/words.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    write_sums(tmp_path, [tmp_path / "model.safetensors", tmp_path / "recipe.yaml", tmp_path / "artifacts/words.json"])
    return tmp_path


def test_a_whole_folder_is_whole(folder: Path, caplog: pytest.LogCaptureFixture):
    assert check_folder(folder) == []
    assert not caplog.records
    assert is_intact(folder, "artifacts/words.json")


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.yaml", "artifacts/words.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_a_file_that_is_damaged_or_gone_is_named(name: str, how: str, folder: Path):
    data = bytearray((folder / name).read_bytes())
    data[3] ^= 4
    if how == "delete":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data if how == "flip" else data[:-1])
    with pytest.raises(CheckpointError, match=rf"{name} is {'gone' if how == 'delete' else 'damaged'}"):
        check_folder(folder)
    assert not is_intact(folder, name)


def test_no_bit_of_the_list_can_flip_unseen(folder: Path, caplog: pytest.LogCaptureFixture):
    whole = (folder / NAME).read_bytes()
    for place in range(0, 8 * len(whole), 3):  # each third one: every bit of a byte, and every kind of byte
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        (folder / NAME).write_bytes(data)
        with pytest.raises(CheckpointError):
            check_folder(folder)


def test_a_list_that_was_cut_is_refused_or_its_lost_lines_are_said(folder: Path, caplog: pytest.LogCaptureFixture):
    whole = (folder / NAME).read_bytes()
    for length in range(len(whole)):
        caplog.clear()
        (folder / NAME).write_bytes(whole[:length])
        if length and whole[length - 1 : length] == b"\n":  # between two lines
            assert check_folder(folder)
            assert "damage to them would not be noticed" in caplog.text
        else:
            with pytest.raises(CheckpointError, match="SHA256SUMS is damaged"):
                check_folder(folder)


def test_a_folder_of_an_older_redense_is_read_and_that_is_said(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / NAME).unlink()
    assert check_folder(folder) == ["recipe.yaml", "model.safetensors", "artifacts/words.json"]
    assert "has no checksums of recipe.yaml, model.safetensors, artifacts/words.json" in caplog.text


def test_a_run_that_is_not_finished_is_not_expected_to_have_all_checksums(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    (folder / NAME).unlink()
    (folder / "model.safetensors").unlink()
    caplog.set_level(logging.WARNING)
    assert check_folder(folder) == []
    assert not caplog.records


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "artifacts/../../x"])
def test_a_list_names_nothing_outside_its_folder(name: str, folder: Path):
    (folder / NAME).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(CheckpointError, match="line 1 is no checksum of a file of the folder"):
        check_sums(folder)


def test_what_is_written_anew_replaces_damaged_lines_and_a_list_of_nothing_goes(folder: Path):
    (folder / NAME).write_text((folder / NAME).read_text().replace("  model", " *model"))
    with pytest.raises(CheckpointError):
        read_sums(folder)
    note_sum(folder, "new.json", b"{}")
    add_sums(folder, [folder / "model.safetensors"])
    assert set(read_sums(folder)) == {"new.json", "model.safetensors", "recipe.yaml", "artifacts/words.json"}
    drop_sums(folder, list(read_sums(folder)))
    assert not (folder / NAME).exists()


def test_a_sum_is_not_remembered_of_another_file_of_that_name_size_and_date(tmp_path: Path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    status, first = path.stat(), remembered_sum(path)
    assert remembered_sum(path) == first
    path.rename(tmp_path / "before")
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert remembered_sum(path) != first
