"""The plan of a comparison of any training: arms, seeds, and the rules of judging, as plain data in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from redense.errors import RecipeError, StateError
from redense.files.pieces import changed_pieces
from redense.files.visible import folded
from redense.lab.judging.figures import (
    CONTROLS,
    all_quoted,
    check_metric,
    check_side,
    choose_baseline,
    choose_controls,
    quoted,
    usual_baseline,
)
from redense.lab.judging.verdicts import check_looks, check_margin
from redense.phase import ordered
from redense.schedule import Schedule
from redense.schedules.numeric import as_int, plain

Form = Literal["function", "command"]
MOST_SEEDS = 1000
_WHOLE = re.compile(r" *-?[0-9]{1,20} *")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=-]{0,59}")


@dataclass(frozen=True)
class PlannedArm:
    """An arm as it is kept.

    Args:
        name: letters, digits and ``. _ + = -``: it is the name of a folder too.
        schedule: what it trains, as plain data; None where it is no schedule.
        command: what the shell runs, with its placeholders.
        code: the name of the function that trains it, where that is one of its own.
        about: one line of help.
        source: where it comes from.
        pieces: checksums of the code that trains it, by name; None in a folder that does not say.
    """

    name: str
    schedule: Mapping[str, Any] | None = None
    command: str | None = None
    code: str | None = None
    about: str = ""
    source: str = ""
    pieces: Mapping[str, str] | None = None

    @property
    def phases(self) -> list[dict[str, Any]]:
        """The phases of its schedule, as plain data."""
        return [dict(phase) for phase in (self.schedule or {}).get("phases", ())]

    @property
    def steps(self) -> int | None:
        """Optimizer steps of its schedule, where it has one."""
        return sum(int(phase["steps"]) for phase in self.phases) if self.schedule else None

    @property
    def masked(self) -> bool:
        """Whether a phase of its schedule has a mask; one of a sparsity of 0 removes nothing."""
        return any(phase.get("sparsity") or phase.get("pattern") for phase in self.phases)


@dataclass(frozen=True)
class Plan:
    """A comparison of any training.

    Args:
        form: who trains: a function or a command.
        name: what it is called.
        arms: in the order of the table.
        seeds: of each arm.
        baseline: which arm is trained no longer than its first phase; empty where there are only controls.
        controls: the arms without a mask.
        metric: the figure that decides; None where there is only one.
        lower_is_better: of it; None where its name says so.
        looks: how often it will have been looked at, planned beforehand.
        margin: differences within it are of no interest.
        share: whether arms that begin alike train that part once.
        threads: of each job; None for as many as its program takes.
        settings: what else decides the numbers, by name.
        how: what does not, and may be another when it goes on: a time limit, where a command runs.
    """

    form: Form
    name: str
    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    baseline: str
    controls: tuple[str, ...]
    metric: str | None = None
    lower_is_better: bool | None = None
    looks: int = 1
    margin: float | None = None
    share: bool = False
    threads: int | None = None
    settings: Mapping[str, Any] | None = None
    how: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_looks(self.looks)
        check_margin(self.margin)
        check_metric(self.metric)
        check_side(self.lower_is_better)
        if self.threads is not None and (as_int(self.threads) or 0) < 1:
            raise RecipeError(f"threads must be a whole number from 1 on, or None, got {quoted(self.threads)}")

    def arm(self, name: str) -> PlannedArm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Every arm with every seed: all arms of a seed before the next, so that what there is can be paired."""
        return [(arm.name, seed) for seed in self.seeds for arm in self.arms]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` gave; what else lies beside it is passed over."""
        own = {name: data[name] for name in cls.__dataclass_fields__}
        own["arms"] = tuple(PlannedArm(**arm) for arm in own["arms"])
        return cls(**{**own, "seeds": tuple(own["seeds"]), "controls": tuple(own["controls"])})


def make_plan(
    arms: Sequence[PlannedArm],
    *,
    form: Form,
    name: str,
    seeds: int | Iterable[int],
    baseline: str | None,
    controls: Iterable[str] | None,
    **more: Any,
) -> Plan:
    """Return a plan whose baseline and controls are known; the other arguments are those of `Plan`.

    Raises:
        RecipeError: an arm's name cannot be one, a control has a mask, or seeds are no seeds.
        DataError: an arm that is named as baseline or control is not there, or there is neither.
    """
    if controls is not None:
        controls = [controls] if isinstance(controls, str) else list(controls)  # they are looked at twice
    names = [arm.name for arm in arms]
    for own in names:
        if not _NAME.fullmatch(own) or own != own.strip():
            raise RecipeError(
                f"an arm's name begins with a letter or digit, and has letters (A-Z, a-z), digits, spaces and . _ + = -"
                f" (at most 60); got {quoted(own)}"
            )
    if twice := next((own for own in names if [folded(one) for one in names].count(folded(own)) > 1), None):
        raise RecipeError(f"an arm is named twice: {quoted(twice)}")
    if baseline is None and usual_baseline(names) is None:
        first = "" if controls or any(folded(own) in CONTROLS for own in names) else choose_baseline(names, None)
    else:
        first = choose_baseline(names, baseline)
    # A schedule without a mask is a control, named or not: it would be called a gain. One with a mask is none, whatever
    # it is called.
    named, masked = choose_controls(names, controls, first), {arm.name for arm in arms if arm.masked}
    if controls and (wrong := next((name for name in named if name in masked), None)):
        raise RecipeError(f"the schedule of {quoted(wrong)} has a mask, and a control is an arm without one")
    flat = {arm.name for arm in arms if arm.schedule and not arm.masked and arm.name != first}
    chosen = tuple(own for own in names if own in flat.union(named) - masked)
    if len(arms) < 2:
        raise RecipeError(f"a comparison needs two arms at least, got {', '.join(map(quoted, names)) or 'none'}")
    told = {word: plain(value) for word, value in more.items()}  # NumPy's numbers, too: a plan is kept as plain data
    return Plan(form, name, tuple(arms), seeds_of(seeds), first, chosen, **told)


def scheduled_arm(name: str, schedule: Schedule, about: str = "", source: str = "") -> PlannedArm:
    """Return an arm that is a schedule."""
    return PlannedArm(name, json.loads(json.dumps(schedule.to_dict())), about=about, source=source)


def seed_list(text: str) -> tuple[int, ...]:
    """Return seeds from ``5`` (0 to 4), from ``3,7,11``, or from ``3,`` (3 alone: a job of an array).

    Raises:
        RecipeError: neither a number nor a list of different ones.
    """
    parts = text.removesuffix(",").split(",")
    try:
        if all(_WHOLE.fullmatch(part) for part in parts):
            return seeds_of(list(map(int, parts)) if "," in text else int(text))
    except RecipeError:
        pass
    raise RecipeError(
        f"--seeds is a number of seeds, or a list such as 3,7,11: different ones in [0, 2^31), "
        f"1 to {MOST_SEEDS:,} of them; got {quoted(text)}"
    )


def seeds_of(given: int | Iterable[int]) -> tuple[int, ...]:
    """Return seeds: a number of them from 0 on, or those listed.

    >>> seeds_of(3), seeds_of([7, 11])  # or NumPy's
    ((0, 1, 2), (7, 11))

    Raises:
        RecipeError: none, one twice, or one that is no seed.
    """
    try:
        count = plain(given)
        number = isinstance(count, int) and not isinstance(count, bool)
        listed: list[int] = list(range(min(count, MOST_SEEDS + 1)) if number else map(plain, given))  # pyright: ignore[reportArgumentType]
    except TypeError:
        listed = []
    wrong = [one for one in listed if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < 2**31]
    if wrong or not listed or len(set(listed)) < len(listed) or len(listed) > MOST_SEEDS:
        raise RecipeError(
            f"seeds are a number of them, or different whole numbers in [0, 2^31), at most {MOST_SEEDS:,}; "
            f"got {quoted(given)}"
        )
    return tuple(listed)


# --- going on -------------------------------------------------------------------------------------------------------

_TRAINED = {
    "form": "the way in which it is trained",
    "share": "what arms share",
    "threads": "the number of threads",
    "settings": "what else decides its numbers",
}
_JUDGED = {
    "metric": "the figure that decides",
    "lower_is_better": "which way is better",
    "baseline": "the baseline",
    "looks": "the number of looks",
    "margin": "the margin",
}


def continued(before: Plan, now: Plan, folder: object, *, judged: bool, done: Mapping[str, int]) -> Plan:
    """Return the plan with which a comparison goes on: that of before, with what was added in seeds and arms.

    How it is judged may be said anew until it has been judged once.

    Args:
        before: as it was begun.
        now: as it is asked for.
        folder: of it, for messages.
        judged: whether it was judged.
        done: how many pairs of an arm were trained by the code of before, which must not have changed then.

    Raises:
        StateError: something that decides the numbers or the verdicts is another than before.
    """
    for name, words in {**_TRAINED, **(_JUDGED if judged else {})}.items():
        then, given = getattr(before, name), getattr(now, name)
        if then != given:
            raise StateError(
                f"{words} of {folder} is {_told(then)}, and not {_told(given)}: name another folder for this"
            )
    names = {arm.name: arm for arm in now.arms}
    for arm in before.arms:
        if arm.name not in names:
            raise StateError(f"arm {quoted(arm.name)} of {folder} is left out: arms can be added, not taken away")
        new = names[arm.name]
        for part in ("schedule", "command", "code"):
            if ordered(getattr(arm, part)) != ordered(getattr(new, part)):
                raise StateError(
                    f"the {part} of arm {quoted(arm.name)} is another than that of {folder}: name another folder, or "
                    "give it another name as a further arm"
                )
        changed = changed_pieces(arm.pieces, new.pieces)
        if changed and (count := done.get(arm.name, 0)):
            cure = "--changed-code" if before.form == "command" else "changed_code=True"
            raise StateError(
                f"the code that trains arm {quoted(arm.name)} of {folder} has changed ({all_quoted(changed, 3)}) since "
                f"{'one of its pairs was' if count == 1 else f'{count:,} of its pairs were'} trained: name another "
                f"folder, or say that its numbers are the same as before, {cure}"
            )
        if judged and (arm.name in before.controls) != (arm.name in now.controls):
            raise StateError(f"whether {quoted(arm.name)} is a control was decided otherwise in {folder}")
    if missing := [str(seed) for seed in before.seeds if seed not in now.seeds]:
        raise StateError(f"seeds {', '.join(missing)} of {folder} are left out: seeds can be added, not taken away")
    known = {arm.name for arm in before.arms}
    arms = (
        *(replace(arm, pieces=names[arm.name].pieces) for arm in before.arms),
        *(arm for arm in now.arms if arm.name not in known),
    )
    seeds = (*before.seeds, *(seed for seed in now.seeds if seed not in before.seeds))
    settled = {name: getattr(now, name) for name in (*_JUDGED, "how")}
    return replace(
        before, arms=arms, seeds=seeds, controls=tuple(a.name for a in arms if a.name in now.controls), **settled
    )


def _told(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return quoted(json.dumps(value) if isinstance(value, Mapping) else value) if value != "" else "none"
