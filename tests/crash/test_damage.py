"""Every file of ours, damaged in three ways, under every verb: healed, refused in one line, or provably the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redense import cli


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_damage_is_healed_refused_or_changes_nothing(tmp_path: Path):
    pytest.importorskip("soundfile")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    script = Path(__file__).with_name("damage.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [
        cell.strip() for line in done.stdout.splitlines() if line.startswith("| `") for cell in line.split("|")[2:-1]
    ]
    assert len(cells) > 60
    assert {word for cell in cells for word in cell.split(" / ")} == {"same", "healed", "refused"}
