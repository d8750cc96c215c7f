"""`redense data check PATH` for captioned images."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.tokens import vocabulary_of
from redense.tasks.classification.data.checking import OnChecked
from redense.tasks.classification.data.layouts.folder import SUFFIXES, Files
from redense.tasks.faults import Checked, Fault, fault_lines
from redense.tasks.folders import TEXTS, endings_said, walk

from .coco import find_coco
from .flickr import find_flickr
from .karpathy import find_karpathy
from .loading import Looked, divide_captions, look_at
from .table import find_caption_tables

_ALL = "not divided"
_FEW = 100  # images of a validation or test split: fewer are said


@dataclass(frozen=True)
class CaptionFacts:
    """The facts of a set of captioned images.

    Args:
        splits: split -> usable images and their sentences, as the set divides them.
        counts: word -> how often it occurs in the sentences of usable images.
        lengths: words of the sentences, the shortest first.
        faults: what cannot be used, and why.
        notes: what the layout left out, a sentence each.
        refusal: why training refuses the set as it is; nothing where it does not.
        threshold: how often a word must occur in training.
    """

    splits: dict[str, tuple[int, int]]
    counts: Counter[str]
    lengths: tuple[int, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""
    threshold: int = 5


def has_captions(folder: Path) -> bool:
    """Whether a folder has captions in a layout whose files say so."""
    return folder.is_dir() and bool(
        find_karpathy(folder) or find_flickr(folder) or find_coco(folder) or find_caption_tables(folder)
    )


def inspect_captions(config: CaptionData, *, full: bool = False, on_checked: OnChecked | None = None) -> CaptionFacts:
    """Look at every image of a captioned set, and with ``full`` decode it, and return what is there.

    Raises:
        DataError: it is none, or its file of sentences is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    looked = look_at(config, full=full, on_checked=on_checked)
    counts: Counter[str] = Counter()
    splits: dict[str, tuple[int, int]] = {}
    lengths: list[int] = []
    for number, entry in enumerate(looked.entries):
        if number in looked.faults or not entry.tokens:
            continue
        counts.update(word for words in entry.tokens for word in words)
        lengths += map(len, entry.tokens)
        images, said = splits.get(entry.split or _ALL, (0, 0))
        splits[entry.split or _ALL] = images + 1, said + len(entry.tokens)
    notes, refusal = looked.source.notes, ""
    try:
        divided = divide_captions(looked, config)
        notes = divided.notes
        known = vocabulary_of(divided.train.tokens, config.threshold, looked.source.place)
        notes = (*notes, *known.notes, *small_notes(len(divided.validation), len(divided.test)))
    except DataError as error:
        refusal = str(error)
    notes = (*notes, *_unnamed(looked))
    return CaptionFacts(
        splits, counts, tuple(sorted(lengths)), tuple(looked.all_faults()), notes, refusal, config.threshold
    )


def check(config: CaptionData, full: bool, show: OnChecked) -> Checked:
    """Return what `redense data check` says of captioned images."""
    facts = inspect_captions(config, full=full, on_checked=show)
    splits = {name: {"images": images, "sentences": said} for name, (images, said) in facts.splits.items()}
    plain = {
        "splits": splits,
        "words": facts.counts.total(),
        "different_words": len(facts.counts),
        "notes": facts.notes,
    }
    return Checked(describe_captions(facts), plain, list(facts.faults), facts.refusal)


def describe_captions(facts: CaptionFacts) -> list[str]:
    r"""Return lines that show a set: its splits, its words, and what is wrong with it.

    >>> facts = CaptionFacts({"train": (1, 2)}, Counter("aab"), (1, 2))
    >>> print(*describe_captions(facts), sep="\n")
    train: 1 image, 2 sentences
    words: 3, of which 2 different; 0 occur at least 5 times, and are 0.0% of all
    words of a sentence: 1 to 2, half of them at least 2
    taken for pictures with captions
    """
    lines = [
        f"{name}: {counted(images, 'image')}, {counted(said, 'sentence')}"
        for name, (images, said) in facts.splits.items()
    ]
    total = facts.counts.total()
    if total:
        usual = {word: count for word, count in facts.counts.items() if count >= facts.threshold}
        share = sum(usual.values()) / total
        lines += [
            f"words: {total:,}, of which {len(facts.counts):,} different; {len(usual):,} occur at least "
            f"{counted(facts.threshold, 'time')}, and are {share:.1%} of all",
            f"words of a sentence: {facts.lengths[0]} to {facts.lengths[-1]}, half of them at least "
            f"{facts.lengths[len(facts.lengths) // 2]}",
        ]
    lines += fault_lines(facts.faults, "")
    lines += [f"note: {note}" for note in facts.notes]
    return [*lines, "taken for pictures with captions"]


def _unnamed(looked: Looked) -> list[str]:
    """Count the pictures beside the captioned ones that no sentence is about, and files with other endings."""
    images = looked.source.images
    if not isinstance(images, Files):
        return []
    found = walk(images.root, SUFFIXES)
    named = {entry.name for entry in looked.source.entries}
    start = len(os.fsencode(images.root)) + 1
    rest = [name for path, _ in found.files if (name := os.fsdecode(path[start:])) not in named]
    notes = [f"{counted(len(rest), 'image')} without a sentence about it, not used, such as {rest[0]}"] if rest else []
    pictures = Counter({ending: count for ending, count in found.others.items() if ending not in TEXTS})
    return [*notes, *([f"passed over for their endings: {endings_said(pictures)}"] if pictures else [])]


def small_notes(validation: int, test: int) -> list[str]:
    """Return sentences on splits of so few images that figures say little."""
    return [
        f"only {count} {name} {'image' if count == 1 else 'images'}: BLEU over so few says little"
        for name, count in (("validation", validation), ("test", test))
        if count < _FEW
    ]
