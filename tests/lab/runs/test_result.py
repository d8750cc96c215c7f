"""What the task has to show is written beside the result, and nothing where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from redense.lab.runs.result import write_evidence

OUTCOME = {"rank": torch.tensor([0, 1])}


def tell(outcomes: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "mine", "networks": list(outcomes)}


def test_what_the_task_tells_is_written_as_it_is(tmp_path: Path):
    write_evidence(tmp_path, cast("Any", SimpleNamespace(evidence=tell)), {"dense": OUTCOME, "redense": OUTCOME})
    assert json.loads((tmp_path / "evidence.json").read_text()) == {"kind": "mine", "networks": ["dense", "redense"]}


def test_one_network_alone_or_a_task_that_tells_nothing_leaves_no_file_not_even_an_old_one(tmp_path: Path):
    both = {"dense": OUTCOME, "redense": OUTCOME}
    for task, outcomes in ((SimpleNamespace(evidence=tell), {"dense": OUTCOME}), (SimpleNamespace(), both)):
        (tmp_path / "evidence.json").write_text("{}")
        write_evidence(tmp_path, cast("Any", task), outcomes)
        assert not (tmp_path / "evidence.json").exists()
