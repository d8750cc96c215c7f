"""What recognisers heard, set by set and clip by clip: ``evidence.json`` as data, checked.

Transcripts come from networks and other people's files: any character in them is made visible before it goes on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.report.kit.loading import load_object

KIND = "speech"
EDITS = ("hit", "substitution", "deletion", "insertion")

_PHASE = re.compile(r"(?:(?P<dense>dense)|(?P<sparse>sparse)|(?P<redense>redense))(?:-(?P<cycle>[1-9]\d?))?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


@dataclass(frozen=True)
class Rate:
    """A network's error rate on a set, in %, with its 95 % interval, and the errors that make it up."""

    rate: float | None
    interval: tuple[float, float] | None
    reference: int
    substitutions: int
    deletions: int
    insertions: int
    wrong: int
    empty_references: int
    empty_hypotheses: int


@dataclass(frozen=True)
class Change:
    """What a network changes against the first: points of WER, relative reduction in %, interval of the points."""

    points: float
    relative: float | None
    interval: tuple[float, float] | None
    better: float | None


@dataclass(frozen=True)
class SetRow:
    """One test set, or all clips (without a name); what has an entry a network is in the order of the networks."""

    name: str | None
    utterances: int
    words: tuple[Rate, ...]
    characters: tuple[Rate, ...]
    changes: tuple[Change | None, ...]
    """Of every network against the first; the first one's is None."""


@dataclass(frozen=True)
class Edit:
    """A step of an alignment: its kind, what was said, what was heard."""

    kind: str
    said: str | None
    heard: str | None


@dataclass(frozen=True)
class Clip:
    """A test clip: what the first and the last network heard, and its sound."""

    index: int
    set: str | None
    seconds: float | None
    errors: tuple[int, int]
    edits: tuple[tuple[Edit, ...], tuple[Edit, ...]]
    sound: str | None
    """WAV in base64."""


@dataclass(frozen=True)
class Clips:
    """Clips of a kind: how many there are, how many of them one network has wholly right, those that are shown."""

    total: int
    wholly: int
    shown: tuple[Clip, ...]


@dataclass(frozen=True)
class Evidence:
    """What several networks heard in the same test clips; the first is the baseline, the last is judged."""

    networks: tuple[str, ...]
    utterances: int
    seconds: float | None
    every: SetRow
    sets: tuple[SetRow, ...]
    better: Clips
    worse: Clips
    same: Clips
    no_sound: str | None

    @property
    def before(self) -> str:
        """The name of the baseline."""
        return self.networks[0]

    @property
    def after(self) -> str:
        """The name of the network that is judged."""
        return self.networks[-1]


def paper_names(networks: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what the paper calls the phases of a run (D0, S1, D1, ...); None where they are no such phases.

    >>> paper_names(("dense", "sparse-1", "redense-1", "sparse-2", "redense-2"))
    ('D0', 'S1', 'D1', 'S2', 'D2')
    >>> paper_names(("baseline", "dsd")) is None
    True
    """
    found: list[str] = []
    for name in networks:
        match = _PHASE.fullmatch(name)
        if match is None:
            return None
        cycle = match["cycle"] or "1"
        found.append("D0" if match["dense"] else f"S{cycle}" if match["sparse"] else f"D{cycle}")
    return tuple(found)


def visible(text: str) -> str:
    r"""Return text in which what has no shape of its own, or turns the text around, is written out.

    >>> visible("a\x00b\u202ec\ud800"), visible("niño año")
    ('a␀b⟨U+202E⟩c⟨U+D800⟩', 'niño año')
    """
    return "".join(_shown(character) for character in text)


def read_evidence(path: Path) -> Evidence | str | None:
    """Return what ``evidence.json`` says, the reason why it says nothing, or None where it is none of recognisers.

    Raises:
        DataError: it is damaged.
    """
    data = load_object(path)
    if data.get("kind") != KIND:
        return None
    if "missing" in data:
        return visible(str(data["missing"]))
    try:
        networks = tuple(visible(str(name)) for name in data["networks"])
        every, *sets = (_set(item, len(networks)) for item in data["sets"])
        better, worse, same = (_clips(data[name]) for name in ("better", "worse", "same"))
        return Evidence(
            networks=networks,
            utterances=int(data["utterances"]),
            seconds=None if data["seconds"] is None else float(data["seconds"]),
            every=every,
            sets=tuple(sets),
            better=better,
            worse=worse,
            same=same,
            no_sound=visible(str(data["no_sound"])) if data["no_sound"] else None,
        )
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not what redense writes: {visible(repr(error))}") from None


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) in _HIDDEN:
        return f"⟨U+{code:04X}⟩"
    return character


def _set(item: Mapping[str, Any], networks: int) -> SetRow:
    words, characters = (tuple(_rate(one) for one in item[unit]) for unit in ("words", "characters"))
    changes = (None, *(_change(one) for one in item["changes"]))
    if not networks or not len(words) == len(characters) == len(changes) == networks:
        raise ValueError(f"{len(words)} of {networks} networks")
    name = None if item["name"] is None else visible(str(item["name"]))
    return SetRow(name, int(item["utterances"]), words, characters, changes)


def _rate(item: Mapping[str, Any]) -> Rate:
    return Rate(
        rate=_number(item["rate"]),
        interval=_interval(item["interval"]),
        **{
            name: int(item[name])
            for name in (
                "reference",
                "substitutions",
                "deletions",
                "insertions",
                "wrong",
                "empty_references",
                "empty_hypotheses",
            )
        },
    )


def _change(item: Mapping[str, Any] | None) -> Change | None:
    if item is None:
        return None
    relative, better = _number(item["relative"]), _number(item["better"])
    return Change(float(item["points"]), relative, _interval(item["interval"]), better)


def _clips(item: Mapping[str, Any]) -> Clips:
    return Clips(int(item["total"]), int(item["wholly"]), tuple(_clip(one) for one in item["shown"]))


def _clip(item: Mapping[str, Any]) -> Clip:
    one, other = item["errors"]
    first, last = item["edits"]
    sound = item["sound"]
    if sound is not None and not _BASE64.fullmatch(sound):
        raise ValueError("sound that is no base64")
    return Clip(
        index=int(item["index"]),
        set=None if item["set"] is None else visible(str(item["set"])),
        seconds=_number(item["seconds"]),
        errors=(int(one), int(other)),
        edits=(_edits(first), _edits(last)),
        sound=sound,
    )


def _edits(items: Any) -> tuple[Edit, ...]:
    edits = tuple(Edit(str(kind), _word(said), _word(heard)) for kind, said, heard in items)
    for edit in edits:
        if edit.kind not in EDITS:
            raise ValueError(f"an edit of the kind {edit.kind!r}")
        if (edit.said is None) != (edit.kind == "insertion") or (edit.heard is None) != (edit.kind == "deletion"):
            raise ValueError(f"{edit.kind} of {edit.said!r} and {edit.heard!r}")
    return edits


def _word(value: Any) -> str | None:
    return None if value is None else visible(str(value))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _interval(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value
    return float(low), float(high)
