"""One contract for every loop; `tests/ranks/contract.py` has the loops, and says what each must do."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "ranks" / "contract.py"
CLAUSES = [
    "zeros are held, and phases change at the exact step under accumulation",
    "the final weights are those of the loop by hand",
    "killed in every phase and resumed, it ends with the same bits",
    "what it leaves loads strictly into the plain module",
]
ALONE = ["plain", "lightning", "transformers", "accelerate"]


Ranks = Callable[..., list[dict[str, Any]]]


def held(loops: list[str], results: list[dict[str, Any]]) -> None:
    broken = {
        f"{loop}, rank {rank}: {clause}": report
        for rank, result in enumerate(results)
        for loop in loops
        for clause, report in (dict.fromkeys(CLAUSES, "not checked") | result[loop]).items()
        if report
    }
    assert not broken, "\n".join(f"{where}\n{report}" for where, report in broken.items())


def test_every_loop_of_one_process_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("pytorch_lightning", "transformers"):
        pytest.importorskip(name)
    from accelerate.state import AcceleratorState

    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "0", "1", "nowhere", str(out), str(tmp_path), *ALONE])
    try:  # in this process, which has imported them
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    held(ALONE, [json.loads(out.read_text())])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("world", "loops"),
    [
        (2, ["ddp"]),
        pytest.param(2, ["fsdp2", "accelerate", "accelerate_fsdp2"], marks=pytest.mark.slow),
        pytest.param(4, ["ddp", "fsdp2"], marks=pytest.mark.slow),
    ],
)
def test_every_loop_keeps_the_contract(world: int, loops: list[str], ranks: Ranks, tmp_path: Path):
    held(loops, ranks("ranks/contract.py", world, tmp_path, *loops, timeout=280))
