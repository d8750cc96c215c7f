"""A plan knows its baseline and its controls, however they are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from redense.errors import RecipeError, StateError
from redense.lab.pairs.plan import PlannedArm, continued, make_plan, scheduled_arm
from redense.phase import Phase
from redense.schedule import Schedule

DSD = Schedule.dsd(dense=4, sparse=2, redense=2, sparsity=0.3)


@pytest.mark.parametrize("controls", [iter(["other"]), ["other"], ("other",), "other"])
def test_controls_are_those_that_were_named_whatever_holds_them(controls: Iterable[str]):
    arms = [PlannedArm("mine", None), PlannedArm("other", None)]
    plan = make_plan(arms, form="function", name="train", seeds=2, baseline=None, controls=controls)
    assert (plan.baseline, plan.controls) == ("", ("other",))


def test_a_baseline_and_a_control_in_capitals_are_what_they_are():
    arms = [PlannedArm(name, None) for name in ("Baseline", "LLR", "Restart rate=0.5", "mine")]
    plan = make_plan(arms, form="command", name="train", seeds=2, baseline=None, controls=None)
    assert (plan.baseline, plan.controls) == ("Baseline", ("LLR", "Restart rate=0.5"))


@pytest.mark.parametrize("sparsity", [0.3, 0.0])
def test_an_arm_with_a_mask_is_no_control_and_one_that_prunes_nothing_is(sparsity: float):
    dsd = scheduled_arm("dsd", Schedule.dsd(dense=4, sparse=2, redense=2, sparsity=sparsity))
    arms, given = [PlannedArm("baseline"), dsd], {"form": "function", "name": "train", "seeds": 2, "baseline": None}
    assert make_plan(arms, **given, controls=None).controls == (() if sparsity else ("dsd",))
    if sparsity:
        with pytest.raises(RecipeError, match="the schedule of 'dsd' has a mask, and a control is an arm without one"):
            make_plan(arms, **given, controls=["dsd"])


def test_an_arm_that_is_called_like_a_control_and_has_a_mask_is_none():
    arms = [PlannedArm("baseline"), PlannedArm("llr"), scheduled_arm("restart-mine", DSD), scheduled_arm("longer", DSD)]
    plan = make_plan(arms, form="function", name="train", seeds=2, baseline=None, controls=None)
    assert plan.controls == ("llr",)


def test_every_schedule_without_a_mask_is_a_control_wherever_it_stands():
    schedules = {"baseline": 4, "dsd": 0, "restart": 8, "flat": 9, "flatter": 10}
    made = {name: Schedule((Phase.dense(steps),)) if steps else DSD for name, steps in schedules.items()}
    arms = [scheduled_arm(name, schedule) for name, schedule in made.items()]
    for named in (None, ["flat"]):  # `restart` would be a gain over `flat`
        plan = make_plan(arms, form="function", name="train", seeds=2, baseline=None, controls=named)
        assert plan.controls == ("restart", "flat", "flatter")


def test_a_folder_whose_plan_has_a_mapping_goes_on_with_the_same_order_of_patterns_and_no_other():
    shares = {"b.*": 0.5, "*.weight": 0.3}
    made = [Schedule((Phase.sparse(4, each),)) for each in (shares, dict(reversed(shares.items())))]
    plans = [
        make_plan(
            [PlannedArm("baseline"), scheduled_arm("mine", schedule)],
            form="function",
            name="train",
            seeds=2,
            baseline=None,
            controls=None,
        )
        for schedule in made
    ]
    old = {"phases": [{"steps": 4, "sparsity": shares, "name": "sparse"}]}  # as it was written before
    before = replace(plans[0], arms=(plans[0].arms[0], replace(plans[0].arms[1], schedule=old)))
    assert continued(before, plans[0], "there", judged=False, done={}).seeds == (0, 1)
    with pytest.raises(StateError, match="the schedule of arm 'mine' is another than that of there"):
        continued(before, plans[1], "there", judged=False, done={})
