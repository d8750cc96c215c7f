"""Names of training, validation and test splits: one rule for folders, files, tables and columns of all tasks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from redense.errors import DataError

from .task import Split

T = TypeVar("T")

MARKS: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "validating", "dev", "devel", "development"), "validation"
    ),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
"""The words that name a split, in small letters."""

# Words beside the mark that say nothing more: `seg_train`, `train_images`, `Test Set`.
_BESIDE = (
    "seg",
    "set",
    "data",
    "dataset",
    "split",
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "audio",
    "wavs",
)
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_of(name: str) -> Split | None:
    """Return the split that a whole name means, in any case; None for the name of anything else, as of a class.

    >>> [split_of(name) for name in ("Training", "seg_test", "train2017", "vaLid", "TestImages", "train_station")]
    ['train', 'test', 'train', 'validation', 'test', None]
    """
    plain = unicodedata.normalize("NFKC", name).strip()
    return _meant(_WORDS.findall(plain)) or _meant(_WORDS.findall(_CAMEL.sub(" ", plain)))


def split_named(name: str) -> tuple[Split | None, str]:
    """Return the split that a name begins with, and the rest of the name: lists and folders of a corpus have several.

    >>> split_named("dev-clean"), split_named("Test_92"), split_named("clips"), split_named("trainer")
    (('validation', 'clean'), ('test', '92'), (None, 'clips'), (None, 'trainer'))
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    for mark in sorted(MARKS, key=len, reverse=True):
        rest = plain.removeprefix(mark)
        if rest != plain and (not rest or not rest[0].isalpha()):
            return MARKS[mark], rest.strip("-_. ")
    if whole := split_of(name):
        return whole, ""
    return None, name


def split_within(name: str) -> Split | None:
    """Return the split that a word inside a name says, where the name means none: a list of it is called otherwise.

    >>> [split_within(name) for name in ("manifest_train", "esTest", "train", "dev-clean", "latest", "train_vs_test")]
    ['train', 'test', None, None, None, None]
    """
    if split_named(name)[0]:
        return None
    words = _WORDS.findall(_CAMEL.sub(" ", unicodedata.normalize("NFKC", name)))
    found: set[Split] = {MARKS[word] for word in map(str.casefold, words) if word in MARKS}
    return found.pop() if len(found) == 1 else None


def verify_names(paths: Iterable[Path], own: Callable[[Path], str] = lambda path: path.stem) -> None:
    """Refuse lists and folders with a split inside their names, such as `es_test`: their clips would be divided anew.

    Args:
        paths: of several.
        own: the part of a path that may begin with a split.

    Raises:
        DataError: there is one.
    """
    for path in paths:
        if split := split_within(own(path)):
            raise DataError(
                f"{path}: is it of the {split} split? The name of such a list or folder begins with it, as in "
                f"{split}{path.suffix}: rename it, or move it elsewhere"
            )


def verify_folders(folder: Path, names: Iterable[str]) -> None:
    """Refuse folders of several splits that have them inside their names, such as `es_train` and `es_test`.

    Raises:
        DataError: there are some.
    """
    inside = {split: name for name in names if (split := split_within(name))}
    verify_names([folder / name for name in inside.values()] if len(inside) > 1 else [])


def by_split(names: Iterable[tuple[str, T]], place: str) -> dict[Split, tuple[str, T]]:
    """Return what there is for each split of named things: split -> its name and thing.

    Raises:
        DataError: two names mean one split.
    """
    found: dict[Split, tuple[str, T]] = {}
    for name, thing in names:
        split = split_of(name)
        if split is None:
            continue
        if split in found:
            raise DataError(f"{place} has both {found[split][0]} and {name}: remove or rename one of them")
        found[split] = (name, thing)
    return found


def idle_shares(data: Any, given: Collection[str | None], *names: str) -> list[str]:
    """Say which shares of a recipe's ``data``, called as their splits are, divide nothing: those splits are given."""
    usual = {name: type(data).model_fields[name].default for name in names}
    return [
        f"data.{name} {getattr(data, name):g} divides nothing: the data has a {name} split of its own"
        for name in names
        if name in given and getattr(data, name) != usual[name]
    ]


def _meant(words: Iterable[str]) -> Split | None:
    left = [word for word in map(str.casefold, words) if word not in _BESIDE and not word.isdigit()]
    if len(left) != 1:
        return None
    ends = (left[0].removesuffix(end) for end in ("set", "data"))
    return MARKS.get(next((word for word in ends if word in MARKS), left[0]))
