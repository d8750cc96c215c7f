"""A CUDA GPU holds and releases as the CPU does; without one this file is skipped as a whole."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import redense
from redense import Schedule
from redense.errors import OptimizerError

from . import every_optimizer, test_contract
from .test_every_optimizer import examined, exceptions

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA device", allow_module_level=True)

CUDA = torch.device("cuda")
SCHEDULE = Schedule.dsd(dense=3, sparse=6, redense=4, sparsity=0.5)


@pytest.fixture(autouse=True)
def on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_contract, "DEVICE", CUDA)
    monkeypatch.setattr(every_optimizer, "DEVICE", CUDA)
    monkeypatch.setitem(
        test_contract.OPTIMIZERS, "adamw-capturable", lambda p: torch.optim.AdamW(p, lr=0.01, capturable=True)
    )


@pytest.fixture
def one_rank(tmp_path: Any) -> Iterator[None]:
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def pairs() -> list[Any]:
    few = [(m, o) for m in test_contract.MODELS for o in test_contract.QUICK]
    return sorted({*few, *(("mlp", o) for o in (*test_contract.OPTIMIZERS, "adamw-capturable"))})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4)).to(CUDA)


def data(steps: int = 13) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 6, generator=drawn).to(CUDA), torch.randn(8, 4, generator=drawn).to(CUDA)) for _ in range(steps)
    ]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()


def train(step: Callable[..., None] = plain, make: Callable[..., Any] = adamw) -> list[Tensor]:
    """Train the schedule on the GPU, look at the zeros after each step, and return the weights."""
    model = network()
    optimizer = make(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for x, y in data():
        step(model, optimizer, x, y)
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask] == 0).all()
            assert int((~mask).sum()) == round(0.5 * mask.numel())
    assert dsd.phase is None
    return [p.detach().cpu() for p in model.parameters()]


# --- what holds on a CPU --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "optimizer"), pairs())
def test_dense_sparse_dense_is_exact_held_from_zero_and_invisible(model: str, optimizer: str):
    if (model, optimizer) == ("mlp-bf16", "adafactor"):
        pytest.skip("a bfloat16 weight may round back to where it was")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*single contiguous chunk")  # cuDNN's flat weights
        test_contract.test_dense_sparse_dense_is_exact_held_from_zero_and_invisible(model, optimizer)


@pytest.mark.parametrize("optimizer", ["sgd-nesterov", "adamw-fused", "adamw-capturable", "adafactor", "lbfgs"])
def test_a_schedule_and_the_block_give_the_same_bits(optimizer: str):
    test_contract.test_a_schedule_and_the_block_give_the_same_bits("mlp", optimizer)


@pytest.mark.parametrize("arm", ["dsd", "restart", "random", "prune", "surgery", "acdc"])
def test_every_arm_holds_the_masks_of_its_phases(arm: str):
    test_contract.test_every_arm_runs_in_the_same_steps_and_holds_the_masks_of_its_phases(arm, "adamw")


@pytest.mark.parametrize("model", ["lstm", "resnet-channels-last", "tied"])
def test_a_model_under_a_mask_can_be_copied_averaged_saved_and_loaded(model: str):
    test_contract.test_a_model_under_a_mask_can_be_copied_averaged_saved_and_loaded(model)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", ["torch", "pytorch_optimizer"])
def test_every_optimizer_does_what_the_page_says(library: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("expecttest" if library == "torch" else library)
    pytest.importorskip("lightning_fabric")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    known = {name: what for name, what in exceptions().items() if name.startswith("torch.") == (library == "torch")}
    found, _ = examined(f"of_{library}")
    assert {name: outcomes for name, outcomes in found.items() if outcomes != {""}} == {
        name: {what} for name, what in known.items()
    }


def test_the_gpu_ends_with_the_weights_of_the_cpu_but_for_rounding():
    on_gpu = train()
    model = network().cpu()
    optimizer = adamw(model)
    redense.DSD(model, optimizer, SCHEDULE)
    for x, y in data():
        plain(model, optimizer, x.cpu(), y.cpu())
    for a, b in zip(on_gpu, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-3, atol=1e-4)


# --- what only a GPU does -------------------------------------------------------------------------------------------


def test_a_whole_step_in_a_cuda_graph_is_refused():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, capturable=True)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    x, y = data(1)[0]
    plain(model, optimizer, x, y)
    for _ in range(2):  # in the dense phase, and in the sparse one
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(OptimizerError, match="CUDA graph"), torch.cuda.graph(graph):
            plain(model, optimizer, x, y)
        torch.cuda.synchronize()
        optimizer.zero_grad()
        for _ in range(4):
            plain(model, optimizer, x, y)
    assert dsd.step == 9


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")  # of the capture's own stream
def test_a_network_in_a_cuda_graph_gives_the_weights_of_the_loop():
    def graphed() -> Callable[..., None]:
        made: dict[int, Any] = {}

        def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
            if id(model) not in made:
                made[id(model)] = torch.cuda.make_graphed_callables(model, (x.clone(),))
            plain(made[id(model)], optimizer, x, y)

        return step

    assert all(torch.equal(a, b) for a, b in zip(train(), train(graphed()), strict=True))


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
def test_a_backward_that_is_replayed_has_its_gradients_masked_before_the_step():
    """The graph was captured before redense was there: no hook of it sees a replay, and no version counter does."""

    def replayed(form: Callable[..., Any]) -> list[Tensor]:
        model = network()
        optimizer = form(model)
        x, y = (t.clone() for t in data(1)[0])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                (model(x) - y).square().mean().backward()
        torch.cuda.current_stream().wait_stream(side)
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            (model(x) - y).square().mean().backward()
        dsd = redense.DSD(model, optimizer, SCHEDULE)
        for new_x, new_y in data():
            optimizer.zero_grad(set_to_none=False)
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()
            optimizer.step()
            for name, mask in dsd.masks.items():
                weight = model.get_parameter(name)
                assert (weight[~mask] == 0).all()
                assert weight.grad is not None
                assert (weight.grad[~mask] == 0).all(), f"the gradient of {name}"
        return [p.detach().cpu() for p in model.parameters()]

    def factored(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adafactor(model.parameters(), lr=0.01)

    for form in (adamw, factored):
        assert all(torch.equal(a, b) for a, b in zip(train(make=form), replayed(form), strict=True))


@pytest.mark.slow  # it compiles
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_model_and_a_compiled_step_hold_the_masks(mode: str):
    torch._dynamo.reset()
    made: dict[int, Any] = {}

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        if id(model) not in made:
            made[id(model)] = torch.compile(model, mode=mode), torch.compile(optimizer.step)
        compiled, stepped = made[id(model)]
        optimizer.zero_grad()
        (compiled(x) - y).square().mean().backward()
        stepped()

    for a, b in zip(train(), train(step), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_loss_with_skipped_steps_holds_the_masks(fused: bool):
    scalers: dict[int, Any] = {}
    skipped: list[bool] = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        scaler = scalers.setdefault(id(model), torch.amp.GradScaler("cuda", init_scale=2.0**40))
        while True:  # until it is a step: the scale falls
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = (model(x) - y).square().mean()
            scaler.scale(loss).backward()
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            skipped.append(scaler.get_scale() < before)
            if not skipped[-1]:
                return

    train(step, lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused))
    assert sum(skipped) > 5


@pytest.mark.parametrize("make", [adamw, lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, capturable=True)])
def test_a_weight_that_is_written_between_two_steps_is_noticed_a_step_later(make: Callable[..., Any]):
    model = network()
    optimizer = make(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    batches = data()
    for x, y in batches[:4]:
        plain(model, optimizer, x, y)
    with torch.no_grad():
        model.get_parameter("2.weight").add_(0.1)
    plain(model, optimizer, *batches[4])
    torch.cuda.synchronize()
    with pytest.raises(OptimizerError, match=r"'2\.weight' are not zero"):
        plain(model, optimizer, *batches[5])
    assert dsd.step == 5


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_that_redense_does_in_a_step_waits_for_the_gpu():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    redense.DSD(model, optimizer, SCHEDULE)
    batches = data()
    for x, y in batches[:5]:
        plain(model, optimizer, x, y)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for x, y in batches[5:8]:
            plain(model, optimizer, x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_no_random_number_of_the_gpu_is_drawn(where: str):
    model = network().to(where)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.012345)  # of which no trial was made before
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=1, sparsity=0.5))
    torch.cuda.manual_seed(7)
    expected = torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(7))
    for x, y in data(4):
        plain(model, optimizer, x.to(where), y.to(where))
    assert dsd.phase is None
    assert torch.equal(torch.randn(3, device="cuda"), expected)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_model_on_two_devices_is_pruned_as_one(scope: Any):
    torch.manual_seed(0)
    first, second = nn.Linear(6, 16), nn.Linear(16, 4)
    whole = copy.deepcopy(nn.Sequential(first, second))
    parted = nn.Sequential(first, second.to(CUDA))
    first.register_forward_hook(lambda module, given, out: out.to(CUDA))
    second.register_forward_hook(lambda module, given, out: out.cpu())
    results: list[list[Tensor]] = []
    for model in (whole, parted):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        with redense.sparse(model, optimizer, 0.5, scope=scope, include="*") as block:
            for x, y in data(4):
                plain(model, optimizer, x.cpu(), y.cpu())
            for name, mask in block.masks.items():
                assert mask.device == model.get_parameter(name).device
                assert (model.get_parameter(name)[~mask] == 0).all()
            results.append([mask.cpu() for mask in block.masks.values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_model_that_is_moved_in_the_middle_of_a_phase_keeps_its_masks():
    model = network().cpu()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for number, (x, y) in enumerate(data()):
        if number == 5:
            model.to(CUDA)
        where = next(model.parameters()).device
        plain(model, optimizer, x.to(where), y.to(where))
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask.to(where)] == 0).all()
    assert dsd.phase is None


@pytest.mark.usefixtures("one_rank")
def test_ddp_over_nccl_gives_the_weights_of_the_plain_loop():
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        plain(wrapped.setdefault(id(model), nn.parallel.DistributedDataParallel(model)), optimizer, x, y)

    wrapped: dict[int, Any] = {}
    for a, b in zip(train(), train(step), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("one_rank")
def test_fsdp2_over_nccl_gives_the_weights_of_the_plain_loop():
    from torch.distributed.fsdp import fully_shard

    def make(model: nn.Module) -> torch.optim.Optimizer:
        fully_shard(model)
        return adamw(model)

    model = network()
    optimizer = make(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for x, y in data():
        plain(model, optimizer, x, y)
        assert bool(dsd.masks) == (dsd.phase is not None and dsd.phase.is_sparse)
    own: list[Any] = [cast("Any", p).full_tensor().detach().cpu() for p in model.parameters()]
    for a, b in zip(train(), own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("options", [{"scope": "global"}, {"pattern": (2, 4)}, {"pattern": (1, 4)}])
def test_masks_are_those_of_the_cpu(dtype: torch.dtype, options: dict[str, Any]):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.LazyLinear(64), nn.Linear(64, 32))
    model(torch.zeros(1, 4, 8, 8))
    model.to(dtype)
    chosen: list[dict[str, Tensor]] = []
    for where in ("cpu", "cuda"):
        own = copy.deepcopy(model).to(where)
        sparsity = {} if "pattern" in options else {"sparsity": 0.37}
        with redense.sparse(own, torch.optim.SGD(own.parameters(), lr=0.1), **sparsity, **options) as block:
            chosen.append({name: mask.cpu() for name, mask in block.masks.items()})
            for parameter in own.parameters():
                parameter.grad = torch.ones_like(parameter)
            block._optimizers[0].step()
    assert list(chosen[0]) == list(chosen[1])
    assert all(torch.equal(chosen[0][name], chosen[1][name]) for name in chosen[0])
