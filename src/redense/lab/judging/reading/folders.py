"""The facts that a comparison's folder states beside its table: controls, metric, margin, looks, what trained it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.checksums import check_sums
from redense.files.json_text import read_json
from redense.files.opening import at_home
from redense.lab.judging.figures import shown
from redense.lab.judging.results import is_control, is_dense, told_beside

from .cells import IN_A_FOLDER, label
from .joining import Told, Trained, joined

_RESULTS = "compare.json"
_PLAN = "comparison.json"
_LARGEST = 1 << 30  # bytes


def told_by(table: Any, *, changed_code: bool = False) -> Told:
    """Return what the folders among paths say; nothing for what is no path.

    Args:
        table: as it is given to be judged.
        changed_code: other code in one folder than in another is said to make the same numbers.

    Raises:
        CheckpointError: a folder's table or ``compare.json`` does not match its checksum, or is gone.
        DataError: a folder's ``compare.json`` is damaged, figures of validation data lie beside others, or one arm was
            trained in two ways.
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
    return joined(list(read.values()), changed_code=changed_code)


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
    at = path.parent / _PLAN
    try:
        plan = _plan(path.parent)
        at = path
        data: Mapping[str, Any] = read_json(path, limit=_LARGEST)
        rows, judged, metric = data["rows"], data.get("judged") or {}, data.get("metric") or {}
        named = judged.get("baseline")
        baseline = None if named is None else str(named)
        more = len(rows) - len(plan.get("arms") or rows)  # a recipe's arms lack the baseline, and one may be many
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
            source=str(path.parent),
            pairs={str(row["arm"]): frozenset(label(run["seed"]) for run in row.get("seeds") or ()) for row in rows},
            joins=tuple(frozenset(map(label, own)) for own in judged.get("folders") or ()),
            planned=int(plan["looks"]) if plan.get("looks") else None,
            looked=tuple((int(seeds), int(arms) + more) for seeds, arms in plan.get("looked") or ()) if plan else None,
            trained=_trained(data, plan),
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"'{shown(at)}' is damaged: it is none that redense writes") from None


def _plan(folder: Path) -> Mapping[str, Any]:
    """Return what was planned; nothing where a folder lacks it, as that of a table that was judged."""
    path = folder / _PLAN
    if not path.is_file():
        return {}
    check_sums(folder, _PLAN)
    plan: Any = read_json(path, limit=_LARGEST)
    return plan if isinstance(plan, Mapping) else {}


def _trained(data: Mapping[str, Any], plan: Mapping[str, Any]) -> Trained:
    arms = {str(row["arm"]): {"phases": row.get("phases")} for row in data["rows"]}
    for arm in plan.get("arms") or ():
        if isinstance(arm, Mapping) and arm.get("name") in arms:
            arms[arm["name"]] |= {name: arm.get(name) for name in ("schedule", "command", "code", "pieces")}
    settings = plan.get("settings") or {} if plan else None
    return Trained(arms, plan.get("recipe"), data.get("data"), settings, data.get("form"))
