"""Rule 5: killed anywhere and resumed, twice, a run ends with the bits of an uninterrupted one."""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Decay, Phase, Schedule, Surgery
from redense.errors import StateError

BUDGET: dict[str, Any] = {"dense": 2, "sparse": 3, "redense": 2, "sparsity": 0.5}
ALWAYS = Surgery(power=0)

SCHEDULES = {
    "dsd": Schedule.dsd(**BUDGET, decay=Decay("cosine")),
    "iterated": Schedule.dsd(dense=1, sparse=1, redense=[2, 1], sparsity=[0.5, 0.25]),
    "random": Schedule.random(**BUDGET),
    "saliency": Schedule.dsd(**BUDGET, criterion="saliency"),
    "global": Schedule.dsd(**BUDGET, scope="global"),
    "mapping": Schedule.dsd(**{**BUDGET, "sparsity": {"0.weight": 0.5, "2.bias": 0.5}}),
    "pattern": Schedule((Phase.dense(2), Phase.sparse(2, pattern=(2, 4)), Phase.dense(2))),
    "scratch": Schedule.scratch(**BUDGET, criterion="random"),
    "prune": Schedule.prune(**BUDGET, rounds=2),
    "surgery": Schedule.surgery(**BUDGET, surgery=ALWAYS),
    "surgery, then dense": Schedule((Phase.dense(1), Phase.sparse(3, 0.5, surgery=ALWAYS), Phase.dense(2))),
    "rare surgery": Schedule.surgery(**BUDGET, surgery=Surgery(c=0.1, gamma=1.0)),
    "rare surgery, then dense": Schedule(  # whether steps 3 and 4 revise the mask hangs on the seed of the phase
        (Phase.dense(1), Phase.sparse(5, 0.5, surgery=Surgery(gamma=1.0, power=0.5)), Phase.dense(2))
    ),
    "acdc": Schedule.acdc(**BUDGET, cycles=2),
    "restart": Schedule.restart(**BUDGET),
}

EVERYWHERE = ("dsd", "scratch", "surgery, then dense")
"""The quick tests kill them at every step, and the other schedules at every third; AdamW saves the same of them all."""


class Run:
    """A training that is a pure function of its step number, and can be written and read."""

    def __init__(self, schedule: Schedule, optimizer: str = "sgd", *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        parameters = list(self.model.parameters())
        self.optimizers: list[torch.optim.Optimizer] = {
            "sgd": lambda: [torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)],
            "adamw": lambda: [torch.optim.AdamW(parameters, lr=0.02, fused=True)],
            "lbfgs": lambda: [torch.optim.LBFGS(parameters, lr=0.2, max_iter=3)],
            "two": lambda: [torch.optim.SGD(parameters[:2], lr=0.1, momentum=0.9), torch.optim.Adam(parameters[2:])],
        }[optimizer]()
        self.dsd = redense.DSD(self.model, self.optimizers, schedule, seed=7)
        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(o, schedule.lr_factor) for o in self.optimizers]
        self.parts: dict[str, Any] = {"model": self.model, "dsd": self.dsd}
        for i, (optimizer_, scheduler) in enumerate(zip(self.optimizers, self.schedulers, strict=True)):
            self.parts |= {f"optimizer{i}": optimizer_, f"scheduler{i}": scheduler}

    def gradients(self, number: int) -> float:
        generator = torch.Generator().manual_seed(number)
        self.model.zero_grad()
        loss = self.model(torch.randn(4, 8, generator=generator)).square().mean()
        loss.backward()
        return loss.item()

    def step(self, number: int) -> None:
        self.gradients(number)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            if isinstance(optimizer, torch.optim.LBFGS):
                optimizer.step(lambda: self.gradients(number))
            else:
                optimizer.step()
            scheduler.step()

    def steps(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.step(number)

    def save(self) -> bytes:
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts.items()}, file)
        return file.getvalue()

    def load(self, saved: bytes, order: tuple[str, ...] = ()) -> Run:
        states = torch.load(io.BytesIO(saved), weights_only=True)
        for name in order or self.parts:
            self.parts[name].load_state_dict(states[name])
        return self

    def tensors(self) -> list[Tensor]:
        states = [v for o in self.optimizers for s in o.state.values() for v in s.values() if isinstance(v, Tensor)]
        return [*self.model.state_dict().values(), *states]


def assert_same(first: Run, second: Run) -> None:
    assert first.dsd.phase == second.dsd.phase
    assert first.dsd.step == second.dsd.step
    assert list(first.dsd.masks) == list(second.dsd.masks)
    for name, mask in first.dsd.masks.items():
        assert torch.equal(mask, second.dsd.masks[name]), name
    for a, b in zip(first.tensors(), second.tensors(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "optimizer", "every"),
    [
        *((name, "sgd", 1 if name in EVERYWHERE else 3) for name in SCHEDULES),
        *((name, "adamw", 3) for name in EVERYWHERE),
        *(
            pytest.param(name, optimizer, 1, marks=pytest.mark.slow)
            for optimizer in ("sgd", "adamw")
            for name in SCHEDULES
            if optimizer == "adamw" or name not in EVERYWHERE
        ),
    ],
)
def test_a_run_killed_at_any_two_steps_ends_with_the_same_bits(name: str, optimizer: str, every: int):
    schedule = SCHEDULES[name]
    last = schedule.total_steps + 2  # a sparse end holds its masks past the schedule
    whole, saved = Run(schedule, optimizer), list[bytes]()
    for step in range(last):
        saved.append(whole.save())
        whole.step(step)
    for first in range(0, last, every):
        second = first + 1 if first % 2 else (first + last) // 2
        run = Run(schedule, optimizer, seed=1).load(saved[first])
        run.steps(first, second)
        run = Run(schedule, optimizer, seed=2).load(run.save())
        run.steps(second, last)
        assert_same(run, whole)


@pytest.mark.parametrize("optimizer", ["lbfgs", "two"])
@pytest.mark.parametrize("name", ["dsd", "surgery, then dense"])
def test_a_run_with_a_closure_or_two_optimizers_can_be_killed_too(name: str, optimizer: str):
    whole, saved = Run(SCHEDULES[name], optimizer), list[bytes]()
    for step in range(8):
        saved.append(whole.save())
        whole.step(step)
    for kill in range(8):
        run = Run(SCHEDULES[name], optimizer, seed=1).load(saved[kill])
        run.steps(kill, 8)
        assert_same(run, whole)


def test_a_run_killed_between_the_steps_of_two_optimizers_goes_on_with_the_second():
    schedule = SCHEDULES["dsd"]
    whole = Run(schedule, "two")
    whole.steps(0, 7)
    for kill in range(7):
        run = Run(schedule, "two")
        run.steps(0, kill)
        run.gradients(kill)
        run.optimizers[0].step()
        run.schedulers[0].step()
        saved, gradients = run.save(), [p.grad for p in run.model.parameters()]
        run = Run(schedule, "two", seed=1).load(saved)
        for parameter, grad in zip(run.model.parameters(), gradients, strict=True):
            parameter.grad = grad
        run.optimizers[1].step()
        run.schedulers[1].step()
        run.steps(kill + 1, 7)
        assert_same(run, whole)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("dsd", "sgd"),
        ("surgery, then dense", "sgd"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("scratch", "sgd"), ("acdc", "sgd"), ("dsd", "lbfgs"))
        ),
    ],
)
def test_the_order_of_loading_does_not_matter(name: str, optimizer: str):
    schedule = SCHEDULES[name]
    whole = Run(schedule, optimizer)
    whole.steps(0, schedule.total_steps)
    every = (name, optimizer) == ("dsd", "sgd")
    for kill in (0, 3, 4):
        run = Run(schedule, optimizer)
        run.steps(0, kill)
        saved = run.save()
        orders = list(itertools.permutations(run.parts))
        for order in orders[:: 1 if every else 6] if kill == 3 else (orders[0], orders[-1]):
            again = Run(schedule, optimizer, seed=1).load(saved, order)
            again.steps(kill, schedule.total_steps)
            assert_same(again, whole)


def test_a_state_is_read_and_not_inferred_from_zeros():
    # Right after the release the weights are full of zeros that no mask holds.
    schedule = SCHEDULES["dsd"]
    run = Run(schedule)
    run.steps(0, 5)
    weight = run.model.get_parameter("0.weight")
    assert (weight == 0).sum() == 32
    again = Run(schedule, seed=1).load(run.save())
    again.step(5)
    assert (again.model.get_parameter("0.weight") == 0).sum() == 0


def test_a_state_can_be_loaded_into_a_run_that_is_over_and_back():
    schedule = SCHEDULES["dsd"]
    run = Run(schedule)
    run.steps(0, 3)
    saved = run.save()
    run.steps(3, 7)
    whole = run.save()
    assert run.dsd.phase is None
    run.load(saved)
    assert run.dsd.masks
    run.steps(3, 7)
    again = Run(schedule, seed=1).load(whole)
    assert_same(run, again)
    assert again.dsd.phase is None
    for optimizer in again.optimizers:
        assert not optimizer._optimizer_step_post_hooks  # pyright: ignore[reportPrivateUsage]


def test_a_saved_state_does_not_change_as_training_goes_on():
    run = Run(SCHEDULES["surgery"])
    run.steps(0, 4)
    state = run.dsd.state_dict()
    before = io.BytesIO()
    torch.save(state, before)
    run.steps(4, 6)
    after = io.BytesIO()
    torch.save(state, after)
    assert before.getvalue() == after.getvalue()


def test_a_state_is_tensors_and_plain_data_and_packs_eight_weights_to_a_byte():
    run = Run(SCHEDULES["dsd"])
    run.steps(0, 3)
    state = run.dsd.state_dict()
    assert {name: mask["bits"].numel() for name, mask in state["masks"].items()} == {"0.weight": 8, "2.weight": 4}
    plain = {key: value for key, value in state.items() if key != "masks"}
    assert json.loads(json.dumps(plain)) == plain
    assert plain["steps"] == [3]
    assert plain["phase"] == 1


# --- the block ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_a_block_goes_on_with_its_saved_masks(criterion: str):
    def start(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Linear(8, 4)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for number in steps:
            optimizer.zero_grad()
            model(torch.randn(4, 8, generator=torch.Generator().manual_seed(number))).square().mean().backward()
            optimizer.step()

    model, optimizer = start(0)
    with redense.sparse(model, optimizer, 0.5, criterion=criterion) as block:
        train(model, optimizer, range(2))
        file = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict(), block.state_dict()], file)
        train(model, optimizer, range(2, 5))
    train(model, optimizer, range(5, 6))

    again, other = start(1)
    file.seek(0)
    of_model, of_optimizer, of_block = torch.load(file, weights_only=True)
    again.load_state_dict(of_model)
    other.load_state_dict(of_optimizer)
    with redense.sparse(again, other, 0.5, criterion=criterion, state=of_block):
        train(again, other, range(2, 5))
    train(again, other, range(5, 6))
    assert torch.equal(again.get_parameter("weight"), model.get_parameter("weight"))


def test_saved_masks_are_in_force_before_the_first_step():
    model, fresh = nn.Linear(8, 4), nn.Linear(8, 4)
    with redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5) as block:
        state = block.state_dict()
    assert state["phase"]["steps"] == 1  # what was saved by an older redense says so, and must fit
    with redense.sparse(fresh, torch.optim.SGD(fresh.parameters(), lr=0.1), 0.5, state=state) as block:
        assert torch.equal(fresh.weight == 0, ~block.masks["weight"])


def test_a_block_of_another_sparsity_does_not_take_the_state():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5) as block:
        state = block.state_dict()
    other = redense.sparse(model, optimizer, 0.25, state=state)
    with pytest.raises(StateError, match=r"the saved state is of another phase: saved .*0.5.* now .*0.25"):
        other.__enter__()
    assert not optimizer._optimizer_step_post_hooks  # pyright: ignore[reportPrivateUsage]
    assert other.masks == {}
    with pytest.raises(StateError, match=r"the state of a block: give it to redense\.sparse\(.*, and not to a DSD"):
        redense.DSD(model, optimizer, SCHEDULES["dsd"], state=state)
    dsd = redense.DSD(model, optimizer, SCHEDULES["dsd"])
    state = dsd.state_dict()
    dsd.close()
    with pytest.raises(StateError, match=r"the state of a DSD: give it to redense\.DSD\(.*, and not to a block"):
        redense.sparse(model, optimizer, 0.5, state=state).__enter__()


# --- states that do not fit -----------------------------------------------------------------------------------------


def saved_in_the_sparse_phase(name: str = "dsd") -> dict[str, Any]:
    run = Run(SCHEDULES[name])
    run.steps(0, 3)
    return run.dsd.state_dict()


def without(key: str) -> dict[str, Any]:
    state = saved_in_the_sparse_phase("surgery" if key == "surgery" else "dsd")
    del state[key]
    return state


def changed(**new: Any) -> dict[str, Any]:
    return {**saved_in_the_sparse_phase(), **new}


def with_mask(**new: Any) -> dict[str, Any]:
    state = saved_in_the_sparse_phase()
    state["masks"]["2.weight"].update(new)
    return state


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (None, r"a state is what state_dict\(\) gave, got NoneType"),
        ({}, r"this is no state of redense's format 1: it has \[\]"),
        (
            changed(format=2),
            r"this is no state of redense's format 1: it has \['format', 'held', 'masked', 'masks', 'model'",
        ),
        (saved_in_the_sparse_phase("random"), "the saved state is of another schedule: saved .*random.* now "),
        (changed(steps=[3, 3]), "the saved state is of 2 optimizers, this DSD has 1"),
        (changed(steps=[-1]), r"damaged: steps must be whole numbers of at least 0, got \[-1\]"),
        (changed(steps=["3"]), r"damaged: steps must be whole numbers of at least 0, got \['3'\]"),
        (changed(steps=3), "damaged: steps must be whole numbers of at least 0, got 3"),
        (changed(phase=-1), "damaged: phase must be in 0 to 3, got -1"),
        (changed(phase=None), "damaged: phase must be in 0 to 3, got None"),
        (without("steps"), "the saved state is damaged: it has no 'steps'"),
        (without("phase"), "the saved state is damaged: it has no 'phase'"),
        (without("schedule"), "the saved state is damaged: it has no 'schedule'"),
        (without("masks"), "the saved state is damaged: it has no 'masks'"),
        (
            changed(masks={}),
            r"the saved state has no mask of '0\.weight': it is damaged",
        ),
        (
            changed(masks={**saved_in_the_sparse_phase()["masks"], "9.weight": {}}),
            r"the model has no mask or parameter '9\.weight': the saved state is of another model",
        ),
        (with_mask(shape=[8, 4]), r"'2\.weight' has shape \[4, 8\], its saved mask \[8, 4\]: .* another model"),
        (with_mask(bits=torch.zeros(1, dtype=torch.uint8)), "the saved state is damaged: a packed mask for shape"),
    ],
)
def test_a_state_that_does_not_fit_is_an_error_that_says_why(state: Any, says: str):
    run = Run(SCHEDULES["dsd"])
    with pytest.raises(StateError, match=says):
        run.dsd.load_state_dict(state)
    run.steps(0, 7)
    whole = Run(SCHEDULES["dsd"])
    whole.steps(0, 7)
    assert_same(run, whole)


def test_a_state_of_patterns_in_another_order_is_of_another_schedule():
    schedule = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity={"2*": 0.5, "*weight": 0.3})
    run = Run(schedule)
    state, sharded = run.dsd.state_dict(), run.dsd.sharded_state_dict()
    run.dsd.load_state_dict(state)
    phase = state["schedule"]["phases"][1]
    assert phase["sparsity"] == [["2*", 0.5], ["*weight", 0.3]]
    phase["sparsity"] = dict(phase["sparsity"])  # as it was saved before
    run.dsd.load_state_dict(state)
    assert sharded["schedule"] == state["schedule"]  # a checkpoint of before is asked for each of its keys
    run.dsd.load_state_dict(sharded)
    phase["sparsity"] = dict(reversed(phase["sparsity"].items()))
    with pytest.raises(StateError, match="the saved state is of another schedule"):
        run.dsd.load_state_dict(state)


def test_a_state_of_surgery_without_its_hidden_weights_is_damaged():
    with pytest.raises(StateError, match="has no weights for the surgery of its phase"):
        Run(SCHEDULES["surgery"]).dsd.load_state_dict(without("surgery"))


@pytest.mark.parametrize("kill", [1, 3])
def test_a_model_loaded_before_a_schedule_that_begins_sparse_loses_nothing(kill: int):
    # The natural order of a script: load the model, make DSD (which prunes for its first phase), load DSD's state.
    schedule = Schedule((Phase.sparse(2, 0.5), Phase.dense(3)))
    whole = Run(schedule)
    whole.steps(0, kill)
    states = torch.load(io.BytesIO(whole.save()), weights_only=True)
    whole.steps(kill, 5)
    again = Run(schedule, seed=1)
    again.dsd.close()
    for name in ("model", "optimizer0", "scheduler0"):
        again.parts[name].load_state_dict(states[name])
    again.dsd = again.parts["dsd"] = redense.DSD(again.model, again.optimizers, schedule, seed=7)
    again.dsd.load_state_dict(states["dsd"])
    again.steps(kill, 5)
    assert_same(again, whole)


def test_a_state_that_is_refused_undoes_no_pruning():
    schedule = Schedule((Phase.sparse(2, 0.5), Phase.dense(3)))
    run, whole = Run(schedule), Run(schedule)
    with pytest.raises(StateError, match="the saved state is damaged: a packed mask for shape"):
        run.dsd.load_state_dict(run.dsd.state_dict() | {"masks": with_mask(bits=torch.zeros(1).byte())["masks"]})
    run.steps(0, 5)
    whole.steps(0, 5)
    assert_same(run, whole)


def test_a_model_that_was_written_behind_autograds_back_is_not_undone_either():
    model = nn.Linear(8, 4)
    dsd = redense.DSD(model, torch.optim.SGD(model.parameters(), lr=0.1), Schedule((Phase.sparse(2, 0.5),)))
    state, loaded = dsd.state_dict(), torch.arange(1.0, 33.0).view(4, 8)
    model.weight.data.copy_(loaded)  # counts as no new version
    dsd.load_state_dict(state)
    assert torch.equal(model.weight.detach(), loaded * dsd.masks["weight"])


def test_weights_that_were_loaded_as_the_pruning_left_them_stay_so():
    def made() -> tuple[nn.Module, torch.optim.Optimizer, redense.DSD]:
        torch.manual_seed(0)
        model = nn.Linear(8, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        return model, optimizer, redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5), Phase.dense(2))))

    model, optimizer, dsd = made()
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()  # the sparse phase is over, and nothing has moved
    again, _, other = made()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(dsd.state_dict())
    assert torch.equal(again.get_parameter("weight"), model.get_parameter("weight"))
    assert int((again.get_parameter("weight") == 0).sum()) == 16


def test_a_state_of_other_settings_is_refused():
    schedule = SCHEDULES["dsd"]
    saved = Run(schedule).dsd.state_dict()
    other = Run(schedule)
    other.dsd.close()
    dsd = redense.DSD(other.model, other.optimizers, schedule, seed=5)
    with pytest.raises(StateError, match=r"another settings: saved .*'seed': 7.*'seed': 5"):
        dsd.load_state_dict(saved)
    dsd.close()
    narrow = redense.DSD(other.model, other.optimizers, schedule, include="0.*", seed=7)
    with pytest.raises(StateError, match=r"another settings: saved .*'include': None.*'include': \['0\.\*'\]"):
        narrow.load_state_dict(saved)
    of_one_pattern = narrow.state_dict()
    narrow.close()
    redense.DSD(other.model, other.optimizers, schedule, include=["0.*"], seed=7).load_state_dict(of_one_pattern)


def test_a_sharded_state_of_one_process_can_be_loaded_too():
    schedule = SCHEDULES["dsd"]
    run, again = Run(schedule), Run(schedule, seed=1)
    run.steps(0, 3)
    again.model.load_state_dict(run.model.state_dict())
    again.dsd.load_state_dict(run.dsd.sharded_state_dict())
    assert again.dsd.step == 3
    assert run.dsd.masks
    for name, mask in run.dsd.masks.items():
        assert torch.equal(mask, again.dsd.masks[name])
