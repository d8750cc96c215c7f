"""A plan knows its baseline and its controls, however they are given."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from redense.lab.pairs.plan import PlannedArm, make_plan


@pytest.mark.parametrize("controls", [iter(["other"]), ["other"], ("other",), "other"])
def test_controls_are_those_that_were_named_whatever_holds_them(controls: Iterable[str]):
    arms = [PlannedArm("mine", None), PlannedArm("other", None)]
    plan = make_plan(arms, form="function", name="train", seeds=2, baseline=None, controls=controls)
    assert (plan.baseline, plan.controls) == ("", ("other",))


def test_a_baseline_and_a_control_in_capitals_are_what_they_are():
    arms = [PlannedArm(name, None) for name in ("Baseline", "LLR", "Restart rate=0.5", "mine")]
    plan = make_plan(arms, form="command", name="train", seeds=2, baseline=None, controls=None)
    assert (plan.baseline, plan.controls) == ("Baseline", ("LLR", "Restart rate=0.5"))
