"""Comparing what a function trains: which arms there are, what they share, and every pair done once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from redense.errors import DataError, RecipeError
from redense.files.module_values import Value
from redense.files.pieces import pieces_of, values_of
from redense.files.sources import is_own
from redense.files.writing import write_text
from redense.schedule import Schedule

from .by_name import named_arm, schedule_of
from .carrying import Carrier
from .criteria import named_criteria, own_criteria
from .defaults import defaults
from .jobs import Done, Job, Train, check_train, do, name_of
from .keeping import Kept, Outcome
from .named import BASELINE, DEFAULT
from .plan import PlannedArm, scheduled_arm
from .progress import ProgressLine
from .results import check_answers, check_figures, unfinished
from .sharing import Parts

if TYPE_CHECKING:
    from redense.lab.carried import Carried

Arms = str | Sequence[str | Mapping[str, Any]] | Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """An arm, the function that trains it, and the schedule that the function gets."""

    arm: PlannedArm
    train: Train
    schedule: Schedule | None


def arms_of(
    train: Train | None, schedule: Schedule | None, arms: Arms | None, baseline: str | None, *, share: bool
) -> list[Trained]:
    """Return the arms that were asked for, with the first phase alone as baseline where none is one of them.

    Args:
        train: trains the arms that are schedules.
        schedule: DSD's, of which the named arms are made; None where every arm is a function of its own.
        arms: names; or schedules and functions by name, which are added to the usual ones.
        baseline: the arm that is the baseline, if it has another name than usual.
        share: whether the first phase is trained once.

    Raises:
        RecipeError: an arm is unknown, cannot be made of the schedule, or is neither a schedule nor a function.
    """
    if schedule is not None and not isinstance(schedule, Schedule):
        raise RecipeError(
            f"schedule must be a redense.Schedule, such as Schedule.dsd(...), got a {type(schedule).__name__}"
        )
    if train is not None:
        check_train(train, start=share)
    found = [_arm(name, own, train, schedule) for name, own in _asked(arms, schedule)]
    if not found and schedule is None:
        raise RecipeError(
            "there is nothing to compare: give a schedule, redense.compare(train, schedule, ...), or functions by "
            'name, arms={"baseline": train, "mine": other}'
        )
    names = {trained.arm.name for trained in found}
    if schedule is not None and baseline is None and BASELINE not in names and "dense" not in names:
        about = "the dense phase alone: fewer steps than the others"
        first = schedule_of(BASELINE, schedule)
        found.insert(0, Trained(scheduled_arm(BASELINE, first, about), _needed(train, BASELINE), first))
    code = [(one.train, *own_criteria(one.schedule)) for one in found]
    pieces = {tuple(map(id, own)): pieces_of(*own) for own in code}
    made = zip(found, (pieces[tuple(map(id, own))] for own in code), strict=True)
    return [replace(one, arm=replace(one.arm, pieces=own)) for one, own in made]


def _asked(arms: Arms | None, schedule: Schedule | None) -> Iterator[tuple[str, Any]]:
    """Give the name of each arm, and its schedule or function; None for one that is known by its name."""
    usual: tuple[str, ...] = DEFAULT if schedule is not None else ()
    if arms is None:
        arms = usual
    if isinstance(arms, str):
        arms = [name.strip() for name in arms.split(",") if name.strip()]
    if isinstance(arms, Mapping):
        yield from ((name, None) for name in usual if name not in arms)
        arms = [arms]
    for item in arms:
        if isinstance(item, str):
            yield item, None
        elif isinstance(item, Mapping):
            yield from ((str(name), own) for name, own in item.items())
        else:
            raise RecipeError(f"arms are names, or schedules and functions by name; got a {type(item).__name__}")


def _arm(name: str, own: Any, train: Train | None, schedule: Schedule | None) -> Trained:
    if own is None:
        if schedule is None:
            raise RecipeError(f"arm '{name}' is made of a schedule: give one, redense.compare(train, schedule, ...)")
        made = schedule_of(name, schedule)
        known = named_arm(name) if name != BASELINE else None
        about, source = (known.about, known.source) if known else ("the dense phase alone", "")
        return Trained(scheduled_arm(name, made, about, source), _needed(train, name), made)
    if isinstance(own, Schedule):
        return Trained(scheduled_arm(name, own, "a schedule of your own"), _needed(train, name), own)
    if callable(own):
        check_train(own, start=False, what=f"arm '{name}'")
        return Trained(PlannedArm(name, code=name_of(own), about=f"trained by {name_of(own)}"), own, schedule)
    raise RecipeError(
        f"arm '{name}' must be a redense.Schedule or a function train(schedule, seed), got a {type(own).__name__}"
    )


def _needed(train: Train | None, name: str) -> Train:
    if train is None:
        raise RecipeError(f"arm '{name}' is a schedule, and there is no train(schedule, seed) to train it")
    return train


class Comparing:
    """The pairs of a comparison that its folder has not got yet, and what arms that begin alike share."""

    def __init__(self, held: Kept, trained: Sequence[Trained], carrier: Carrier, progress: ProgressLine) -> None:
        self._held, self._carrier, self._progress = held, carrier, progress
        self._trained = {one.arm.name: one for one in trained}
        shared = {one.arm.name: one.schedule for one in trained if one.schedule and not one.arm.code}
        self._parts = Parts(held.path, shared if held.plan.share else {})
        self._failed: dict[tuple[str, int], str] = {}  # parts: why there is none
        self._read: dict[tuple[int, ...], list[Value]] = {}  # by the functions
        self._carried: dict[int, Carried | None] = {}

    def run(
        self, *, retry_failed: bool = False, pairs: Sequence[tuple[str, int]] | None = None
    ) -> dict[tuple[str, int], Outcome]:
        """Train what is missing, keep each pair as it comes, and return all that there are.

        Args:
            retry_failed: train those again that have failed.
            pairs: train no others.

        Raises:
            DataError: the figures lack the one that decides, or do not say which way is better.
            StateError: a process died.
        """
        outcomes = unfinished(self._held, retry_failed=retry_failed)
        left = [pair for pair in pairs or self._held.plan.pairs if pair not in outcomes]
        self._progress.begin(len(outcomes), sum(self._weight(arm) for arm, _ in left))
        starting = [pair for pair in left if self._parts.key(pair[0])]
        needed = dict.fromkeys((self._parts.key(arm), seed) for arm, seed in starting)
        missing = [part for part in needed if not self._parts.digest(*part)]
        first = [self._job(arm, seed, missing) for arm, seed in left if (arm, seed) not in starting]
        alone = [(key, seed) for key, seed in missing if (self._parts.owners.get(key, ""), seed) not in left]
        self._do([*(self._part_job(*part) for part in alone), *first], outcomes)
        second: list[Job] = []
        for arm, seed in starting:
            if why := self._failed.get((self._parts.key(arm), seed), ""):
                failed = Outcome(None, f"the part that it shares with other arms failed: {why}"[:400])
                self._take(Done(arm, seed, failed), outcomes)
            else:
                second.append(self._job(arm, seed, missing))
        self._do(second, outcomes)
        self._parts.clear()
        return outcomes

    def _do(self, work: list[Job], outcomes: dict[tuple[str, int], Outcome]) -> None:
        for done in self._carrier.carry(do, work, again=f"the same call, out={str(self._held.path)!r}"):
            if done.part and done.state:
                self._parts.note(done.part, done.seed, done.state)
            elif done.part:
                if done.outcome.unread:
                    raise DataError(f"seed {done.seed}: {done.outcome.failed}")
                self._failed[done.part, done.seed] = done.outcome.failed
            if done.arm:
                self._take(done, outcomes)

    def _take(self, done: Done, outcomes: dict[tuple[str, int], Outcome]) -> None:
        outcomes[done.arm, done.seed] = done.outcome
        self._held.keep(done.arm, done.seed, done.outcome)
        if done.trace:
            write_text(self._held.folder(done.arm, done.seed) / "traceback.txt", done.trace)
        failed = bool(done.outcome.failed)
        self._progress.tick(f"{done.arm}, seed {done.seed}", self._weight(done.arm), failed=failed)
        check_answers(self._held, outcomes)
        check_figures(self._held.plan, outcomes)

    def _job(self, arm: str, seed: int, missing: Sequence[tuple[str, int]]) -> Job:
        own, plan = self._trained[arm], self._held.plan
        how = {"threads": plan.threads, "defaults": defaults(), "criteria": named_criteria(own.schedule)}
        values, code = self._values(own.train, own.schedule), self._code(own.train)
        job = Job(arm, seed, own.train, own.schedule, metric=plan.metric, values=values, carried=code, **how)
        if key := self._parts.key(arm):
            start = str(self._parts.file(key, seed)), self._parts.digest(key, seed)
            return replace(job, schedule=self._parts.rest(arm), start=start)
        if (part := self._parts.left_by(arm)) and (part, seed) in missing:
            return replace(job, part=part, leave=str(self._parts.file(part, seed)))
        return job

    def _part_job(self, key: str, seed: int) -> Job:
        train = next(one.train for name, one in self._trained.items() if self._parts.key(name) == key)
        schedule, leave = self._parts.part(key), str(self._parts.file(key, seed))
        how = {"threads": self._held.plan.threads, "defaults": defaults(), "values": self._values(train, schedule)}
        return Job("", seed, train, schedule, part=key, leave=leave, carried=self._code(train), **how)

    def _values(self, train: Train, schedule: Schedule | None) -> list[Value]:
        """Return what a process of its own would lack: the values of the user's modules that a training reads."""
        code = (train, *own_criteria(schedule))
        if self._carrier.is_apart and tuple(map(id, code)) not in self._read:
            self._read[tuple(map(id, code))] = values_of(*code)
        return self._read.get(tuple(map(id, code)), [])

    def _code(self, train: Train) -> Carried | None:
        """Return what a process of its own needs of the user's code where a recipe is trained."""
        if self._carrier.is_apart and id(train) not in self._carried:
            self._carried[id(train)] = getattr(train, "carried", None) if is_own(type(train)) else None
        return self._carried.get(id(train))

    def _weight(self, arm: str) -> float:
        """Return the work of an arm, to estimate the time that is left: its steps where they are known."""
        own = self._trained[arm]
        if self._parts.key(arm):
            return float(self._parts.rest(arm).total_steps)
        return float(own.schedule.total_steps) if own.schedule else 1.0
