"""What `tests/masks/test_sharding.py` checks, in the processes that hold the shards: every function `check_...`."""

from __future__ import annotations

import datetime
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import replicas
import torch
import torch.distributed as dist
from cut import Plain, Tied, Training, assert_raises, assert_same, counted_bytes, placements, shard
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import redense
from redense import Phase, Schedule, Surgery, masks
from redense.criteria import get_criterion
from redense.errors import ParameterError, ScoreError, StateError
from redense.layers.inputs import input_norms, measured_inputs
from redense.masks import sharded as distributed
from redense.masks.sharding import extent_of, local, sparsity_of, whole
from redense.pruning import choose

RANK, WORLD = int(sys.argv[1]), int(sys.argv[2])
FOLDER = Path(sys.argv[5])

SCHEDULES = {
    "dsd": Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.4),
    "global": Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.4, scope="global"),
    "random": Schedule.random(dense=2, sparse=3, redense=2, sparsity=0.4),
    "saliency": Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.4, criterion="saliency"),
    "prune": Schedule.prune(dense=2, sparse=3, redense=2, sparsity=0.6, rounds=3),
    "pattern": Schedule((Phase.dense(2), Phase.sparse(3, pattern=(2, 4)), Phase.dense(2))),
    "scratch": Schedule.scratch(dense=2, sparse=3, redense=2, sparsity=0.4),
    "surgery": Schedule.surgery(dense=2, sparse=3, redense=2, sparsity=0.4, surgery=Surgery(power=0)),
}

FEWER = WORLD < 3  # of what does not depend on the number of ranks; `make test-slow` has all of it on four
SAVED = ("dsd", "surgery", "scratch")
KILLED = {"dsd": (6,), "surgery": (3,)} if FEWER else dict.fromkeys(SAVED, (1, 3, 6))
WRITTEN = {"dsd": (3,), "scratch": (1,)} if FEWER else KILLED  # as distributed checkpoints
TRAINED = [(name, kind) for name in SCHEDULES for kind in (Plain, Tied) if (name, kind) != ("pattern", Tied)]
if FEWER:
    TRAINED = [("dsd", Tied), ("global", Plain), ("saliency", Plain)]
CHANGES = (2, 3, 5, 7)  # steps after which a phase begins, has made a step, or ends


# --- selection ------------------------------------------------------------------------------------------------------


def check_masks_are_those_of_one_process_to_the_bit_and_cost_little_to_send() -> None:
    torch.manual_seed(0)
    for mesh, where in placements():
        for shape, absolute in (((13, 6), False), ((2, 9), True)):
            for dtype in (torch.float32, torch.bfloat16) if FEWER else (torch.float32, torch.float64, torch.bfloat16):
                for scores in (torch.randn(shape), torch.randn(shape).round(), torch.ones(shape)):
                    expected = masks.select(scores.to(dtype), 0.37, absolute=absolute)
                    sharded = distribute_tensor(scores.to(dtype), mesh, where)
                    with counted_bytes() as sent:
                        mask = distributed.select(sharded, 0.37, absolute=absolute)
                    assert sum(sent) < 1 << 20, sum(sent)
                    assert isinstance(mask, DTensor)
                    assert mask.placements == sharded.placements
                    assert torch.equal(whole(mask), expected), (where, shape, dtype)


def check_one_threshold_over_sharded_and_plain_weights_is_that_of_one_process() -> None:
    torch.manual_seed(1)
    for mesh, where in placements():
        for levels in (0, 1):
            scores = {name: torch.randn(shape) for name, shape in (("a", (7, 6)), ("b", (5, 4)), ("c", (9, 2)))}
            scores = {name: values.round() if levels else values for name, values in scores.items()}
            sharded = {n: v if n == "b" else distribute_tensor(v, mesh, where) for n, v in scores.items()}
            chosen = distributed.select_global(sharded, 0.45)
            assert not isinstance(chosen["b"], DTensor)
            for name, mask in masks.select_global(scores, 0.45).items():
                assert torch.equal(whole(chosen[name]), mask), (where, name)


def check_weights_over_different_meshes_have_no_common_threshold() -> None:
    line = init_device_mesh("cpu", (WORLD,))
    square = init_device_mesh("cpu", (1, WORLD))
    scores = {
        "a": distribute_tensor(torch.randn(4, 4), line, (Shard(0),)),
        "b": distribute_tensor(torch.randn(4, 4), square, (Replicate(), Shard(0))),
    }
    says = "'a' and 'b' are sharded over different device meshes"
    assert_raises(ParameterError, says, lambda: distributed.select_global(scores, 0.5))


def check_a_nan_of_one_rank_is_an_error_of_all() -> None:
    scores = torch.ones(8, 2)
    scores[-1] = torch.nan
    sharded = distribute_tensor(scores, init_device_mesh("cpu", (WORLD,)), (Shard(0),))
    says = "2 of the 16 scores of 'fc' are NaN or infinite"
    assert_raises(ScoreError, says, lambda: distributed.select(sharded, 0.5, name="fc"))


def check_patterns_are_chosen_on_shards_that_cut_no_group() -> None:
    scores = torch.randn(6, 16)
    mesh = init_device_mesh("cpu", (WORLD,))
    for placement in (Shard(0), Shard(1), Replicate()):
        mask = distributed.select_pattern(distribute_tensor(scores, mesh, (placement,)), (2, 4))
        assert torch.equal(whole(mask), masks.select_pattern(scores, (2, 4))), placement
    if WORLD > 1:
        torn = distribute_tensor(torch.randn(4, 6), mesh, (Shard(1),))
        says = "groups of 3 are cut in two" if WORLD > 2 else ""
        if says:
            assert_raises(ParameterError, says, lambda: distributed.select_pattern(torn, (1, 3), name="fc"))
        torn = distribute_tensor(torch.randn(4, 4), mesh, (Shard(1),))
        says = "groups of 4 are cut in two"
        assert_raises(ParameterError, says, lambda: distributed.select_pattern(torn, (2, 4), name="fc"))


def check_random_scores_of_a_shard_are_its_part_of_the_whole() -> None:
    import redense.criteria as criteria

    criteria._DRAWN = 20  # pyright: ignore[reportPrivateUsage]  # several draws, and rows that are longer than one
    random = get_criterion("random")
    for mesh, where in placements():
        for shape in ((13, 6), (3, 40)):
            sharded = distribute_tensor(torch.zeros(shape), mesh, where)
            assert torch.equal(whole(random(sharded, 5)), random(torch.zeros(shape), 5)), where


def check_a_criterion_may_score_the_whole_of_a_sharded_weight() -> None:
    redense.criterion("by-index")(lambda parameter, seed: torch.arange(float(parameter.numel())).view(parameter.shape))
    weight = nn.Parameter(distribute_tensor(torch.zeros(5, 4), init_device_mesh("cpu", (WORLD,)), (Shard(0),)))
    chosen = choose(Phase.sparse(1, 0.5, criterion="by-index"), {"w": weight}, {}, lambda name: 0)
    assert torch.equal(whole(chosen["w"]), torch.arange(20).view(5, 4) >= 10)


def check_inputs_that_each_rank_measures_of_its_own_batch_give_the_masks_of_one_process_with_all_batches() -> None:
    @redense.criterion("wanda", activations=True)
    def wanda(parameter: Tensor, seed: int) -> Tensor:  # pyright: ignore[reportUnusedFunction]  # by its name
        return parameter.detach().abs() * input_norms(parameter)

    def chosen(wrapped: Callable[[nn.Module], Any], batches: Iterable[int], replicas: Any = None) -> list[Tensor]:
        torch.manual_seed(0)
        inner = Plain()
        model = wrapped(inner) or inner
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with measured_inputs(model), torch.no_grad():
            for batch in batches:
                x = torch.randn(4 + batch, 8, generator=torch.Generator().manual_seed(batch))
                model(x * torch.linspace(0.1, 3, 8).roll(3 * batch))
        with redense.sparse(model, optimizer, 0.4, criterion="wanda", replicas=replicas) as block:
            return [whole(mask) for mask in block.masks.values()]

    every = [(wrapped, RANK, WORLD) for wrapped in (DistributedDataParallel, shard, fully_shard)]
    for wrapped, own, batches in (*every, (tensor_parallel, RANK // 2, WORLD // 2 or 1)):
        expected = chosen(lambda model: None, range(batches), False)
        for one, many in zip(expected, chosen(wrapped, [own]), strict=True):
            assert torch.equal(one, many), wrapped


def check_partial_sums_have_no_scores() -> None:
    from torch.distributed.tensor import Partial

    partial = DTensor.from_local(torch.ones(2, 2), init_device_mesh("cpu", (WORLD,)), (Partial(),))
    assert_raises(ParameterError, "partial sum", lambda: extent_of(partial))


# --- training -------------------------------------------------------------------------------------------------------


def check_every_schedule_trains_sharded_as_it_does_in_one_process() -> None:
    for name, kind in TRAINED:
        schedule = SCHEDULES[name]
        one, many = Training(schedule, None, kind), Training(schedule, shard, kind)
        assert_same(one, many, name)
        for number in range(schedule.total_steps):
            one.step(number)
            many.step(number)
            if not FEWER or number + 1 in CHANGES:  # what differs once never becomes the same again
                assert_same(one, many, (name, kind, number))
            for mask_name, mask in many.dsd.masks.items():
                assert isinstance(mask, DTensor)
                weight = many.model.get_parameter(mask_name)
                if name != "surgery":
                    assert (local(weight.detach())[~local(mask)] == 0).all()


def check_weights_sharded_along_their_inputs_train_alike() -> None:
    one = Training(SCHEDULES["dsd"], None)
    many = Training(SCHEDULES["dsd"], lambda m: shard(m, shard_placement_fn=lambda p: Shard(p.dim() - 1)))
    one.steps(0, 7)
    many.steps(0, 7)
    assert_same(one, many, "inputs")


def check_replicas_of_shards_train_alike() -> None:
    mesh = init_device_mesh("cpu", (WORLD // 2 or 1, min(WORLD, 2)), mesh_dim_names=("replicate", "shard"))
    one, many = Training(SCHEDULES["dsd"], None), Training(SCHEDULES["dsd"], lambda m: shard(m, mesh=mesh))
    one.steps(0, 7)
    many.steps(0, 7)
    assert_same(one, many, "hybrid")


def tensor_parallel(model: nn.Module) -> None:
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (WORLD // 2 or 1, min(WORLD, 2)), mesh_dim_names=("data", "tensor"))
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])


def check_tensor_parallel_weights_under_fsdp2_keep_the_masks_of_the_whole() -> None:
    torch.manual_seed(0)
    model = Plain()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tensor_parallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    with redense.sparse(model, optimizer, 0.4) as block:
        for name, mask in block.masks.items():
            assert torch.equal(whole(mask), masks.select(before[name], 0.4, absolute=True)), name
        for number in range(3):
            optimizer.zero_grad()
            model(torch.randn(6, 8, generator=torch.Generator().manual_seed(number))).square().mean().backward()
            optimizer.step()
            for name, mask in block.masks.items():
                assert (local(model.get_parameter(name).detach())[~local(mask)] == 0).all()
                assert int((whole(model.get_parameter(name).detach()) == 0).sum()) == int((~whole(mask)).sum())


def check_mixed_precision_and_cpu_offload_hold_their_masks() -> None:
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for more in ({"mp_policy": half}, {"offload_policy": CPUOffloadPolicy(pin_memory=False)}):
        many = Training(SCHEDULES["dsd"], lambda m, more=more: shard(m, **more))
        many.steps(0, 2)
        chosen = {name: whole(mask) for name, mask in many.dsd.masks.items()}
        assert chosen
        many.step(2)
        for name, mask in chosen.items():
            weight = many.model.get_parameter(name)
            assert weight.dtype == torch.float32
            assert int((whole(weight.detach()) == 0).sum()) == int((~mask).sum()) == round(0.4 * mask.numel())
            for state in many.optimizer.state[weight].values():
                if state.dim():
                    assert (whole(state)[~mask] == 0).all()
        many.steps(3, 7)
        assert many.dsd.phase is None


def check_a_phase_goes_on_when_its_model_is_sharded() -> None:
    for name in ("dsd", "surgery"):
        one, many = Training(SCHEDULES[name], None), Training(SCHEDULES[name], None)
        for training in (one, many):
            training.steps(0, 3)
        before = dict(many.model.named_parameters())
        shard(many.model)
        after = dict(many.model.named_parameters())
        renamed = {id(p): after[n] for n, p in before.items()}  # as Accelerate does in prepare()
        for group in many.optimizer.param_groups:
            group["params"] = [renamed[id(p)] for p in group["params"]]
        for n, p in before.items():
            state = many.optimizer.state.pop(p)
            many.optimizer.state[after[n]] = {
                k: distribute_tensor(v, after[n].device_mesh, after[n].placements) if v.dim() else v  # pyright: ignore[reportAttributeAccessIssue]
                for k, v in state.items()
            }
        for number in range(3, 7):
            one.step(number)
            many.step(number)
            assert_same(one, many, (name, number))


def check_an_evaluation_before_the_controller_is_made_does_not_hide_the_shards() -> None:
    torch.manual_seed(0)
    model = Plain()
    fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model(torch.randn(2, 8))
    assert not isinstance(model.get_parameter("2.weight"), DTensor), "nothing is hidden: this proves nothing"
    with redense.sparse(model, optimizer, 0.5) as block:
        assert all(isinstance(mask, DTensor) for mask in block.masks.values())
        assert "of this rank's shard" in str(redense.summary(model))
        assert sparsity_of(model.get_parameter("0.weight")) == 0.5


def check_shards_under_a_grad_scaler_skip_no_step_of_the_schedule() -> None:
    many = Training(SCHEDULES["dsd"], shard)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number in range(5):
        many.optimizer.zero_grad()
        loss = many.model(torch.randn(6, 8, generator=torch.Generator().manual_seed(number))).square().mean()
        scaler.scale(loss).backward()
        if number == 1:
            local(many.model.get_parameter("2.weight").grad)[:1] = torch.inf  # pyright: ignore[reportArgumentType]
        scaler.step(many.optimizer)
        scaler.update()
    assert many.dsd.step == 4
    assert many.dsd.phase == many.schedule.phases[1]


# --- states ---------------------------------------------------------------------------------------------------------


def check_a_state_is_whole_and_goes_from_shards_to_one_process_and_back() -> None:
    for name, kills in KILLED.items():
        schedule = SCHEDULES[name]
        for kill in kills:
            one, many = Training(schedule, None), Training(schedule, shard)
            for training in (one, many):
                training.steps(0, kill)
            files = []
            for training in (one, many):
                file = io.BytesIO()
                torch.save(training.dsd.state_dict(), file)
                files.append(file.getvalue())
            states = [torch.load(io.BytesIO(file), weights_only=True) for file in files]
            assert json.dumps(_plain(states[0])) == json.dumps(_plain(states[1])), (name, kill)
            one.dsd.load_state_dict(states[1])
            many.dsd.load_state_dict(states[0])
            for number in range(kill, schedule.total_steps):
                one.step(number)
                many.step(number)
                if not FEWER or number + 1 in CHANGES:
                    assert_same(one, many, (name, kill, number))


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, Tensor) else state


def check_masks_of_a_run_before_are_cut_for_a_sharded_one() -> None:
    one = Training(SCHEDULES["dsd"], None)
    one.steps(0, 2)
    given = one.dsd.masks
    schedule = Schedule((Phase.sparse(3, 0.6),))
    trainings = [Training(Schedule((Phase.dense(1),)), how) for how in (None, shard)]
    chosen = []
    for training in trainings:
        training.dsd.close()
        dsd = redense.DSD(training.model, training.optimizer, schedule, masks=given)
        chosen.append({name: whole(mask) for name, mask in dsd.masks.items()})
        dsd.close()
    for name, mask in chosen[0].items():
        assert torch.equal(mask, chosen[1][name])
        assert not (mask & ~given[name]).any()


def _checkpoint(training: Training) -> dict[str, Any]:
    model, optimizer = get_state_dict(training.model, training.optimizer)
    return {"model": model, "optimizer": optimizer, "dsd": training.dsd.sharded_state_dict()}


def check_a_distributed_checkpoint_is_written() -> None:
    for name, kills in WRITTEN.items():
        for kill in kills:
            training = Training(SCHEDULES[name], shard)
            training.steps(0, kill)
            where = FOLDER / f"{name}-{kill}-of-{WORLD}"
            dcp.save(_checkpoint(training), checkpoint_id=where)  # pyright: ignore[reportPrivateImportUsage]


def check_distributed_checkpoints_of_other_numbers_of_ranks_go_on_with_the_same_bits() -> None:
    dist.barrier()
    found = 0
    for name in WRITTEN:
        schedule = SCHEDULES[name]
        one = Training(schedule, None)
        one.steps(0, schedule.total_steps)
        for folder in sorted(FOLDER.glob(f"{name}-*-of-*")):
            kill = int(folder.name.split("-")[1])
            for how in (shard, None):  # also into a model that is not sharded
                training = Training(schedule, how, seed=1)
                state = _checkpoint(training)
                dcp.load(state, checkpoint_id=folder)  # pyright: ignore[reportPrivateImportUsage]
                set_state_dict(
                    training.model,
                    training.optimizer,
                    model_state_dict=state["model"],
                    optim_state_dict=state["optimizer"],
                )
                training.dsd.load_state_dict(state["dsd"])
                assert training.dsd.step == kill
                training.steps(kill, schedule.total_steps)
                assert_same(one, training, (folder.name, WORLD))
                found += 1
    assert found >= 2 * sum(map(len, WRITTEN.values()))


def check_a_sharded_state_without_a_mask_is_of_another_model() -> None:
    training = Training(SCHEDULES["dsd"], shard)
    training.steps(0, 3)
    state = training.dsd.sharded_state_dict()
    del state["sharded"]["masks"]["2.weight"]
    says = "the saved state has no mask of '2.weight'"
    assert_raises(StateError, says, lambda: training.dsd.load_state_dict(state))


def check_surgery_with_a_mean_of_its_own_is_refused_on_shards() -> None:
    schedule = Schedule((Phase.dense(1), Phase.sparse(2, 0.5, surgery=Surgery(c=0.1))))
    many = Training(schedule, shard)
    assert_raises(ParameterError, "surgery with c=0.1 needs the mean of '0.weight'", lambda: many.step(0))


# --- DDP ------------------------------------------------------------------------------------------------------------


def check_an_optimizer_that_shares_its_state_out_among_ranks_restarts_from_zero_too() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    one = Training(SCHEDULES["dsd"], None)
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(Plain())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.02)
    dsd = redense.DSD(model, optimizer, SCHEDULES["dsd"])
    for number in range(7):
        one.step(number)
        optimizer.zero_grad()
        model(torch.randn(6, 8, generator=torch.Generator().manual_seed(number))).square().mean().backward()
        optimizer.step()
        assert dsd.step == number + 1
        for name, weight in model.module.named_parameters():
            assert torch.equal(weight, one.model.get_parameter(name)), (number, name)


def main() -> None:
    torch.set_num_threads(1)
    # A check that fails on one rank alone leaves the others waiting: they give up, and so does every check after it.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{sys.argv[3]}",
        rank=RANK,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=60),
    )
    results: dict[str, str] = {}
    wanted = sys.argv[6:]
    for name, check in {**globals(), **vars(replicas)}.items():
        if not name.startswith("check_") or (wanted and name.removeprefix("check_") not in wanted):
            continue
        try:
            check()
            results[name.removeprefix("check_")] = ""
        except (Exception, pytest.fail.Exception):  # noqa: BLE001  # the test shows it
            results[name.removeprefix("check_")] = traceback.format_exc()
    Path(sys.argv[4]).write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
