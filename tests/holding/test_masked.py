"""What happens around an optimizer step: NaN under the mask, closures, GradScaler, odd optimizers and layouts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Schedule
from redense.errors import OptimizerError
from redense.holding import optimizers

HALF = 0.5


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def backward(model: nn.Module, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    loss = model(torch.randn(4, 6, generator=generator)).square().mean()
    loss.backward()
    return loss


def zeros_under(masks: dict[str, Tensor], model: nn.Module) -> bool:
    return all(bool((model.get_parameter(name)[~mask] == 0).all()) for name, mask in masks.items())


@pytest.mark.parametrize("where", ["gradient", "momentum"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_a_number_under_the_mask_is_dropped(where: str, bad: float):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    backward(model)
    optimizer.step()
    with redense.sparse(model, optimizer, HALF) as block:
        optimizer.zero_grad()
        backward(model)
        for name, mask in block.masks.items():
            weight = model.get_parameter(name)
            assert weight.grad is not None
            target = weight.grad if where == "gradient" else optimizer.state[weight]["momentum_buffer"]
            target[~mask] = bad
        optimizer.step()
        assert zeros_under(block.masks, model)
        for name, mask in block.masks.items():
            weight = model.get_parameter(name)
            assert (optimizer.state[weight]["momentum_buffer"][~mask] == 0).all()
            assert weight.isfinite().all()


class Surprising(torch.optim.SGD):
    """Leaves removed weights alone for long, and then writes one that no sample is sure to hit."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.count = getattr(self, "count", 0) + 1
        if self.count > 10:
            with torch.no_grad():
                weight = self.param_groups[0]["params"][0]
                weight.view(-1)[torch.nonzero(weight.view(-1) == 0)[self.count]] = 1.0
        return loss


def test_a_removed_weight_is_zero_after_every_step_though_one_of_thousands_moves_late_in_the_phase():
    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    optimizer = Surprising(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, HALF) as block:
        for _ in range(20):
            optimizer.step()
            assert zeros_under(block.masks, model)


def test_the_masks_hold_for_every_group_and_with_steps_by_parts():
    model = net()
    optimizer = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "lr": 0.1, "momentum": 0.9},
            {"params": model[2].parameters(), "lr": 0.5, "weight_decay": 0.1},
        ],
        lr=0.1,
    )
    with redense.sparse(model, optimizer, HALF) as block:
        assert list(block.masks) == ["0.weight", "2.weight"]
        for seed in range(4):  # gradients of two batches a step
            backward(model, seed)
            if seed % 2:
                optimizer.step()
                optimizer.zero_grad()
            assert zeros_under(block.masks, model)


def test_a_parameter_whose_gradient_is_none_is_masked_all_the_same():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, HALF) as block:
        optimizer.zero_grad()
        model[2](torch.ones(1, 8)).sum().backward()
        optimizer.step()
        assert model.get_parameter("0.weight").grad is None
        assert zeros_under(block.masks, model)
        assert model.get_parameter("0.weight") not in optimizer.state, "reading the state must not make one"


def test_the_mask_follows_a_weight_whose_layout_changes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with redense.sparse(model, optimizer, HALF) as block:
        before = block.masks["1.weight"].clone()
        for layout in (torch.channels_last, torch.contiguous_format):
            model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
            optimizer.zero_grad()
            model(torch.randn(2, 3, 7, 7)).sum().backward()
            optimizer.step()
            assert zeros_under(block.masks, model)
            assert torch.equal(block.masks["1.weight"], before)
            assert block.masks["1.weight"].stride() == model.get_parameter("1.weight").stride()


# --- closures -------------------------------------------------------------------------------------------------------


class Extrapolating(torch.optim.Optimizer):
    """Moves the weights before it asks for the loss, as SAM and LBFGS do; keeps the closure's gradients."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.gradients: list[Tensor] = []

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is not None
        parameters = [p for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(1.0)
        loss = closure()
        self.gradients = [p.grad.clone() for p in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(0.1 * parameter.grad + 1.0)
        return loss


@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_closure_sees_the_masked_weights_and_gives_masked_gradients(by_keyword: bool):
    model = net()
    optimizer = Extrapolating(model.parameters())
    seen: list[bool] = []
    with redense.sparse(model, optimizer, HALF) as block:

        def closure() -> float:
            seen.append(zeros_under(block.masks, model))
            model.zero_grad()
            return backward(model).item()

        loss = optimizer.step(closure=closure) if by_keyword else optimizer.step(closure)
        assert loss
        assert seen == [True]
        assert zeros_under(block.masks, model)
        for gradient, (name, weight) in zip(optimizer.gradients, model.named_parameters(), strict=True):
            if name in block.masks:
                assert (gradient[~block.masks[name]] == 0).all()
                assert (gradient[block.masks[name]] != 0).any()
            assert weight.grad is not None


class Clearing(torch.optim.SGD):
    """Asks for the loss itself and leaves no gradient behind."""

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        super().step()
        self.zero_grad()
        return loss


def test_a_step_that_clears_its_gradients_is_one_though_all_that_it_trains_is_masked():
    model = nn.Sequential(nn.Linear(8, 4, bias=False))
    optimizer = Clearing(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=1, sparsity=0.5))

    def closure() -> Tensor:
        loss = model(torch.ones(2, 8)).square().sum()
        loss.backward()
        return loss

    for done in range(1, 5):
        optimizer.step(closure)
        assert dsd.step == done


class WithoutGradients(torch.optim.SGD):
    """Moves the weights by the difference of two losses, as MeZO does, or without asking for any."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        weights = [p for group in self.param_groups for p in group["params"]]
        for by in (1e-3, -2e-3) if closure else ():
            for weight in weights:
                weight.add_(by)
            closure()
        for weight in weights:
            weight.add_(1e-3)
        return None


@pytest.mark.parametrize("closure", [None, lambda: 1.0])
def test_a_step_without_gradients_is_one_though_all_that_it_writes_is_masked(closure: Any):
    model = nn.Sequential(nn.Linear(8, 4, bias=False))
    optimizer = WithoutGradients(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=1, sparsity=0.5))
    idle = torch.optim.SGD.step
    for done in range(1, 5):
        optimizer.step(closure)
        assert dsd.step == done
        assert zeros_under(dsd.masks, model)
        idle(optimizer, closure)  # pyright: ignore[reportArgumentType]
        assert dsd.step == done, "nothing was written"


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_descends_under_the_mask_and_forgets_its_curvature_at_both_ends(line_search: str | None):
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn=line_search)

    def closure() -> float:
        optimizer.zero_grad()
        return backward(model).item()

    optimizer.step(closure)
    assert optimizer.state
    with redense.sparse(model, optimizer, HALF) as block:
        assert not optimizer.state
        first = closure()
        for _ in range(3):
            optimizer.step(closure)
            assert zeros_under(block.masks, model)
        assert optimizer.state
        assert closure() < first
    assert not optimizer.state
    optimizer.step(closure)


# --- steps that an exception ends -----------------------------------------------------------------------------------


class Breaking(torch.optim.SGD):
    """Moves every weight, and is interrupted before, in the midst or by its closure, whose errors it may catch."""

    where = ""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        where, self.where = self.where, ""
        weights = [p for group in self.param_groups for p in group["params"]]
        if where == "before":
            raise KeyboardInterrupt
        if where == "caught":
            with contextlib.suppress(ZeroDivisionError):
                super().step(closure)
        for number, weight in enumerate(weights):
            weight.sub_(0.01)
            if where == "midst" and number:
                raise KeyboardInterrupt
        return None if where == "caught" else super().step(closure)


@pytest.mark.parametrize("surgery", [False, True])
@pytest.mark.parametrize("where", ["before", "midst", "closure", "caught"])
def test_after_a_step_that_was_broken_off_training_goes_on_under_the_mask(where: str, surgery: bool):
    sparse = redense.Phase.sparse(9, HALF, surgery=redense.Surgery(power=1) if surgery else None)
    schedule = Schedule((redense.Phase.dense(1), sparse, redense.Phase.dense(2)))

    def break_off(optimizer: Breaking) -> None:
        optimizer.where = where
        with contextlib.suppress(KeyboardInterrupt, ZeroDivisionError):
            optimizer.step((lambda: 1 / 0) if where in ("closure", "caught") else None)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        backward(model)
        optimizer.step()

    model = net()
    optimizer = Breaking(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, schedule)
    for _ in range(3):
        train(model, optimizer)
    break_off(optimizer)
    assert dsd.step == 3 + (where == "caught")
    weights, state = model.state_dict(), dsd.state_dict()  # saved at once, and gone on with elsewhere
    assert zeros_under(dsd.masks, model)
    other = net()
    again = Breaking(other.parameters(), lr=0.1)
    resumed = redense.DSD(other, again, schedule, state=state)
    other.load_state_dict(weights)
    for one, by, own in ((model, optimizer, dsd), (other, again, resumed)):
        break_off(by)
        for number in range(2):  # at once, without a look at the masks
            by.step() if not number else train(one, by)
            assert zeros_under(own.masks, one)
        if surgery:
            assert own._masked is not None  # pyright: ignore[reportPrivateUsage]
            full = own._masked.full  # pyright: ignore[reportPrivateUsage]
            assert all(bool((full[name][~mask] != 0).all()) for name, mask in own.masks.items())
        break_off(by)
        masks = own.masks
        own.close(release=False)
        assert zeros_under(masks, one)


def test_what_was_refused_is_refused_again_and_not_taken_for_a_step_that_was_broken_off(
    caplog: pytest.LogCaptureFixture,
):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, HALF) as block:
        backward(model)
        optimizer.step()
        with torch.no_grad():
            model.get_parameter("0.weight").fill_(1)
        for _ in range(3):
            with pytest.raises(OptimizerError, match=r"removed weights of '0\.weight' are not zero any more"):
                optimizer.step()
        assert not zeros_under(block.masks, model)
    assert bool((model.get_parameter("0.weight") == 1).all())
    assert "removed weights of '0.weight' are not zero any more" in caplog.text


# --- GradScaler -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("surgery", [False, True])
def test_a_step_that_grad_scaler_skips_is_no_step(fused: bool, surgery: bool):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    budget: dict[str, Any] = {"dense": 2, "sparse": 2, "redense": 2, "sparsity": HALF}
    schedule = Schedule.surgery(**budget) if surgery else Schedule.dsd(**budget)
    dsd = redense.DSD(model, optimizer, schedule)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)  # pyright: ignore[reportPrivateImportUsage]
    done = 0
    for number in range(10):
        overflow = number in (0, 2, 4, 5)
        optimizer.zero_grad()
        scaler.scale(model(torch.full((4, 6), 0.1 + number)).square().mean()).backward()
        if overflow:
            grad = model.get_parameter("2.bias").grad
            assert grad is not None
            grad[0] = math.inf
        before = [parameter.detach().clone() for parameter in model.parameters()]
        scaler.step(optimizer)
        scaler.update()
        done += not overflow
        assert dsd.step == min(done, schedule.total_steps)
        if overflow:
            for old, parameter in zip(before, model.parameters(), strict=True):
                assert torch.equal(old, parameter), "a skipped step changed a weight"
        assert zeros_under(dsd.masks, model)
        if surgery and dsd.masks:  # its chance to revise the mask counts real steps only
            assert dsd.state_dict()["surgery"]["steps"] == done - 2
        assert bool(dsd.masks) == (done >= 2 if surgery else 2 <= done < 4)
    assert scaler.get_scale() == 8.0 / 2**4
    assert dsd.phase is None


def test_only_an_infinity_that_was_found_makes_a_step_skipped():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    assert not optimizers.was_skipped(optimizer)
    optimizer.found_inf = torch.zeros(())  # pyright: ignore[reportAttributeAccessIssue]
    assert not optimizers.was_skipped(optimizer)
    optimizer.found_inf = torch.ones(())  # pyright: ignore[reportAttributeAccessIssue]
    assert optimizers.was_skipped(optimizer)


# --- optimizers that redense has not seen ---------------------------------------------------------------------------


class Remembering(torch.optim.Optimizer):
    """Keeps states of every kind that libraries keep."""

    def __init__(self, params: Any, kind: torch.dtype = torch.float32) -> None:
        super().__init__(params, {})
        self.kind = kind

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                moved = p.grad != 0
                self.state[p] = {
                    "step": torch.tensor(1.0),
                    "row": torch.ones(p.shape[0]),
                    "double": moved.double(),
                    "half": moved.bfloat16(),
                    "history": [moved.float(), torch.ones(p.shape[0])],
                    "pair": (moved.float(), "text"),
                    "counts": torch.ones(p.shape, dtype=torch.int64),
                    "code": moved.to(self.kind),
                }


def test_every_state_of_the_weights_shape_is_zero_under_the_mask_and_no_other():
    model = nn.Linear(4, 4, bias=False)
    optimizer: Optimizer = Remembering(model.parameters())
    model.weight.grad = torch.ones(4, 4)
    optimizer.step()
    with redense.sparse(model, optimizer, HALF) as block:
        state, mask = optimizer.state[model.weight], block.masks["weight"]
        for value in (state["double"], state["half"], state["history"][0], state["pair"][0], state["code"]):
            assert torch.equal(value != 0, mask)
        for value in (state["step"], state["row"], state["history"][1], state["counts"]):
            assert (value == 1).all()


def test_a_quantised_state_in_which_zero_is_not_zero_is_refused_by_name():
    model = nn.Linear(4, 4, bias=False)
    optimizer = Remembering(model.parameters(), torch.uint8)
    model.weight.grad = torch.ones(4, 4)
    optimizer.step()
    with (
        pytest.raises(OptimizerError, match="Remembering keeps a quantised state 'code' for 'weight'"),
        redense.sparse(model, optimizer, HALF),
    ):
        pass
    assert not optimizer._optimizer_step_post_hooks  # pyright: ignore[reportPrivateUsage]


def test_what_is_no_optimizer_is_refused_with_its_class():
    with pytest.raises(OptimizerError, match=r"an optimizer must be a torch\.optim\.Optimizer, got Linear"):
        optimizers.unwrap_optimizer(nn.Linear(1, 1))
    model = net()
    with pytest.raises(OptimizerError, match="got str"):
        redense.sparse(model, "sgd", HALF)  # pyright: ignore[reportArgumentType]
