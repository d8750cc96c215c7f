"""Comparisons that the tests of their page share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from comparison_samples import (
    fake_comparison,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_comparison(tmp_path_factory.mktemp("comparison") / "usual")


@pytest.fixture
def usual(made: Path, tmp_path: Path) -> Path:
    """A comparison that a test may change: without checksums, as an older redense has left it."""
    return Path(shutil.copytree(made, tmp_path / "usual", ignore=shutil.ignore_patterns("SHA256SUMS")))
