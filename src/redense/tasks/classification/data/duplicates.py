"""The same picture or recording in two splits: a test that is trained on flatters, so it is noticed and said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from .sets import AnySet, EncodedSet

_READ = 1000  # pairs of files that are compared byte for byte


@dataclass(frozen=True)
class Marked:
    """The examples of a split: those that differ in ``marks``, uint64 (n,), differ.

    Args:
        marks: of each.
        name: gives what a message calls one.
        read: gives the bytes of one, where equal marks are not proof enough.
    """

    marks: np.ndarray
    name: Callable[[int], str]
    read: Callable[[int], bytes] | None = None


def shared_examples(place: str, parts: Mapping[str, Marked], what: str) -> list[str]:
    """Return a sentence for each pair of splits that have examples in common, byte for byte.

    Args:
        place: what a user calls the set.
        parts: ``training``, ``validation`` and ``test``.
        what: they are, in the plural.
    """
    notes: list[str] = []
    for first, second in (("training", "test"), ("training", "validation"), ("validation", "test")):
        one, other = parts[first], parts[second]
        pairs = _pairs(one.marks, other.marks)
        if one.read and other.read and len(pairs) <= _READ:
            pairs = [(a, b) for a, b in pairs if _same(partial(one.read, a), partial(other.read, b))]
        if pairs:
            a, b = pairs[0]
            count = "1 is" if len(pairs) == 1 else f"{len(pairs):,} are"
            notes.append(
                f"{place}: of {len(other.marks):,} {second} {what} {count} in the {first} split too, such as "
                f"{other.name(b)} ({one.name(a)}): the {second} figures flatter"
            )
    return notes


def marked(part: AnySet) -> Marked:
    """Return the images of a split with their marks."""
    if isinstance(part, EncodedSet):
        return Marked(part.marks, part.name, lambda index: part.files.read(int(part.index[index])))
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in part.images.numpy()]
    return Marked(np.frombuffer(b"".join(digests), np.uint64), lambda index: f"image {index}")


def _pairs(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Return for each element of ``second`` that ``first`` has, its place in the first and in the second."""
    if not len(first) or not len(second):
        return []
    order = np.argsort(first, kind="stable")
    places = np.minimum(np.searchsorted(first[order], second), len(first) - 1)
    found = np.flatnonzero(first[order][places] == second)
    return list(zip(order[places[found]].tolist(), found.tolist(), strict=True))


def _same(one: Callable[[], bytes], other: Callable[[], bytes]) -> bool:
    try:
        return one() == other()
    except OSError:  # it is gone, which is said where it is needed
        return False
