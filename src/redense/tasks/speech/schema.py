"""The schema of ``evidence.json`` for speech recognition: transcripts by set and by clip."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from redense.tasks.evidence import Count, Evidence, Interval, Plain, Reason, Text, check_each

KIND = "speech"


class Rate(Plain):
    """A network's error rate on a set, in %, with its 95 % interval, and the errors that make it up."""

    rate: float | None
    interval: Interval | None
    reference: Count
    substitutions: Count
    deletions: Count
    insertions: Count
    wrong: Count
    empty_references: Count
    empty_hypotheses: Count


class Change(Plain):
    """The change of a network against the first: points of WER, relative reduction in %, interval of the points."""

    points: float
    relative: float | None
    interval: Interval | None
    better: float | None


class SetRow(Plain):
    """One test set, or all clips (without a name); ``changes`` has an entry for each network but the first."""

    name: Text | None
    utterances: Count
    words: tuple[Rate, ...]
    characters: tuple[Rate, ...]
    changes: tuple[Change | None, ...]

    def change(self, place: int) -> Change | None:
        """Return what the network at a place changes; None for the first, and where it cannot be told."""
        return self.changes[place - 1] if place else None


class Edit(NamedTuple):
    """A step of an alignment: its kind, what was said, what was heard."""

    kind: Literal["hit", "substitution", "deletion", "insertion"]
    said: Text | None
    heard: Text | None


class Clip(Plain):
    """A test clip: what the first and the last network heard, and its sound."""

    index: Count
    set: Text | None
    seconds: float | None
    errors: tuple[Count, Count]
    edits: tuple[tuple[Edit, ...], tuple[Edit, ...]]
    sound: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None
    """WAV in base64."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for kind, said, heard in (edit for edits in self.edits for edit in edits):
            if (said is None) != (kind == "insertion") or (heard is None) != (kind == "deletion"):
                raise ValueError(f"{kind} of {said!r} and {heard!r}")
        return self


class Clips(Plain):
    """Clips of a kind: how many there are, how many of them one network has wholly right, those that are shown."""

    total: Count
    wholly: Count
    shown: tuple[Clip, ...]


class SpeechEvidence(Evidence):
    """The transcripts of several networks for the same test clips.

    Args:
        utterances: clips.
        seconds: of them all, where that is known.
        sets: all clips together, then each set, where there are several.
        better: clips in which the last network makes fewer errors than the first.
        worse: more.
        same: as many.
        no_sound: why not every clip can be played.
    """

    kind: ClassVar[str] = KIND
    utterances: Count
    seconds: float | None
    sets: tuple[SetRow, ...] = Field(min_length=1)
    better: Clips
    worse: Clips
    same: Clips
    no_sound: Reason

    @property
    def every(self) -> SetRow:
        """All clips together."""
        return self.sets[0]

    @property
    def parts(self) -> tuple[SetRow, ...]:
        """The sets that all clips are of, where there are several."""
        return self.sets[1:]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_each(self.networks, "rates", *(part for row in self.sets for part in (row.words, row.characters)))
        check_each(self.networks[1:], "changes", *(row.changes for row in self.sets))
        return self
