"""The folder of a comparison as data: what a phase of an arm is told to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redense.report.comparisons.reading import read_comparison


@pytest.mark.parametrize("shares", [{"a": 0.5, "b": 0.3}, [["b.*", 0.5], ["*.weight", 0.3]]])
def test_sparsities_by_name_are_told_whether_they_are_a_mapping_or_pairs(usual: Path, shares: Any):
    data = json.loads((usual / "compare.json").read_text())
    row = next(row for row in data["rows"] if row["arm"] == "dsd")
    row["phases"][1]["phase"]["sparsity"] = shares
    (usual / "compare.json").write_text(json.dumps(data))
    dsd = next(arm for arm in read_comparison(usual).arms if arm.name == "dsd")
    assert dsd.phases[1].sparse
    assert "sparsity by layer" in dsd.phases[1].about
