"""One contract for every loop; `tests/ranks/contract.py` has the loops, and says what each must do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLAUSES = [
    "zeros are held, and phases change at the exact step under accumulation",
    "the final weights are those of the loop by hand",
    "killed in every phase and resumed, it ends with the same bits",
    "what it leaves loads strictly into the plain module",
]
LOOPS = {
    1: ["plain", "lightning", "transformers", "accelerate"],
    2: ["ddp", "fsdp2", "accelerate", "accelerate_fsdp2"],
    4: ["ddp", "fsdp2"],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("world", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_loop_keeps_the_contract(world: int, ranks: Callable[..., list[dict[str, Any]]], tmp_path: Path):
    for name in ("pytorch_lightning", "transformers") if world == 1 else ():
        pytest.importorskip(name)
    broken = {
        f"{loop}, rank {rank}: {clause}": report
        for rank, result in enumerate(ranks("ranks/contract.py", world, tmp_path, *LOOPS[world], timeout=280))
        for loop in LOOPS[world]
        for clause, report in (dict.fromkeys(CLAUSES, "not checked") | result[loop]).items()
        if report
    }
    assert not broken, "\n".join(f"{where}\n{report}" for where, report in broken.items())
