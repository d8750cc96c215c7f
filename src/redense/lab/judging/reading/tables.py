"""Reading a table of results, however it was written: the figures of arms, or one line on what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from os import PathLike
from typing import Any

from redense.errors import DataError, nearest
from redense.files.opening import at_home
from redense.files.visible import folded
from redense.lab.judging.figures import ArmFigures, Table, check_names, check_seeds, quoted, shown, split_of

from .cells import (
    Columns,
    columns_of_frame,
    columns_of_rows,
    finite,
    label,
    plain,
    read_file,
    read_stream,
    without_prefix,
    without_prefixes,
)
from .columns import SPLITS, choose_columns
from .states import COLUMNS as STATES
from .states import is_known, unended

_PARTLY = "other runs of this arm have it: give it for all of them, or for none"
_OPTIONAL = ("split", "steps", "failed")  # columns that nobody misses


def read_table(table: Any, *, metric: str | None = None, validation: Any = None) -> Table:
    """Return a table that can be judged; the arguments are those of `redense.judge`.

    Raises:
        DataError: it cannot be judged.
    """
    if isinstance(table, Mapping):
        return _of_numbers(table, validation, metric)
    if validation is not None:
        raise DataError("validation figures beside a table are a column or a split of it; give them apart to a dict")
    if _is_file(table):
        return _of_columns([_read(table)], metric)
    if hasattr(table, "column_names") and hasattr(table, "to_pylist"):  # of Arrow
        return _of_columns([columns_of_rows(table.to_pylist(), "the table")], metric)
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        return _of_columns([columns_of_frame(table)], metric)
    if not isinstance(table, Iterable) or isinstance(table, bytes):
        raise DataError(f"expected a path, a data frame, a list of dicts or a dict, got a {type(table).__name__}")
    rows = list(table)
    if rows and all(map(_is_file, rows)):
        return _of_columns([_read(row) for row in rows], metric)
    return _of_columns([columns_of_rows(rows)], metric)


def _is_file(table: Any) -> bool:
    return isinstance(table, (str, PathLike)) or (hasattr(table, "read") and not hasattr(table, "columns"))


def _read(file: Any) -> Columns:
    return read_file(at_home(file)) if isinstance(file, (str, PathLike)) else read_stream(file)


# --- columns --------------------------------------------------------------------------------------------------------


_Run = tuple[float | str, float | None]  # its figure, or why there is none; its steps
_Arm = Mapping[str, dict[str, _Run]]  # split -> seed -> run


def _of_columns(tables: Sequence[Columns], metric: str | None) -> Table:
    arms: dict[str, _Arm] = {}
    name, split_by, all_test = None, None, True
    for columns in map(without_prefixes, tables):
        found, by_split, figures = _figures(columns, metric)
        if name is not None and found != name:
            raise DataError(
                f"{columns.source} has figures {quoted(found)}, and the tables before it {quoted(name)}: name them "
                "with --metric, or call the columns alike"
            )
        figures = list(figures)
        tests = not by_split or any(split == "test" for _, _, split, *_ in figures)
        if name is not None and by_split != split_by and not (tests and all_test):
            raise DataError(
                f"of {columns.source} and the tables before it one has validation figures of {quoted(found)}, and one "
                f"does not say of which split its own are: call its column {quoted(f'test_{found}')} or "
                f"{quoted(f'validation_{found}')}"
            )
        name, split_by, all_test = found, by_split and split_by is not False, tests and all_test
        seen: set[tuple[str, str, str]] = set()
        for arm, seed, split, value, steps, row in figures:
            if (arm, seed, split) in seen:
                which = f" ({split})" if by_split else ""
                raise DataError(f"{_where(columns, arm, seed, row)} is there twice{which}")
            seen.add((arm, seed, split))
            runs = arms.setdefault(arm, {one: {} for one in SPLITS})[split]
            before, steps_before = runs.get(seed, (value, None))
            said = ""
            if before != value:
                said = f"{_told(before)} in one table and {_told(value)} in another"
            elif steps is not None and steps_before is not None and steps != steps_before:
                said = f"of {steps_before:,.10g} steps in one table and {steps:,.10g} in another"
            if said:
                raise DataError(f"{_where(columns, arm, seed, row)} is {said}: they are not of one family")
            runs[seed] = value, steps_before if steps is None else steps
    if not arms:
        raise DataError(f"{tables[0].source if tables else 'the table'} has no rows")
    return _checked(arms, name, bool(split_by))


def _checked(arms: Mapping[str, _Arm], metric: str | None, split_by: bool) -> Table:
    only = split_by and not any(arm["test"] for arm in arms.values())
    made: dict[str, ArmFigures] = {}
    for name, arm in arms.items():
        runs = arm["validation" if only else "test"]
        steps = {seed: own for seed, (_, own) in runs.items() if own is not None}
        for seed, (_, own) in arm["validation"].items():
            its = runs.get(seed, (0, own))[1]
            if its is not None and own is not None and its != own:
                said = f"{its:,.10g} steps beside its test figure and {own:,.10g} beside its validation figure"
                raise DataError(f"arm {quoted(name)}, seed {quoted(seed)} has {said}: one run has one number")
        failed = {seed: why for seed, (why, _) in runs.items() if isinstance(why, str)}
        beside = {} if only else {seed: run for seed, run in arm["validation"].items() if seed not in failed}
        made[name] = ArmFigures(
            values=_numbers_of(runs),
            validation=_numbers_of(beside),
            steps=math.fsum(steps.values()) / len(steps) if steps else None,
            runs=len(runs),
            ended="failed",
            failures=failed,
            steps_of=steps,
        )
    if not any(arm.values for arm in made.values()):
        name, seed, why = next((n, s, w) for n, arm in made.items() for s, w in arm.failures.items())
        raise DataError(f"every run of the table failed; arm {quoted(name)}, seed {quoted(seed)}: {quoted(why)}")
    check_names(made)
    check_seeds(made)
    return Table(metric, made, only, split_by)


def _numbers_of(runs: Mapping[str, _Run]) -> dict[str, float]:
    return {seed: value for seed, (value, _) in runs.items() if not isinstance(value, str)}


_Row = tuple[str, str, str, float | str, float | None, int]  # arm, seed, split, figure or why none, steps, index


def _told(value: float | str) -> str:
    return "failed" if isinstance(value, str) else repr(value).removesuffix(".0")  # with all digits: they differ


def _figures(columns: Columns, metric: str | None) -> tuple[str, bool, Iterator[_Row]]:
    """Return the name of the figure, whether there are splits, and the rows."""
    if not columns.cells:
        raise DataError(f"{columns.source} has no rows")
    for needed in ("arm", "seed"):
        if needed not in columns.cells:
            has = ", ".join(shown(name) for name in list(columns.cells)[:20])
            raise DataError(f"{columns.source} has no column '{needed}'; it has {has or 'none'}")
    for name in columns.cells:
        bare = folded(without_prefix(name))
        if name not in _OPTIONAL and bare in _OPTIONAL and (bare == folded(name) or bare not in columns.cells):
            raise DataError(f"{columns.source} has a column {quoted(name)}: call it '{bare}', or otherwise")
    if not columns.rows:
        raise DataError(f"{columns.source} has no rows")
    found, by_split, named = choose_columns(columns, metric)
    return found, by_split, _rows(columns, named)


def _rows(columns: Columns, by_split: Mapping[str, str]) -> Iterator[_Row]:
    splits = columns.cells.get("split") if "" in by_split else None
    all_steps, reasons = columns.cells.get("steps"), _reasons(columns)
    empty = {split for split, name in by_split.items() if all(label(cell) == "" for cell in columns.cells[name])}
    if len(by_split) > 1:
        by_split = {split: name for split, name in by_split.items() if split != "validation" or split not in empty}
    told = by_split if splits is None else set(map(label, splits))
    deciding = "test" if "" in told or "test" in told else "validation"
    names, seeds = (list(map(label, columns.cells[name])) for name in ("arm", "seed"))
    # An arm of which nobody told the steps, or validation figures, has none; one that lacks some of them is refused.
    stepped = {arm for arm, cell in zip(names, all_steps or (), strict=False) if label(cell) != ""}
    beside = columns.cells[by_split["validation"]] if len(by_split) > 1 else ()
    validated = {arm for arm, cell in zip(names, beside, strict=False) if label(cell) != ""}
    for index, (arm, seed) in enumerate(zip(names, seeds, strict=True)):
        if not arm or not seed:
            empty_one = "seed" if arm else "arm"
            raise DataError(f"{columns.source}, {columns.place(index)}: '{empty_one}' is empty")
        for given, name in by_split.items():
            split = given or "test"
            if splits is not None:
                split = label(splits[index])
                if split not in SPLITS:
                    said = f"'split' is {quoted(split)}, expected test or validation"
                    raise DataError(f"{_where(columns, arm, seed, index)}: {said}")
            cell, partly = columns.cells[name][index], len(by_split) > 1 and split == "validation"
            if partly and arm not in validated:
                continue
            why, failing = next(((own, said) for own, of in reasons if (said := of(index))), ("", ""))
            if (value := plain(cell)) is None:
                missing = failing if label(cell) == "" else ""
                place = f"{_where(columns, arm, seed, index)}: {quoted(name)}"
                value = missing or (finite(cell, place, _PARTLY) if partly else finite(cell, place))
            if failing and not isinstance(value, str) and split == deciding:
                raise DataError(
                    f"{_where(columns, arm, seed, index)}: {quoted(name)} is {value:g}, and {quoted(why)} is "
                    f"{quoted(failing)}: a run that failed has no figure, and one that did not has no reason"
                )
            steps = None if all_steps is None else plain(all_steps[index])
            if steps is None and all_steps is not None and arm in stepped:
                untold = isinstance(value, str) and label(all_steps[index]) == ""
                place = f"{_where(columns, arm, seed, index)}: 'steps'"
                steps = None if untold else finite(all_steps[index], place, _PARTLY)
            if steps is not None and steps < 0:
                raise DataError(f"{_where(columns, arm, seed, index)}: 'steps' is {steps:g}, expected 0 or more")
            yield arm, seed, split, value, steps, index


def _reasons(columns: Columns) -> list[tuple[str, Callable[[int], str]]]:
    """Return the columns that say why a run failed, with what each says of a row: those of trackers among them."""
    found: list[tuple[str, Callable[[int], str]]] = []
    for name, cells in columns.cells.items():
        if name == "failed":
            found.append((name, lambda index, cells=cells: _failing(cells[index])))
        elif folded(name) in STATES:
            if unknown := {label(cell) for cell in cells if not is_known(cell)}:
                index = next(index for index, cell in enumerate(cells) if label(cell) in unknown)
                raise DataError(
                    f"{columns.source}, {columns.place(index)}: {quoted(name)} is {quoted(cells[index])}, which may be "
                    "of a run that came to its end or not: write 'finished' or 'failed', or call the column otherwise"
                )
            found.append((name, lambda index, cells=cells: unended(cells[index])))
    return found


def _failing(cell: Any) -> str:
    """Return why a run failed, as a column says it; empty where it did not."""
    why = label(cell)
    return "" if why.casefold() in ("false", "no", "0", "none", "null") else why


def _where(columns: Columns, arm: str, seed: str, row: int) -> str:
    return f"{columns.source}, {columns.place(row)}: arm {quoted(arm)}, seed {quoted(seed)}"


# --- numbers by arm -------------------------------------------------------------------------------------------------


def _of_numbers(table: Mapping[Any, Any], validation: Any, metric: str | None) -> Table:
    if not table:
        raise DataError("the table has no arms")
    values: dict[str, dict[str, float]] = {}
    unnamed = {_name(arm): not hasattr(given, "items") for arm, given in table.items()}
    for arm, given in table.items():
        if _name(arm) in values:
            raise DataError(f"arm {quoted(_name(arm))} is there twice")
        values[_name(arm)] = _numbers(_name(arm), given)
    if len(set(unnamed.values())) > 1:
        plain = next(arm for arm, without in unnamed.items() if without)
        raise DataError(f"arm {quoted(plain)} has numbers without seeds and others have them: give all in one way")
    if validation is not None and not isinstance(validation, Mapping):
        raise DataError(f"validation is a dict as the table is, got a {type(validation).__name__}")
    beside: dict[str, dict[str, float]] = {}
    for arm, given in (validation or {}).items():
        name = _name(arm)
        if name not in values:
            raise DataError(
                f"validation has an arm {quoted(name)} that is not in the table{nearest(name, map(shown, values))}"
            )
        seeds = list(values[name])
        beside[name] = _numbers(name, given, "validation of ", None if hasattr(given, "items") else seeds)
    arms = {arm: ArmFigures(own, beside.get(arm, {}), None, len(own)) for arm, own in values.items()}
    check_names(arms)
    check_seeds(arms)
    return Table(metric, arms, validation is None and split_of(metric or "")[0] == "validation")


def _name(arm: Any) -> str:
    name = label(arm)
    if not name:
        raise DataError("an arm has an empty name")
    return name


def _numbers(arm: str, given: Any, what: str = "", seeds: Sequence[str] | None = None) -> dict[str, float]:
    """Return ``{seed: number}`` or a sequence as the first; a sequence has the seeds given, or 0, 1, 2 and so on."""
    if hasattr(given, "items"):
        items = [(label(seed), value) for seed, value in given.items()]
    elif isinstance(given, (str, bytes, Set)) or not isinstance(given, Iterable):  # a set has no order
        raise DataError(f"{what}arm {quoted(arm)}: expected {{seed: number}} or one number a seed, got {quoted(given)}")
    else:
        numbers = list(given)
        if seeds is not None and len(seeds) != len(numbers):
            raise DataError(f"{what}arm {quoted(arm)}: {len(numbers)} numbers for {len(seeds)} seeds")
        items = list(zip(seeds or map(str, range(len(numbers))), numbers, strict=True))
    found: dict[str, float] = {}
    for seed, value in items:
        if seed in found:
            raise DataError(f"{what}arm {quoted(arm)}, seed {quoted(seed)} is there twice")
        found[seed] = finite(value, f"{what}arm {quoted(arm)}, seed {quoted(seed)}")
    if not found:
        raise DataError(f"{what}arm {quoted(arm)} has no numbers")
    return found
