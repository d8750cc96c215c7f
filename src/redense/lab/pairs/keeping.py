"""The folder of a comparison of any training: what is compared, and every finished pair as it comes.

``comparison.json`` says what is compared; ``pairs/ARM/SEED/result.json`` what came of a pair, with its checksum in it.
A kill at any moment loses no finished pair, and a damaged one is done again.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redense.errors import DataError, StateError
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import check_sums, is_intact, sha256, write_with_sums
from redense.files.json_text import read_json
from redense.files.locks import LOCK, locked
from redense.files.opening import read_bytes
from redense.files.pieces import changed_pieces
from redense.files.writing import sweep, write_text
from redense.lab.folder import new_folder
from redense.lab.judging.looks import Looks

from .figures import Figures
from .plan import Plan, continued
from .sharing import drop_parts

log = logging.getLogger(__name__)

PLAN = "comparison.json"
_RESULT = "result.json"
ENDED = "exit-code"  # of a job that a queue has run
BEGUN = "begun"  # a folder that a job of a queue makes before all else: of two jobs, one can make it
SCRIPT = "job.sh"
MARKING = "redense_job="  # stands in scripts that leave the mark
_GIVEN_UP = "given-up"  # of an attempt that is read no more, whatever it still leaves


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pair.

    Args:
        figures: of the training; None where it failed.
        failed: why it did, in a line; empty where it did not.
        seconds: by the clock.
        processor_seconds: of the processor, with those of the processes that it waited for.
        unread: it ended well, and what it left are no figures; not kept.
    """

    figures: Figures | None
    failed: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    unread: bool = False


@dataclass(frozen=True)
class Attempt:
    """A job of a pair that a queue has begun. Each has a folder of its own, so that nothing of two of them is mixed.

    Args:
        folder: with what it prints, and with ``out``.
        code: its exit code as it wrote it; None while it has not ended, or where it was killed.
        given_up: it is read no more.
    """

    folder: Path
    code: str | None
    given_up: bool

    def give_up(self) -> None:
        """Read nothing more of it."""
        write_text(self.folder / _GIVEN_UP, "")


@dataclass
class Kept:
    """A folder that this process holds.

    Args:
        path: of it.
        plan: what is compared, with what was added.
        looked: how many seeds and arms there were each time when it was judged before something was added.
    """

    path: Path
    plan: Plan
    looked: list[list[int]]

    @property
    def looks(self) -> Looks:
        """The looks that were planned, and those that there were before."""
        plan, looked = self.plan, tuple((seeds, arms) for seeds, arms in self.looked)
        return Looks(plan.looks, plan.margin, looked, (len(plan.seeds), len(plan.arms)))

    def folder(self, arm: str, seed: int) -> Path:
        """Return where a pair's files are."""
        return self.path / "pairs" / arm / str(seed)

    def attempt(self, arm: str, seed: int, number: int) -> Path:
        """Return where the files of an attempt of a queue are, counted from 1; the first has the pair's own folder."""
        return self.folder(arm, seed) / f"attempt-{number}" if number > 1 else self.folder(arm, seed)

    def attempts(self, arm: str, seed: int) -> list[Attempt]:
        """Return the attempts that a queue has begun, in their order."""
        found: list[Attempt] = []
        while _has_begun(folder := self.attempt(arm, seed, len(found) + 1)):
            ends = folder / ENDED
            code = read_bytes(ends).decode("utf-8", errors="replace").strip() if ends.is_file() else None
            found.append(Attempt(folder, code, (folder / _GIVEN_UP).exists()))
        return found

    def ended(self, arm: str, seed: int) -> Attempt | None:
        """Return the attempt that counts: the first that ended well, or else the last, if that has ended."""
        attempts = self.attempts(arm, seed)
        good = (each for each in attempts if each.code == "0" and not each.given_up)
        last = attempts[-1] if attempts else None
        return next(good, last if last and last.code is not None and not last.given_up else None)

    def running(self, arm: str, seed: int) -> Attempt | None:
        """Return the attempt that has begun and not ended, so that it runs or was killed."""
        attempts = self.attempts(arm, seed)
        last = attempts[-1] if attempts and not self.ended(arm, seed) else None
        return last if last and last.code is None and not last.given_up else None

    def outcome(self, arm: str, seed: int) -> Outcome | None:
        """Return what came of a pair; None if it has not come to its end, or what was kept of it is damaged."""
        path = self.folder(arm, seed) / _RESULT
        try:
            data = read_json(path)
            if data.pop("sha256") != _digest(data):
                raise ValueError("it does not match its checksum")
            if (data["arm"], data["seed"]) != (arm, seed):
                raise ValueError(f"it is of {data['arm']}, seed {data['seed']}")
            figures = None if data["figures"] is None else Figures.from_dict(data["figures"])
            own = {name: data[name] for name in ("failed", "seconds", "processor_seconds")}
            return Outcome(figures, **own)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged (%s): the pair is done again", path, error)
            return None

    def keep(self, arm: str, seed: int, outcome: Outcome) -> None:
        """Write what came of a pair."""
        data: dict[str, Any] = {
            "arm": arm,
            "seed": seed,
            "figures": outcome.figures.to_dict() if outcome.figures else None,
            "failed": outcome.failed,
            "seconds": round(outcome.seconds, 3),
            "processor_seconds": round(outcome.processor_seconds, 3),
        }
        folder = self.folder(arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        write_text(folder / _RESULT, json.dumps({**data, "sha256": _digest(data)}) + "\n")

    def drop(self, arm: str, seed: int) -> None:
        """Forget what came of a pair: it is to be done again."""
        (self.folder(arm, seed) / _RESULT).unlink(missing_ok=True)

    def outcomes(self) -> dict[tuple[str, int], Outcome]:
        """Return what came of every pair that has come to its end."""
        found = {pair: self.outcome(*pair) for pair in self.plan.pairs}
        return {pair: outcome for pair, outcome in found.items() if outcome is not None}


@contextlib.contextmanager
def kept(out: Path | None, plan: Plan, environment: Mapping[str, Any], *, changed_code: bool = False) -> Iterator[Kept]:
    """Hold the folder of a comparison: a new one, or one that was begun, which then goes on.

    Args:
        out: the folder; None for one named after the plan and the time.
        plan: what is to be compared; a folder that was begun must be of the same.
        environment: where it is done, for a new folder.
        changed_code: go on with pairs that other code has trained.

    Raises:
        StateError: another process works in it, something else lies in it, or it is of another comparison.
        CheckpointError: it is damaged.
    """
    if out is not None and (out / PLAN).is_file():
        with locked(out):
            sweep(out)
            before, looked = read_plan(out)
            if before.settings != plan.settings and not _done(Kept(out, before, looked)):
                before = replace(before, settings=plan.settings)  # how figures are found: none has been
                _write_plan(out, before, looked)
            judged = (out / "compare.json").is_file()
            changed = _changed(before, plan)
            done = {} if changed_code or not changed else _trained(Kept(out, before, looked))
            after = continued(before, plan, out, judged=judged, done=done)
            if changed:
                drop_parts(out)
            if changed and not changed_code:
                _give_up_running(Kept(out, after, looked), before)
            if after != before:
                more = len(after.seeds) > len(before.seeds) or len(after.arms) > len(before.arms)
                if more and _was_judged(out, before):
                    looked.append([len(before.seeds), len(before.arms)])
                _write_plan(out, after, looked)
            yield Kept(out, after, looked)
        return
    folder = new_folder(out, f"compare-{plan.name}", left=("environment.json", SUMS, LOCK))
    with locked(folder):
        if (folder / PLAN).is_file():  # another process was quicker
            raise StateError(f"another process has begun {folder}: start again to go on with it")
        write_with_sums(folder, {"environment.json": json.dumps(dict(environment), indent=2) + "\n"})
        _write_plan(folder, plan, [])
        yield Kept(folder, plan, [])


def _changed(before: Plan, now: Plan) -> bool:
    """Whether the code of an arm that there is already is another than before."""
    then = {arm.name: arm.pieces for arm in before.arms}
    return any(changed_pieces(then.get(arm.name), arm.pieces) for arm in now.arms)


def _give_up_running(held: Kept, before: Plan) -> None:
    """Read nothing of jobs that began with the code of before and have not ended: they would count as of the new."""
    then = {arm.name: arm.pieces for arm in before.arms}
    for arm, seed in held.plan.pairs:
        changed = changed_pieces(then[arm], held.plan.arm(arm).pieces) if arm in then else ()
        if changed and (attempt := held.running(arm, seed)):
            log.warning("a job of %s, seed %d began with the code of before: what it leaves is not read", arm, seed)
            attempt.give_up()


def _has_begun(folder: Path) -> bool:
    """Whether a job has begun there; an older redense left no mark, and the output of a job shows it."""
    if (folder / BEGUN).exists() or (folder / ENDED).exists():
        return True
    script, printed = folder / SCRIPT, folder / "stdout.txt"
    return script.is_file() and printed.exists() and MARKING.encode() not in read_bytes(script)


def _done(held: Kept) -> dict[str, int]:
    """Return how many pairs of each arm have figures; those that failed are no reason to keep the code that failed."""
    return Counter(arm for (arm, _), outcome in held.outcomes().items() if outcome.figures)


def _trained(held: Kept) -> dict[str, int]:
    """Return `_done`, and with it the jobs of a queue that have ended and that nobody has looked at yet."""
    told = held.outcomes()
    ends = {pair: held.ended(*pair) for pair in held.plan.pairs if pair not in told}
    return Counter(_done(held)) + Counter(arm for (arm, _), end in ends.items() if end and end.code == "0")


def read_plan(folder: Path) -> tuple[Plan, list[list[int]]]:
    """Return what a folder compares, and when it was looked at.

    Raises:
        StateError: it is no such folder.
        CheckpointError: it is damaged.
    """
    check_sums(folder, PLAN)
    try:
        data = read_json(folder / PLAN)
        if "recipe" in data:
            raise StateError(f"{folder} is a comparison of a recipe: name another folder")
        return Plan.from_dict(data), [[int(seeds), int(arms)] for seeds, arms in data["looked"]]
    except OSError as error:
        raise StateError(f"{folder / PLAN} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"{folder / PLAN} is damaged: it is none that redense writes") from None


def _write_plan(folder: Path, plan: Plan, looked: list[list[int]]) -> None:
    write_with_sums(folder, {PLAN: json.dumps({**plan.to_dict(), "looked": looked}, indent=2) + "\n"})


def _was_judged(folder: Path, plan: Plan) -> bool:
    """Whether there are results of all that a plan has: a comparison that was killed was not looked at."""
    try:
        results = read_json(folder / "compare.json") if is_intact(folder, "compare.json") else None
        arms = {str(row["arm"]) for row in results["rows"]} if results else set[str]()
        return bool(results) and results["seeds"] == list(plan.seeds) and arms >= {arm.name for arm in plan.arms}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(data: Mapping[str, Any]) -> str:
    return sha256(json.dumps(data, sort_keys=True).encode())
