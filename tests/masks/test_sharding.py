"""Real process groups over gloo: what `tests/ranks/shards.py` checks on 1, 2 and 4 ranks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense.errors import OptimizerError, ParameterError, ScoreError, StateError
from redense.holding.optimizers import unwrap_optimizer
from redense.masks.sharding import is_sharded, local, whole, wrap
from redense.methods import drop_connect, factorise_

Ranks = Callable[..., list[dict[str, Any]]]

SCRIPT = "ranks/shards.py"
SHARDS, REPLICAS = (
    re.findall(r"^def check_(\w+)", (Path(__file__).parents[1] / "ranks" / script).read_text(), re.MULTILINE)
    for script in ("shards.py", "replicas.py")  # the first runs both
)
FEW = [
    "masks_of_weights_that_ddp_replaced_are_refused_at_the_first_step",
    "a_nan_and_any_other_error_of_one_rank_are_raised_by_all",
    "ranks_send_a_few_bytes_where_masks_are_chosen_and_nothing_else",
    "a_checkpoint_of_fresh_shards_is_no_step_though_one_rank_makes_it_alone",
]
SELECTION = "masks_are_those_of_one_process_to_the_bit_and_cost_little_to_send"
LOADING = "distributed_checkpoints_of_other_numbers_of_ranks_go_on_with_the_same_bits"


def assert_passed(results: list[dict[str, str]], checks: list[str]) -> None:
    failed = {
        f"rank {rank}: {check}": result.get(check, "not checked")
        for rank, result in enumerate(results)
        for check in checks
        if result.get(check, "not checked")
    }
    assert not failed, "\n".join(f"{where}\n{report}" for where, report in failed.items())


@pytest.mark.timeout(300)
def test_every_check_passes_on_two_ranks_and_one_rank_loads_what_two_have_written(ranks: Ranks, tmp_path: Path):
    assert_passed(ranks(SCRIPT, 2, tmp_path, *SHARDS, *FEW, timeout=280), [*SHARDS, *FEW])
    assert_passed(ranks(SCRIPT, 1, tmp_path, SELECTION, LOADING), [SELECTION, LOADING])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_check_passes_on_four_ranks_and_two_and_one_load_what_four_have_written(ranks: Ranks, tmp_path: Path):
    assert_passed(ranks(SCRIPT, 4, tmp_path, *SHARDS, timeout=900), SHARDS)
    for world in (2, 1):
        assert_passed(ranks(SCRIPT, world, tmp_path, LOADING), [LOADING])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_that_train_copies_of_a_model_hold_the_same_masks_or_all_say_that_they_do_not(
    world: int, ranks: Ranks, tmp_path: Path
):
    assert set(FEW) <= set(REPLICAS)
    assert_passed(ranks(SCRIPT, world, tmp_path, *REPLICAS, timeout=500), REPLICAS)


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


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """This process as the only rank of a group."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_sharded_tensor_of_zeros_is_refused_by_name():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(8, 4)
    nn.init.zeros_(model.weight)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ScoreError, match="'weight' is all zeros"), redense.sparse(model, optimizer, sparsity=0.5):
        pass


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # PyTorch 2.8 uses it itself, to save
def test_what_a_distributed_checkpoint_has_loaded_is_not_undone_as_the_first_pruning_is(tmp_path: Path):
    import torch.distributed.checkpoint
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dcp: Any = torch.distributed.checkpoint

    def made(seed: int) -> tuple[Tensor, dict[str, Any], redense.DSD]:
        torch.manual_seed(seed)
        model = nn.Linear(8, 4)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        dsd = redense.DSD(model, optimizer, redense.Schedule((redense.Phase.sparse(2, 0.5), redense.Phase.dense(2))))
        return local(model.weight.detach()), {"model": model.state_dict(), "dsd": dsd.sharded_state_dict()}, dsd

    saved, state, _ = made(0)
    dcp.save(state, checkpoint_id=str(tmp_path / "kept"))
    weight, state, dsd = made(1)
    dcp.load(state, checkpoint_id=str(tmp_path / "kept"))  # writes into the shards, in place
    dsd.load_state_dict(state["dsd"])
    assert torch.equal(weight, saved)
    assert torch.equal(weight != 0, local(dsd.masks["weight"]))


@pytest.mark.usefixtures("alone")
def test_weights_that_an_evaluation_has_left_gathered_are_looked_at_as_the_shards_that_stay():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))

    def made() -> nn.Sequential:
        return fully_shard(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), mesh=mesh)  # pyright: ignore[reportReturnType]

    def evaluated(module: nn.Sequential) -> nn.Sequential:
        with torch.no_grad():
            module(torch.ones(1, 8))
        assert not is_sharded(module.get_parameter("0.weight")), "nothing is gathered: this proves nothing"
        return module

    def trained(optimizer: torch.optim.Optimizer) -> None:
        model(torch.ones(1, 8)).sum().backward()
        evaluated(model)
        optimizer.step()

    model = made()
    first, other = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    dsd = redense.DSD(model, first, redense.Schedule((redense.Phase.dense(1), redense.Phase.sparse(9, 0.5))))
    trained(first)
    copy = made()
    dsd.mask_copy(evaluated(copy))
    for name, mask in dsd.masks.items():
        assert torch.equal(copy.get_parameter(name) != 0, mask)
    evaluated(model)
    with pytest.raises(StateError, match="DSD already controls this model"), redense.sparse(model, first, 0.5):
        pass
    with pytest.raises(OptimizerError, match=r"an optimizer .* that redense was not given"):
        trained(other)
    with pytest.raises(ParameterError, match="a scan needs whole weights"):
        redense.sensitivity(evaluated(model), lambda module: 0.0, sparsities=(0.5,))
    with pytest.raises(ParameterError, match="factorise_ needs whole weights"):
        factorise_(evaluated(model), rank=1)
    with pytest.raises(ParameterError, match=r"drop weights of '0\.weight', which is sharded"):
        drop_connect(evaluated(model), rate=0.5)
    assert all(map(is_sharded, redense.prunable(evaluated(model)).values()))


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
    of_deepspeed: Any = type("DeepSpeedZeroOptimizer", (), {"__module__": "deepspeed.runtime.zero.stage3"})()
    of_deepspeed.optimizer = inner
    wrapper: Any = type("DeepSpeedOptimizerWrapper", (), {})()
    wrapper.optimizer = inner
    for optimizer in (of_deepspeed, wrapper):
        with pytest.raises(OptimizerError, match=r"DeepSpeed's optimizers update flat partitions.*use FSDP2"):
            unwrap_optimizer(optimizer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, by that module of torch
def test_an_optimizer_that_steps_inside_backward_is_refused_with_what_to_do_instead():
    from torch.distributed.optim.apply_optimizer_in_backward import (
        _apply_optimizer_in_backward,  # pyright: ignore[reportPrivateUsage]
    )

    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _apply_optimizer_in_backward(torch.optim.SGD, model.parameters(), {"lr": 0.1})
    with pytest.raises(OptimizerError, match=r"the optimizer of 'weight' steps inside backward.*after backward"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    dummy = type("LayerWiseDummyOptimizer", (torch.optim.SGD,), {})([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(OptimizerError, match="LayerWiseDummyOptimizer updates the weights inside backward"):
        unwrap_optimizer(dummy)
