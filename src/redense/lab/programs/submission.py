"""Commands for a cluster's queue: redense writes their scripts and collects what they have left; it sends none."""

from __future__ import annotations

import shlex
from pathlib import Path

from redense.errors import RecipeError
from redense.files.visible import visible_line
from redense.files.writing import write_text
from redense.lab.pairs.keeping import ENDED, Kept, Outcome, end_of
from redense.lab.pairs.printed import METRICS
from redense.lab.pairs.results import check_answers, check_figures, has_failed, unfinished

from .commands import CommandJob, ended, job_of, outcome_of

SCRIPT = "job.sh"
SUBMIT = "submit.sh"


def checked_template(template: str | None) -> str | None:
    """Return how a job is sent to a queue.

    Raises:
        RecipeError: it does not say where the command goes.
    """
    if template is not None and "{command}" not in template:
        raise RecipeError("--submit says where the command goes: --submit 'sbatch --time 60 {command}'")
    return template


def collect(held: Kept, *, retry_failed: bool = False) -> dict[tuple[str, int], Outcome]:
    """Keep what the jobs that have ended have left, and return what came of every pair that is done.

    Raises:
        DataError: the figures lack the one that decides, or do not say which way is better.
    """
    if retry_failed:  # those that are told as failed: what was sent again since is collected
        for pair, outcome in held.outcomes().items():
            if has_failed(held.plan, outcome):
                (held.folder(*pair) / ENDED).unlink(missing_ok=True)
                held.drop(*pair)
    for pair, outcome in held.outcomes().items():
        if outcome.figures is None and end_of(held, *pair) == "0":  # its output is here, and read as is now asked for
            held.drop(*pair)
    outcomes = unfinished(held, retry_failed=False)
    for pair in held.plan.pairs:
        job, code = job_of(held, *pair), end_of(held, *pair)
        if pair in outcomes or code is None:
            continue
        failed = ended(job, int(code)) if code.isdecimal() else f"its exit code is no number: {code[:40]}"
        outcomes[pair] = outcome_of(held, job, failed)
        held.keep(*pair, outcomes[pair])
        check_answers(held, outcomes)
        check_figures(held.plan, outcomes)
    return outcomes


def write_scripts(held: Kept, outcomes: dict[tuple[str, int], Outcome], template: str) -> Path:
    """Write a script for each pair that is not done, and one that sends them all; return that."""
    place = visible_line(str(held.path))
    lines = ["#!/bin/sh", f"# The jobs of {place} that are not done: look at it, then run it.", "failed=0"]
    for pair in held.plan.pairs:
        if pair in outcomes:
            continue
        job = job_of(held, *pair)
        (job.folder / "out").mkdir(parents=True, exist_ok=True)
        write_text(job.folder / SCRIPT, _script(job, str((held.plan.how or {}).get("cwd") or ".")))
        (job.folder / SCRIPT).chmod(0o755)
        sent = template.replace("{command}", shlex.quote(str(job.folder / SCRIPT)))
        lines += [sent, "[ $? -eq 0 ] || failed=$((failed + 1))"]  # the others are sent all the same
    jobs = len(held.plan.pairs) - len(outcomes)
    lines.append(f'[ $failed -eq 0 ] || {{ echo "$failed of {jobs} jobs failed, or could not be sent" >&2; exit 1; }}')
    path = held.path / SUBMIT
    write_text(path, "\n".join(lines) + "\n")
    return path


def _script(job: CommandJob, cwd: str) -> str:
    """A script whose last act says how the command ended, so that one that was killed is seen as not done."""
    folder = shlex.quote(str(job.folder))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    return "\n".join(
        [
            "#!/bin/sh",
            f"cd {shlex.quote(cwd)} || exit 1",
            *exports,
            f"rm -f {folder}/{ENDED} {folder}/out/{METRICS}",
            f"( {job.line}",
            f") >{folder}/stdout.txt 2>{folder}/stderr.txt </dev/null",
            "code=$?",
            f"echo $code >{folder}/.{ENDED} && mv {folder}/.{ENDED} {folder}/{ENDED}",
            "exit $code",
            "",
        ]
    )
