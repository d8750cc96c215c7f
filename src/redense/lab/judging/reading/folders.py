"""The facts that a comparison's folder states beside its table: controls, metric, margin, number of looks."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.checksums import check_sums
from redense.files.json_text import read_json
from redense.files.opening import at_home
from redense.lab.judging.figures import shown, usual_baseline
from redense.lab.judging.results import is_control, is_dense, told_beside

from .cells import IN_A_FOLDER

_RESULTS = "compare.json"
_LARGEST = 1 << 30  # bytes


@dataclass(frozen=True)
class Told:
    """The facts that folders state of their arms.

    Args:
        arms: those that they know.
        controls: those without a mask, or that were named as controls.
        baseline: the arm that is it; empty where there are only controls, None where it is not said.
        looks: what p-values are multiplied by.
        added: what was added after looking, as a sentence.
        validation_only: the figures that decide are of validation data, whatever their column is called.
        metric: the figure that decides; None where folders say nothing, or not the same.
        lower_is_better: of that figure.
        beside: by arm, what a table has no column for: ``note``, ``ended`` and ``bound`` of `ArmFigures`.
        unit: of that figure, where a folder alone says it.
        split: of the figures that decide, as the folder says it; empty where nobody told it, None without a folder.
        baselines: of all folders; more than one where they do not agree.
        sides: whether lower is better, of all folders; both where they do not agree.
        dense: the baseline is the dense phase that the other arms begin with.
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
    sides: tuple[bool, ...] = ()


def told_by(table: Any) -> Told:
    """Return what the folders among paths say; nothing for what is no path.

    Raises:
        CheckpointError: a folder's table or ``compare.json`` does not match its checksum, or is gone.
        DataError: a folder's ``compare.json`` is damaged, or figures of validation data lie beside others.
    """
    several = isinstance(table, Collection) and not isinstance(table, (str, Mapping)) and not hasattr(table, "columns")
    tables: list[Any] = list(table) if several else [table]
    paths = [at_home(one) for one in tables if isinstance(one, (str, PathLike))]
    read = {path: _read(results) for path in paths if (results := _results(path))}
    only = [path for path, told in read.items() if told.validation_only]
    if only and len(tables) > len(paths):
        raise DataError(f"'{shown(only[0])}' has figures of validation data alone: judge it without another table")
    if only and (others := [path for path in paths if path not in only]):
        raise DataError(
            f"'{shown(only[0])}' has figures of validation data alone, and '{shown(others[0])}' has not: figures of "
            "two splits are not of one family"
        )
    named = (usual_baseline(told.arms) if told.baseline is None else told.baseline for told in read.values())
    joined = functools.reduce(_joined, read.values(), Told())
    sides = {told.lower_is_better for told in read.values() if told.lower_is_better is not None}
    return replace(joined, baselines=tuple(dict.fromkeys(filter(None, named))), sides=tuple(sorted(sides)))


def _results(path: Path) -> Path | None:
    try:
        folder = path if path.is_dir() else path.parent if path.name == IN_A_FOLDER else None
        if folder is None:
            return None
        check_sums(folder, IN_A_FOLDER, _RESULTS)
        found = folder / _RESULTS
        return found if found.is_file() else None
    except (OSError, ValueError):
        return None


def _read(path: Path) -> Told:
    try:
        data: Mapping[str, Any] = read_json(path, limit=_LARGEST)
        rows, judged, metric = data["rows"], data.get("judged") or {}, data.get("metric") or {}
        named = judged.get("baseline")
        baseline = None if named is None else str(named)
        return Told(
            arms=tuple(str(row["arm"]) for row in rows),
            controls=tuple(str(row["arm"]) for row in rows if is_control(row)),
            baseline=baseline,
            margin=None if judged.get("margin") is None else float(judged["margin"]),
            looks=int(judged.get("looks") or 1),
            added=str(judged.get("added") or ""),
            validation_only=bool(judged.get("validation_only")),
            metric=metric.get("name"),
            lower_is_better=metric.get("lower_is_better"),
            beside={str(row["arm"]): told_beside(row) for row in rows},
            dense=is_dense(data, baseline),
            unit=str(metric.get("unit") or ""),
            split=str(data.get("split", "test")),
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"'{shown(path)}' is damaged: it is none that redense writes") from None


def _joined(first: Told, second: Told) -> Told:
    return Told(
        tuple(dict.fromkeys((*first.arms, *second.arms))),
        tuple(dict.fromkeys((*first.controls, *second.controls))),
        first.baseline or (first.baseline if second.baseline is None else second.baseline),
        second.margin if not first.arms or first.margin == second.margin else None,
        max(first.looks, second.looks),
        " ".join(filter(None, (first.added, second.added))),
        first.validation_only or second.validation_only,
        *((second.metric, second.lower_is_better) if not first.arms or first.metric == second.metric else (None, None)),
        {**first.beside, **second.beside},
        second.dense and (first.dense or not first.arms),
        second.unit if not first.arms or first.unit == second.unit else "",
        second.split if not first.arms or first.split == second.split else None,
    )
