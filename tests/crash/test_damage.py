"""Every file of ours, damaged in three ways, under every verb: healed, refused in one line, or provably the same.

The page of promises has what is found, folder by folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redense import cli

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "what-is-guarded.md"


def tables(text: str) -> dict[str, list[str]]:
    """Return what heads each table -> its rows."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"(?m)(?:^\|.*\n)+", text):
        head, _, *rows = block.splitlines()
        found[head] = rows
    return found


def on_the_page() -> dict[str, list[str]]:
    return tables(PAGE.read_text(encoding="utf-8").partition("## The table of damage")[2])


@pytest.mark.slow
def test_an_export_that_is_damaged_is_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("COLUMNS", "200")
    import damage  # pyright: ignore[reportMissingImports]

    make: Callable[..., None] = damage.make
    make(tmp_path / "whole", ("classification",))
    found = tables(damage.table(tmp_path / "whole", ("classifier-export",)))
    assert len(found) == 1
    for head, rows in found.items():
        assert on_the_page()[head] == rows


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_damage_is_healed_refused_or_changes_nothing_as_the_page_says(tmp_path: Path):
    pytest.importorskip("soundfile")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "damage.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = tables(done.stdout)
    cells = [cell.strip() for rows in found.values() for row in rows for cell in row.split("|")[2:-1]]
    assert len(cells) > 60
    assert {word for cell in cells for word in cell.split(" / ")} == {"same", "healed", "refused"}
    page = on_the_page()
    assert {head: found[head] for head in page} == page
