"""Comparing what commands train: any program in any language, one process group a pair of arm and seed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redense.errors import DataError, RecipeError, StateError
from redense.files.json_text import parse_json
from redense.files.visible import visible_line
from redense.files.writing import write_text
from redense.lab.events import StoppedError
from redense.lab.judging.figures import quoted
from redense.lab.pairs.by_name import named_arm, schedule_of
from redense.lab.pairs.carrying import Carrier
from redense.lab.pairs.figures import AnswerError
from redense.lab.pairs.jobs import why
from redense.lab.pairs.keeping import BEGUN, SCRIPT, Kept, Outcome
from redense.lab.pairs.named import BASELINE, NAMED, TWIN
from redense.lab.pairs.plan import PlannedArm, scheduled_arm
from redense.lab.pairs.printed import METRICS, figures_of, tail
from redense.lab.pairs.progress import ProgressLine
from redense.lab.pairs.results import check_answers, check_figures, unfinished
from redense.schedule import Schedule

from . import supervision

_PLACE = re.compile(r"\{(seed|out|arm|schedule)\}")
_GRACE = 10.0  # seconds in which a command that is asked to stop may save
_TWICE = re.compile(r"\s*[0-9.+-][A-Za-z0-9._+-]*\s*=")  # no shell assigns to that: it is the rest of a name
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._+,-]*)=(.+)", re.DOTALL)


def arms_of_commands(given: Sequence[str], schedule: Schedule | None) -> list[PlannedArm]:
    """Return the arms of ``NAME='command'`` as typed; several names with commas share a command.

    ``{schedule}`` is made of DSD's schedule for each arm by its name.

    Raises:
        RecipeError: one has no name or no command, or asks for a schedule that there is not.
    """
    arms: list[PlannedArm] = []
    for text in given:
        match, (name, _, rest) = _NAMED.fullmatch(text), text.partition("=")
        if match is None and name.strip() and rest.strip():
            raise RecipeError(
                f"a name of --command begins with a letter or digit, and has those (A-Z, a-z, 0-9), spaces and "
                f". _ + -; got {quoted(name)}"
            )
        if match is None or not match[2].strip():
            raise RecipeError(f"--command is NAME='a command with {{seed}}', got '{visible_line(text)[:80]}'")
        if _TWICE.match(match[2]):
            raise RecipeError(
                f"a name of --command has no '=': '{visible_line(match[1])}' would run "
                f"'{visible_line(match[2].strip())[:60]}'. Write - in place of the = in the name"
            )
        for name in (name.strip() for name in match[1].split(",") if name.strip()):
            arms.append(_arm(name, match[2].strip(), schedule))
    return arms


def _arm(name: str, command: str, schedule: Schedule | None) -> PlannedArm:
    if "{seed}" not in command:
        raise RecipeError(f"the command of arm '{name}' has no {{seed}}: every seed would train the same")
    asks = "{schedule}" in command
    if asks and schedule is None:
        raise RecipeError(f"the command of arm '{name}' asks for {{schedule}}: give --schedule FILE, DSD's as JSON")
    known = name == BASELINE or name.removeprefix(TWIN) in NAMED
    if schedule is None or not (asks or known):
        return PlannedArm(name, command=command, about=command)
    about = "the dense phase alone" if name == BASELINE else named_arm(name).about
    return replace(scheduled_arm(name, schedule_of(name, schedule), about), command=command)


def filled(command: str, values: Mapping[str, str]) -> str:
    """Return a command with ``{seed}``, ``{out}``, ``{arm}`` and ``{schedule}`` filled in, quoted for the shell.

    Any other braces stay as they are.

    >>> filled("awk '{print $1}' x --seed {seed} --out {out}", {"seed": "3", "out": "runs/a b"})
    "awk '{print $1}' x --seed 3 --out 'runs/a b'"
    """
    return _PLACE.sub(lambda match: shlex.quote(values[match[1]]) if match[1] in values else match[0], command)


@dataclass(frozen=True)
class CommandJob:
    """The command of a pair: the line for the shell, the place of its files, and the ``out`` that it begins with."""

    arm: str
    seed: int
    line: str
    folder: Path
    environment: Mapping[str, str]
    before: Path | None = None


class Commanding:
    """The pairs of a comparison that its folder has not got yet, each a command."""

    def __init__(self, held: Kept, carrier: Carrier, progress: ProgressLine) -> None:
        self._held, self._carrier, self._progress = held, carrier, progress
        self._how: Mapping[str, Any] = held.plan.how or {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask all commands that run to stop: SIGTERM to their groups, and SIGKILL ten seconds later."""
        self._stopping.set()

    def run(self, *, retry_failed: bool = False) -> dict[tuple[str, int], Outcome]:
        """Run what is missing, keep each pair as it comes, and return all of them.

        Raises:
            StoppedError: `stop` was called; pairs that were not finished are run again.
            DataError: the figures lack the one that decides, or do not say which way is better.
        """
        outcomes = unfinished(self._held, retry_failed=retry_failed)
        left = [pair for pair in self._held.plan.pairs if pair not in outcomes]
        self._progress.begin(len(outcomes), float(len(left)))
        jobs = [job_of(self._held, *pair) for pair in left]
        try:
            for pair, outcome in self._carrier.carry(self._do, jobs, again="--resume"):
                if outcome is None:
                    continue
                outcomes[pair] = outcome
                self._held.keep(*pair, outcome)
                self._progress.tick(f"{pair[0]}, seed {pair[1]}", 1.0, failed=bool(outcome.failed))
                check_answers(self._held, outcomes)
                check_figures(self._held.plan, outcomes)
        finally:
            self._stopping.set()  # of whatever runs beside one that was a mistake
        if len(outcomes) < len(self._held.plan.pairs):
            raise StoppedError("stopped; what was finished is kept")
        return outcomes

    def _do(self, job: CommandJob) -> tuple[tuple[str, int], Outcome | None]:
        """Run one; no outcome where it was asked to stop."""
        pair = job.arm, job.seed
        if self._stopping.is_set():
            return pair, None
        began = time.perf_counter()
        prepare(job)
        told = self._supervised(job)
        spent = time.perf_counter() - began, float(told.get("processor") or 0.0)
        if told.get("gone"):
            return pair, None
        limit = float(self._how.get("timeout") or 0)
        failed = f"it took longer than the limit of {limit:g} s" if told.get("late") else ended(job, int(told["code"]))
        return pair, outcome_of(self._held, job, failed, *spent)

    def _supervised(self, job: CommandJob) -> dict[str, Any]:
        """Run a job in a process group of its own, beside a process that ends it if this one goes away."""
        reading, writing = os.pipe()
        words = [sys.executable, "-I", supervision.__file__, str(writing)]
        words += [str(float(self._how.get("timeout") or 0)), str(_GRACE), job.line]
        with (
            (job.folder / "stdout.txt").open("wb") as out,
            (job.folder / "stderr.txt").open("wb") as err,
            os.fdopen(reading, "rb") as report,
        ):
            try:
                child = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    pass_fds=[writing],
                    start_new_session=True,
                    cwd=self._how.get("cwd"),
                    env={**os.environ, **job.environment},
                )
            finally:
                os.close(writing)
            try:
                while child.poll() is None and not self._stopping.wait(0.02):
                    pass
            finally:  # Ctrl-C too: the end of its input is what it waits for
                if child.stdin:
                    child.stdin.close()
                with _once():
                    child.wait()
            told = report.read()
        try:
            return parse_json(told)
        except ValueError:
            raise StateError(f"the process beside the command of {job.arm}, seed {job.seed} was killed") from None


def job_of(held: Kept, arm: str, seed: int, folder: Path | None = None) -> CommandJob:
    """Return what is run for a pair: in the folder of an attempt, or of the next one after those of a queue."""
    own, attempts = held.plan.arm(arm), held.attempts(arm, seed)
    place = (folder or held.attempt(arm, seed, len(attempts) + 1)).absolute()
    values = {"seed": str(seed), "arm": arm, "out": str(place / "out")}
    if own.schedule is not None:
        values["schedule"] = str(held.folder(arm, seed).absolute() / "schedule.json")
    environment = {f"REDENSE_{name.upper()}": value for name, value in values.items()}
    before = attempts[-1].folder.absolute() / "out" if attempts and folder is None else None
    return CommandJob(arm, seed, filled(own.command or "", values), place, environment, before)


def prepare(job: CommandJob) -> None:
    """Make the folder of a job; figures of an attempt that was stopped are taken away.

    Raises:
        StateError: a job of a queue has just begun in it.
    """
    if (job.folder / SCRIPT).exists():  # it may wait in a queue: whoever makes the mark first trains the pair
        try:
            (job.folder / BEGUN).mkdir()
        except FileExistsError:
            raise StateError(f"a job of a queue has begun {job.arm}, seed {job.seed}: start again") from None
    out = job.folder / "out"
    if job.before and job.before.is_dir() and not out.exists():
        shutil.copytree(job.before, out, symlinks=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS).unlink(missing_ok=True)


def write_schedules(held: Kept) -> None:
    """Write each pair's ``schedule.json``, which ``{schedule}`` names and `Schedule.from_file` reads."""
    for arm, seed in held.plan.pairs:
        own = held.plan.arm(arm)
        path = held.folder(arm, seed) / "schedule.json"
        if own.schedule is not None and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(own.schedule, indent=2) + "\n")


def outcome_of(held: Kept, job: CommandJob, failed: str, seconds: float = 0.0, processor: float = 0.0) -> Outcome:
    """Return what a job that has ended comes to."""
    if failed:
        return Outcome(None, failed, seconds, processor)
    settings: Mapping[str, Any] = held.plan.settings or {}
    try:
        expression = settings.get("metric_regex")
        figures = figures_of(
            job.folder / "out", job.folder / "stdout.txt", expression=expression, metric=held.plan.metric
        )
    except DataError as error:
        return Outcome(None, why(error), seconds, processor, unread=isinstance(error, AnswerError))
    return Outcome(figures, "", seconds, processor)


def ended(job: CommandJob, code: int) -> str:
    """Return why a command failed, in a line; empty if it did not."""
    if code == 0:
        return ""
    how = f"exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"killed by {signal.Signals(-code).name}"
    said = [line for line in tail(job.folder / "stderr.txt", 1 << 14).splitlines() if line.strip()]
    return f"{how}: {visible_line(' '.join(said[-1].split()))[:300]}" if said else how


@contextlib.contextmanager
def _once() -> Iterator[None]:
    """Let a second Ctrl-C not leave a process behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
