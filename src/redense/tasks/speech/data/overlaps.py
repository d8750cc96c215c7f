"""Pieces of recordings that are not what a list takes them for, which is said.

Pieces of one recording that are in two splits and have sound in common, since a test on them flatters; recordings that
end before their list or header says; and whole recordings of which several sentences are said to be what is heard.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from redense.files.visible import counted
from redense.tasks.speech.audio import WHOLE
from redense.tasks.task import Split

from .clips import Utterance

_LEAST = 0.1  # seconds; neighbours often share a little silence


def overlapping(place: str, splits: Mapping[Split, Sequence[Utterance]]) -> list[str]:
    """Return a sentence for each pair of splits with pieces that overlap; of equal pieces others tell.

    Args:
        place: what a user calls the set.
        splits: of utterances that were heard.
    """
    pairs: tuple[tuple[Split, Split], ...] = (("train", "test"), ("train", "validation"), ("validation", "test"))
    notes: list[str] = []
    for first, second in pairs:
        found = _overlaps(splits[first], splits[second])
        if found:
            one, other = found[0]
            count = f"{len(found):,} {'has' if len(found) == 1 else 'have'}"
            named = "training" if first == "train" else first
            notes.append(
                f"{place}: of {len(splits[second]):,} {second} clips {count} sound in common with a piece of the same "
                f"recording in the {named} split, such as {other.clip.name} ({one.clip.name}): the {second} figures "
                "flatter"
            )
    return notes


def doubtful(place: str, clips: Sequence[Utterance]) -> list[str]:
    """Return a sentence on clips that end too early, and one on recordings with several transcripts.

    Args:
        place: what a user calls the set.
        clips: that were heard, of all splits.
    """
    notes: list[str] = []
    if short := [one for one in clips if one.lacking > WHOLE]:
        one = max(short, key=lambda one: one.lacking)
        ends = "clip ends" if len(short) == 1 else "clips end"
        missing = f"of which {one.lacking:.1f} s are missing" if math.isfinite(one.lacking) else "which is cut off"
        notes.append(
            f"{place}: {len(short):,} {ends} before the list or the file's header says, such as {one.clip.name}, "
            f"{missing}: is the file whole? The transcripts are taken for what there is"
        )
    texts: defaultdict[Path, set[str]] = defaultdict(set)
    for one in clips:
        if not one.clip.start and one.clip.length is None:
            texts[one.clip.path].add(one.text)
    if several := [path for path, said in texts.items() if len(said) > 1]:
        has = "has" if len(several) == 1 else "have"
        notes.append(
            f"{place}: {counted(len(several), 'recording')} {has} several transcripts, such as {several[0].name}: the "
            "whole of it is taken for what each says; a piece of it needs its offset and duration"
        )
    return notes


def _overlaps(first: Sequence[Utterance], second: Sequence[Utterance]) -> list[tuple[Utterance, Utterance]]:
    """Return for each of ``second`` that overlaps one of ``first``, that and itself."""
    pieces: defaultdict[str, list[Utterance]] = defaultdict(list)
    for one in first:
        pieces[one.digest].append(one)
    found: list[tuple[Utterance, Utterance]] = []
    ends: dict[str, list[Utterance]] = {}
    for other in second:
        if other.digest not in pieces:
            continue
        own = pieces[other.digest]
        if other.digest not in ends:
            own.sort(key=_start)
            # The one that ends last of all that begin no later.
            ends[other.digest] = list(itertools.accumulate(own, lambda one, two: max(one, two, key=_end)))
        before = bisect_left(own, _end(other) - _LEAST, key=_start)
        last = ends[other.digest][before - 1] if before else None
        if last and _end(last) - _LEAST > _start(other) and last.clip.sound[1:] != other.clip.sound[1:]:
            found.append((last, other))
    return found


def _start(one: Utterance) -> float:
    return one.clip.start


def _end(one: Utterance) -> float:
    return one.clip.start + one.seconds
