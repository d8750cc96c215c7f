"""Evidence on a page: the registration of a task names its schema and its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from redense.errors import DataError, PluginError
from redense.files.visible import visible_line
from redense.report.kit.document import About, Section
from redense.report.kit.loading import load_object
from redense.tasks.evidence import Evidence, visible
from redense.tasks.registry import Registration, tasks


@dataclass(frozen=True)
class Found:
    """The evidence of a folder, or why there is none."""

    data: Evidence | None = None
    missing: str | None = None
    about: About = field(default_factory=About)


def read_evidence(path: Path) -> Found | None:
    """Return the evidence in a file, or why it cannot be shown; None where there is no file, or nothing to show of it.

    What ``result.json`` or ``compare.json`` beside it say of the networks comes with it.

    Raises:
        DataError: it is damaged.
    """
    data = load_object(path)
    kind = data.get("kind")
    task = _shown(kind)
    if task is None:
        if not isinstance(kind, str) or kind in tasks():
            return None
        return Found(missing=f"it is of the task '{visible(kind)}', which no plugin here has (see REDENSE_PLUGINS)")
    if "missing" in data:
        return Found(missing=visible(str(data["missing"])))
    try:
        return Found(_schema(task).model_validate(data), about=_about(path.parent))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = visible(f"{where}: {first['msg']}".removeprefix(": "))
        raise DataError(f"{path} is not what redense writes: {why}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} and what lies beside it are not what redense writes: {error!r}") from None


def noted(notes: object, found: Found | None) -> list[str]:
    """Return what is said of data, of a start or of phases as sentences, but for what the evidence says anyway."""
    told = getattr(found.data, "notes", ()) if found else ()
    listed = [str(note) for note in notes] if isinstance(notes, list | tuple) else []
    return [visible_line(f"{note[:1].upper()}{note[1:]}.") for note in listed if note not in told]


def show_evidence(found: Found | None, of: str = "") -> list[Section]:
    """Return what evidence adds to a page: nothing where there is none."""
    if found is None or found.data is None:
        return []
    task = tasks()[found.data.kind]
    try:
        return list(task.load("report")(found.data, replace(found.about, of=of)))
    except Exception as error:
        if task.is_ours:
            raise
        raise PluginError(f"the report of the task '{task.name}' failed: {type(error).__name__}: {error}") from error


def can_show(task: str) -> bool:
    """Whether the report knows the evidence of a task."""
    return _shown(task) is not None


def _shown(kind: object) -> Registration | None:
    """The task whose evidence is of a kind, if the report knows how to show it."""
    found = tasks().get(kind) if isinstance(kind, str) else None
    return found if found is not None and found.has("evidence") and found.has("report") else None


def _schema(task: Registration) -> type[Evidence]:
    schema = task.load("evidence")
    if not (isinstance(schema, type) and issubclass(schema, Evidence) and getattr(schema, "kind", None) == task.name):
        raise PluginError(
            f"the evidence of the task '{task.name}' must be a subclass of redense.tasks.evidence.Evidence whose kind "
            f"is '{task.name}', got {schema!r}"
        )
    return schema


def _about(folder: Path) -> About:
    result = load_object(folder / "result.json") or load_object(folder / "compare.json")
    return About(str(result.get("recipe") or ""), _sparsities(result))


def _sparsities(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return network -> sparsity: of a run's phases as measured, of a comparison's arms as their last phase plans."""
    if "phases" in result:
        return {str(phase["name"]): _number(phase.get("sparsity")) for phase in result["phases"]}
    found: dict[str, float | None] = {}
    for row in result.get("rows", ()):
        last = row["phases"][-1]["phase"] if row["phases"] else {"pattern": None}
        found[str(row["arm"])] = None if "pattern" in last else _number(last.get("sparsity", 0.0))
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
