"""Writing aside and locks: the old file or the new one, and one process in a folder where the disk can tell."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from redense.errors import CheckpointError, StateError
from redense.files.locks import LOCK, locked
from redense.files.writing import sweep, write_again, write_bytes, write_text, written_aside


def test_what_writes_by_itself_leaves_the_old_file_when_it_fails(tmp_path: Path):
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def fail() -> None:
        with written_aside(path) as aside:
            aside.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"
    with written_aside(path) as aside:
        aside.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(CheckpointError, match="cannot write"), written_aside(tmp_path / "none" / "a") as aside:
        aside.write_bytes(b"x")


def test_a_name_that_is_no_utf8_can_be_written_of(tmp_path: Path):
    # As a class in a report or a card, which were not written at the end of a training.
    write_text(tmp_path / "a", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "a").read_text(encoding="utf-8") == r"caf\udce9 " + "\u00e9"


def test_a_second_name_is_the_same_bytes(tmp_path: Path):
    write_bytes(tmp_path / "a", b"x")
    write_again(tmp_path / "b", tmp_path / "a")
    write_bytes(tmp_path / "a", b"y")  # a new file: the other name keeps the old one
    assert (tmp_path / "b").read_bytes() == b"x"


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path):
    for name in (".a.json.123", ".b.txt", "c.123"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".b.txt", "c.123"}


def test_a_second_holder_is_refused_and_the_lock_goes_with_the_first(tmp_path: Path):
    pytest.importorskip("fcntl")
    with locked(tmp_path) as held:
        assert held
        with pytest.raises(StateError, match="another process is training"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_said_and_is_no_other_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for wait in (False, True):
        with locked(tmp_path, wait=wait) as held:
            assert not held
    assert "has no locks" in caplog.text
    assert "make sure that no second process works there" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_line(tmp_path: Path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StateError, match="cannot write to the store"), locked(tmp_path, "with the store"):
        pass


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_disk_that_syncs_no_folder_has_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
):
    def fsync(descriptor: int, own: Callable[[int], None] = os.fsync) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        own(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError) if fails else contextlib.nullcontext():
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
