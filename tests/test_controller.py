"""`sparse` and `DSD`: when masks are chosen, held and released, and what is refused."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Phase, Schedule, masks
from redense.errors import OptimizerError, ParameterError, ScheduleError, ScoreError, SparsityError, StateError

from .by_hand import DSD, hooks, net, pruned, sgd, train

# --- sparse ---------------------------------------------------------------------------------------------------------


def test_the_block_prunes_the_smallest_weights_on_entry_and_releases_them_at_the_end():
    model = net()
    optimizer = sgd(model)
    expected = {name: masks.select(w, 0.25, absolute=True) for name, w in redense.prunable(model).items()}
    with redense.sparse(model, optimizer, sparsity=0.25) as block:
        assert pruned(model) == {"0.weight": 16, "2.weight": 8}
        for name, mask in block.masks.items():
            assert torch.equal(mask, expected[name])
        train(model, optimizer, steps=3)
        assert pruned(model) == {"0.weight": 16, "2.weight": 8}
    assert block.masks == {}
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 16, "2.weight": 8}
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def leave_by_break(model: nn.Module, optimizer: Optimizer) -> None:
    for _ in range(3):
        with redense.sparse(model, optimizer, 0.5):
            train(model, optimizer)
            break


def leave_by_return(model: nn.Module, optimizer: Optimizer) -> None:
    with redense.sparse(model, optimizer, 0.5):
        return train(model, optimizer)


def leave_by_exception(model: nn.Module, optimizer: Optimizer) -> None:
    with contextlib.suppress(KeyboardInterrupt), redense.sparse(model, optimizer, 0.5):
        train(model, optimizer)
        raise KeyboardInterrupt


def leave_by_generator(model: nn.Module, optimizer: Optimizer) -> None:
    def epochs() -> Generator[int, None, None]:
        with redense.sparse(model, optimizer, 0.5):
            yield 1
            yield 2

    generator = epochs()
    next(generator)
    train(model, optimizer)
    generator.close()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_return, leave_by_exception, leave_by_generator])
def test_the_block_releases_from_zero_however_it_is_left(leave: Callable[[nn.Module, Optimizer], None]):
    model = net()
    optimizer = sgd(model)
    leave(model, optimizer)
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    for weight in redense.prunable(model).values():
        assert (optimizer.state[weight]["momentum_buffer"][weight == 0] == 0).all()
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_the_exception_of_the_block_comes_through():
    model = net()
    with pytest.raises(ZeroDivisionError), redense.sparse(model, sgd(model), 0.5):
        _ = 1 / 0


def test_a_block_that_cannot_release_still_takes_its_hooks_away():
    model = net()
    optimizer = sgd(model)
    block = redense.sparse(model, optimizer, 0.5)
    block.__enter__()
    weight = model.get_parameter("0.weight")
    optimizer.state[weight]["code"] = torch.ones(weight.shape, dtype=torch.uint8)
    with pytest.raises(OptimizerError, match=r"quantised state 'code' for '0\.weight'"):
        block.__exit__(None, None, None)
    assert hooks(optimizer) == 0


def test_a_block_can_be_used_again_after_it_was_left():
    model = net()
    optimizer = sgd(model)
    block = redense.sparse(model, optimizer, 0.5)
    for _ in range(2):
        with block:
            train(model, optimizer)
            assert pruned(model) == {"0.weight": 32, "2.weight": 16}
        train(model, optimizer)


def test_scale_lr_scales_every_group_and_keeps_the_tensor_of_a_capturable_optimizer():
    model = net()
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}], lr=torch.tensor(0.1)
    )
    rate = optimizer.param_groups[1]["lr"]
    redense.scale_lr(optimizer, 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert optimizer.param_groups[1]["lr"] is rate
    assert rate.item() == pytest.approx(0.01)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "0.1", True, None])
def test_a_factor_that_is_no_positive_number_is_refused(bad: Any):
    with pytest.raises(OptimizerError, match="factor of the learning rate must be a positive number, got "):
        redense.scale_lr(sgd(net()), bad)


# --- DSD ------------------------------------------------------------------------------------------------------------


def test_phases_change_inside_the_step_that_ends_them():
    model = net()
    optimizer = sgd(model)
    events: list[tuple[str, int, dict[str, int]]] = []
    dsd = redense.DSD(
        model,
        optimizer,
        DSD,
        on_phase_end=lambda d: events.append((d.phase.name if d.phase else "", d.step, pruned(model))),
    )
    names: list[str | None] = []
    for _ in range(7):
        names.append(dsd.phase.name if dsd.phase else None)
        train(model, optimizer)
    assert names == ["dense", "dense", "sparse", "sparse", "redense", "redense", None]
    none, half = {"0.weight": 0, "2.weight": 0}, {"0.weight": 32, "2.weight": 16}
    assert events == [("dense", 2, none), ("sparse", 4, half), ("redense", 6, none)]
    assert dsd.step == 6


def test_closing_without_a_release_leaves_the_weights_and_holds_nothing_more():
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(3, 0.5),)))
    train(model, optimizer)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1)
    dsd.close(release=False)
    assert dsd.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 16}


def test_a_phase_that_would_leave_nothing_of_a_layer_is_refused_by_the_step_that_begins_it():
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(1e-9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(1), Phase.sparse(2, 0.5, scope="global"))))
    for _ in range(2):  # and again, to whoever goes on
        with pytest.raises(SparsityError, match=r"would prune all 32 weights of '2\.weight'"):
            train(model, optimizer)
    assert dsd.phase == Phase.dense(1)
    assert dsd.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_a_closed_one_that_loads_a_state_while_another_has_the_weights_changes_none():
    model = net()
    optimizer = sgd(model)
    closed = redense.DSD(model, optimizer, DSD)
    train(model, optimizer, steps=3)
    state = closed.state_dict()
    closed.close()
    train(model, optimizer)
    redense.DSD(model, optimizer, DSD)
    with pytest.raises(StateError, match="DSD already controls this model"):
        closed.load_state_dict(state)
    assert not closed.masks
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}
    train(model, optimizer)
    gradient = model.get_parameter("0.weight").grad
    assert gradient is not None
    assert bool(gradient.all())


@pytest.mark.parametrize("surgery", [None, redense.Surgery()])
def test_a_last_sparse_phase_holds_its_masks_until_close(surgery: redense.Surgery | None):
    model = net()
    optimizer = sgd(model)
    schedule = Schedule((Phase.dense(1), Phase.sparse(1, 0.5, surgery=surgery)))
    dsd = redense.DSD(model, optimizer, schedule)
    train(model, optimizer, steps=5)
    assert dsd.phase is None
    assert dsd.step == 2
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    with pytest.raises(StateError, match="DSD already controls"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    dsd.close()
    dsd.close()
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    again = redense.DSD(model, optimizer, schedule, state=dsd.state_dict())
    assert (again.step, again.masks) == (2, {})
    assert hooks(optimizer) == 0
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_what_is_pruned_stays_pruned_in_the_next_sparse_phase_whatever_its_criterion():
    model = net()
    optimizer = sgd(model)
    schedule = Schedule((Phase.sparse(1, 0.25), Phase.sparse(1, 0.5, criterion="random"), Phase.sparse(1, 0.75)))
    dsd = redense.DSD(model, optimizer, schedule)
    seen: list[Tensor] = []
    for _ in range(3):
        seen.append(dsd.masks["0.weight"].clone())
        train(model, optimizer)
    assert [int((~mask).sum()) for mask in seen] == [16, 32, 48]
    assert not (seen[1] & ~seen[0]).any()
    assert not (seen[2] & ~seen[1]).any()
    dsd.close()


def test_masks_of_the_phase_before_can_be_given():
    model = net()
    before = {"0.weight": masks.select(torch.rand(8, 8), 0.25), "2.weight": torch.ones(4, 8, dtype=torch.bool)}
    dsd = redense.DSD(model, sgd(model), Schedule((Phase.sparse(1, 0.5),)), masks=before)
    assert not (dsd.masks["0.weight"] & ~before["0.weight"]).any()
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    dsd.close()
    with pytest.raises(
        ParameterError, match=r"masks has '0\.wieght', which is no parameter .* did you mean '0\.weight'"
    ):
        redense.DSD(model, sgd(model), DSD, masks={"0.wieght": before["0.weight"]})
    optimizer = sgd(model)
    with pytest.raises(
        ParameterError, match=r"the mask given for '0\.weight' has shape \(4, 8\), the parameter \(8, 8\)"
    ):
        redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5),)), masks={"0.weight": before["2.weight"]})
    assert hooks(optimizer) == 0


def test_a_phase_starting_on_diverged_weights_names_them_from_the_step():
    model = net()
    optimizer = sgd(model)
    redense.DSD(model, optimizer, DSD)
    train(model, optimizer)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(math.nan)
    with pytest.raises(ScoreError, match=r"scores of '0\.weight' are NaN"):
        train(model, optimizer)


def test_a_sparse_phase_that_cannot_begin_leaves_the_masks_of_the_one_before_in_force():
    model, fails = net(), [True]

    def score(parameter: Tensor, seed: int) -> Tensor:
        return parameter.detach().abs() * (math.nan if fails[0] else 1)

    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5), Phase.sparse(2, 0.75, criterion=score))))
    before = dsd.masks
    for _ in range(2):
        with pytest.raises(ScoreError, match=r"scores of '0\.weight' are NaN"):
            train(model, optimizer)
        assert all(torch.equal(mask, before[name]) for name, mask in dsd.masks.items())
        assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    state = dsd.state_dict()
    fails[0] = False
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 48, "2.weight": 24}
    assert not any(bool((mask & ~before[name]).any()) for name, mask in dsd.masks.items())
    dsd.close(release=False)
    fails[0] = True
    with pytest.raises(ScoreError, match=r"scores of '0\.weight' are NaN") as refused:  # which keeps the new one alive
        redense.DSD(model, optimizer, dsd.schedule, state=state)
    train(model, optimizer)
    gradient = model.get_parameter("2.weight").grad
    assert gradient is not None, refused
    assert bool(gradient.all())  # nothing is left of what could not be made


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Phase.sparse(1, {"0.weight": 0.5, "9.weight": 0.5}), r"sparsity '9\.weight' matches no parameter"),
        (Phase.sparse(1, {"2.weight": 0.5, "*.bias": 0.5}), r"sparsity names '\*\.bias', which is no prunable"),
        (Phase.sparse(1, pattern=(2, 3)), r"'0\.weight' of shape \(8, 8\) has no groups of 3"),
    ],
)
def test_what_is_wrong_with_a_later_phase_is_said_at_once(phase: Phase, says: str):
    model = net()
    optimizer = sgd(model)
    with pytest.raises(ParameterError, match=says):
        redense.DSD(model, optimizer, Schedule((Phase.dense(10**6), phase)))
    assert hooks(optimizer) == 0


def test_the_summary_shows_what_the_schedule_prunes():
    model = net()
    optimizer = sgd(model[2])
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(1), Phase.sparse(9, {"2.weight": 0.25, "2.bias": 0.5}))))
    train(model, optimizer)
    rows = {row.name: (row.prunable, row.sparsity, row.reason) for row in dsd.summary().rows}
    assert rows == {
        "0.weight": (False, 0.0, "not named by the schedule, or no optimizer holds it"),
        "0.bias": (False, 0.0, "a bias"),
        "2.weight": (True, 0.25, "linear"),
        "2.bias": (True, 0.5, "named by the schedule"),
    }
    assert "25.00%" in str(dsd.summary())
    dsd.close()
    dsd = redense.DSD(model, sgd(model), DSD, include="2.weight")
    assert dsd.summary() == redense.summary(model, include="2.weight")
    dsd.close()
    dsd = redense.DSD(model, sgd(model), DSD, exclude="0.*")
    assert dsd.summary() == redense.summary(model, exclude="0.*")
    dsd.close()


# --- wrappers -------------------------------------------------------------------------------------------------------


def test_accelerate_wraps_the_optimizer_and_accumulates_gradients():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = net()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(48, 8)), batch_size=4)
    model, optimizer, data = accelerator.prepare(model, sgd(model), data)
    dsd = redense.DSD(model, optimizer, DSD)
    steps: list[int] = []
    for (batch,) in data:
        with accelerator.accumulate(model):
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        steps.append(dsd.step)
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask] == 0).all()
    assert steps == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert dsd.phase is None
    assert hooks(optimizer.optimizer) == 0


@pytest.fixture
def gloo() -> Iterator[None]:
    store = torch.distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_ddp_gives_the_names_and_the_weights_of_the_plain_model():
    plain, model = net(), net()
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer, other = sgd(wrapped), sgd(plain)
    dsd = redense.DSD(wrapped, optimizer, DSD)
    redense.DSD(plain, other, DSD)
    for _ in range(6):
        torch.manual_seed(1)
        train(wrapped, optimizer)
        torch.manual_seed(1)
        train(plain, other)
        assert all(not name.startswith("module") for name in dsd.masks)
    for a, b in zip(wrapped.module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert list(wrapped.state_dict()) == [f"module.{name}" for name in plain.state_dict()]


def test_the_modules_are_walked_once_however_many_phases_there_are(monkeypatch: pytest.MonkeyPatch):
    walks, named_modules = [0], nn.Module.named_modules

    def counted(module: nn.Module, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Any:
        walks[0] += memo is None  # the walk of a model, and not of a part of it
        return named_modules(module, memo, prefix, remove_duplicate)

    monkeypatch.setattr(nn.Module, "named_modules", counted)
    found: list[int] = []
    for cycles in (1, 4):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        walks[0] = 0
        schedule = Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=[0.5] * cycles)
        redense.DSD(model, optimizer, schedule).close()
        found.append(walks[0])
    assert found == [1, 1]


def test_what_was_loaded_since_the_last_step_is_not_released_from_zero(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(3, 0.5), Phase.dense(1))))
    train(model, optimizer)
    model.load_state_dict(best)
    dsd.close()
    with redense.sparse(model, optimizer, 0.5):
        train(model, optimizer)
        model.load_state_dict(best)
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert caplog.text.count("removed weights of '0.weight' are not zero any more") == 2
    assert hooks(optimizer) == 0


def test_a_step_that_was_broken_off_is_released_from_zero():
    class Broken(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            super().step(closure)
            for weight in self.param_groups[0]["params"]:
                weight.data.add_(1)
            raise KeyboardInterrupt

    model = net()
    optimizer = Broken(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(3, 0.5), Phase.dense(1))))
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer)
    dsd.close()
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}


def test_each_block_of_one_object_says_that_it_saw_no_step(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    block = redense.sparse(model, optimizer, 0.5)
    with block:
        train(model, optimizer)
    assert not caplog.text
    with block:
        pass
    assert "no step of SGD was seen" in caplog.text


def test_a_block_goes_on_with_the_names_and_the_seed_that_it_was_saved_with():
    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, 0.5, exclude="2") as block:
        state = block.state_dict()
        train(model, optimizer)
    others: list[dict[str, Any]] = [{}, {"exclude": "0"}, {"exclude": "2", "seed": 1}]
    for other in others:
        with pytest.raises(StateError, match="the saved state is of another settings"):
            redense.sparse(model, optimizer, 0.5, state=state, **other).__enter__()
    del state["settings"]  # as an older redense wrote it
    with redense.sparse(model, optimizer, 0.5, state=state) as block:
        assert set(block.masks) == {"0.weight"}
        train(model, optimizer)


@pytest.mark.parametrize("callback", [3, lambda: None, lambda dsd, more: None])
def test_a_callback_that_cannot_be_called_is_refused_at_once(callback: Any):
    model = net()
    with pytest.raises(ScheduleError, match="on_phase_end must be called with the DSD"):
        redense.DSD(model, sgd(model), Schedule((Phase.dense(3),)), on_phase_end=callback)


def test_a_state_that_was_saved_after_close_says_that_nothing_is_pruned_any_more(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    train(model, optimizer)
    dsd.close()
    caplog.clear()
    again = redense.DSD(model, optimizer, DSD, state=dsd.state_dict())
    assert again.phase is None
    assert f"close() had ended after 1 of {DSD.total_steps} steps: nothing is pruned any more" in caplog.text
