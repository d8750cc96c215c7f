"""Jobs of a queue: what failed can be sent again, and what runs keeps what it has written."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from redense.errors import DataError, StateError
from redense.lab.pairs.keeping import Kept, Outcome, kept
from redense.lab.pairs.plan import Plan, PlannedArm, make_plan
from redense.lab.programs.submission import SCRIPT, collect, write_scripts


def plan(base: str = "train {seed}", restart: str = "train {seed}") -> Plan:
    arms = [PlannedArm(name, command=command) for name, command in (("base", base), ("restart", restart))]
    return make_plan(arms, form="command", name="t", seeds=1, baseline="base", controls=None)


def ends(held: Kept, codes: dict[str, int]) -> list[str]:
    """Write the jobs of what is not done, and let them end as a queue would; return whose they were."""
    written = write_scripts(held, collect(held), "queue {command}").read_text()
    lines = [line for line in written.splitlines() if SCRIPT in line]
    sent = [name for name in codes if any(f"/{name}/0/{SCRIPT}" in line for line in lines)]
    for name in sent:
        (held.folder(name, 0) / "stdout.txt").write_text('{"error": 1}')
        (held.folder(name, 0) / "exit-code").write_text(f"{codes[name]}\n")
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
        (held.folder("base", 0) / "exit-code").unlink()
        write_scripts(held, {("base", 0): Outcome(None)}, template)
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
