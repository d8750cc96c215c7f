"""What `redense data check PATH` finds out about a set of images of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redense.errors import DataError

from ..config import ImageData
from .assemble import Part
from .checking import OnChecked
from .cifar import find_cifar
from .hub import is_hub_folder, read_by_row
from .idx import find_idx
from .loading import find_images, load_images, read_folder_parts
from .sets import ImageSet


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
    faults: tuple[str, ...]

    @property
    def images(self) -> int:
        """Return the number of usable images."""
        return sum(self.counts.values())


def inspect_images(
    source: str, *, full: bool = False, label: str | None = None, on_checked: OnChecked | None = None
) -> list[SplitFacts]:
    """Look at every image of a set, and with ``full`` decode it, and return what is there and what is wrong with it.

    Raises:
        DataError: it is no set of images, or one whose files cannot be left out one by one is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    found = find_images(source)
    if isinstance(found, str) or (not find_idx(found) and is_hub_folder(found)):
        parts = read_by_row(source, label, full=full, on_checked=on_checked)
    elif find_idx(found) or find_cifar(found):
        return _of_memory(source, label)
    else:
        parts = read_folder_parts(found, source, full=full, on_checked=on_checked)
    first = next(iter(parts.values()))
    known = {name for name, count in _counts(first).items() if count}
    return [_facts(name, part, known) for name, part in parts.items()]


def describe(split: SplitFacts) -> list[str]:
    """Return lines that show a split: its classes with their counts, its sizes, and what is wrong with it."""
    shown = [name for name, count in split.counts.items() if count]
    lines = [f"{split.name}: {split.images:,} images of {len(shown)} classes"]
    width = max(map(len, shown), default=0)
    lines += [f"  {name:<{width}}  {split.counts[name]:>9,}" for name in shown]
    if split.sizes:
        smallest, largest = (f"{height} x {width}" for height, width, _ in (split.sizes[0], split.sizes[-1]))
        many = f"{smallest} to {largest} pixels, {len(split.sizes):,} sizes"
        lines.append(f"  height x width: {smallest + ' pixels' if len(split.sizes) == 1 else many}")
    if split.faults:
        lines.append(f"  {len(split.faults):,} cannot be used:")
        lines += [f"    {fault}" for fault in split.faults]
    return lines


def _facts(name: str, part: Part, known: set[str]) -> SplitFacts:
    counts = _counts(part)
    faults = [f"{part.files.name(index)} {fault}" for index, fault in part.checked.faults.items()] + part.faults
    faults += [
        f"{name}/{unknown} has {counts[unknown]:,} images of a class that no training image shows"
        for unknown in sorted(set(counts) - known)
        if counts[unknown]
    ]
    usable = np.delete(part.checked.sizes, list(part.checked.faults), axis=0)
    return SplitFacts(name, counts, _sizes(usable), tuple(faults))


def _of_memory(source: str, label: str | None) -> list[SplitFacts]:
    splits = load_images(ImageData(source=source, label=label))
    out: list[SplitFacts] = []
    for name, part in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if not isinstance(part, ImageSet):
            raise DataError(f"{source}: expected a set in memory")
        counts = dict(zip(part.classes, part.labels.bincount(minlength=len(part.classes)).tolist(), strict=True))
        height, width = part.images.shape[2:]
        out.append(SplitFacts(name, counts, ((height, width, len(part)),), ()))
    return out


def _counts(part: Part) -> dict[str, int]:
    usable = np.delete(part.labels, list(part.checked.faults))
    return dict(zip(part.classes, np.bincount(usable, minlength=len(part.classes)).tolist(), strict=True))


def _sizes(sizes: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    counted = Counter(map(tuple, sizes.tolist()))
    return tuple((height, width, count) for (height, width), count in sorted(counted.items(), key=_area))


def _area(item: tuple[Sequence[int], int]) -> tuple[int, Sequence[int]]:
    return item[0][0] * item[0][1], item[0]
