"""Folders that are joined: one family, if they agree and one program has trained each arm, and the price of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redense.errors import DataError
from redense.files.pieces import changed_pieces
from redense.lab.judging.figures import ArmFigures, all_quoted, quoted, shown, usual_baseline
from redense.lab.judging.looks import Looks

_NOT_OF_NUMBERS = frozenset({"name", "about", "seed", "source", "workers", "cache_gb"})  # of a recipe
_NETWORKS = frozenset({"teachers", "joins"})  # of a phase: the keys of networks of other seeds, or numbers of phases
_TABLE = "table"  # form of a folder that `redense judge --out` writes: what has trained it is not known


@dataclass(frozen=True)
class Trained:
    """The programs that have trained the arms of a folder, as far as it says them.

    Args:
        arms: by name: phases, schedule, command, code and pieces.
        recipe: its recipe; None where there is none.
        data: the checksum of its data.
        settings: what else decides its numbers.
        form: of the comparison.
    """

    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    recipe: Any = None
    data: Any = None
    settings: Any = None
    form: str | None = None


@dataclass(frozen=True)
class Told:
    """The facts that folders state of their arms.

    Args:
        arms: those that they know.
        controls: those without a mask, or that were named as controls.
        baseline: the arm that is it; empty where there are only controls, None where it is not said.
        margin: of a folder's own figure.
        looks: what p-values are multiplied by.
        added: what was added after looking, as a sentence.
        validation_only: the figures that decide are of validation data, whatever their column is called.
        metric: the figure that decides; None where folders say nothing, or not the same.
        lower_is_better: of that figure.
        beside: by arm, what a table has no column for: ``note``, ``ended`` and ``bound`` of `ArmFigures`.
        unit: of that figure, where a folder alone says it.
        split: of the figures that decide, as the folder says it; empty where nobody told it, None without a folder.
        dense: the baseline is the dense phase that the other arms begin with.
        baselines: of all folders; more than one where they do not agree.
        source: the folder.
        pairs: by arm, the seeds that it has.
        joins: the seeds of each folder that it was judged of, if it is a judgement of several.
        planned: looks that were planned before the first; None where it is not known.
        looked: seeds and arms at each look before the last; None where it is not known.
        trained: what has trained the arms.
        each: what every folder says, in their order.
    """

    arms: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    baseline: str | None = None
    margin: float | None = None
    looks: int = 1
    added: str = ""
    validation_only: bool = False
    metric: str | None = None
    lower_is_better: bool | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    dense: bool = False
    unit: str = ""
    split: str | None = None
    baselines: tuple[str, ...] = ()
    source: str = ""
    pairs: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    joins: tuple[frozenset[str], ...] = ()
    planned: int | None = None
    looked: tuple[tuple[int, int], ...] | None = None
    trained: Trained = field(default_factory=Trained)
    each: tuple[Told, ...] = ()

    @property
    def folders(self) -> Sequence[frozenset[str]]:
        """The seeds of each folder that is judged; nothing where it is one alone."""
        found = [part for one in self.each for part in one.joins or [frozenset[str]().union(*one.pairs.values())]]
        return found if len(found) > 1 else ()

    def sides_of(self, metric: str | None) -> set[bool]:
        """Return whether lower is better, as the folders say it whose figure that is; both where they do not agree."""
        sides = {one.lower_is_better for one in self.each if one.metric == metric}
        return {side for side in sides if side is not None}

    def margin_of(self, metric: str | None) -> float | None:
        """Return the margin of the folders whose figure that is.

        Raises:
            DataError: they have different ones, or some have none.
        """
        margins = list(dict.fromkeys(one.margin for one in self.each if one.metric == metric))
        if len(margins) > 1:
            said = ", ".join("none" if margin is None else f"{margin:g}" for margin in margins)
            raise DataError(f"folders have different margins, {said}: say which with --margin")
        return next(iter(margins), None)

    def unit_of(self, metric: str | None) -> str:
        """Return the unit of the folders whose figure that is; empty where one of them does not say it.

        Raises:
            DataError: they have different ones.
        """
        units = {one.unit for one in self.each if one.metric == metric}
        if len(units - {""}) > 1:
            raise DataError(f"folders have figures of different units, {all_quoted(sorted(units - {''}))}")
        return next(iter(units)) if len(units) == 1 else ""

    def looks_at(self, arms: Mapping[str, ArmFigures]) -> Looks | None:
        """Return the looks at all that is judged; None where it is what one folder has.

        Every folder has been looked at, so that each that adds pairs to those before it is a further look, as is what
        other tables add.
        """
        adding: list[Told] = []
        for one in self.each:
            if not adding or not _has(adding, one.pairs):
                adding.append(one)
        now = {name: frozenset(figures.seeds) for name, figures in arms.items()}
        more = bool(adding) and all(all(one.pairs.values()) for one in adding) and not _has(adding, now)
        if len(adding) + more < 2:
            return None
        steps: list[tuple[int, int]] = []
        for at, one in enumerate(adding):
            before, after = _size(adding[:at]), _size(adding[: at + 1])
            own = [(min(before[0] + seeds, after[0]), max(before[1], count)) for seeds, count in _looked(one)]
            steps += [*own, after]
        steps += [(max(len(seeds) for seeds in now.values()), len(now))] if more else []
        plans = {one.planned or (1 if one.added else one.looks) for one in self.each}
        ways = [Looks(planned, None, tuple(steps[:-1]), steps[-1]) for planned in plans]
        return max(ways, key=lambda looks: looks.correction)


def _has(folders: Sequence[Told], pairs: Mapping[str, frozenset[str]]) -> bool:
    return all(seeds <= frozenset().union(*(one.pairs.get(arm, ()) for one in folders)) for arm, seeds in pairs.items())


def _size(folders: Sequence[Told]) -> tuple[int, int]:
    pairs = [(arm, seed) for one in folders for arm, seeds in one.pairs.items() for seed in seeds]
    return len({seed for _, seed in pairs}), len({arm for arm, _ in pairs})


def _looked(folder: Told) -> Sequence[tuple[int, int]]:
    """Return the looks of a folder before its last; of one that says their price alone, as many as cost as much."""
    if folder.looked is not None:
        return folder.looked
    return [_size([folder])] * (folder.looks - 1).bit_length() if folder.added else ()


def joined(folders: Sequence[Told], *, changed_code: bool = False) -> Told:
    """Return what folders say together.

    Raises:
        DataError: one arm was trained in two ways, or by changed code that nobody says makes the same numbers.
    """
    for at, second in enumerate(folders):
        for first in folders[:at]:
            _check_one_program(first, second, changed_code=changed_code)
    named = (usual_baseline(told.arms) if told.baseline is None else told.baseline for told in folders)
    all_told = functools.reduce(_joined, folders) if folders else Told()
    return replace(all_told, baselines=tuple(dict.fromkeys(filter(None, named))), each=tuple(folders))


def _joined(first: Told, second: Told) -> Told:
    same = first.metric == second.metric
    return Told(
        arms=tuple(dict.fromkeys((*first.arms, *second.arms))),
        controls=tuple(dict.fromkeys((*first.controls, *second.controls))),
        baseline=first.baseline or (first.baseline if second.baseline is None else second.baseline),
        looks=max(first.looks, second.looks),
        added=" ".join(dict.fromkeys(filter(None, (first.added, second.added)))),
        validation_only=first.validation_only or second.validation_only,
        metric=first.metric if same else None,
        lower_is_better=first.lower_is_better if same else None,
        beside={**first.beside, **{arm: _beside(first.beside.get(arm), its) for arm, its in second.beside.items()}},
        dense=second.dense and first.dense,
        split=first.split if first.split == second.split else "",
    )


def _beside(first: Mapping[str, Any] | None, second: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what two folders say of an arm: what stands against a gain in one of them stands."""
    if first is None:
        return second
    either = {name: first[name] or second[name] for name in ("bound", "unmasked")}
    note = "; ".join(dict.fromkeys(filter(None, (first["note"], second["note"]))))
    same = first["same"] if first["same"] == second["same"] else ""
    ended = first["ended"] if first["ended"] == second["ended"] else "failed"
    return {**second, **either, "note": note, "same": same, "ended": ended}


# --- one program ----------------------------------------------------------------------------------------------------


def _check_one_program(first: Told, second: Told, *, changed_code: bool) -> None:
    """Raise if the pairs of one arm are known to be of two programs: some in one folder, some in the other."""
    one, other = first.trained, second.trained
    pooled = [arm for arm, seeds in second.pairs.items() if _is_pooled(seeds, first.pairs.get(arm))]
    if not pooled or _TABLE in (one.form, other.form):
        return
    both = f"'{shown(first.source)}' and '{shown(second.source)}'"
    if other_facts := [
        words
        for words, mine, its in (
            ("the form", one.form or "recipe", other.form or "recipe"),
            ("the recipe", one.recipe, other.recipe),
            ("the data", one.data, other.data),
            ("the settings", _given(one.settings), _given(other.settings)),
        )
        if mine is not None and its is not None and (_differ(mine, its) if words == "the recipe" else mine != its)
    ]:
        raise DataError(f"{other_facts[0]} of {both} differ{'' if other_facts[0][-1] == 's' else 's'}: {_APART}")
    for arm in pooled:
        mine, its = one.arms.get(arm, {}), other.arms.get(arm, {})
        for name in ("schedule", "phases", "command", "code"):
            if mine.get(name) and its.get(name) and _differ(mine[name], its[name]):
                raise DataError(f"the {name} of arm {quoted(arm)} in {both} {_DIFFERS[name]}: {_APART}")
        changed = changed_pieces(mine.get("pieces"), its.get("pieces"))
        if changed and not changed_code:
            raise DataError(
                f"the code that trains arm {quoted(arm)} in {both} differs ({all_quoted(changed, 3)}): judge each "
                "alone, or say that its numbers are the same, --changed-code (in Python changed_code=True)"
            )


def _given(settings: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if settings is None else {name: value for name, value in settings.items() if value is not None}


_DIFFERS = {"phases": "differ"} | dict.fromkeys(("schedule", "command", "code"), "differs")
_APART = "seeds of two programs are not of one arm; judge each alone"


def _is_pooled(seeds: frozenset[str], others: frozenset[str] | None) -> bool:
    """Whether an arm has seeds of two folders; where one has them all, the other adds nothing."""
    return bool(others) and not (seeds <= others or others <= seeds)


def _differ(first: Any, second: Any) -> bool:
    """Whether two values differ in what both say: an older folder lacks settings that came later."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = (first.keys() & second.keys()) - _NOT_OF_NUMBERS
        patterns = "sparsity" in names and first["sparsity"] != second["sparsity"]
        return patterns or any(_differ(_as_many(name, first[name]), _as_many(name, second[name])) for name in names)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) != len(second) or any(map(_differ, first, second))
    return first != second


def _as_many(name: str, value: Any) -> Any:
    """Return how many networks a phase is made of where their keys are given, which are others for other seeds."""
    keys = name in _NETWORKS and isinstance(value, list) and all(isinstance(key, str) for key in value)
    return len(value) if keys else value
