"""`redense data check PATH` for labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redense.errors import DataError
from redense.files.visible import counted, visible_line
from redense.tasks.classification.config import ImageData
from redense.tasks.faults import Checked, Fault, fault_lines
from redense.tasks.folders import has_any

from .assemble import Part, first_part, shown_classes, unknown_classes
from .checking import OnChecked
from .layouts.folder import SUFFIXES
from .loading import divide_images
from .reading import read_images
from .sets import AnySet, ImageSet

_FEW, _SMALL = 100, 20  # images of a validation or test split, training images of a class: fewer are said


def has_images(place: Path) -> bool:
    """Whether a folder holds pictures."""
    return place.is_dir() and has_any(place, SUFFIXES)


def check(config: ImageData, full: bool, show: OnChecked | None = None) -> Checked:
    """Look at every image of a set, and with ``full`` decode it, and return what is there and what is wrong with it.

    The facts of a split are its ``images``, ``classes`` (name -> usable images) and ``sizes``: height, width, and how
    many usable images have them, the smallest first.

    Raises:
        DataError: it is no set of images, or one whose files cannot be left out one by one is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    found = read_images(config, full=full, by_row=full, on_checked=show)
    notes, refusal = found.notes, ""
    divided: Mapping[str, AnySet] = {}
    try:
        splits = divide_images(config, found)
        divided, notes = splits.by_name(), splits.notes
    except DataError as error:
        refusal = str(error)
    known = shown_classes(first_part(found.parts)) if found.parts else ()
    facts: dict[str, Any] = {}
    lines: list[str] = []
    faults: list[Fault] = []
    for name, part in (found.parts or found.in_memory).items():
        facts[name], own = _of_part(name, part, known) if isinstance(part, Part) else _of_memory(part)
        lines += [*_described(name, **facts[name]), *fault_lines(own)]
        faults += own
    trained = {name: len(part) for name, part in divided.items()}
    if trained:
        lines.append("training divides them: " + ", ".join(f"{count:,} {name}" for name, count in trained.items()))
    notes = (*notes, *small_notes(divided))
    lines += [f"note: {note}" for note in notes]
    lines.append(f"taken for {found.layout}")
    plain = {"layout": found.layout, "splits": facts, "trained": trained, "notes": notes}
    return Checked(lines, plain, faults, refusal)


def _of_part(name: str, part: Part, known: Sequence[str]) -> tuple[dict[str, Any], list[Fault]]:
    counts = np.bincount(part.labels[part.usable()], minlength=len(part.classes)).tolist()
    found, many = np.unique(np.delete(part.checked.sizes, list(part.checked.faults), 0), axis=0, return_counts=True)
    sizes = [(height, width, count) for (height, width), count in zip(found.tolist(), many.tolist(), strict=True)]
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    facts = {"images": sum(counts), "classes": dict(zip(part.classes, counts, strict=True)), "sizes": sizes}
    return facts, [*part.all_faults(), *(fault for _, fault in unknown_classes(name, part, known))]


def _of_memory(part: ImageSet) -> tuple[dict[str, Any], list[Fault]]:
    counts = dict(zip(part.classes, part.labels.bincount(minlength=len(part.classes)).tolist(), strict=True))
    return {"images": len(part), "classes": counts, "sizes": [(*part.images.shape[2:], len(part))]}, []


def _described(name: str, images: int, classes: Mapping[str, int], sizes: Sequence[tuple[int, int, int]]) -> list[str]:
    """Return lines that show a split: its classes with their counts, and its sizes."""
    told = [(visible_line(name), count) for name, count in classes.items() if count]
    lines = [f"{name}: {counted(images, 'image')} of {counted(len(told), 'class')}"]
    width = max((len(shown) for shown, _ in told), default=0)
    lines += [f"  {shown:<{width}}  {count:>9,}" for shown, count in told]
    if sizes:
        smallest, largest = (f"{height} x {width}" for height, width, _ in (sizes[0], sizes[-1]))
        many = f"{smallest} to {largest} pixels, {len(sizes):,} sizes"
        lines.append(f"  height x width: {smallest + ' pixels' if len(sizes) == 1 else many}")
    return lines


def small_notes(splits: Mapping[str, AnySet]) -> list[str]:
    """Return sentences on the splits and classes that are so small that figures say little."""
    notes: list[str] = []
    for name in ("validation", "test"):
        if name in splits and (count := len(splits[name])) < _FEW:
            notes.append(
                f"the {name} split has {counted(count, 'image')}: one wrong answer is {100 / count:.1f} points of error"
            )
    if "training" in splits:
        train = splits["training"]
        counts = train.labels.bincount(minlength=len(train.classes)).tolist()
        few = [(name, count) for name, count in zip(train.classes, counts, strict=True) if count < _SMALL]
        if few:
            name, least = min(few, key=lambda item: item[1])
            notes.append(f"{counted(len(few), 'class')} with fewer than {_SMALL} training images: {name} has {least}")
    return notes
