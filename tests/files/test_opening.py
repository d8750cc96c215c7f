"""Files that others name: only regular ones are opened, at once, and no more is read than was allowed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import redense
from redense.files.json_text import parse_json, read_json
from redense.files.opening import at_home, is_regular, open_regular, read_bytes, read_text


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What is no file and can be named like one."""
    if os.name != "posix":
        pytest.skip("this system has no pipes among its files")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        place = os.path.relpath(tmp_path / "socket")  # a socket's name is short
        server.bind(place)
    (tmp_path / "link").symlink_to("/dev/zero")
    names = {"a pipe": "pipe", "a folder": "folder", "a socket": "socket", "a device": "link"}
    return {kind: tmp_path / name for kind, name in names.items()}


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a socket", "a device"])
def test_what_is_no_file_is_refused_at_once_and_by_its_kind(kind: str, odd: dict[str, Path]):
    for read in (open_regular, read_bytes, read_text, read_json):
        with pytest.raises(OSError, match=f"is {kind}, expected a file"):
            read(odd[kind])
    assert not is_regular(odd[kind])


def test_a_link_to_a_file_is_a_file_and_one_to_nothing_is_missing(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"caf\xc3\xa9\r\nx\r")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loose").symlink_to("nothing")
    assert read_text(tmp_path / "link") == "café\nx\n"
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "loose")
    with pytest.raises(OSError, match="null"):
        read_bytes("a\0b")
    assert not is_regular("a\0b")


def test_no_more_is_read_than_is_allowed(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    assert len(read_bytes(tmp_path / "a", 1000)) == 1000
    with pytest.raises(OSError, match="1,000 bytes are too many, expected at most 999"):
        read_bytes(tmp_path / "a", 999)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "1" * 5000, "", "{", "[1e999]", "NaN", "\ufeff{"])
def test_json_that_is_a_trap_is_a_value_error_of_one_line(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_json(tmp_path / "a.json", finite=True)


def test_json_keeps_the_numbers_of_our_own_files_that_are_not_finite():
    assert parse_json(b"\xef\xbb\xbf[NaN, 1e999, 0.5]")[1:] == [float("inf"), 0.5]


def test_a_home_that_is_not_here_is_a_name_and_no_error_and_only_one_function_looks():
    assert at_home("~nobody-here/x") == at_home(Path("~nobody-here/x")) == Path("~nobody-here/x")
    source = Path(redense.__file__).parent
    looking = [path for path in source.rglob("*.py") if ".expanduser(" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(source).as_posix() for path in looking] == ["files/opening.py"]
