"""Jobs of a queue: what failed can be sent again, and what runs keeps what it has written."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from redense.errors import DataError, StateError
from redense.lab.pairs.keeping import SCRIPT, Kept, Outcome, kept
from redense.lab.pairs.plan import Plan, PlannedArm, make_plan
from redense.lab.programs.commands import job_of, prepare
from redense.lab.programs.submission import AGAIN, begun, collect, write_scripts


def plan(base: str = "train {seed}", restart: str = "train {seed}") -> Plan:
    arms = [PlannedArm(name, command=command) for name, command in (("base", base), ("restart", restart))]
    return make_plan(arms, form="command", name="t", seeds=1, baseline="base", controls=None)


def ends(held: Kept, codes: dict[str, int]) -> list[str]:
    """Write the jobs of what is not done, and let them end as a queue would; return whose they were."""
    written = write_scripts(held, collect(held), "queue {command}").read_text()
    lines = [line for line in written.splitlines() if SCRIPT in line]
    scripts = {name: Path(shlex.split(line)[-1]) for name in codes for line in lines if f"/{name}/0/" in line}
    for name, script in scripts.items():
        (script.parent / "stdout.txt").write_text('{"error": 1}')
        (script.parent / "exit-code").write_text(f"{codes[name]}\n")
    sent = list(scripts)
    assert len(sent) == len(lines)
    return sent


def test_what_failed_is_sent_again_and_collected_whatever_the_options_then(tmp_path: Path):
    with kept(tmp_path / "out", plan(), {}) as held:
        assert ends(held, {"base": 1, "restart": 0}) == ["base", "restart"]
        assert collect(held)["base", 0].failed == "exit code 1"
        assert ends(held, {"base": 0}) == []
        assert ("base", 0) not in collect(held, retry_failed=True)
        assert ends(held, {"base": 0}) == ["base"]
        assert [outcome.failed for outcome in collect(held, retry_failed=True).values()] == ["", ""]


def test_a_job_that_runs_keeps_its_figures_while_others_are_collected(tmp_path: Path):
    with kept(tmp_path / "out", plan(), {}) as held:
        write_scripts(held, {}, "queue {command}")
        written = held.folder("base", 0) / "out" / "metrics.json"
        written.write_text('{"error": 1}')
        write_scripts(held, collect(held), "queue {command}")
        assert written.is_file()
        script = (held.folder("base", 0) / SCRIPT).read_text()  # a job that begins has none of an attempt before it
        assert script.index(f"{written}\n") < script.index("train 0")


def sent(script: Path, **environment: str) -> tuple[int, str]:
    """Run a job; return its exit code and what it says."""
    done = subprocess.run(
        ["bash", script], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout + done.stderr


HALF_WAY = """echo '{"error": 9}' >{out}/metrics.json; echo '{"error": 8}'"""
TRAINED = f"{HALF_WAY}; [ -e {{out}}/saved ] || {{ touch {{out}}/saved; kill -9 $$; exit 1; }}; "


def test_of_two_jobs_of_a_pair_one_trains_and_one_that_was_killed_is_sent_again(tmp_path: Path):
    commands = plan(base=TRAINED + "echo '{\"error\": {seed}}' >{out}/metrics.json")
    with kept(tmp_path / "out it", commands, {}) as held:
        written = write_scripts(held, collect(held), "sh {command}")
        first = held.folder("base", 0) / SCRIPT
        assert sent(first) == (-9, "")
        left = {path: path.read_bytes() for path in first.parent.rglob("*") if path.is_file()}
        code, said = sent(first)
        assert (code, said.count("\n"), "base, seed 0: a job has begun it" in said) == (1, 1, True)
        assert {path: path.read_bytes() for path in first.parent.rglob("*") if path.is_file()} == left
        assert (collect(held), begun(held, {})) == ({}, [("base", 0)])
        write_scripts(held, {}, "sh {command}")
        assert "/base/" not in written.read_text()
        assert "/restart/" in written.read_text()
        assert sent(held.path / AGAIN) == (0, "")
        (first.parent / "exit-code").write_text("1\n")  # the first was slow to die
        outcomes = collect(held)
        assert {pair: outcome.figures and outcome.figures.test for pair, outcome in outcomes.items()} == {
            ("base", 0): {"error": 0.0}
        }
        write_scripts(held, outcomes, "sh {command}")
        assert not (held.path / AGAIN).exists()


def test_a_pair_that_waits_in_a_queue_and_is_trained_here_is_trained_once(tmp_path: Path):
    with kept(tmp_path / "out", plan(base="echo {out}"), {}) as held:
        write_scripts(held, {}, "queue {command}")
        job = job_of(held, "base", 0)
        prepare(job)
        assert sent(job.folder / SCRIPT)[0] == 1
        (job.folder / "out" / "saved").touch()
        again = job_of(held, "base", 0)
        prepare(again)
        assert again.line == f"echo {tmp_path}/out/pairs/base/0/attempt-2/out"
        assert (again.folder / "out" / "saved").is_file()
        with pytest.raises(StateError, match="a job of a queue has begun base, seed 0: start again"):
            prepare(job)


def test_slurm_may_begin_its_own_job_again_and_no_other(tmp_path: Path):
    with kept(tmp_path / "out", plan(base="kill -9 $$; exit 1"), {}) as held:
        write_scripts(held, {}, "sbatch {command}")
        script = held.folder("base", 0) / SCRIPT
        jobs = [{"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}]
        jobs += [{"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}] * 2
        assert [sent(script, **job)[0] for job in jobs] == [-9, 1, 1, -9, 1]


def test_jobs_that_an_older_redense_began_are_counted_and_not_sent(tmp_path: Path):
    with kept(tmp_path / "out", plan(), {}) as held:
        write_scripts(held, {}, "queue {command}")
        (held.folder("base", 0) / "stdout.txt").touch()  # of a training here, before
        assert begun(held, collect(held)) == []
        (held.folder("base", 0) / SCRIPT).write_text("#!/bin/sh\n")  # which leaves no other mark
        assert begun(held, collect(held)) == [("base", 0)]


def test_what_has_ended_and_left_no_figure_is_read_again_and_not_sent(tmp_path: Path):
    with kept(tmp_path / "out", plan(), {}) as held:
        ends(held, {"base": 0, "restart": 0})
        for name in ("base", "restart"):
            (held.folder(name, 0) / "stdout.txt").write_text("error: 1\n")
        held.keep("base", 0, Outcome(None, "it printed no figure"))  # as one was told of that ended first
        with pytest.raises(
            DataError, match="no figure of base, seed 0 and restart, seed 0, so the others are left: it"
        ):
            collect(held)
    with kept(tmp_path / "out", replace(plan(), settings={"metric_regex": r"error: (?P<error>\S+)"}), {}) as held:
        assert [outcome.failed for outcome in collect(held).values()] == ["", ""]
    with pytest.raises(StateError, match="what else decides its numbers of"), kept(tmp_path / "out", plan(), {}):
        pass


@pytest.mark.parametrize("template", ["sh {command}", "sh {command} & wait $!", "sh {command} # now"])
def test_a_job_that_fails_keeps_no_other_from_the_queue(tmp_path: Path, template: str):
    with kept(tmp_path / "out", plan(base="exit 3", restart="echo '{\"error\": 1}'"), {}) as held:
        script = ["bash", write_scripts(held, {}, template)]
        sent = subprocess.run(script, capture_output=True, text=True, check=False)
        assert (sent.returncode, sent.stderr) == (1, "1 of 2 jobs failed, or could not be sent\n")
        assert [outcome.failed for outcome in collect(held).values()] == ["exit code 3", ""]
        write_scripts(held, collect(held), template)
        subprocess.run(script, check=True)


def test_code_that_has_changed_since_jobs_have_ended_is_refused_though_nobody_has_collected_them(tmp_path: Path):
    def of(code: str) -> Plan:
        return replace(plan(), arms=tuple(replace(arm, pieces={"train.py": code}) for arm in plan().arms))

    with kept(tmp_path / "out", of("old"), {}) as held:
        ends(held, {"base": 1, "restart": 0})
    with (
        pytest.raises(
            StateError, match=r"arm 'restart' .* has changed \('train.py'\) since one of its pairs was trained"
        ),
        kept(tmp_path / "out", of("new"), {}),
    ):
        pass
    with kept(tmp_path / "out", of("new"), {}, changed_code=True) as held:
        assert collect(held)["restart", 0].failed == ""


def test_a_job_that_began_with_code_of_before_counts_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    old, new = (replace(plan(), arms=tuple(replace(a, pieces={"x.py": code}) for a in plan().arms)) for code in "on")
    with kept(tmp_path / "out", old, {}) as held:
        write_scripts(held, {}, "queue {command}")
        (held.folder("base", 0) / "begun").mkdir()
    with kept(tmp_path / "out", new, {}) as held:
        assert "a job of base, seed 0 began with the code of before" in caplog.text
        (held.folder("base", 0) / "exit-code").write_text("0\n")
        assert (collect(held), begun(held, {})) == ({}, [])
        assert "/base/0/attempt-2/" in write_scripts(held, {}, "queue {command}").read_text()
