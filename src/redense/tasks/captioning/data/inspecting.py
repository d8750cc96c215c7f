"""`redense data check PATH` for captioned images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.tokens import vocabulary_of
from redense.tasks.classification.data.checking import OnChecked
from redense.tasks.classification.data.layouts.folder import SUFFIXES, Files
from redense.tasks.faults import Checked, fault_lines
from redense.tasks.folders import TEXTS, endings_said, walk

from .coco import find_coco
from .flickr import find_flickr
from .karpathy import find_karpathy
from .loading import Looked, divide_captions, look_at
from .table import has_caption_tables

_ALL = "not divided"
_FEW = 100  # images of a validation or test split: fewer are said


def has_captions(folder: Path) -> bool:
    """Whether a folder has captions in a layout whose files say so."""
    return folder.is_dir() and bool(
        find_karpathy(folder) or find_flickr(folder) or find_coco(folder) or has_caption_tables(folder)
    )


def check(config: CaptionData, full: bool, show: OnChecked) -> Checked:
    """Return what `redense data check` says of captioned images: every one is looked at, and with ``full`` decoded.

    Raises:
        DataError: there are none, or their file of sentences is damaged.
        MissingExtraError: a package is needed that is not installed.
    """
    looked = look_at(config, full=full, on_checked=show)
    splits: dict[str, list[int]] = {}  # split -> how many sentences each usable image has
    sentences: list[Sequence[str]] = []
    for number, entry in enumerate(looked.entries):
        if number not in looked.faults and entry.tokens:
            splits.setdefault(entry.split or _ALL, []).append(len(entry.tokens))
            sentences += entry.tokens
    counts = Counter(word for words in sentences for word in words)
    notes, refusal = looked.source.notes, ""
    try:
        divided = divide_captions(looked, config)
        notes = divided.notes
        _, rare = vocabulary_of(divided.train.tokens, config.threshold, looked.source.place, config.longest)
        notes = (*notes, *rare, *small_notes(len(divided.validation), len(divided.test)))
    except DataError as error:
        refusal = str(error)
    notes = (*notes, *_unnamed(looked))
    plain = {
        "splits": {name: {"images": len(own), "sentences": sum(own)} for name, own in splits.items()},
        "words": counts.total(),
        "different_words": len(counts),
        "notes": notes,
    }
    lines = [f"{name}: {counted(len(own), 'image')}, {counted(sum(own), 'sentence')}" for name, own in splits.items()]
    if counts:
        usual = [count for count in counts.values() if count >= config.threshold]
        lengths = sorted(map(len, sentences))
        lines += [
            f"words: {counts.total():,}, of which {len(counts):,} different; {len(usual):,} occur at least "
            f"{counted(config.threshold, 'time')}, and are {sum(usual) / counts.total():.1%} of all",
            f"words of a sentence: {lengths[0]} to {lengths[-1]}, half of them at least {lengths[len(lengths) // 2]}",
        ]
    faults = looked.all_faults()
    lines += [*fault_lines(faults, ""), *(f"note: {note}" for note in notes), "taken for pictures with captions"]
    return Checked(lines, plain, faults, refusal)


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
