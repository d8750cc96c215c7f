"""The names of the classes of a Hugging Face set: its splits may number them apart, each from 0 for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.tasks.folders import paths_below

_SHOWN = 5


@dataclass(frozen=True)
class Named:
    """Labels that mean the same in every split: numbers of ``names``, or words and numbers as they are if None.

    ``apart`` are the splits whose labels had other names.
    """

    names: tuple[str, ...] | None
    labels: dict[str, list[Any]]
    apart: tuple[str, ...] = ()


def names_in(features: Mapping[str, Any] | None, label: str) -> tuple[str, ...] | None:
    """Return the names of a column of classes; None where it has none."""
    names: list[str] | None = getattr((features or {}).get(label), "names", None)
    return tuple(names) if names else None


def named_alike(own: Mapping[str, tuple[str, ...] | None], labels: Mapping[str, list[Any]]) -> Named:
    """Return the labels of every split as the training split names them; its names first, then those it lacks.

    Args:
        own: split -> the names of its column of classes.
        labels: split -> the labels as they are there.
    """
    names = own["train"]
    apart = tuple(part for part in labels if not _agree(own[part] or (), names or ()))
    if names is None:
        words = all(isinstance(label, str) for label in labels["train"])
        if not words:  # numbers without names: nothing says what they mean
            return Named(None, dict(labels))
        return Named(None, {part: _words(own[part], every) for part, every in labels.items()}, apart)
    words = {part: every if own[part] == names else _words(own[part], every) for part, every in labels.items()}
    others = (label for every in words.values() for label in every if isinstance(label, str))
    every_name = tuple(dict.fromkeys([*names, *(name for part in labels for name in own[part] or ()), *others]))
    number = {name: index for index, name in enumerate(every_name)}
    return Named(
        every_name,
        {part: [number.get(label, label) for label in every] for part, every in words.items()},
        apart,
    )


def verify_parquet(folder: Path, label: str, source: str) -> None:
    """Refuse parquet files that name their classes apart: `datasets` reads all of them by the names of the first.

    Raises:
        DataError: two files do.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    first: tuple[Path, tuple[str, ...]] | None = None
    for path in paths_below(folder, (".parquet",)):
        try:
            names = names_in(Features.from_arrow_schema(pq.read_schema(path)), label)
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
            continue  # whoever reads its rows says what is wrong
        if names is None:
            continue
        if first is None:
            first = path, names
        elif not _agree(names, first[1]):
            raise DataError(
                f"{source}: {first[0].name} and {path.name} number the classes of {label!r} apart ({_said(first[1])}; "
                f"{_said(names)}), and datasets reads both by the names of one: give all splits one ClassLabel "
                f"(`cast_column`) and write them again, or use save_to_disk, which keeps the names of each"
            )


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether a number has the same name in both, where both have one for it."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _words(names: tuple[str, ...] | None, labels: list[Any]) -> list[Any]:
    """Return names for the numbers that have one, and what else there is."""
    if not names:
        return labels
    return [names[label] if type(label) is int and 0 <= label < len(names) else label for label in labels]


def _said(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
