"""Schedules: steps and phases, learning rates, the arms, plain data there and back."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redense import Decay, Phase, Schedule, Surgery
from redense.errors import RedenseError, ScheduleError, ScoreError, SparsityError

BUDGET: dict[str, Any] = {"dense": 12, "sparse": 7, "redense": 5, "sparsity": 0.3}
ITERATED: dict[str, Any] = {"dense": 12, "sparse": [4, 3], "redense": [2, 3], "sparsity": [0.5, 0.25]}
ARMS = ["dsd", "restart", "llr", "random", "early", "scratch", "prune", "surgery", "acdc"]

PHASES = st.builds(
    lambda steps, sparsity, lr, kind: Phase(steps, sparsity, lr, Decay(kind)),
    st.integers(1, 6),
    st.none() | st.floats(0, 0.99),
    st.floats(0, 3),
    st.sampled_from(["constant", "cosine", "linear", "step", "polynomial"]),
)
SCHEDULES = st.lists(PHASES, min_size=1, max_size=5).map(lambda phases: Schedule(tuple(phases)))


def kinds(schedule: Schedule) -> str:
    return "".join(phase.kind[0] for phase in schedule.phases)


@given(SCHEDULES)
def test_phases_follow_each_other_without_a_gap(schedule: Schedule):
    expected = [index for index, phase in enumerate(schedule.phases) for _ in range(phase.steps)]
    assert schedule.total_steps == len(expected)
    assert [schedule.index_at(step) for step in range(len(expected))] == expected
    assert [schedule.phase_at(step) for step in range(len(expected))] == [schedule.phases[i] for i in expected]
    assert schedule.ends[-1] == len(expected)
    for step in (len(expected), len(expected) + 99):
        assert schedule.index_at(step) == len(schedule.phases)
        assert schedule.phase_at(step) is None


@given(SCHEDULES)
def test_the_learning_rate_restarts_in_each_phase_and_stays_after_the_last_step(schedule: Schedule):
    start = 0
    for phase in schedule.phases:
        factors = [schedule.lr_factor(start + i) for i in range(phase.steps)]
        assert factors == [phase.lr * phase.decay.at(i / phase.steps) for i in range(phase.steps)]
        assert factors[0] == pytest.approx(phase.lr)
        start += phase.steps
    assert schedule.lr_factor(start) == schedule.lr_factor(start + 1000) == schedule.lr_factor(start - 1)


@given(SCHEDULES)
def test_a_schedule_comes_back_from_json_as_it_was(schedule: Schedule):
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_a_schedule_cannot_be_changed_and_is_told_by_its_phases():
    schedule = Schedule.dsd(**BUDGET)
    assert schedule == Schedule.dsd(**BUDGET) != Schedule.dsd(**ITERATED)
    assert hash(schedule) == hash(Schedule.dsd(**BUDGET))
    with pytest.raises(FrozenInstanceError):
        schedule.phases = ()  # pyright: ignore[reportAttributeAccessIssue]


def test_the_order_of_patterns_tells_schedules_apart_where_it_decides():
    def dsd(shares: dict[str, float]) -> Schedule:
        return Schedule.dsd(dense=3, sparse=2, redense=2, sparsity=shares)

    shares = {"2*": 0.5, "*weight": 0.3}
    assert dsd(shares) != dsd(dict(reversed(shares.items())))
    assert Schedule.from_dict(json.loads(json.dumps(dsd(shares).to_dict()))) == dsd(shares)
    exact = {"2.weight": 0.5, "0.weight": 0.3}
    other = dict(reversed(exact.items()))
    assert dsd(exact) == dsd(other)
    assert hash(dsd(exact)) == hash(dsd(other))


@pytest.mark.parametrize("step", [-1, "3", True, math.nan])
def test_a_step_that_is_negative_or_no_number_is_refused(step: Any):
    schedule = Schedule.dsd(**BUDGET)
    for ask in (schedule.index_at, schedule.phase_at, schedule.lr_factor):
        with pytest.raises(ScheduleError, match=f"step must be a number of at least 0, got {step!r}"):
            ask(step)


def test_a_step_of_torch_is_a_number():
    schedule = Schedule.dsd(**BUDGET, decay="cosine")
    assert (schedule.lr_factor(torch.tensor(3)), schedule.index_at(torch.tensor(3))) == (  # pyright: ignore[reportArgumentType]
        schedule.lr_factor(3),
        schedule.index_at(3),
    )
    assert type(schedule.lr_factor(torch.tensor(3))) is float  # pyright: ignore[reportArgumentType]


def test_lambda_lr_follows_the_schedule():
    schedule = Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=0.5, sparse_lr=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    rates: list[float] = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([2, 2, 1, 1, 0.2, 0.2, 0.2])


# --- the arms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("budget", [BUDGET, ITERATED], ids=["one cycle", "two cycles"])
def test_every_arm_has_the_same_number_of_steps_and_comes_back_from_json(arm: str, budget: dict[str, Any]):
    own = {"acdc": {"cycles": 2}}.get(arm, {})
    given = {**budget, **own}
    schedule = getattr(Schedule, arm)(**given, decay=Decay("cosine"))
    assert schedule.total_steps == 24
    assert len({phase.name for phase in schedule.phases}) == len(schedule.phases)
    cut = Decay("cosine", until=0.5)  # what is cut short is not annealed first
    assert [p.decay for p in schedule.phases if p.decay != Decay("cosine")] == ([cut] if arm == "early" else [])
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    # arms only fork from one dense checkpoint if they start alike
    if arm not in ("early", "scratch"):
        assert schedule.phases[0] == Schedule.dsd(**budget, decay=Decay("cosine")).phases[0]


@pytest.mark.parametrize("arm", ["dsd", "restart", "llr", "random", "early", "scratch", "prune", "surgery", "acdc"])
def test_every_arm_refuses_what_dsd_refuses(arm: str):
    make = getattr(Schedule, arm)
    with pytest.raises(SparsityError, match=r"sparsity of phase 'sparse' must be in \[0, 1\), got 1\.3"):
        make(**{**BUDGET, "sparsity": 1.3})
    with pytest.raises(ScheduleError, match="steps of phase 'sparse' must be a whole number"):
        make(**{**BUDGET, "sparse": 0})
    with pytest.raises(TypeError, match="sparsty"):
        make(**BUDGET, sparsty=0.5)


def test_dsd_is_dense_sparse_dense_at_a_tenth():
    assert Schedule.dsd(**BUDGET).phases == (
        Phase.dense(12),
        Phase.sparse(7, 0.3),
        Phase.dense(5, lr=0.1, name="redense"),
    )
    other = Schedule.dsd(**BUDGET, sparse_lr=0.5, redense_lr=0.2, criterion="saliency", scope="global").phases
    assert other[1] == Phase.sparse(7, 0.3, lr=0.5, criterion="saliency", scope="global")
    assert other[2].lr == 0.2


def test_iterated_dsd_has_a_cycle_for_each_sparsity_and_falling_rates():
    phases = Schedule.dsd(**ITERATED).phases
    assert [(p.name, p.steps, p.sparsity) for p in phases] == [
        ("dense", 12, None),
        ("sparse-1", 4, 0.5),
        ("redense-1", 2, None),
        ("sparse-2", 3, 0.25),
        ("redense-2", 3, None),
    ]
    assert [p.lr for p in phases] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    given = Schedule.dsd(
        dense=1, sparse=1, redense=1, sparsity=[{"fc": 0.5}, 0.2], sparse_lr=[0.7, 0.6], redense_lr=0.3
    )
    assert [p.lr for p in given.phases] == pytest.approx([1, 0.7, 0.3, 0.6, 0.03])
    assert given.phases[1].sparsity == {"fc": 0.5}


@pytest.mark.parametrize("name", ["sparse", "redense", "sparse_lr", "redense_lr"])
def test_each_setting_of_a_cycle_is_named_when_there_are_too_many(name: str):
    with pytest.raises(ScheduleError, match=f"^{name} has 3 values for 2 sparsities: give one each, or one for all"):
        Schedule.dsd(**{**ITERATED, name: [1, 1, 1]})


def test_arms_without_a_mask_need_no_sparsity():
    steps = {"dense": 12, "sparse": 7, "redense": 5}
    for arm in (Schedule.llr, Schedule.restart):
        assert arm(**steps) == arm(**steps, sparsity=0.3)


def test_arms_have_the_settings_that_their_signatures_show():
    assert Schedule.llr(**BUDGET) == Schedule.llr(**BUDGET, lr=0.1)
    assert Schedule.early(**BUDGET) == Schedule.early(**BUDGET, cut=0.5)
    assert Schedule.prune(**BUDGET) == Schedule.prune(**BUDGET, rounds=3)
    assert Schedule.acdc(**BUDGET) == Schedule.acdc(**BUDGET, cycles=4)
    assert Schedule.dsd(**BUDGET) == Schedule.dsd(
        **BUDGET, sparse_lr=1.0, redense_lr=0.1, criterion="magnitude", scope="layer"
    )


def test_cycles_of_different_lengths_are_refused_by_name():
    with pytest.raises(ScheduleError, match="redense has 3 values for 2 sparsities: give one each, or one for all"):
        Schedule.dsd(dense=1, sparse=1, redense=[1, 2, 3], sparsity=[0.5, 0.3])
    with pytest.raises(ScheduleError, match="sparsity is an empty sequence"):
        Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=[])


def test_a_set_has_no_order_of_cycles():
    for name in ("sparsity", "sparse", "redense_lr"):
        budget: dict[str, Any] = {"dense": 1, "sparse": 1, "redense": 1, "sparsity": [0.5, 0.3], name: {0.5, 0.3}}
        with pytest.raises(ScheduleError, match=f"{name} must have an order, one for each cycle: give a list"):
            Schedule.dsd(**budget)


@pytest.mark.parametrize("budget", [BUDGET, ITERATED])
def test_restart_is_dsd_without_a_mask(budget: dict[str, Any]):
    dsd, restart = (
        arm(**budget, sparse_lr=0.5, criterion="random", decay=Decay("step")).phases
        for arm in (Schedule.dsd, Schedule.restart)
    )
    assert [(p.steps, p.lr, p.decay) for p in restart] == [(p.steps, p.lr, p.decay) for p in dsd]
    assert not any(p.is_sparse for p in restart)
    assert Schedule.restart(dense=1, sparse=2, redense=3).total_steps == 6


def test_llr_is_one_phase_at_the_lower_rate():
    assert Schedule.llr(**ITERATED, lr=0.2).phases == (Phase.dense(12), Phase.dense(12, lr=0.2, name="lower-lr"))
    assert Schedule.llr(**BUDGET).phases[1].lr == 0.1


def test_random_is_dsd_with_another_criterion():
    schedule = Schedule.random(**BUDGET)
    assert schedule.phases[1] == Phase.sparse(7, 0.3, criterion="random")
    assert schedule.phases[::2] == Schedule.dsd(**BUDGET).phases[::2]


def test_early_gives_the_steps_it_cuts_off_to_the_sparse_phase():
    assert [p.steps for p in Schedule.early(**BUDGET).phases] == [6, 13, 5]
    assert [p.steps for p in Schedule.early(**BUDGET, cut=0.01).phases] == [1, 18, 5]
    assert kinds(Schedule.early(**ITERATED)) == "dsdsd"


def test_scratch_keeps_one_mask_from_the_first_step_to_the_last():
    for budget in (BUDGET, ITERATED):
        schedule = Schedule.scratch(**budget, criterion="random", scope="global")
        assert len({(p.sparsity, p.criterion, p.scope) for p in schedule.phases}) == 1
        assert [p.lr for p in schedule.phases] == [p.lr for p in Schedule.dsd(**budget).phases]
        assert all(p.is_sparse for p in schedule.phases)


def test_prune_raises_the_sparsity_in_rounds_and_is_never_dense_again():
    phases = Schedule.prune(**{**BUDGET, "sparsity": 0.9}, rounds=3).phases
    assert [(p.steps, p.sparsity) for p in phases] == [(12, None), (2, 0.3), (2, 0.6), (3, 0.9), (5, 0.9)]
    assert phases[-1].lr == 0.1
    assert kinds(Schedule.prune(**BUDGET, rounds=1)) == "dss"


def test_surgery_is_one_long_sparse_phase_with_a_changing_mask():
    chosen = Surgery(band=0.2)
    assert Schedule.surgery(**BUDGET, surgery=chosen).phases == (
        Phase.dense(12),
        Phase.sparse(12, 0.3, surgery=chosen, name="surgery"),
    )
    assert Schedule.surgery(**BUDGET).phases[1].surgery == Surgery()


def test_acdc_alternates_under_a_global_mask_and_ends_dense():
    schedule = Schedule.acdc(**BUDGET, cycles=3)
    assert kinds(schedule) == "dsdsdsd"
    assert [p.steps for p in schedule.phases] == [12, 1, 1, 2, 1, 2, 5]
    assert {p.scope for p in schedule.phases if p.is_sparse} == {"global"}
    assert schedule.phases[-1] == Schedule.dsd(**BUDGET).phases[-1]


@pytest.mark.parametrize(
    ("arm", "arguments", "says"),
    [
        ("early", {"cut": 0}, r"cut must be in \(0, 1\).* got 0"),
        ("early", {"cut": 1.0}, r"cut must be in \(0, 1\).* got 1\.0"),
        ("early", {"cut": 0.99}, "a dense phase of 12 steps is too short to be cut at 0.99"),
        ("prune", {"rounds": 0}, r"rounds must be a whole number in \[1, 7\].* got 0"),
        ("prune", {"rounds": 8}, r"rounds must be a whole number in \[1, 7\].* got 8"),
        ("prune", {"rounds": 2.5}, "rounds must be a whole number .* got 2.5"),
        ("prune", {"rounds": True}, "rounds must be a whole number .* got True"),
        ("acdc", {"cycles": 0}, r"cycles must be a whole number in \[1, 4\].* got 0"),
        ("acdc", {"cycles": 5}, r"cycles must be a whole number in \[1, 4\].* got 5"),
        ("acdc", {"cycles": 1.5}, "cycles must be a whole number .* got 1.5"),
        ("acdc", {"sparsity": {"fc": 0.5}}, "phase 'compressed-1' has the scope 'global', which needs one"),
    ],
)
def test_an_impossible_arm_is_refused_by_name(arm: str, arguments: dict[str, Any], says: str):
    with pytest.raises(RedenseError, match=says):
        getattr(Schedule, arm)(**{**BUDGET, **arguments})


# --- plain data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, r"a schedule is \{'phases': \[\.\.\.\]\}, got \{\}"),
        ([], r"a schedule is \{'phases': \[\.\.\.\]\}, got \[\]"),
        ({"phases": 3}, "a schedule is"),
        ({"phases": []}, "a schedule needs at least one phase"),
        ({"phases": [{"steps": 1}], "phase": []}, "unknown key 'phase' in a schedule; did you mean 'phases'"),
        (
            {"phases": [{"steps": 1}, {"step": 1}]},
            "phase 1 of the schedule: unknown key 'step' in a phase; did you mean",
        ),
        ({"phases": [{"steps": 1, "sparsity": 2}]}, "phase 0 of the schedule: sparsity of a sparse phase must be in"),
        ({"phases": [{"steps": 1, "criterion": "x"}]}, "phase 0 of the schedule: unknown criterion 'x'"),
        ({"phases": ["dense"]}, "phase 0 of the schedule: a phase is a mapping .* got 'dense'"),
        ({"phases": "dense"}, "phase 0 of the schedule: a phase is a mapping .* got 'd'"),
        ({"phases": [{"steps": 1, "decay": {"kind": None}}]}, "phase 0 of the schedule"),
    ],
)
def test_plain_data_that_is_no_schedule_is_refused_with_its_phase(data: Any, says: str):
    with pytest.raises(ScheduleError, match=says):
        Schedule.from_dict(data)


def test_a_schedule_is_made_of_phases():
    with pytest.raises(ScheduleError, match="a schedule is made of Phase objects, got 'dense'"):
        Schedule(("dense",))  # pyright: ignore[reportArgumentType]
    assert Schedule([Phase(1)]) == Schedule((Phase(1),))  # pyright: ignore[reportArgumentType]


def test_a_schedule_is_frozen():
    with pytest.raises(AttributeError):
        Schedule.dsd(**BUDGET).phases = ()  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unknown_criterion_is_an_error_when_the_schedule_is_made():
    with pytest.raises(ScoreError, match="unknown criterion 'magnitudes'; did you mean 'magnitude'"):
        Schedule.dsd(**BUDGET, criterion="magnitudes")


def test_phases_may_be_given_in_epochs_which_are_rounded_to_whole_steps():
    schedule = Schedule.dsd(dense=90, sparse=[1.5, 0.001], redense=2, sparsity=[0.5, 0.3], steps_per_epoch=195)
    assert [phase.steps for phase in schedule.phases] == [17550, 292, 390, 1, 390]
    assert Schedule.restart(dense=2, sparse=1, redense=1, steps_per_epoch=10).total_steps == 40
    assert Schedule.dsd(dense=2, sparse=1, redense=1, sparsity=0.3, steps_per_epoch=10) == Schedule.dsd(
        dense=20, sparse=10, redense=10, sparsity=0.3
    )


@pytest.mark.parametrize(
    ("arm", "phases"),
    [
        ("dsd", [("sparse", 6, 0.4), ("redense", 4, None)]),
        ("restart", [("restart", 6, None), ("redense", 4, None)]),
        ("random", [("sparse", 6, 0.4), ("redense", 4, None)]),
        ("llr", [("lower-lr", 10, None)]),
        ("scratch", [("sparse", 6, 0.4), ("sparse-end", 4, 0.4)]),
        ("surgery", [("surgery", 10, 0.4)]),
    ],
)
def test_a_trained_network_begins_with_the_sparse_phase(arm: str, phases: list[tuple[str, int, float | None]]):
    schedule = getattr(Schedule, arm)(dense=0, sparse=6, redense=4, sparsity=0.4)
    assert [(phase.name, phase.steps, phase.sparsity) for phase in schedule.phases] == phases
    assert Schedule.from_dict(schedule.to_dict()) == schedule


def test_prune_and_acdc_of_a_trained_network_keep_their_steps_and_early_has_nothing_to_cut():
    budget: dict[str, Any] = {"dense": 0, "sparse": 7, "redense": 4, "sparsity": 0.4}
    for arm in (Schedule.prune, Schedule.acdc):
        schedule = arm(**budget)
        assert schedule.total_steps == 11
        assert schedule.phases[0].is_sparse
    with pytest.raises(ScheduleError, match="cannot be cut short: this schedule begins with a sparse one"):
        Schedule.early(**budget)
