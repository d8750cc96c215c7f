"""Writing the evidence of a run: the answers to test examples, where the task can give them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from redense.files.writing import write_text
from redense.tasks.task import ShowsEvidence, Task


def write_evidence(folder: Path, task: Task, outcomes: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write ``evidence.json``, unless there is nothing to compare or the task has nothing to show.

    ``outcomes``: network -> outcome of all test examples, in order; the first network is the baseline, the last the one
    that is judged.
    """
    path = folder / "evidence.json"
    if len(outcomes) > 1 and isinstance(task, ShowsEvidence):
        told = task.evidence(outcomes)
        data = told if isinstance(told, Mapping) else told.to_dict()
        write_text(path, json.dumps(data, allow_nan=False) + "\n")
    else:
        path.unlink(missing_ok=True)
