"""Emoji as a labelled set: three free picture styles of about 1,900 concepts, in folders SPLIT/GROUP/NAME.

``dataset.json`` has sentences about them, for captions; its split is the folders'.

The split is by concept, never by picture: all styles of a concept are on one side, and so are the man's, the woman's
and the person's form of one thing, and concepts that any style draws with the very same file (Norway's flag is that of
Bouvet Island, too). A file that two groups share is left out: it has no one label.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import emoji_texts
from .files import copy

STYLES = {"fluent": "assets", "google": "img/google/64", "twitter": "img/twitter/64"}
SHARE = 0.1  # of every group's concepts, for validation and for test each; at least one

_SEXES = {"2640", "2642"}
_PEOPLE = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman -> person


@dataclass(frozen=True)
class Picture:
    """One file: what it shows, in which style."""

    path: Path
    style: str
    code: str
    label: str
    group: str
    digest: str


def arrange(unpacked: Sequence[Path], ready: Path) -> None:
    """Copy the pictures of the unpacked packages (names, one a style, descriptions) to ``ready/SPLIT/GROUP/``."""
    names, *styles, texts = unpacked
    pictures = _pictures(names, dict(zip(STYLES, styles, strict=True)))
    captioned: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for split, members in split_by_concept(pictures).items():
        for picture in members:
            slug = re.sub("[^a-z0-9]+", "-", picture.label.lower()).strip("-")
            name = f"{split}/{picture.group}/{picture.code}-{slug}-{picture.style}{picture.path.suffix}"
            copy(picture.path, ready / name)
            captioned[split].append((name, picture.code))
    written = emoji_texts.dataset(captioned, emoji_texts.captions(names, texts))
    (ready / "dataset.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def split_by_concept(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Return train, validation and test: every group's families of concepts, in the order of their names' hashes."""
    groups: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        groups[picture.digest].add(picture.group)
    families = _families(pictures)
    members: dict[tuple[str, str], list[Picture]] = defaultdict(list)
    seen: set[str] = set()
    for picture in pictures:
        if picture.digest not in seen and len(groups[picture.digest]) == 1:
            members[picture.group, families[picture.code]].append(picture)
            seen.add(picture.digest)
    splits: dict[str, list[Picture]] = {"train": [], "validation": [], "test": []}
    for group in sorted({picture.group for picture in pictures}):
        names = [family for of, family in members if of == group]
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        held = max(1, round(SHARE * len(names)))
        for index, name in enumerate(names):
            split = "test" if index < held else "validation" if index < 2 * held else "train"
            splits[split] += members[group, name]
    return splits


def family_of(code: str) -> str:
    """Return what a concept is without the sex of the person in it.

    >>> family_of("1f468-1f692") == family_of("1f469-1f692")  # the man and the woman who fight fires
    True
    """
    return "-".join(_PEOPLE.get(part, part) for part in code.split("-") if part not in _SEXES)


def _families(pictures: Sequence[Picture]) -> dict[str, str]:
    """Return code -> family, the families joined that share a file."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for picture in pictures:
        mine = root(family_of(picture.code))
        other = root(first.setdefault(picture.digest, mine))
        parent[max(mine, other)] = min(mine, other)
    return {picture.code: root(family_of(picture.code)) for picture in pictures}


def _pictures(names: Path, styles: dict[str, Path]) -> list[Picture]:
    concepts = json.loads((names / "en/data.json").read_text(encoding="utf-8"))
    groups = json.loads((names / "meta/groups.json").read_text(encoding="utf-8"))["groups"]
    known = {emoji_texts.code_of(concept["hexcode"].split("-")): concept for concept in concepts if "group" in concept}
    out: list[Picture] = []
    for style, folder in styles.items():
        for path in sorted((folder / STYLES[style]).iterdir()):
            code = emoji_texts.code_of(path.stem.split("-"))
            if concept := known.get(code):  # not: a skin tone, or a picture without a name
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                out.append(Picture(path, style, code, concept["label"], groups[str(concept["group"])], digest))
    return sorted(out, key=lambda picture: (picture.code, picture.style))
