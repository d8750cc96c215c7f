"""The columns of a table that hold the figure which is judged, and of which split each is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from redense.errors import DataError, nearest
from redense.files.visible import folded
from redense.lab.judging.figures import quoted, shown, split_of

from .cells import Columns, is_number, is_written_number, label

SPLITS = ("test", "validation")
Chosen: TypeAlias = tuple[str, bool, Mapping[str, str]]  # name of the figure, whether there are splits, split -> column
_OWN = ("arm", "seed", "split", "steps", "gradients", "parameters", "nonzeros", "failed")
_NONE_OF_KERAS = frozenset({"error", "wer", "cer"})


def choose_columns(columns: Columns, metric: str | None) -> Chosen:
    """Return the columns of a figure, of the only one where none is named.

    Raises:
        DataError: there is none, or more than one that may be meant.
    """
    metric = _only_column(columns) if metric is None else metric.strip()
    if found := _of_split(columns, metric):
        return found
    known = [name for name in columns.cells if name not in _OWN]
    raise DataError(
        f"{columns.source} has no column {quoted(metric)}{nearest(metric, map(shown, known))}; there are "
        f"{', '.join(map(quoted, known[:20])) or 'no figures'}"
    )


def _of_split(columns: Columns, metric: str) -> Chosen | None:
    """Return the columns of a figure that is named; None where there are none."""
    own, bare = split_of(metric)
    is_there = metric in columns.cells and metric not in ("arm", "seed", "split")
    twins: dict[str, str] = {}  # of each split, the column of the same figure, however it is spelled
    for name in columns.cells:
        split, other = split_of(name)
        if split and name != metric and _spelled_alike(other) == _spelled_alike(bare if own and is_there else metric):
            if split in twins and not (own == "validation" and is_there):
                raise DataError(
                    f"{columns.source} has columns {quoted(twins[split])} and {quoted(name)}: which is meant?"
                )
            twins[split] = name
    if "split" in columns.cells:
        if not is_there:
            if twins:
                raise DataError(
                    f"{columns.source} has a column 'split' and {' and '.join(twins.values())}: which is meant?"
                )
            return None
        others = {*map(label, columns.cells["split"])}.intersection(SPLITS)
        if own and others and own not in others:  # with both it is a name, and the rows say the split
            raise DataError(
                f"{columns.source} has rows of 'split' {quoted(others.pop())} with the figure {quoted(metric)}: call "
                f"the column {quoted(bare)}, or leave 'split' out"
            )
        return metric, True, {"": metric}
    if not is_there:
        return (metric, True, twins) if twins and metric else None
    if own == "validation":
        return bare, True, {"validation": metric}
    if own == "test" and "validation" in twins:
        return bare, True, {"test": metric, "validation": twins["validation"]}
    if not own and "test" in twins:
        raise DataError(
            f"{columns.source} has {quoted(metric)} beside {quoted(twins['test'])}: say which with --metric "
            f"{quoted(twins['test'])}, or call the other otherwise"
        )
    if not own and "validation" in twins:
        _check_training(columns, metric, twins["validation"])
        return metric, True, {"test": metric, **twins}  # what says no split is beside it that of test
    return metric, False, {"": metric}


def _check_training(columns: Columns, metric: str, beside: str) -> None:
    """Raise if a figure beside that on validation data is of training data, as all are that Keras logs.

    It logs none that is called ``error``, but where it has logged losses, such a name is one of its user's.
    """
    spelled = {(split, _spelled_alike(bare)) for split, bare in map(split_of, columns.cells)}
    if _spelled_alike(metric) not in _NONE_OF_KERAS or {("", "loss"), ("validation", "loss")} <= spelled:
        test = f"test_{metric}"
        raise DataError(
            f"{columns.source} has {quoted(metric)} beside {quoted(beside)}, as a log of Keras, where {quoted(metric)} "
            f"is of training data: judge {quoted(beside)}, or, if it is of test data, call it {quoted(test)}"
        )


def _spelled_alike(name: str) -> str:
    """Return a name without what may be spelled otherwise: capitals, and what stands between its words."""
    return re.sub(r"[\s_/.-]+", " ", folded(name)).strip()


def _only_column(columns: Columns) -> str:
    """Return the one column of numbers; a column is one where any of its cells is a number, or all are written as one.

    Figures with a percent sign or a decimal comma are refused, and another column must not stand in for them.
    """
    left = [name for name in columns.cells if name not in _OWN]
    numbers = [name for name in left if any(map(is_number, columns.cells[name])) or _is_written(columns.cells[name])]
    if len(numbers) == 1 or (not numbers and len(left) == 1):
        return (numbers or left)[0]
    if not numbers:
        raise DataError(f"{columns.source} has no column of numbers besides arm and seed")
    of_splits = all(split_of(name)[0] for name in numbers)
    bare = [split_of(name)[1] if of_splits else name for name in numbers]
    told = list(dict.fromkeys(bare))
    if len(told) == 1:  # both splits of one figure
        return told[0]
    listed = ", ".join(map(quoted, told[:20]))
    raise DataError(f"{columns.source} has more than one column of numbers: say which with --metric, one of {listed}")


def _is_written(cells: Sequence[Any]) -> bool:
    """Whether all cells that are filled are numbers to a person."""
    filled = [cell for cell in cells if label(cell) != ""]
    return bool(filled) and all(map(is_written_number, filled))
