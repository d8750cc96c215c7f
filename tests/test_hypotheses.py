"""The table of the paper's hypotheses is that of the raw numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "hypotheses", raising=False)
    import hypotheses  # pyright: ignore[reportMissingImports]  # tools/ is no package

    return hypotheses


def test_the_table_of_the_page_is_made_of_the_raw_numbers(tool):
    assert len(tool.diagnoses()) == 5
    assert tool.lines(tool.table()) in PAGE.read_text(encoding="utf-8"), "run tools/hypotheses.py"
