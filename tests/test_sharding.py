"""Real process groups over gloo: what `tests/ranks/shards.py` checks on 1, 2 and 4 ranks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import redense
from redense.errors import OptimizerError, ParameterError
from redense.holding import unwrap_optimizer
from redense.sharding import is_sharded, local, whole, wrap

Ranks = Callable[..., list[dict[str, Any]]]

CHECKS = re.findall(r"^def check_(\w+)", (Path(__file__).parent / "ranks" / "shards.py").read_text(), re.MULTILINE)
# The quick tests leave out what takes seconds and is the same on one rank, or is a part of another check.
ON_ONE = [
    "masks_are_those_of_one_process_to_the_bit_and_cost_little_to_send",
    "distributed_checkpoints_of_other_numbers_of_ranks_go_on_with_the_same_bits",
]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the distributed checkpoints are: written by 2 ranks (and 4, if those tests run), read by all."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="session")
def two(ranks: Ranks, saved: Path) -> list[dict[str, str]]:
    return ranks("ranks/shards.py", 2, saved)


@pytest.fixture(scope="session")
def one(ranks: Ranks, saved: Path, two: object) -> list[dict[str, str]]:
    return ranks("ranks/shards.py", 1, saved, *ON_ONE)


@pytest.fixture(scope="session")
def four(ranks: Ranks, saved: Path, two: object) -> list[dict[str, str]]:
    return ranks("ranks/shards.py", 4, saved, timeout=600)


@pytest.fixture(scope="session")
def two_again(ranks: Ranks, saved: Path, four: object) -> list[dict[str, str]]:
    return ranks("ranks/shards.py", 2, saved, ON_ONE[-1])


def assert_passed(results: list[dict[str, str]], check: str) -> None:
    for rank, result in enumerate(results):
        assert result[check] == "", f"rank {rank}:\n{result[check]}"


@pytest.mark.parametrize("check", CHECKS)
def test_on_two_ranks(check: str, two: list[dict[str, str]]):
    assert_passed(two, check)


@pytest.mark.parametrize("check", ON_ONE)
def test_on_one_rank(check: str, one: list[dict[str, str]]):
    assert_passed(one, check)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("check", CHECKS)
def test_on_four_ranks(check: str, four: list[dict[str, str]]):
    assert_passed(four, check)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_checkpoint_of_four_ranks_is_loaded_on_two(two_again: list[dict[str, str]]):
    assert_passed(two_again, ON_ONE[-1])


@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="this machine has no CUDA device: FSDP2 was checked on CPU")
def test_masks_of_offloaded_shards_are_on_the_cpu(tmp_path: Path):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = nn.Linear(8, 4).cuda()
        fully_shard(model, mesh=init_device_mesh("cuda", (1,)), offload_policy=CPUOffloadPolicy())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        with redense.sparse(model, optimizer, 0.5) as block:
            model(torch.randn(2, 8, device="cuda")).square().mean().backward()
            optimizer.step()
            mask = block.masks["weight"]
            assert local(mask).device.type == "cpu"
            assert (local(model.weight.detach())[~local(mask)] == 0).all()
    finally:
        dist.destroy_process_group()


# --- what is not sharded, and what cannot work ----------------------------------------------------------------------


def test_a_plain_tensor_is_its_own_local_part_and_whole():
    weight = nn.Parameter(torch.ones(3))
    assert not is_sharded(weight)
    assert local(weight) is weight
    assert whole(weight) is weight
    assert wrap(weight, weight) is weight


def test_weights_that_fsdp1_flattens_are_refused_with_what_to_use_instead():
    class FullyShardedDataParallel(nn.Module):
        sharding_strategy = None

        def __init__(self) -> None:
            super().__init__()
            self._fsdp_wrapped_module = nn.Linear(4, 4)

    for model in (FullyShardedDataParallel(), nn.Sequential(FullyShardedDataParallel())):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ParameterError, match=r"FSDP1\) flattens the weights.*fully_shard \(FSDP2; fsdp_version: 2"):
            redense.sparse(model, optimizer, 0.5).__enter__()
        with pytest.raises(ParameterError, match="FSDP1"):
            redense.summary(model)


def test_weights_that_zero3_partitions_are_refused_with_what_to_use_instead():
    model = nn.Linear(4, 4)
    model.weight.ds_id = 0  # pyright: ignore[reportAttributeAccessIssue]  # what DeepSpeed puts on a parameter
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ParameterError, match=r"'weight' is partitioned by DeepSpeed ZeRO-3.*fully_shard \(FSDP2\)"):
        redense.sparse(model, optimizer, 0.5).__enter__()


def test_an_optimizer_of_deepspeed_is_refused_with_what_to_use_instead():
    inner = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    of_deepspeed = type("DeepSpeedZeroOptimizer", (), {"__module__": "deepspeed.runtime.zero.stage3"})()
    of_deepspeed.optimizer = inner
    wrapper = type("DeepSpeedOptimizerWrapper", (), {})()
    wrapper.optimizer = inner
    for optimizer in (of_deepspeed, wrapper):
        with pytest.raises(OptimizerError, match=r"DeepSpeed's optimizers update flat partitions.*use FSDP2"):
            unwrap_optimizer(optimizer)


def test_an_optimizer_that_steps_inside_backward_is_refused_with_what_to_do_instead():
    from torch.distributed.optim import (
        _apply_optimizer_in_backward,  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    )

    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _apply_optimizer_in_backward(torch.optim.SGD, model.parameters(), {"lr": 0.1})
    with pytest.raises(OptimizerError, match=r"the optimizer of 'weight' steps inside backward.*after backward"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    dummy = type("LayerWiseDummyOptimizer", (torch.optim.SGD,), {})([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(OptimizerError, match="LayerWiseDummyOptimizer updates the weights inside backward"):
        unwrap_optimizer(dummy)
