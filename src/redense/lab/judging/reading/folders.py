"""The facts that a comparison's folder states beside its table: controls, metric, margin, number of looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.json_text import read_json
from redense.lab.judging.figures import quoted
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
        baseline: the arm that is it; None where it is not said.
        looks: what p-values are multiplied by.
        added: what was added after looking, as a sentence.
        validation_only: the figures that decide are of validation data, whatever their column is called.
        metric: the figure that decides; None where folders say nothing, or not the same.
        lower_is_better: of that figure.
        beside: by arm, what a table has no column for: ``note``, ``ended`` and ``bound`` of `ArmFigures`.
        unit: of that figure, where a folder alone says it.
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


def told_by(table: Any) -> Told:
    """Return what the folders among paths say; nothing for what is no path.

    Raises:
        DataError: a folder's ``compare.json`` is damaged.
    """
    paths = [table] if isinstance(table, (str, PathLike)) else table if isinstance(table, (list, tuple)) else []
    told = Told()
    for path in paths:
        if isinstance(path, (str, PathLike)) and (results := _results(Path(path))):
            told = _joined(told, _read(results))
    return told


def _results(path: Path) -> Path | None:
    try:
        folder = path if path.is_dir() else path.parent if path.name == IN_A_FOLDER else None
        found = folder / _RESULTS if folder else None
        return found if found and found.is_file() else None
    except (OSError, ValueError):
        return None


def _read(path: Path) -> Told:
    try:
        data: Mapping[str, Any] = read_json(path, limit=_LARGEST)
        rows, judged, metric = data["rows"], data.get("judged") or {}, data.get("metric") or {}
        baseline = str(judged.get("baseline") or "") or None
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
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"{quoted(path)} is damaged: it is none that redense writes") from None


def _joined(first: Told, second: Told) -> Told:
    return Told(
        tuple(dict.fromkeys((*first.arms, *second.arms))),
        tuple(dict.fromkeys((*first.controls, *second.controls))),
        first.baseline if first.baseline is not None else second.baseline,
        second.margin if not first.arms or first.margin == second.margin else None,
        max(first.looks, second.looks),
        " ".join(filter(None, (first.added, second.added))),
        first.validation_only or second.validation_only,
        *((second.metric, second.lower_is_better) if not first.arms or first.metric == second.metric else (None, None)),
        {**first.beside, **second.beside},
        second.dense and (first.dense or not first.arms),
        second.unit if not first.arms or first.unit == second.unit else "",
    )
