"""What `redense data check PATH` finds out about a set of captioned images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...classification.data.checking import OnChecked, check
from ..config import CaptionData
from ..tokens import tokenize
from .coco import find_coco
from .flickr import find_flickr
from .karpathy import find_karpathy
from .loading import fault_of, read_source

_ALL = "not divided"


@dataclass(frozen=True)
class CaptionFacts:
    """What a set has.

    Args:
        splits: split -> usable images and their sentences.
        counts: word -> how often it occurs in the sentences of usable images.
        lengths: words of the sentences, the shortest first.
        faults: what cannot be used, and why.
        notes: what the layout left out, a sentence each.
    """

    splits: dict[str, tuple[int, int]]
    counts: Counter[str]
    lengths: tuple[int, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def has_captions(folder: Path) -> bool:
    """Whether a folder has captions in a layout whose files say so."""
    return bool(find_karpathy(folder) or find_flickr(folder) or find_coco(folder))


def inspect_captions(source: str, *, full: bool = False, on_checked: OnChecked | None = None) -> CaptionFacts:
    """Look at every image of a captioned set, and with ``full`` decode it, and return what is there.

    Raises:
        DataError: it is none, or its file of sentences is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    found = read_source(CaptionData(source=source))
    seen = check(found.images, found.place, full=full, on_checked=on_checked)
    faults = [f"{found.entries[number].name} {fault_of(found, number, fault)}" for number, fault in seen.faults.items()]
    counts: Counter[str] = Counter()
    splits: dict[str, tuple[int, int]] = {}
    lengths: list[int] = []
    for number, entry in enumerate(found.entries):
        if number in seen.faults:
            continue
        sentences = [words for words in entry.tokens or map(tokenize, entry.sentences) if words]
        if not sentences:
            faults.append(f"{entry.name} has no caption")
            continue
        counts.update(word for words in sentences for word in words)
        lengths += map(len, sentences)
        images, said = splits.get(entry.split or _ALL, (0, 0))
        splits[entry.split or _ALL] = images + 1, said + len(sentences)
    return CaptionFacts(splits, counts, tuple(sorted(lengths)), tuple(faults), found.notes)


def describe_captions(facts: CaptionFacts) -> list[str]:
    r"""Return lines that show a set: its splits, its words, and what is wrong with it.

    >>> facts = CaptionFacts({"train": (1, 2)}, Counter("aab"), (1, 2), (), ())
    >>> print(*describe_captions(facts), sep="\n")
    train: 1 images, 2 sentences
    words: 3, of which 2 different; 0 occur at least 5 times, and are 0.0% of all
    words of a sentence: 1 to 2, half of them at least 2
    """
    lines = [f"{name}: {images:,} images, {said:,} sentences" for name, (images, said) in facts.splits.items()]
    total = facts.counts.total()
    if total:
        usual = {word: count for word, count in facts.counts.items() if count >= 5}
        share = sum(usual.values()) / total
        lines += [
            f"words: {total:,}, of which {len(facts.counts):,} different; {len(usual):,} occur at least 5 times, and "
            f"are {share:.1%} of all",
            f"words of a sentence: {facts.lengths[0]} to {facts.lengths[-1]}, half of them at least "
            f"{facts.lengths[len(facts.lengths) // 2]}",
        ]
    lines += facts.notes
    if facts.faults:
        lines.append(f"{len(facts.faults):,} cannot be used:")
        lines += [f"  {fault}" for fault in facts.faults]
    return lines
