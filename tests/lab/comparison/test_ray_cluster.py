"""The grid over Ray: a local cluster gives the bytes that one process gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redense.errors import StateError
from redense.lab.comparison.ray_cluster import carried, join_cluster
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine

TOKEN = "0" * 32


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray with a token: a local cluster would make one in the home, which the next test has not."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # it is 15, and other processes come first
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'redense[ray]'")  # it reads them now


@pytest.fixture
def cluster(ray: Any) -> Iterator[Any]:
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


@pytest.fixture
def two_machines(ray: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with one processor each, as of two machines that share a disk."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", str(made.address))
    yield made
    ray.shutdown()
    made.shutdown()


def joined_without_a_token() -> str:
    """Return what a process without the token of the cluster says."""
    code = "from redense.lab.comparison.ray_cluster import join_cluster; join_cluster(1, {})"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")  # Ray's own
def test_two_nodes_share_a_comparison_and_a_node_that_goes_is_a_line(
    two_machines: Any, compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(StateError, match="a job needs 2 processors, and the largest machine of the Ray cluster has 1"):
        join_cluster(1, {"num_cpus": 2.0})
    refused = "StateError: Ray does not start: Token .* needs RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN$"
    assert re.search(refused, joined_without_a_token())
    join_cluster(2, {"num_cpus": 1.0})
    alone = compared("dsd", "restart", into="alone")
    monkeypatch.setattr(Engine, "train", lambda engine: pytest.fail("trained here and not by Ray"))
    store = PhaseStore(alone.folder.parent / "other")
    over_ray = compared("dsd", "restart", into="ray", store=store, jobs=2, backend="ray", resources={"num_cpus": 1})
    assert over_ray.trained == alone.trained
    assert over_ray.raw() == alone.raw()

    def leave(job: int) -> int:
        os._exit(1)

    with pytest.raises(StateError, match=r"Ray lost a job, .*: go on with --resume x; what was trained is kept"):
        list(carried(leave, [1], 1, {"num_cpus": 1.0}, again="--resume x"))
