"""`redense data check PATH` for labelled images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True)
class SplitFacts:
    """One split of a set.

    Args:
        name: of the split.
        counts: class -> usable images.
        sizes: height, width, and how many usable images have them; the smallest first.
        faults: what cannot be used, and why.
    """

    name: str
    counts: dict[str, int]
    sizes: tuple[tuple[int, int, int], ...]
    faults: tuple[Fault, ...]

    @property
    def images(self) -> int:
        """Return the number of usable images."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class ImageFacts:
    """A set: its splits as they lie there, and what training would make of them.

    Args:
        layout: what the source was taken for.
        splits: in order.
        notes: what is not used or looks odd, a sentence each.
        refusal: why training refuses the set as it is; nothing where it does not.
        trained: split -> how many images of it training uses, if it takes the set.
    """

    layout: str
    splits: tuple[SplitFacts, ...]
    notes: tuple[str, ...]
    refusal: str
    trained: Mapping[str, int] = field(default_factory=dict[str, int])


def inspect_images(config: ImageData, *, full: bool = False, on_checked: OnChecked | None = None) -> ImageFacts:
    """Look at every image of a set, and with ``full`` decode it, and return what is there and what is wrong with it.

    Raises:
        DataError: it is no set of images, or one whose files cannot be left out one by one is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    found = read_images(config, full=full, by_row=full, on_checked=on_checked)
    notes, refusal = found.notes, ""
    divided: Mapping[str, AnySet] = {}
    try:
        splits = divide_images(config, found)
        divided, notes = splits.by_name(), splits.notes
    except DataError as error:
        refusal = str(error)
    if found.parts:
        known = shown_classes(first_part(found.parts))
        facts = [_of_part(name, part, known) for name, part in found.parts.items()]
    else:
        facts = [_of_memory(name, part) for name, part in found.in_memory.items()]
    trained = {name: len(part) for name, part in divided.items()}
    return ImageFacts(found.layout, tuple(facts), (*notes, *small_notes(divided)), refusal, trained)


def has_images(place: Path) -> bool:
    """Whether a folder holds pictures."""
    return place.is_dir() and has_any(place, SUFFIXES)


def check(config: ImageData, full: bool, show: OnChecked) -> Checked:
    """Return what `redense data check` says of images."""
    facts = inspect_images(config, full=full, on_checked=show)
    splits = {
        split.name: {"images": split.images, "classes": split.counts, "sizes": split.sizes} for split in facts.splits
    }
    plain = {"layout": facts.layout, "splits": splits, "trained": dict(facts.trained), "notes": facts.notes}
    faults = [fault for split in facts.splits for fault in split.faults]
    return Checked(describe_images(facts), plain, faults, facts.refusal)


def describe(split: SplitFacts) -> list[str]:
    """Return lines that show a split: its classes with their counts, its sizes, and what is wrong with it."""
    shown = [name for name, count in split.counts.items() if count]
    told = {name: visible_line(name) for name in shown}
    lines = [f"{split.name}: {counted(split.images, 'image')} of {counted(len(shown), 'class')}"]
    width = max(map(len, told.values()), default=0)
    lines += [f"  {told[name]:<{width}}  {split.counts[name]:>9,}" for name in shown]
    if split.sizes:
        smallest, largest = (f"{height} x {width}" for height, width, _ in (split.sizes[0], split.sizes[-1]))
        many = f"{smallest} to {largest} pixels, {len(split.sizes):,} sizes"
        lines.append(f"  height x width: {smallest + ' pixels' if len(split.sizes) == 1 else many}")
    return [*lines, *fault_lines(split.faults)]


def describe_images(facts: ImageFacts) -> list[str]:
    """Return lines that show a set: its splits, what is to be known of them, and whether training takes it."""
    lines = [line for split in facts.splits for line in describe(split)]
    if facts.trained:
        lines.append(
            "training divides them: " + ", ".join(f"{count:,} {name}" for name, count in facts.trained.items())
        )
    lines += [f"note: {note}" for note in facts.notes]
    lines.append(f"taken for {facts.layout}")
    return lines


def _of_part(name: str, part: Part, known: Sequence[str]) -> SplitFacts:
    counts = np.bincount(part.labels[part.usable()], minlength=len(part.classes)).tolist()
    faults = [*part.all_faults(), *(fault for _, fault in unknown_classes(name, part, known))]
    sizes = np.delete(part.checked.sizes, list(part.checked.faults), axis=0)
    return SplitFacts(name, dict(zip(part.classes, counts, strict=True)), _sizes(sizes), tuple(faults))


def _of_memory(name: str, part: ImageSet) -> SplitFacts:
    counts = dict(zip(part.classes, part.labels.bincount(minlength=len(part.classes)).tolist(), strict=True))
    height, width = part.images.shape[2:]
    return SplitFacts(name, counts, ((height, width, len(part)),), ())


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


def _sizes(sizes: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    counted_sizes = Counter(map(tuple, sizes.tolist()))
    return tuple((height, width, count) for (height, width), count in sorted(counted_sizes.items(), key=_area))


def _area(item: tuple[Sequence[int], int]) -> tuple[int, Sequence[int]]:
    return item[0][0] * item[0][1], item[0]
