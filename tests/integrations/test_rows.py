"""What people do in a loop besides training, in every loop: `tests/ranks/rows.py` has the rows and the loops."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

# What torch does not do on DTensors, without redense either: `AveragedModel` cannot copy a sharded model.
NOT_ON_SHARDS = {
    *("lookahead", "trac", "sam, two calls", "adafactor", "lamb", "prodigy", "came", "soap", "an average"),
}
LOOPS = {1: ["closure", "fabric", "accelerate", "lightning", "transformers"], 2: ["ddp", "fsdp2"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("world", LOOPS)
def test_every_row_holds_in_every_loop(
    world: int, ranks: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
):
    for name in ("pytorch_optimizer", "pytorch_lightning", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for rank, rows in enumerate(ranks("ranks/rows.py", world, *LOOPS[world], timeout=280)):
        assert len(rows) == 16
        for row, loops in rows.items():
            assert list(loops) == ["plain", *LOOPS[world]], (row, loops)
            for loop, report in loops.items():
                allowed = "not without redense either" if loop == "fsdp2" and row in NOT_ON_SHARDS else ""
                assert report == allowed, f"{row}, {loop}, rank {rank}: {report}"
