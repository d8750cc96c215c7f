"""The grid over Ray: a local cluster gives the bytes that one process gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redense.lab.engine import Engine
from redense.lab.store import PhaseStore


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'redense[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    environment = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", runtime_env={"env_vars": environment})
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_local_ray_cluster_gives_the_same_bytes(
    cluster: Any, compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    alone = compared("dsd", "restart", "distill", into="alone")
    monkeypatch.setattr(Engine, "train", lambda engine: pytest.fail("trained here and not by Ray"))
    store = PhaseStore(alone.folder.parent / "other")
    over_ray = compared(
        "dsd", "restart", "distill", into="ray", store=store, jobs=2, backend="ray", resources={"num_cpus": 1}
    )
    assert over_ray.trained == alone.trained
    assert over_ray.raw() == alone.raw()
    assert over_ray.raw("compare.csv") == alone.raw("compare.csv")
