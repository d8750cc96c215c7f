"""The gradient of a removed weight takes part in nothing, whoever looks at it and whenever."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Schedule
from redense.holding.gradients import mask_gradient_

HALF = 0.5
MIXING: list[Any] = [torch.optim.Adafactor]  # optimizers whose step mixes the entries of a matrix
MIXING += [torch.optim.Muon] if hasattr(torch.optim, "Muon") else []  # since PyTorch 2.9


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def backward(model: nn.Module, **options: Any) -> None:
    torch.manual_seed(1)
    model(torch.randn(4, 8)).square().mean().backward(**options)


def gradients_under(block: redense.sparse, model: nn.Module) -> Tensor:
    """The gradients of all removed weights, flat."""
    parts = [(model.get_parameter(name).grad, mask) for name, mask in block.masks.items()]
    return torch.cat([grad.to_dense()[~mask] for grad, mask in parts if grad is not None])


def gradient_hooks(model: nn.Module) -> int:
    return sum(len(getattr(p, "_post_accumulate_grad_hooks", None) or {}) for p in model.parameters())


def test_what_is_clipped_is_the_gradient_of_the_weights_that_are_there():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with redense.sparse(model, optimizer, 0.9):
        before = [p.detach().clone() for p in model.parameters()]
        backward(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        assert norm > 2e-3, "nothing would be clipped"
        optimizer.step()
        moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.5e-3, rel=1e-3)


def test_no_way_to_accumulate_lets_a_gradient_through():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)  # pyright: ignore[reportPrivateImportUsage]
    with redense.sparse(model, optimizer, HALF) as block:
        for _ in range(3):  # into what is there already
            backward(model)
            assert not gradients_under(block, model).any()
        model.zero_grad()
        scaler.scale(model(torch.randn(4, 8)).sum()).backward()
        scaler.unscale_(optimizer)
        assert not gradients_under(block, model).any()
        kept = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(bool(g.any()) for g in kept)
        model.zero_grad()
        with pytest.warns(UserWarning, match="create_graph"):
            backward(model, create_graph=True)
        assert not gradients_under(block, model).detach().any()
        weight = model.get_parameter("2.weight")
        assert weight.grad is not None
        assert weight.grad.requires_grad
        weight.grad.square().sum().backward()  # the graph goes through the mask
        model.zero_grad()


@pytest.mark.parametrize("hooks_first", [True, False])
def test_an_optimizer_of_each_parameter_that_clips_and_steps_in_a_hook_sees_masked_gradients(hooks_first: bool):
    model, seen = net(), list[tuple[nn.Parameter, Tensor]]()
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}

    def clip_and_step(parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        seen.append((parameter, parameter.grad.clone()))
        nn.utils.clip_grad_norm_([parameter], 1e-3)
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    def hook() -> list[Any]:
        return [p.register_post_accumulate_grad_hook(clip_and_step) for p in model.parameters()]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    handles = hook() if hooks_first else []
    with redense.sparse(model, list(optimizers.values()), HALF) as block:
        handles = handles or hook()
        masks = {model.get_parameter(name): mask for name, mask in block.masks.items()}
        for _ in range(2):
            backward(model)
        assert len(seen) == 8
        for parameter, gradient in seen:
            if parameter in masks:
                assert not gradient[~masks[parameter]].any()
                assert not parameter.detach()[~masks[parameter]].any()
    for handle in handles:  # they are the user's own still
        handle.remove()
    assert not gradient_hooks(model)


def test_a_gradient_that_was_written_otherwise_is_masked_on_request_and_before_the_step():
    model = net()
    optimizer = MIXING[-1]([model.get_parameter("0.weight")], lr=0.1)
    with redense.sparse(model, optimizer, HALF, include="0.*") as block:
        weight = model.get_parameter("0.weight")
        weight.grad = torch.ones_like(weight)
        block.mask_gradients()
        assert not gradients_under(block, model).any()
        assert (weight.grad[block.masks["0.weight"]] == 1).all()
        weight.grad.add_(1.0)  # noise, say: changed after it was masked
        seen: list[bool] = []
        optimizer.register_step_pre_hook(lambda *_: seen.append(bool(gradients_under(block, model).any())))
        optimizer.step()
        assert seen == [False]


def test_a_hook_that_others_put_before_a_step_leaves_nothing_in_gradients_under_the_mask_from_its_first_step_on():
    model = net()
    optimizer = MIXING[-1]([model.get_parameter("0.weight")], lr=0.1)
    weight = model.get_parameter("0.weight")
    hooks = optimizer._optimizer_step_pre_hooks  # pyright: ignore[reportPrivateUsage]
    with redense.sparse(model, optimizer, HALF, include="0.*") as block:
        calls: list[str] = []
        stepped: list[bool] = []

        def centralize(*_: object) -> None:
            calls.append("theirs")
            assert weight.grad is not None
            weight.grad.sub_(weight.grad.mean(1, keepdim=True))

        first = optimizer.register_step_pre_hook(centralize)
        second = optimizer.register_step_pre_hook(centralize)
        optimizer.register_step_post_hook(lambda *_: stepped.append(bool(gradients_under(block, model).any())))
        for left in ([first, second], [first, second], [second], []):
            for handle in {first, second} - {*left}:
                handle.remove()
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(calls)))
            optimizer.step()
            assert [key for key in hooks if hooks[key] is centralize] == [handle.id for handle in left]  # theirs again
    assert calls == ["theirs"] * 5
    assert stepped == [False] * 4


@pytest.mark.parametrize("kind", ["row", "column", "windows", "rows of an embedding"])
def test_a_gradient_whose_elements_share_memory_keeps_those_of_kept_weights(kind: str):
    sparse = kind == "rows of an embedding"
    model: Any = nn.Embedding(4, 32, sparse=True) if sparse else nn.Linear(32, 4, bias=False)
    made = {
        "row": lambda: torch.arange(1.0, 33).expand(4, 32),
        "column": lambda: torch.arange(1.0, 5).view(4, 1).expand(4, 32),
        "windows": lambda: torch.arange(1.0, 36).unfold(0, 32, 1),
        "rows of an embedding": lambda: torch.sparse_coo_tensor(
            torch.tensor([[0, 2]]), torch.arange(1.0, 33).expand(2, 32), (4, 32), check_invariants=True
        ),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, HALF, include=["weight"]) as block:
        before, mask = model.weight.detach().clone(), block.masks["weight"]
        model.weight.grad = made[kind]()
        optimizer.step()
        masked = torch.where(mask, made[kind]().to_dense(), 0.0)
        assert torch.equal(model.weight.grad.to_dense(), masked)
        torch.testing.assert_close(model.weight.detach(), before - 0.1 * masked)


@pytest.mark.parametrize("form", [torch.optim.AdamW, *MIXING])
def test_a_gradient_that_is_written_past_the_version_counter_is_masked_before_the_step(form: Any):
    """Through ``.data``, as old loops add noise or reduce over ranks; replays of CUDA graphs write so, too."""

    def train(past: bool) -> list[Tensor]:
        model = net()
        weights = [p for p in model.parameters() if p.dim() == 2 or form is torch.optim.AdamW]
        optimizer = form(weights, lr=0.01)
        noise = torch.Generator().manual_seed(0)
        with redense.sparse(model, optimizer, HALF) as block:
            for _ in range(12):
                optimizer.zero_grad()
                backward(model)
                for weight in weights:
                    assert weight.grad is not None
                    drawn = 0.1 * torch.randn(weight.shape, generator=noise)
                    if past:
                        before = weight.grad._version
                        weight.grad.data.add_(drawn)
                        assert weight.grad._version == before
                    else:
                        weight.grad.add_(drawn)
                optimizer.step()
                assert (gradients_under(block, model) == 0).all()
        return [p.detach() for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(train(past=True), train(past=False), strict=True))


def test_surgery_sees_the_gradients_of_the_weights_that_it_may_splice_back():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule.surgery(dense=1, sparse=3, redense=2, sparsity=HALF)
    dsd = redense.DSD(model, optimizer, schedule)
    backward(model)
    optimizer.step()
    backward(model)
    grad = model.get_parameter("0.weight").grad
    assert grad is not None
    assert grad[~dsd.masks["0.weight"]].any()
    assert gradient_hooks(model) == 0


def test_a_sparse_gradient_and_its_momentum_are_masked_in_their_rows():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rows, weight = torch.tensor([[1, 1], [3, 7]]), model.get_parameter("0.weight")
    model(rows).sum().backward()
    optimizer.step()
    with redense.sparse(model, optimizer, HALF, include=["0.weight"]) as block:
        removed = ~block.masks["0.weight"]
        for _ in range(5):
            momentum = optimizer.state[weight]["momentum_buffer"]
            assert momentum.is_sparse
            assert momentum.to_dense().any()
            assert not momentum.to_dense()[removed].any()
            optimizer.zero_grad()
            model(rows).sum().backward()
            assert weight.grad is not None
            assert weight.grad.is_sparse
            assert weight.grad.to_dense().any()
            assert not gradients_under(block, model).any()
            optimizer.step()
            assert not weight[removed].any()
    schedule, before = Schedule.dsd(dense=0, sparse=2, redense=1, sparsity=HALF), weight.detach().clone()
    dsd = redense.DSD(model, optimizer, schedule, include=["0.weight"])
    dsd.load_state_dict(dsd.state_dict() | {"phase": 1, "steps": [2], "masks": {}})
    assert torch.equal(weight, before), "the first pruning was not undone"
    dsd.close(release=False)


def test_a_model_whose_tensors_pytorch_swaps_is_converted_in_a_sparse_phase(caplog: pytest.LogCaptureFixture):
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # as FSDP2's parameters are by default
    try:
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with redense.sparse(model, optimizer, HALF) as block:
            backward(model)
            optimizer.step()
            model.to(torch.float64)
            for _ in range(2):
                model(torch.randn(4, 8, dtype=torch.float64)).square().mean().backward()
                optimizer.step()
                assert not gradients_under(block, model).any()
                assert all(not model.get_parameter(name)[~mask].any() for name, mask in block.masks.items())
            assert caplog.text.count("has swapped '0.weight' and 1 more for another tensor") == 1  # and revived
            model(torch.randn(4, 8, dtype=torch.float64)).square().mean().backward()
            assert not gradients_under(block, model).any()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_a_number_goes_from_a_dense_gradient_too(bad: float):
    gradient = torch.full((2, 3), bad)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    mask_gradient_(gradient, mask)
    assert (gradient[~mask] == 0).all()
    assert not gradient[mask].isfinite().any()


def test_a_model_whose_gradients_are_masked_can_be_copied_and_pickled_and_keeps_nothing():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, HALF) as block:
        assert gradient_hooks(model) == 2
        twin = copy.deepcopy(model)
        assert gradient_hooks(twin) == 0
        backward(twin)
        assert gradients_under(block, twin).any()
        stored = io.BytesIO()
        torch.save(model, stored)
        stored.seek(0)
        assert gradient_hooks(torch.load(stored, weights_only=False)) == 0
    assert gradient_hooks(model) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch, about what its compiler meets in an optimizer
def test_a_step_that_is_compiled_as_a_whole_is_not_compiled_anew_for_each_backward():
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    model = net()
    optimizer = torch.optim.Adam(model.parameters())

    @torch.compile(backend="eager")
    def whole() -> None:
        optimizer.zero_grad()
        model(torch.ones(4, 8)).square().mean().backward()
        optimizer.step()

    with redense.sparse(model, optimizer, HALF) as block:
        for _ in range(3):
            whole()
            assert not gradients_under(block, model).any()
    assert counters["stats"]["unique_graphs"] <= 2
    torch._dynamo.reset()


@pytest.mark.slow
def test_the_gradients_of_a_compiled_model_are_masked():
    torch._dynamo.reset()
    model = net()
    with redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), HALF) as block:
        backward(torch.compile(model, backend="aot_eager"))  # pyright: ignore[reportArgumentType]
        assert not gradients_under(block, model).any()
    assert gradient_hooks(model) == 0
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", MIXING)
def test_a_closure_and_a_plain_loop_end_with_the_same_weights_though_the_optimizer_mixes_them(kind: Any):
    ended: list[list[Tensor]] = []
    for by_closure in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False))
        optimizer = kind(model.parameters(), lr=0.05)
        redense.DSD(model, optimizer, Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=HALF))

        def loss_of(model: nn.Module = model) -> float:
            model.zero_grad()
            backward(model)
            return 0.0

        for _ in range(7):
            if by_closure:
                optimizer.step(loss_of)
            else:
                loss_of()
                optimizer.step()
        ended.append([p.detach() for p in model.parameters()])
    for a, b in zip(*ended, strict=True):
        assert torch.equal(a, b)
