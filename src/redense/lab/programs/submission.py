"""Commands for a cluster's queue: redense writes their scripts and collects what they have left; it sends none."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from redense.errors import RecipeError, command
from redense.files.visible import visible_line
from redense.files.writing import write_text
from redense.lab.pairs.keeping import BEGUN, ENDED, MARKING, SCRIPT, Kept, Outcome
from redense.lab.pairs.printed import METRICS
from redense.lab.pairs.results import check_answers, check_figures, has_failed, unfinished

from .commands import CommandJob, ended, job_of, outcome_of

SUBMIT = "submit.sh"
AGAIN = "submit-again.sh"
Pairs = Sequence[tuple[str, int]]


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
                if attempt := held.ended(*pair):
                    attempt.give_up()
                held.drop(*pair)
    for pair, outcome in held.outcomes().items():
        if outcome.figures is None and (attempt := held.ended(*pair)) and attempt.code == "0":
            held.drop(*pair)  # its output is here, and read as is now asked for
    outcomes = unfinished(held, retry_failed=False)
    for pair in held.plan.pairs:
        attempt = held.ended(*pair)
        if pair in outcomes or attempt is None or attempt.code is None:
            continue
        job, code = job_of(held, *pair, attempt.folder), attempt.code
        failed = ended(job, int(code)) if code.isdecimal() else f"its exit code is no number: {code[:40]}"
        outcomes[pair] = outcome_of(held, job, failed)
        held.keep(*pair, outcomes[pair])
        check_answers(held, outcomes)
        check_figures(held.plan, outcomes)
    return outcomes


def begun(held: Kept, outcomes: Mapping[tuple[str, int], Outcome]) -> Pairs:
    """Return the pairs whose job has begun and has not ended: it runs, or was killed."""
    return [pair for pair in held.plan.pairs if pair not in outcomes and held.running(*pair)]


def write_scripts(held: Kept, outcomes: Mapping[tuple[str, int], Outcome], template: str) -> Path:
    """Write a script for each pair that is not done, and one that sends those that have not begun; return that.

    Another one sends again those that have begun and not ended.
    """
    place, again = visible_line(str(held.path)), begun(held, outcomes)
    left = [pair for pair in held.plan.pairs if pair not in outcomes and pair not in again]
    path = held.path / SUBMIT
    said = f"# The jobs of {place} that are not done and have not begun: look at it, then run it."
    write_text(path, _sending(held, left, template, said))
    if again:
        said = f"# The jobs of {place} that have begun and not ended: for those that were killed."
        write_text(held.path / AGAIN, _sending(held, again, template, said))
    else:
        (held.path / AGAIN).unlink(missing_ok=True)
    return path


def _sending(held: Kept, pairs: Pairs, template: str, said: str) -> str:
    """Write the scripts of pairs, and return one that sends them."""
    lines = ["#!/bin/sh", said, "failed=0"]
    for pair in pairs:
        job = job_of(held, *pair)
        (job.folder if job.before else job.folder / "out").mkdir(parents=True, exist_ok=True)
        write_text(job.folder / SCRIPT, _script(held, job, str((held.plan.how or {}).get("cwd") or ".")))
        (job.folder / SCRIPT).chmod(0o755)
        sent = template.replace("{command}", shlex.quote(str(job.folder / SCRIPT)))
        lines += [sent, "[ $? -eq 0 ] || failed=$((failed + 1))"]  # the others are sent all the same
    failed = f'echo "$failed of {len(pairs)} jobs failed, or could not be sent" >&2'
    lines.append(f"[ $failed -eq 0 ] || {{ {failed}; exit 1; }}")
    return "\n".join(lines) + "\n"


def _script(held: Kept, job: CommandJob, cwd: str) -> str:
    """A script that one job can begin, and whose last act says how the command ended.

    The job that makes the folder `BEGUN` has begun the pair, on network disks too, and another one ends at once. A job
    that was killed leaves that folder and no exit code: to send it again is a new attempt, in a folder of its own.
    Slurm may begin its own job again, having ended it.
    """
    folder, slurm = shlex.quote(str(job.folder)), "${SLURM_JOB_ID-}"
    mark = f"{folder}/{BEGUN}"
    exports = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    resumed = command("redense", "compare", "--resume", held.path.absolute())
    refused = f"{job.arm}, seed {job.seed}: a job has begun it, and runs, has ended or was killed; look with: {resumed}"
    copied = [f"mkdir -p {folder}/out || exit 1"]
    if job.before:
        before, part = shlex.quote(str(job.before)), f"{folder}/.out"
        whole = f"rm -rf {part} && cp -RPp {before} {part} && mv {part} {folder}/out || exit 1"
        copied = [f"if [ -d {before} ] && [ ! -d {folder}/out ]; then {whole}; fi", *copied]
    return "\n".join(
        [
            "#!/bin/sh",
            f"cd {shlex.quote(cwd)} || exit 1",
            *exports,
            f'{MARKING}"{slurm}/${{SLURM_RESTART_COUNT-}}"',
            f"if ! mkdir {mark} 2>/dev/null; then",
            f"  [ -d {mark} ] || {{ mkdir {mark}; exit 1; }}",  # which says why
            f"  redense_then=$(cat {mark}/by 2>/dev/null)",
            f'  if [ -f {folder}/{ENDED} ] || [ -z "{slurm}" ] || [ "$redense_then" = "$redense_job" ] ||',
            f'    [ "${{redense_then%%/*}}" != "{slurm}" ]; then',
            f"    printf '%s\\n' {shlex.quote(refused)} >&2",
            "    exit 1",
            "  fi",
            "fi",
            f'echo "$redense_job" >{mark}/by',
            f"rm -f {folder}/stdout.txt {folder}/stderr.txt",
            "(",
            *copied,
            f"rm -f {folder}/out/{METRICS}",
            job.line,
            f") >{folder}/stdout.txt 2>{folder}/stderr.txt </dev/null",
            "code=$?",
            f"echo $code >{folder}/.{ENDED} && mv {folder}/.{ENDED} {folder}/{ENDED}",
            "exit $code",
            "",
        ]
    )
