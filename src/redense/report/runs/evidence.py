"""Evidence on a page: each kind has its schema and its own sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from redense.errors import DataError
from redense.report.kit.document import About, Section
from redense.report.kit.loading import load_object
from redense.report.tasks.captioning import part as captioning_part
from redense.report.tasks.classification import part as classification_part
from redense.report.tasks.speech import part as speech_part
from redense.tasks.captioning.schema import CaptioningEvidence
from redense.tasks.classification.schema import ClassificationEvidence
from redense.tasks.evidence import Evidence, visible
from redense.tasks.speech.schema import SpeechEvidence

Show: TypeAlias = Callable[[Any, About], list[Section]]


@dataclass(frozen=True)
class Found:
    """The evidence of a folder, or why there is none."""

    data: Evidence | None = None
    missing: str | None = None
    about: About = field(default_factory=About)


_KINDS: dict[str, tuple[type[Evidence], Show]] = {
    "classification": (ClassificationEvidence, classification_part.sections),
    "speech": (SpeechEvidence, speech_part.sections),
    "captioning": (CaptioningEvidence, captioning_part.sections),
}


def read_evidence(path: Path) -> Found | None:
    """Return the evidence in a file; None where there is no file, or it is of a kind that this report cannot show.

    What ``result.json`` or ``compare.json`` beside it say of the networks comes with it.

    Raises:
        DataError: it is damaged.
    """
    data = load_object(path)
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    if "missing" in data:
        return Found(missing=visible(str(data["missing"])))
    try:
        return Found(_KINDS[kind][0].model_validate(data), about=_about(path.parent))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = visible(f"{where}: {first['msg']}".removeprefix(": "))
        raise DataError(f"{path} is not what redense writes: {why}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} and what lies beside it are not what redense writes: {error!r}") from None


def show_evidence(found: Found | None, of: str = "") -> list[Section]:
    """Return what evidence adds to a page: nothing where there is none."""
    if found is None or found.data is None:
        return []
    return _KINDS[found.data.kind][1](found.data, replace(found.about, of=of))


def can_show(task: str) -> bool:
    """Whether the report knows the evidence of a task."""
    return task in _KINDS


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
