"""Loops in which the optimizers, what is frozen, and what has been loaded change: each keeps what it was promised."""

from __future__ import annotations

import contextlib
import copy
import enum
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Phase, Schedule
from redense.errors import LeftDenseWarning, ParameterError, StateError

SCHEDULE = Schedule.dsd(dense=2, sparse=8, redense=2, sparsity=0.5)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))


def batches(count: int = 20) -> Tensor:
    return torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor, *, clip: float | None = None) -> float:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip)) if clip else 0.0
    optimizer.step()
    return norm


# --- what is taken --------------------------------------------------------------------------------------------------


class Part(enum.StrEnum):
    """As a configuration may name a layer."""

    LAST = "2"


@pytest.mark.parametrize(
    ("include", "exclude", "masked"),
    [
        (None, None, {"0.weight", "2.weight"}),
        (None, (name for name in ["2.weight"]), {"0.weight"}),
        (filter(None, ["2.weight"]), (), {"2.weight"}),
        (None, {"2.weight", "2.bias"}, {"0.weight"}),
        (np.array(["2.weight"]), (), {"2.weight"}),
        (Part.LAST, (), {"2.weight"}),
    ],
)
def test_names_may_be_given_in_any_form_and_are_plain_text(include: Any, exclude: Any, masked: set[str]):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, SCHEDULE, include=include, exclude=exclude)
    for batch in batches(4):
        step(model, optimizer, batch)
    assert set(dsd.masks) == masked
    settings = dsd.state_dict()["settings"]
    assert {type(name) for key in ("include", "exclude") for name in settings[key] or ()} <= {str}
    assert settings["exclude"] == sorted(settings["exclude"])
    dsd.close()


def test_what_a_phase_is_told_is_plain_text():
    phase = Phase.sparse(1, {np.str_("0.weight"): 0.5}, name=Part.LAST)  # pyright: ignore[reportArgumentType]
    assert (type(phase.name), phase.name) == (str, "2")
    assert isinstance(phase.sparsity, dict)
    assert [type(name) for name in phase.sparsity] == [str]
    phase = Phase.sparse(1, 0.5, criterion=np.str_("random"), decay=np.str_("linear"))
    assert (type(phase.criterion), type(phase.decay.kind)) == (str, str)
    with pytest.raises(ParameterError, match="include takes names and shell patterns, got 3"):
        redense.prunable(net(), include=[3])  # pyright: ignore[reportArgumentType]


# --- turns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, {"0.*": 0.5, "1.*": 0.5}, {"0.0.weight": 0.5, "1.0.weight": 0.5}])
def test_networks_that_are_frozen_in_turn_are_both_pruned(sparsity: Any):
    torch.manual_seed(0)
    maker, critic = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8))
    both = nn.ModuleList([maker, critic])
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.01) for part in both]
    dsd = redense.DSD(both, optimizers, Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=sparsity))
    for batch in batches(4):
        critic.requires_grad_(True)
        step(critic, optimizers[1], maker(batch).detach())
        critic.requires_grad_(False)
        optimizers[0].zero_grad()
        critic(maker(batch)).mean().backward()
        optimizers[0].step()
    assert set(dsd.masks) == {"0.0.weight", "1.0.weight"}
    critic.requires_grad_(True)
    critic.zero_grad()
    critic(batches(1)[0]).square().mean().backward()
    gradient = critic.get_parameter("0.weight").grad
    assert gradient is not None
    assert not gradient[~dsd.masks["1.0.weight"]].any()
    dsd.close()


def test_what_was_frozen_in_the_last_round_is_left_alone():
    both = nn.ModuleList([net(), net()])
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in both]
    dsd = redense.DSD(both, optimizers, SCHEDULE)
    for number, batch in enumerate(batches(2)):
        both[0][0].requires_grad_(not number)  # pyright: ignore[reportIndexIssue]
        for part, optimizer in zip(both, optimizers, strict=True):
            step(part, optimizer, batch)
    assert set(dsd.masks) == {"0.2.weight", "1.0.weight", "1.2.weight"}
    dsd.close()


def test_what_is_frozen_between_two_sparse_phases_stays_as_sparse_as_it_is():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(2, 0.3), Phase.sparse(3, 0.6))))
    before = dsd.masks["0.weight"].clone()
    for number, batch in enumerate(batches(5)):
        model[0].requires_grad_(number not in (1, 2))
        step(model, optimizer, batch)
    assert torch.equal(dsd.masks["0.weight"], before)
    assert not model.get_parameter("0.weight")[~before].any()
    assert 0.55 < float(model.get_parameter("2.weight").eq(0).float().mean()) < 0.65
    dsd.close()


@pytest.mark.parametrize(("thaws", "told"), [(False, 1), (True, 0)])
def test_what_is_frozen_when_its_mask_is_released_is_named(thaws: bool, told: int, caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    redense.DSD(model, optimizer, Schedule((Phase.sparse(2, 0.5), Phase.sparse(1, 0.5), Phase.dense(1))))
    for number, batch in enumerate(batches(4)):
        model[0].requires_grad_(number == 0 or (thaws and number == 2))
        step(model, optimizer, batch)
    said = [record.message for record in caplog.records]
    assert len(said) == told
    assert all(one.startswith("'0.weight' is frozen now that the mask is released: what was removed") for one in said)


@pytest.mark.parametrize(("rates", "told"), [((0.0, 0.1), 1), ((0.0, 0.0), 0)])  # all at 0: the end of a decay
def test_what_has_no_learning_rate_when_its_mask_is_released_is_named(
    rates: tuple[float, float], told: int, caplog: pytest.LogCaptureFixture
):
    model = net()
    groups: list[dict[str, Any]] = [{"params": model[2 * i].parameters(), "lr": rate} for i, rate in enumerate(rates)]
    optimizer = torch.optim.SGD(groups)
    redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5), Phase.dense(1))))
    for batch in batches(2):
        step(model, optimizer, batch)
    assert caplog.text.count("'0.weight' is frozen, by a learning rate of 0, now that the mask is released") == told


def test_a_summary_shows_a_model_all_of_which_is_frozen_now():
    model = net()
    dsd = redense.DSD(model, torch.optim.SGD(model.parameters(), lr=0.1), SCHEDULE)
    model.requires_grad_(False)
    assert [row.reason for row in dsd.summary().rows if row.name.endswith("weight")] == ["frozen", "frozen"]


@pytest.mark.parametrize("kind", ["state_dict", "sharded_state_dict"])
def test_a_layer_that_is_frozen_in_a_sparse_phase_is_resumed_and_trained_again_to_the_bit(kind: str):
    def frozen(number: int) -> bool:
        return 4 <= number < 7

    def trained(model: nn.Sequential, optimizer: Any, first: int, last: int) -> list[float]:
        norms: list[float] = []
        for number in range(first, last):
            model[0].requires_grad_(not frozen(number))
            norms.append(step(model, optimizer, batches()[number], clip=0.01))
        return norms

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    trained(model, optimizer, 0, 5)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), getattr(dsd, kind)()))
    norms = trained(model, optimizer, 5, 12)

    other = net()
    second = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.9)
    other.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    other[0].requires_grad_(False)
    resumed = redense.DSD(other, second, SCHEDULE)
    resumed.load_state_dict(saved[2])
    assert set(resumed.masks) == {"0.weight", "2.weight"}
    assert trained(other, second, 5, 12) == norms
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_sharded_state_that_has_no_mask_of_what_was_frozen_is_refused():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for batch in batches(3):
        step(model, optimizer, batch)
    model[0].requires_grad_(False)
    state = dsd.sharded_state_dict()
    asked = state["sharded"]
    del asked["masks"]["0.weight"]  # torch.distributed.checkpoint loads what a state has, and a frozen one is not in it
    with pytest.raises(StateError, match=r"the mask of '0\.weight' was not loaded, .* freeze it after load_state_dict"):
        dsd.load_state_dict(state)
    dsd.close()


# --- what is loaded -------------------------------------------------------------------------------------------------


def test_a_state_that_is_saved_when_a_phase_ends_goes_on_with_the_next_one():
    schedule = Schedule.dsd(dense=3, sparse=3, redense=3, sparsity=0.5)
    saved: list[Any] = []

    def keep(dsd: redense.DSD) -> None:
        saved.append(copy.deepcopy((model.state_dict(), optimizer.state_dict(), dsd.state_dict())))

    def made() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        own = net()
        return own, torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)

    model, optimizer = made()
    redense.DSD(model, optimizer, schedule, on_phase_end=keep)
    for batch in batches(9):
        step(model, optimizer, batch)
    assert len(saved) == 3
    for end, (weights, states, state) in zip((3, 6, 9), saved, strict=True):
        other, second = made()
        other.load_state_dict(weights)
        second.load_state_dict(states)
        resumed = redense.DSD(other, second, schedule, state=state)
        assert resumed.phase is (schedule.phases[end // 3] if end < 9 else None)
        for batch in batches(9)[end:]:
            step(other, second, batch)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("after", [3, 5, 6])
def test_an_optimizer_state_of_before_the_phase_moves_no_removed_weight(after: int):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    saved: dict[str, Any] = {}
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for number, batch in enumerate(batches(9)):
        if number == 1:
            saved = copy.deepcopy(optimizer.state_dict())
        if number == after:
            optimizer.load_state_dict(saved)
        step(model, optimizer, batch)
        assert not any(model.get_parameter(name)[~mask].any() for name, mask in dsd.masks.items())
    dsd.close()


def test_a_new_dsd_goes_on_with_another_optimizer_in_the_place_of_the_old(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    old = redense.DSD(model, optimizer, SCHEDULE)
    for batch in batches(4):
        step(model, optimizer, batch)
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(StateError, match="DSD already controls this model"):
        redense.DSD(model, other, SCHEDULE)
    new = redense.DSD(model, other, SCHEDULE, state=old.state_dict())
    for batch in batches(8):
        step(model, other, batch)
    assert (new.step, new.phase) == (12, None)
    third = redense.DSD(model, optimizer, SCHEDULE)
    with pytest.raises(StateError, match="DSD already controls this model"):  # it was to take the place of one
        new.load_state_dict(third.state_dict())
    third.close()
    assert old.masks == {}
    old.close()
    assert not caplog.messages


# --- whose steps ----------------------------------------------------------------------------------------------------


def test_weights_of_an_optimizer_that_was_not_given_are_said_to_stay_dense():
    model = net()
    first, second = (torch.optim.SGD(model[index].parameters(), lr=0.1) for index in (0, 2))
    dsd = redense.DSD(model, second, SCHEDULE)
    with pytest.warns(
        LeftDenseWarning, match=r"128 weights \(0\.weight\) .* SGD trains them, .* all optimizers"
    ) as told:
        step(model, first, batches(1)[0])
    assert told[0].filename == __file__
    step(model, first, batches(1)[0])  # said once
    dsd.close()
    left = redense.DSD(model, second, SCHEDULE, exclude="0.weight")
    step(model, first, batches(1)[0])
    left.close()


def test_layers_that_have_changed_since_the_optimizer_was_made_are_said_to_stay_dense():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.utils.parametrizations.weight_norm(model[2])
    said = r"128 weights \(2\.parametrizations\.weight\.original1\) can be pruned, and no optimizer holds them"
    with pytest.warns(LeftDenseWarning, match=said) as told:
        dsd = redense.DSD(model, optimizer, SCHEDULE)
    assert told[0].filename == __file__
    for batch in batches(3):
        step(model, optimizer, batch)  # said once
    assert set(dsd.masks) == {"0.weight"}
    dsd.close()


def test_two_dsds_with_an_optimizer_each_do_not_warn_of_one_another():
    model = net()
    optimizers = [torch.optim.SGD(model[index].parameters(), lr=0.1) for index in (0, 2)]
    both = [redense.DSD(model, optimizer, SCHEDULE) for optimizer in optimizers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for optimizer in optimizers:
            step(model, optimizer, batches(1)[0])
    for dsd in both:
        dsd.close()


def test_an_optimizer_that_was_harmless_is_looked_at_again_when_it_grows():
    model, other = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    foreign = torch.optim.SGD(other.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    step(other, foreign, batches(1)[0])
    foreign.add_param_group({"params": list(model.parameters())})
    with pytest.raises(redense.RedenseError, match=r"redense was not given has trained '0\.weight'"):
        step(other, foreign, batches(1)[0])
    dsd.close()


@pytest.mark.parametrize("given", [(), (lambda: None,)])  # Lightning gives a closure, which may make no loss
def test_a_step_without_any_gradient_is_no_step(given: Any):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=2, sparsity=0.5))
    optimizer.step(*given)
    assert (dsd.step, dsd.masks) == (0, {})
    step(model, optimizer, batches(1)[0])
    optimizer.zero_grad()
    optimizer.step(*given)
    assert dsd.step == 1
    dsd.close()


def test_gradients_that_a_later_hook_writes_are_masked_too():
    def weights(*, noisy: bool) -> Tensor:
        model = net()
        optimizer = torch.optim.Adafactor(model.parameters(), lr=0.1)
        dsd = redense.DSD(model, optimizer, SCHEDULE)

        def noise(*_: Any) -> None:
            for name, mask in dsd.masks.items():
                gradient = model.get_parameter(name).grad
                assert gradient is not None
                gradient[~mask] = 1.0

        if noisy:
            optimizer.register_step_pre_hook(noise)
        for batch in batches(6):
            step(model, optimizer, batch)
        dsd.close()
        return model.get_parameter("0.weight").detach()

    assert torch.equal(weights(noisy=True), weights(noisy=False))


# --- what is said ---------------------------------------------------------------------------------------------------


class Mixer(nn.Module):
    """Most of its weights lie where no rule looks."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(4, 32, 32, dtype=dtype))
        self.out = nn.Linear(32, 8)


@pytest.mark.parametrize("sparsity", [0.5, {"*": 0.5}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_much_that_stays_dense_is_said_also_of_patterns_and_complex_weights(sparsity: Any, dtype: torch.dtype):
    model = Mixer(dtype)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.warns(LeftDenseWarning, match="4,096 of 4,360 weights"):
        redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=sparsity)).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = Schedule.dsd(dense=1, sparse=1, redense=1, sparsity={"out.weight": 0.5})
        redense.DSD(model, optimizer, named).close()


def test_what_newly_stays_dense_in_a_later_phase_is_said_when_it_begins_and_once():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    short = Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5).phases
    dsd = redense.DSD(model, optimizer, Schedule((*short, *short)))
    nn.utils.parametrizations.orthogonal(model[2])
    with pytest.warns(LeftDenseWarning, match=r"128 of 280 weights .* '2\.parametrizations\.weight\.original'") as told:
        step(model, optimizer, batches()[0])
    assert told[0].filename == __file__
    assert set(dsd.masks) == {"0.weight"}
    for batch in batches(5):
        step(model, optimizer, batch)
    assert dsd.phase is None


# --- what is frozen and named ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.5, {"0.weight": 0.5, "2.weight": 0.5}, {"0": 0.5, "2.*": 0.5}, {"*": 0.5}])
@pytest.mark.parametrize("when", ["before", "later"])
def test_what_is_frozen_stays_as_it_is_however_its_sparsity_is_given(sparsity: Any, when: str):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    frozen = model.get_parameter("2.weight").detach().clone()
    model.get_parameter("2.weight").requires_grad_(when != "before")
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=2, sparsity=sparsity))
    model.get_parameter("2.weight").requires_grad_(False)
    named = sparsity == {"0.weight": 0.5, "2.weight": 0.5}
    with pytest.warns(LeftDenseWarning, match="'2.weight' is frozen") if named else contextlib.nullcontext():
        step(model, optimizer, batches()[0])
    assert set(dsd.masks) == {"0.weight"}
    for batch in batches(4):
        step(model, optimizer, batch)
    assert torch.equal(model.get_parameter("2.weight"), frozen)


def test_what_is_frozen_stays_as_it_is_by_name_of_include():
    model = net()
    model.get_parameter("2.weight").requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert list(redense.prunable(model, include=["0.weight", "2.weight"])) == ["0.weight"]
    block = redense.sparse(model, optimizer, 0.5, include=["0.weight", "2.weight"])
    with pytest.warns(LeftDenseWarning, match="'2.weight' is frozen when phase 'sparse' begins"):
        block.__enter__()
    step(model, optimizer, batches()[0])
    assert set(block.masks) == {"0.weight"}
    block.__exit__(None, None, None)
