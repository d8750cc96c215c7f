"""What networks did with the test examples, on a page: each kind of evidence has its own reader and its own sections.

A new kind is one entry of ``_KINDS``, under the ``kind`` that the task writes into ``evidence.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.report.kit.document import Section
from redense.report.kit.loading import load_object
from redense.report.tasks.captioning import part as captioning_part
from redense.report.tasks.captioning import reading as captioning_reading
from redense.report.tasks.classification import part as classification_part
from redense.report.tasks.classification import reading as classification_reading
from redense.report.tasks.speech import part as speech_part
from redense.report.tasks.speech import reading as speech_reading


@dataclass(frozen=True)
class Kind:
    """How the report shows one kind of evidence.

    Args:
        read: from the path of ``evidence.json`` to data, or to the reason why there is none.
        show: from that data and a few words on what it is of (``, seed 0``) to sections.
    """

    read: Callable[[Path], Any]
    show: Callable[[Any, str], list[Section]]


@dataclass(frozen=True)
class Found:
    """The evidence of a folder: its kind and data, or why there is none."""

    kind: str
    data: Any = None
    missing: str | None = None


_KINDS: dict[str, Kind] = {
    classification_reading.KIND: Kind(classification_reading.read_evidence, classification_part.sections),
    speech_reading.KIND: Kind(speech_reading.read_evidence, speech_part.sections),
    captioning_reading.KIND: Kind(captioning_reading.read_evidence, captioning_part.sections),
}


def read_evidence(path: Path) -> Found | None:
    """Return the evidence in a file; None where there is no file, or it is of a kind that this report cannot show.

    Raises:
        DataError: it is damaged.
    """
    kind = load_object(path).get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    data = _KINDS[kind].read(path)
    return Found(kind, missing=data) if isinstance(data, str) else Found(kind, data)


def show_evidence(found: Found | None, of: str = "") -> list[Section]:
    """Return what evidence adds to a page: nothing where there is none."""
    return [] if found is None or found.data is None else _KINDS[found.kind].show(found.data, of)


def can_show(task: str) -> bool:
    """Whether the report knows the evidence of a task."""
    return task in _KINDS
