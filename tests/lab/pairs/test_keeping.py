"""The folder of a comparison counts the looks after which something was added, and no others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from redense.errors import DataError
from redense.lab.pairs.figures import read_figures
from redense.lab.pairs.keeping import Outcome, kept
from redense.lab.pairs.plan import PlannedArm, make_plan, scheduled_arm
from redense.lab.pairs.results import unfinished, write_results
from redense.schedule import Schedule


def test_a_look_costs_where_seeds_or_arms_are_added_and_not_where_a_time_limit_or_the_code_is_another(tmp_path: Path):
    arms = [PlannedArm("baseline", pieces={"train": "a"}), PlannedArm("restart", pieces={"train": "a"})]
    plan = make_plan(arms, form="command", name="t", seeds=3, baseline=None, controls=None, metric="error")
    edited = replace(plan, arms=tuple(replace(arm, pieces={"train": "b"}) for arm in plan.arms))
    found: list[int] = []
    for asked in (plan, replace(plan, how={"timeout": 9.0}), edited, replace(edited, seeds=(0, 1, 2, 3))):
        with kept(tmp_path / "out", asked, {}, changed_code=True) as held:
            outcomes = {pair: Outcome(read_figures(float(pair[1]), "error")) for pair in held.plan.pairs}
            found.append(write_results(held, outcomes)["family"]["looks"])
    assert found == [1, 1, 1, 2]


@pytest.mark.parametrize(("share", "steps"), [(False, 60), (True, 80)])
def test_steps_are_those_that_a_training_tells_unless_it_trained_a_part(tmp_path: Path, share: bool, steps: int):
    arms = [PlannedArm("baseline"), scheduled_arm("dsd", Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=0.3))]
    plan = make_plan(
        arms, form="function", name="t", seeds=2, baseline=None, controls=None, metric="error", share=share
    )
    with kept(tmp_path / "out", plan, {}) as held:
        outcomes = {pair: Outcome(read_figures({"error": 1.0, "steps": 60})) for pair in plan.pairs}
        assert write_results(held, outcomes)["rows"][1]["steps"] == steps


def test_seconds_are_those_of_runs_that_ended_and_of_a_queue_nobody_knows_them(tmp_path: Path):
    arms = [PlannedArm(name) for name in ("baseline", "restart")]
    plan = make_plan(arms, form="command", name="t", seeds=2, baseline=None, controls=None, metric="error")
    with kept(tmp_path / "out", plan, {}) as held:
        ended = {pair: Outcome(read_figures(1.0, "error")) for pair in plan.pairs}
        told = {("baseline", 0): replace(ended["baseline", 0], seconds=8.0), ("baseline", 1): Outcome(None, "no", 1.0)}
        write_results(held, {**ended, **told})
        assert json.loads((held.path / "costs.json").read_text()) == {"baseline": 8.0}


def test_a_pair_that_lacks_the_figure_that_others_have_has_failed_and_is_tried_again(tmp_path: Path):
    arms = [PlannedArm(name) for name in ("baseline", "restart")]
    plan = make_plan(arms, form="function", name="t", seeds=2, baseline=None, controls=None, metric="error")
    with kept(tmp_path / "out", plan, {}) as held:
        for pair in plan.pairs:
            held.keep(*pair, Outcome(read_figures({"loss": 3.0} if pair == ("restart", 1) else {"error": 1.0})))
        outcomes = unfinished(held, retry_failed=False)
        row = write_results(held, outcomes)["rows"][1]
        assert row["seeds"][1] == {"seed": 1, "failed": "there is no figure 'error'; there are 'loss'"}
        assert ("restart", 1) not in unfinished(held, retry_failed=True)
        for pair in plan.pairs:
            held.keep(*pair, Outcome(read_figures({"loss": 3.0})))
        with pytest.raises(DataError, match="there is no figure 'error'; there are 'loss'"):  # as of a slip in its name
            unfinished(held, retry_failed=False)


def test_what_was_kept_of_another_pair_is_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    arms = [PlannedArm(name) for name in ("baseline", "restart")]
    plan = make_plan(arms, form="function", name="t", seeds=2, baseline=None, controls=None)
    with kept(tmp_path / "out", plan, {}) as held:
        held.keep("restart", 0, Outcome(read_figures(1.0)))
        shutil.copytree(held.folder("restart", 0), held.folder("restart", 1))
        assert list(held.outcomes()) == [("restart", 0)]
    assert "it is of restart, seed 0" in caplog.text


def test_a_part_of_a_step_counts(tmp_path: Path):
    arms = [PlannedArm(name) for name in ("baseline", "restart")]
    plan = make_plan(arms, form="function", name="t", seeds=1, baseline=None, controls=None, metric="error")
    with kept(tmp_path / "out", plan, {}) as held:
        outcomes = {pair: Outcome(read_figures({"error": 1.0, "steps": 40.9})) for pair in plan.pairs}
        assert write_results(held, outcomes)["rows"][1]["steps"] == 40.9
