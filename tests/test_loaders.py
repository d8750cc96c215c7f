"""Every loader of other people's files: no pipe holds it up, no small file costs much, and old finds stay mended.

The loaders, their bounds and the changes of their files are in ``tests/fuzz``; `tests/test_fuzz.py` hunts with them.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import redense
from redense.errors import DataError, RedenseError
from redense.files.opening import read_bytes
from redense.tasks.classification.data.layouts.idx import read_idx
from redense.tasks.classification.data.layouts.npz import read_npz
from redense.tasks.weights import read_weights

FUZZ = Path(__file__).parent / "fuzz"
SOURCE = Path(redense.__file__).parent
NAMES = sorted(path.name for path in (FUZZ / "seeds").iterdir())

# What opens a file without `redense.files.opening`, and why it may.
ELSEWHERE = {
    "files/": "is where files are opened",
    "tasks/fetching/": "what was fetched, after its checksum was compared",
    "lab/judging/power.py": "our own table",
    "lab/events.py": "lines of our own worker processes, in a folder that was made for them",
    "lab/recipe/recipe.py": "our own recipes",
    "lab/programs/commands.py": "writes",
    "lab/doctor.py": "our own pyproject.toml",
    "lab/environment.py": "/proc",
    "report/server/listing.py": "/proc",
    "report/paper/browser.py": "what Chromium writes for us; Popen",
    "lab/runs/log.py": "our own log, which is checked and written here",
    "lab/loggers/local.py": "writes",
    "lab/runs/tensorboard.py": "writes",
    "tasks/speech/transcripts/language.py": "writes",
    "tasks/speech/evidence.py": "writes",
    "tasks/speech/transcripts/beam.py": "the null device",
    "lab/runs/export.py": "of a folder that was checked",
    "lab/zoo.py": "of a folder that was checked",
    "lab/runs/hub.py": "of a folder that was written here",
    "report/runs/reading.py": "after is_file",
    "report/kit/assets.py": "our own style sheets and scripts",
    "report/kit/parts.py": "a file that the page's own writer chose",
    "cli/report.py": "the page that was just written",
    "tasks/speech/store.py": "our own cache, by safe_open, which reads no other file",
    "tasks/classification/data/checking.py": "our own cache",
    "lab/checkpoint.py": "safe_open, after the folder was looked at",
    "tasks/classification/data/layouts/npz.py": "a member of an archive that was opened",
    "tasks/classification/data/pixels.py": "Pillow's, of a stream",
    "lab/runs/run.py": "the weights of a folder that was checked",
    "tasks/speech/recogniser.py": "the weights of a folder that was checked",
    "tasks/weights.py": "after the file was opened as one",
}
_OTHERWISE = ("picture", "cifar", "vocabulary", "recipe", "tar-gz", "parquet")
"""Their callers open the file: see test_bounds.py; an archive was downloaded."""
_OPENS = re.compile(r"(read_text|read_bytes|open|load_file|safe_open|fromfile)")


@pytest.fixture(scope="module", autouse=True)
def _fuzz() -> Iterator[None]:
    sys.path.insert(0, str(FUZZ))
    yield
    sys.path.remove(str(FUZZ))


def opening_calls(path: Path) -> Iterator[int]:
    """Give the lines in which a module opens a file by another way than ours."""
    text = path.read_text(encoding="utf-8")
    if not re.search(rf"{_OPENS.pattern}\(", text):
        return
    tree = ast.parse(text)
    ours = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("opening")
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if _OPENS.fullmatch(name) and not (isinstance(called, ast.Name) and name in ours):
                yield node.lineno


def test_what_opens_a_file_opens_it_as_a_regular_one_or_says_why_not():
    loose = {
        path.relative_to(SOURCE).as_posix(): lines
        for path in SOURCE.rglob("*.py")
        if (lines := list(opening_calls(path)))
    }
    unknown = {name: lines for name, lines in loose.items() if not name.startswith(tuple(ELSEWHERE))}
    assert unknown == {}, "use redense.files.opening, so that a pipe or a device is refused"
    assert [name for name in ELSEWHERE if not any(other.startswith(name) for other in loose)] == []


@pytest.mark.skipif(os.name != "posix", reason="this system has no pipes among its files")
@pytest.mark.timeout(15)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(_OTHERWISE)])
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(name: str, tmp_path: Path):
    from loaders import LOADERS  # pyright: ignore[reportMissingImports]

    loader = LOADERS[name]
    os.mkfifo(tmp_path / loader.name)
    with contextlib.suppress(RedenseError, OSError):  # refused, or passed over
        loader.read(tmp_path / loader.name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "parquet" else []) for name in NAMES]
)
def test_whole_files_are_read_and_old_finds_are_refused(name: str, tmp_path: Path):
    from hunt import fault_of, seeds_of  # pyright: ignore[reportMissingImports]
    from loaders import LOADERS  # pyright: ignore[reportMissingImports]

    reads: list[bool] = []
    for number, data in enumerate(seeds_of(name)):
        (tmp_path / f"{number}").mkdir()
        fault, read = fault_of(LOADERS[name], data, tmp_path / f"{number}")
        assert not fault, f"{name}, file {number}"
        reads.append(read)
    assert any(reads)


# --- small files that claim much ------------------------------------------------------------------------------------


def test_a_limit_of_bytes_is_no_room_that_is_made(tmp_path: Path):
    import tracemalloc

    (tmp_path / "a").write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_bytes(tmp_path / "a", 1 << 28) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(OSError, match="3 bytes are too many, expected at most 2"):
        read_bytes(tmp_path / "a", 2)


def test_packed_pictures_that_become_a_hundred_times_as_large_are_refused_unread(tmp_path: Path):
    count = 90_000
    head = bytes((0, 0, 8, 3)) + b"".join(length.to_bytes(4, "big") for length in (count, 28, 28))
    (tmp_path / "a.gz").write_bytes(gzip.compress(head + bytes(1 << 16)))
    with pytest.raises(DataError, match=r"a\.gz: [0-9,]+ bytes would become 70,560,000, more than 100 times as many"):
        read_idx(tmp_path / "a.gz", 3)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train.npy", "y_train.npy"):
            array = io.BytesIO()
            np.save(array, np.zeros((count, 28, 28), np.uint8) if name[0] == "x" else np.zeros(count, np.uint8))
            archive.writestr(name, array.getvalue())
    (tmp_path / "a.npz").write_bytes(out.getvalue())
    with pytest.raises(DataError, match="more than 100 times as many"):
        read_npz(tmp_path / "a.npz")


def test_weights_that_are_packed_or_lie_over_each_other_are_none_of_torch(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 20))
    with pytest.raises(ValueError, match=r"as torch\.save never writes them"):
        read_weights(tmp_path / "a.pt")
