"""What redense does not see, it says: wrappers, another optimizer's steps, weights that something else moves."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Schedule
from redense.errors import OptimizerError, StateError
from redense.holding.watching import Watch

HALF = 0.5
SCHEDULE = Schedule.dsd(dense=2, sparse=4, redense=2, sparsity=HALF)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()


def alive(model: nn.Module, masks: dict[str, Tensor]) -> int:
    return sum(int((model.get_parameter(name)[~mask] != 0).sum()) for name, mask in masks.items())


class Slow(Optimizer):
    """Moves the weights halfway back to slow weights after each step of the optimizer inside, as Lookahead does."""

    def __init__(self, optimizer: Optimizer) -> None:  # never calls Optimizer.__init__, as many wrappers do not
        self.optimizer = optimizer
        self.defaults = optimizer.defaults
        self.state = {p: {"slow": p.detach().clone()} for g in optimizer.param_groups for p in g["params"]}  # pyright: ignore[reportAttributeAccessIssue]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.optimizer.step()
        for p, state in self.state.items():
            p.lerp_(state["slow"], 0.5)
            state["slow"].copy_(p)


def test_a_wrapper_that_writes_the_weights_is_hooked_itself_and_the_states_inside_are_masked():
    model = net()
    inner = sgd(model)
    optimizer = Slow(inner)
    step(model, optimizer)
    with redense.sparse(model, optimizer, HALF) as block:
        for _ in range(4):
            step(model, optimizer)
            assert alive(model, block.masks) == 0
        masks = {name: mask.clone() for name, mask in block.masks.items()}
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert not inner.state[weight]["momentum_buffer"][~mask].any()
        assert not optimizer.state[weight]["slow"][~mask].any()
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(3):
        step(model, optimizer)
    assert dsd.step == 3


def test_what_an_outer_optimizer_moves_is_an_error_at_the_next_step_that_names_the_weight():
    model = net()
    inner = sgd(model)
    optimizer = Slow(inner)
    with redense.sparse(model, inner, HALF) as block:
        step(model, optimizer)
        assert alive(model, block.masks)
        with pytest.raises(OptimizerError, match=r"removed weights of '0\.weight' and 1 more are not zero .*Lookahead"):
            step(model, optimizer)


def test_one_moved_weight_of_a_few_is_noticed_in_any_layout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last))  # pyright: ignore[reportCallIssue]
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, 0.1) as block:
        mask = block.masks["1.weight"]
        with torch.no_grad():
            model.get_parameter("1.weight")[tuple((~mask).nonzero()[-1])] = 1e-20
        with pytest.raises(OptimizerError, match=r"removed weights of '1\.weight' are not zero"):
            optimizer.step()


@pytest.mark.parametrize("transposed", [True, False])
def test_a_weight_with_gaps_between_its_elements_is_looked_at_where_it_is_removed(transposed: bool):
    torch.manual_seed(0)
    weight = torch.randn(10, 12)[:6, :8].t() if transposed else torch.randn(8, 12)[:, :6]
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    model[0].weight = nn.Parameter(weight)
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, 0.5, include="0.weight") as block:
        mask = block.masks["0.weight"]
        for _ in range(10):
            model(torch.randn(4, 6)).square().sum().backward()
            optimizer.step()
            assert not model[0].weight[~mask].any()
        assert block.masks["0.weight"] is mask
        with torch.no_grad():
            model[0].weight[tuple((~mask).nonzero()[-1])] = 1e-20
        with pytest.raises(OptimizerError, match=r"removed weights of '0\.weight' are not zero"):
            optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("size", [640, 3 * (1 << 17) + 5])  # of a block, and of several
def test_every_place_of_a_weight_is_looked_at_on_request(dtype: torch.dtype, size: int):
    mask = torch.arange(size) % 3 == 0
    weight = mask.to(dtype)
    watch = Watch()
    watch.check(0, {"w": (mask, weight, mask)}, whole=["w"])
    place = int((~mask).nonzero()[-1])
    assert place not in watch.places("w", mask, mask)
    weight[place] = 1e-6
    watch.check(0, {"w": (mask, weight, mask)})
    with pytest.raises(OptimizerError, match="removed weights of 'w' are not zero"):
        watch.check(0, {"w": (mask, weight, mask)}, whole=["w"])


def test_the_steps_of_another_optimizer_of_the_same_weights_are_an_error():
    model = net()
    first = sgd(model)
    dsd = redense.DSD(model, first, SCHEDULE)
    step(model, first)
    other = torch.optim.AdamW(model.parameters())  # made anew in the middle
    with pytest.raises(OptimizerError, match=r"\(AdamW\) that redense was not given has trained '0\.weight'"):
        step(model, other)
    assert dsd.step == 1
    unrelated = net()
    step(unrelated, sgd(unrelated))
    dsd.close()
    step(model, other)


class Clipped(torch.optim.Adam):
    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        return super().step(closure)


def test_a_step_that_calls_its_parents_step_is_one_step_also_after_an_error():
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # whose making hooks the parent's step too
    model = net()
    optimizer = Clipped(model.parameters(), lr=0.01)
    dsd = redense.DSD(model, optimizer, SCHEDULE)

    def broken() -> float:
        raise KeyError("data")

    for number in range(6):
        step(model, optimizer)
        assert dsd.step == number + 1
        assert alive(model, dsd.masks) == 0
        with pytest.raises(KeyError):
            optimizer.step(broken)


class TwoCalls(Optimizer):
    """SAM's two calls a step; the radius is that of the gradient that it sees."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.norm = 0.0

    @torch.no_grad()
    def first_step(self) -> None:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        self.norm = float(torch.cat([g.flatten() for g in grads]).norm())
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["climb"] = 0.05 * p.grad / self.norm
                p.add_(self.state[p]["climb"])

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["climb"]).sub_(p.grad, alpha=0.1).sub_(0.01)

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.first_step()
        closure()
        self.second_step()


def test_the_last_of_two_calls_is_the_step_and_the_radius_does_not_count_removed_weights():
    model = net()
    optimizer = TwoCalls(model.parameters())
    dsd = redense.DSD(model, optimizer, SCHEDULE)

    def backward() -> None:
        model.zero_grad()
        model(torch.ones(4, 8)).square().mean().backward()

    for number in range(6):
        backward()
        if number % 2:
            optimizer.step(backward)
        else:
            optimizer.first_step()
            if dsd.masks:
                kept = [p.grad if n not in dsd.masks else p.grad * dsd.masks[n] for n, p in model.named_parameters()]  # pyright: ignore[reportOptionalOperand]
                assert optimizer.norm == pytest.approx(float(torch.cat([g.flatten() for g in kept]).norm()))  # pyright: ignore[reportOptionalMemberAccess]
            backward()
            optimizer.second_step()
        assert dsd.step == number + 1
        assert alive(model, dsd.masks) == 0


# --- what never happens ---------------------------------------------------------------------------------------------


def test_a_block_that_saw_no_step_and_a_block_that_is_not_entered_say_so(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, HALF):
        model(torch.ones(1, 8)).sum().backward()
    assert "no step of SGD was seen, but 1 backward passes" in caplog.text
    redense.sparse(model, optimizer, HALF)
    with pytest.raises(StateError, match="prunes nothing until it is entered"):
        step(model, optimizer)
    step(model, optimizer)
    assert not optimizer._optimizer_step_pre_hooks  # pyright: ignore[reportPrivateUsage]
    redense.sparse(model, optimizer, HALF)  # in a notebook, say; then the cell is written anew
    with redense.sparse(model, optimizer, HALF):
        step(model, optimizer)
    step(model, optimizer)


def test_the_one_of_two_optimizers_that_never_steps_is_named(caplog: pytest.LogCaptureFixture):
    model = net()
    first, second = (torch.optim.SGD(model[i].parameters(), lr=0.1) for i in (0, 2))
    dsd = redense.DSD(model, [first, second], SCHEDULE)
    for _ in range(3):
        step(model, first)
    dsd.close()
    assert "no step of a schedule of 8 was complete: of 2 optimizers, SGD (number 2) made none, and" in caplog.text


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (0, "no step of a schedule of 8 was seen"),
        (1, "ended after 1 of 8 steps, in phase 'dense': the rest was not trained"),
        (3, "ended after 3 of 8 steps, in phase 'sparse': the removed weights were not trained again"),
        (8, ""),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
def test_a_schedule_that_training_ended_in_the_middle_of_says_so_once(
    steps: int, says: str, closed: bool, caplog: pytest.LogCaptureFixture
):
    gc.collect()  # what other tests have left
    caplog.clear()
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(steps):
        step(model, optimizer)
    with caplog.at_level(logging.WARNING, "redense"):
        if closed:
            dsd.close()
        del dsd, optimizer, model
        gc.collect()
    said = [m for m in caplog.messages if "schedule" in m or "training ended" in m]
    if not says or (closed and not steps):  # made to be looked at, and closed
        assert said == []
    else:
        assert len(said) == 1
        assert says in said[0]


def test_an_error_on_its_way_is_not_talked_over(caplog: pytest.LogCaptureFixture):
    gc.collect()
    caplog.clear()
    with pytest.raises(redense.RedenseError):
        redense.DSD(net(), sgd(net()), SCHEDULE)  # of another model's weights
    gc.collect()
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    step(model, optimizer)
    try:
        raise KeyError
    except KeyError:
        dsd.close()
    del dsd
    gc.collect()
    assert caplog.messages == []


def test_a_dsd_and_a_block_refuse_to_be_copied_and_pickled():
    model = net()
    dsd = redense.DSD(model, sgd(model), SCHEDULE)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(StateError, match="cannot be copied or pickled: keep its state_dict"):
            copied(dsd)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in what its compiler imports
def test_a_compiled_step_goes_through_the_phases():
    torch._dynamo.reset()
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    redense.DSD(model, optimizer, SCHEDULE)
    compiled = torch.compile(optimizer.step, backend="eager")
    zeros: list[int] = []
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        compiled()
        zeros.append(int((model.get_parameter("0.weight") == 0).sum()))
    assert zeros == [0, 32, 32, 32, 32, 32, 0, 0]
    torch._dynamo.reset()


def test_a_masked_average_is_as_sparse_as_the_model():
    model = net()
    optimizer = sgd(model)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    step(model, optimizer)
    average.update_parameters(model)
    with redense.sparse(model, optimizer, HALF) as block:
        step(model, optimizer)
        average.update_parameters(model)
        assert alive(average.module, block.masks)
        block.mask_copy(average)
        assert alive(average.module, block.masks) == 0
        with pytest.raises(redense.RedenseError, match=r"the copy has no '0\.weight' of shape \(8, 8\)"):
            block.mask_copy(nn.Linear(8, 8))
    before = [p.detach().clone() for p in average.parameters()]
    block.mask_copy(average)  # out of the phase it does nothing
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), before, strict=True))


def test_an_average_in_a_wrapper_of_another_class_is_masked_too():
    class Mine(torch.optim.swa_utils.AveragedModel):
        pass

    class Ema(nn.Module):  # as timm's ModelEmaV3
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.module = copy.deepcopy(model)

    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, HALF) as block:
        step(model, optimizer)
        for average in (Mine(model), Ema(model)):
            with torch.no_grad():
                average.module.get_parameter("0.weight").fill_(1)
            block.mask_copy(average)
            assert int((average.module.get_parameter("0.weight") == 0).sum()) == 32


# --- saved masks on other weights -----------------------------------------------------------------------------------


def saved() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of a DSD in its sparse phase, and the weights of then."""
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(3):
        step(model, optimizer)
    state, weights = copy.deepcopy(dsd.state_dict()), copy.deepcopy(model.state_dict())
    dsd.close(release=False)
    return state, weights


@pytest.mark.parametrize("order", ["weights first", "masks first", "masks first, and weights assigned"])
def test_the_weights_that_were_saved_are_told_nothing_of(order: str, caplog: pytest.LogCaptureFixture):
    state, weights = saved()
    model = net()
    assign = "assigned" in order
    if order == "weights first":
        model.load_state_dict(weights)
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE, state=state)
    if order != "weights first":
        model.load_state_dict({name: w.clone() for name, w in weights.items()}, assign=False)
        if assign:
            for name, parameter in model.named_parameters():
                parameter.data = weights[name].clone()
    caplog.clear()
    step(model, optimizer)
    assert caplog.text == ""
    dsd.close()


@pytest.mark.parametrize("loaded", [{}, {"0.weight": 1}])
def test_saved_masks_on_other_weights_are_told(loaded: dict[str, int], caplog: pytest.LogCaptureFixture):
    state, weights = saved()
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    model.load_state_dict({name: weights[name] for name in loaded}, strict=False)
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE, state=state)
    caplog.clear()
    step(model, optimizer)
    first = "'2.weight' are" if loaded else "'0.weight' and 1 more are"
    assert f"the weights of {first} not those that were saved with the masks" in caplog.text
    caplog.clear()
    step(model, optimizer)
    assert caplog.text == ""
    dsd.close()


def test_a_block_on_other_weights_is_told_too(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, HALF) as block:
        step(model, optimizer)
        state, weights = copy.deepcopy(block.state_dict()), copy.deepcopy(model.state_dict())
    for own, told in ((weights, False), ({}, True)):
        other = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        other.load_state_dict(own, strict=False)
        optimizer = sgd(other)
        caplog.clear()
        with redense.sparse(other, optimizer, HALF, state=state):
            step(other, optimizer)
        assert ("not those that were saved with the masks" in caplog.text) == told
