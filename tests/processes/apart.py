"""An environment of its own for a package that what is installed here does not admit."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHERS = ("pillow",)
"""Pins of constraints.txt that trackio does not admit: it is tested in an environment of its own."""


def passes_in_an_environment_with(package: str, file: Path, test: str, folder: Path) -> None:
    """Install a package before what is installed here, once for all tests, and run a test of a file there."""
    python = _python_with(package)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", folder / "inner", "-m", "slow"]
    done = subprocess.run([python, *words, f"{file}::{test}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


@cache
def _python_with(package: str) -> Path:
    folder = Path(os.environ["REDENSE_TEST_BREACHES"]).parent / f"with-{package}"  # conftest.py takes it away
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "outer.pth").write_text(f"import site; list(map(site.addsitedir, {site.getsitepackages()!r}))")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (folder / "pins.txt").write_text("\n".join(pin for pin in pins if pin.partition("==")[0] not in OTHERS))
    environment = os.environ | {"PIP_CONSTRAINT": str(folder / "pins.txt")}
    subprocess.run([python, "-m", "pip", "install", "-q", package], env=environment, check=True)
    return python
