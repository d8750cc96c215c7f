"""Jobs of a queue: what failed can be sent again, and what runs keeps what it has written."""

from __future__ import annotations

from pathlib import Path

from redense.lab.pairs.keeping import Kept, kept
from redense.lab.pairs.plan import Plan, PlannedArm, make_plan
from redense.lab.programs.submission import SCRIPT, collect, write_scripts


def plan() -> Plan:
    arms = [PlannedArm(name, command="train {seed}") for name in ("base", "restart")]
    return make_plan(arms, form="command", name="t", seeds=1, baseline="base", controls=None)


def ends(held: Kept, codes: dict[str, int]) -> list[str]:
    """Write the jobs of what is not done, and let them end as a queue would; return whose they were."""
    lines = write_scripts(held, collect(held), "queue {command}").read_text().splitlines()[3:]
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
