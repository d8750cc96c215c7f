"""Loading the captioned images that a recipe names: three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from redense.errors import DataError, nearest
from redense.files.opening import at_home, is_regular
from redense.files.visible import counted
from redense.tasks import catalog
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.tokens import tokenize
from redense.tasks.classification.data.checking import OnChecked, check, faint_note, turned_note
from redense.tasks.classification.data.duplicates import Marked, shared_examples
from redense.tasks.classification.data.layouts.folder import Files
from redense.tasks.classification.data.layouts.hub import is_hub_folder
from redense.tasks.classification.data.sets import Encoded
from redense.tasks.faults import Fault
from redense.tasks.split_names import idle_shares
from redense.tasks.task import Split

from .coco import find_coco, read_coco
from .flickr import find_flickr, read_flickr
from .hub import read_hub
from .karpathy import find_karpathy, read_karpathy
from .source import Entry, Source, place_of, split_by_hash
from .table import find_caption_tables, read_caption_tables, verify_columns

_NAMED = 3  # faulty images that a message names


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """A split: images, by their number in the source, and the words of what is said of each."""

    images: Encoded
    index: tuple[int, ...]
    sentences: tuple[tuple[str, ...], ...]
    tokens: tuple[tuple[tuple[str, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class CaptionSplits:
    """Three disjoint splits; ``notes`` say in a sentence each what was left out or looks odd.

    ``fingerprint`` is a sha256 over the names, sizes and marks of the images, which of them are turned, and the words
    of the sentences. ``known_as`` are other fingerprints of the same data: an older redense's had no marks.
    """

    train: CaptionSet
    validation: CaptionSet
    test: CaptionSet
    fingerprint: str
    notes: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Looked:
    """A source whose image files were looked at, and the words of its sentences.

    Args:
        source: as it lies there.
        entries: those of the source, with the words of the sentences that have some, and no other sentences.
        faults: number of an image -> what is wrong with its file.
        marks: of every image, uint64 (n,): images that differ in it differ.
        turned: of every image, bool (n,): whether `decode` turns it, as its camera noted.
        faint: of every image, bool (n,): whether it becomes black, or nearly.
        upright: of every image, bool (n,): whether it is turned, by `decode` or by Pillow.
    """

    source: Source
    entries: tuple[Entry, ...]
    faults: dict[int, str]
    marks: np.ndarray
    turned: np.ndarray
    faint: np.ndarray
    upright: np.ndarray

    @property
    def silent(self) -> list[int]:
        """Return the numbers of the images of which nothing is said."""
        return [number for number, entry in enumerate(self.entries) if not entry.sentences]

    def all_faults(self) -> list[Fault]:
        """Return what cannot be used: broken files, and images without a caption."""
        own = [Fault(self.entries[number].name, fault) for number, fault in self.faults.items()]
        silent = [number for number in self.silent if number not in self.faults]
        given = self.source.entries
        return own + [
            Fault(
                given[n].name,
                "has sentences without a word" if any(map(str.strip, given[n].sentences)) else "has no caption",
            )
            for n in silent
        ]


def load_captions(config: CaptionData) -> CaptionSplits:
    """Load what a recipe names: the sentences of all images, their words, and which image is in which split.

    Every image file is looked at once, but none is decoded.

    Raises:
        DataError: the data is missing, broken or unfit; the message names the file.
        MissingExtraError: the source needs a package that is not installed.
    """
    return divide_captions(look_at(config), config)


def look_at(config: CaptionData, *, full: bool = False, on_checked: OnChecked | None = None) -> Looked:
    """Read the sentences that a recipe names, and look at every image; with ``full`` decode it.

    Raises:
        DataError: the data is missing, or its file of sentences is damaged.
        MissingExtraError: the source needs a package that is not installed.
    """
    source = read_source(config)
    seen = check(source.images, _known_as(source), full=full, on_checked=on_checked)
    faults = {number: fault_of(source, number, fault) for number, fault in seen.faults.items()}
    return Looked(
        source, tuple(map(_spoken, source.entries)), faults, seen.marks, seen.turned, seen.faint, seen.upright
    )


def _known_as(source: Source) -> str:
    """Return the place that the images of a source are known again in: the same from every working directory."""
    return str(source.images.root.absolute()) if isinstance(source.images, Files) else source.place


def divide_captions(looked: Looked, config: CaptionData) -> CaptionSplits:
    """Return the three splits of what can be used.

    Raises:
        DataError: some images cannot be read, and the recipe does not have them skipped; or a split is empty.
    """
    source = looked.source
    usable, notes = _usable(looked, config)
    parts = _divide(source, usable, config)
    given = {source.entries[number].split for number in usable}
    given = set[str | None]() if None in given else given
    if config.limit is not None:
        parts["train"] = _first_by_hash(parts["train"], source.entries, config.limit)
    for name, members in parts.items():
        if not members:
            raise DataError(f"{source.place}: the {name} split is empty, expected captioned images in every split")
    sets = {name: _take(looked, members) for name, members in parts.items()}
    marked = {
        "training" if name == "train" else name: Marked(
            looked.marks[list(part.index)],
            lambda index, part=part: part.images.name(part.index[index]),
            lambda index, part=part: part.images.read(part.index[index]),
        )
        for name, part in sets.items()
    }
    used = [number for part in parts.values() for number in part]
    faint = [source.entries[number].name for number in used if looked.faint[number]]
    known = [_fingerprint(list(sets.values()), looked.turned, marks) for marks in (looked.marks, None)]
    digest, *others = catalog.in_turn(None if config.images else source.place, *known)  # or images of anybody's
    return CaptionSplits(
        sets["train"],
        sets["validation"],
        sets["test"],
        fingerprint=digest,
        known_as=tuple(others),
        notes=(
            *_cautions(source.place),
            *source.notes,
            *notes,
            *idle_shares(config, given, "validation"),
            *turned_note(source.place, looked.upright[used]),
            *faint_note(source.place, faint, len(used)),
            *shared_examples(source.place, marked, "images"),
        ),
    )


def read_source(config: CaptionData) -> Source:
    """Return the source that a recipe names, whatever its layout.

    Raises:
        DataError: there is none, or its layout is unknown.
    """
    place = config.source
    if place is None:
        raise DataError("captions have no sample in the package: set data.source, for example --data emoji")
    if place.startswith("hub:"):
        _refuse_idle(config, "images", place)
        return read_hub(place, config.text, place)
    folder = _find(place)
    images = None if config.images is None else at_home(config.images)
    if images is not None and not images.is_dir():
        raise DataError(f"data.images: no folder at {config.images!r}")
    if path := find_karpathy(folder):
        _refuse_idle(config, "text", place)
        return read_karpathy(path, images, place)
    if path := find_flickr(folder):
        _refuse_idle(config, "text", place)
        return read_flickr(path, folder, images, place)
    if files := find_coco(folder):
        _refuse_idle(config, "text", place)
        return read_coco(files, folder, images, place)
    if paths := find_caption_tables(folder, config.text):
        return read_caption_tables(paths, folder, config.text, place, images)
    if is_hub_folder(folder):
        _refuse_idle(config, "images", place)
        return read_hub(str(folder), config.text, place)
    verify_columns(folder, config.text)
    raise DataError(
        f"{folder}: no captions in a layout that redense knows: expected dataset.json (Karpathy), Flickr8k.token.txt, "
        "results_20130124.token, results.csv, captions.txt, annotations/captions_*.json (COCO), metadata.jsonl or "
        "captions.csv (file_name and text, or the column that data.text names), or a Hugging Face set"
    )


def _refuse_idle(config: CaptionData, name: str, place: str) -> None:
    if getattr(config, name) is not None:
        why = {"images": "has its images in its table", "text": "has no columns to choose from"}[name]
        raise DataError(f"{place} {why}: remove data.{name}")


def _cautions(place: str) -> tuple[str, ...]:
    known = catalog.SOURCES.get(place)
    caution = [f"{place}: {known.caution}"] if known and known.caution else []
    return (*catalog.namesake(place), *caution)


def _find(place: str) -> Path:
    if place in catalog.SOURCES:
        return catalog.check(catalog.SOURCES[place])
    folder = at_home(place)
    if not folder.is_dir():
        names = list(catalog.SOURCES)
        raise DataError(
            f"no data at {place!r}: expected one of {', '.join(names)}, or an existing folder{nearest(place, names)}"
        )
    return folder


def _usable(looked: Looked, config: CaptionData) -> tuple[list[int], list[str]]:
    """Return the numbers of the images that can be used, and what is to be said of the others.

    Raises:
        DataError: some cannot be read, and the recipe does not have them skipped.
    """
    source, faults, silent, notes = looked.source, looked.faults, looked.silent, list[str]()
    if silent:
        wordless = sum(any(map(str.strip, source.entries[number].sentences)) for number in silent)
        said = f" ({wordless:,} of them sentences without a word)" if wordless else ""
        notes.append(f"{source.place}: {counted(len(silent), 'image')} without a caption{said}, left out")
    if faults:
        some = "; ".join(f"{source.entries[n].name} {fault}" for n, fault in list(faults.items())[:_NAMED])
        more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        said = f"{source.place}: {len(faults):,} of {len(source.entries):,} images cannot be used: {some}{more}"
        if config.broken == "refuse":
            raise DataError(f"{said}; repair them, or leave them out with data.broken: skip")
        notes.append(f"{said}; they are left out")
    gone = {*silent, *faults}
    return [number for number in range(len(source.entries)) if number not in gone], notes


def fault_of(source: Source, number: int, fault: str) -> str:
    """Return what is wrong with an image: that it is missing, or what was seen of its file."""
    path = getattr(source.images, "path", None)
    return fault if path is None or is_regular(path(number)) else "is missing"


def _divide(source: Source, usable: Sequence[int], config: CaptionData) -> dict[Split, list[int]]:
    """Return the numbers of the images of each split: as the source says, else by the hash of their names."""
    parts: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    for number in usable:
        entry = source.entries[number]
        parts[entry.split or split_by_hash(entry.name, config.validation)].append(number)
    return parts


def _first_by_hash(members: Sequence[int], entries: Sequence[Entry], count: int) -> list[int]:
    return sorted(sorted(members, key=lambda number: place_of(entries[number].name))[:count])


def _take(looked: Looked, members: Sequence[int]) -> CaptionSet:
    entries = [looked.entries[number] for number in members]
    return CaptionSet(
        looked.source.images,
        tuple(members),
        tuple(entry.sentences for entry in entries),
        tuple(cast("tuple[tuple[str, ...], ...]", entry.tokens) for entry in entries),
    )


def _spoken(entry: Entry) -> Entry:
    """Return an entry with the words of each of its sentences, without those that have none."""
    tokens = entry.tokens or tuple(map(tokenize, entry.sentences))
    pairs = [(text, words) for text, words in zip(entry.sentences, tokens, strict=True) if words]
    return replace(entry, sentences=tuple(text for text, _ in pairs), tokens=tuple(words for _, words in pairs))


def _fingerprint(sets: Sequence[CaptionSet], turned: np.ndarray, marks: np.ndarray | None) -> str:
    digest = hashlib.sha256()
    for part in sets:
        digest.update(f"{len(part)} images".encode())
        lengths = np.asarray(part.images.lengths)
        for number, tokens in zip(part.index, part.tokens, strict=True):
            line = "\n".join(" ".join(words) for words in tokens)
            line += "\0turned" * bool(turned[number])
            line += "" if marks is None else f"\0{marks[number]}"
            digest.update(f"\0{part.images.name(number)}\0{lengths[number]}\0{line}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
