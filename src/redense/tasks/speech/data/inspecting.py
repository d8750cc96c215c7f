"""What `redense data check PATH` finds out about a set of recordings: every clip is listened to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....errors import DataError
from ..config import SpeechData
from ..text import Normaliser
from .checking import OnDone, listen
from .clips import Clip, duration
from .layouts import read_source

_ALL = "not divided"


@dataclass(frozen=True)
class RecordingFacts:
    """What a set has.

    Args:
        splits: split -> usable clips, and their seconds.
        lengths: seconds of the usable clips, the shortest first.
        symbols: character -> how often it occurs in the normalised transcripts of usable clips.
        words: words of the same transcripts, and how many of them are different.
        speakers: how many are named.
        changed: rule of normalisation -> transcripts that it changed.
        faults: what cannot be used, and why; a clip each.
        broken: how many of these are no sound that can be read.
    """

    splits: dict[str, tuple[int, float]]
    lengths: tuple[float, ...]
    symbols: Counter[str]
    words: tuple[int, int]
    speakers: int
    changed: Counter[str]
    faults: tuple[str, ...]
    broken: int


def find_recordings(source: str) -> list[Clip]:
    """Return the clips of a folder or manifest in a layout that is known, or none; no sound is opened."""
    if not Path(source).expanduser().exists():
        return []
    try:
        return read_source(source)
    except DataError:
        return []


def inspect_recordings(clips: Sequence[Clip], place: str, on_done: OnDone | None = None) -> RecordingFacts:
    """Listen to every clip and read its transcript as training would, with the settings' defaults.

    Args:
        clips: of `find_recordings`.
        place: whose clips they are: what is heard is remembered under it.
        on_done: called with what is done, how many clips are done and how many there are.

    Raises:
        MissingExtraError: soundfile is not installed.
    """
    settings = SpeechData()
    normaliser = Normaliser()
    splits: dict[str, tuple[int, float]] = {}
    lengths: list[float] = []
    symbols, words = Counter[str](), Counter[str]()
    speakers: set[str] = set()
    faults: list[str] = []
    broken = 0
    for clip, sound in zip(clips, listen(clips, place, settings.max_seconds, on_done), strict=True):
        text, fault = normaliser(clip.text)
        if sound.fault or not settings.min_seconds <= sound.seconds <= settings.max_seconds:
            broken += sound.fault is not None
            faults.append(f"{clip.name} {sound.fault or f'is {sound.seconds:.1f} s long'}")
        elif fault:
            faults.append(f"{clip.name} {fault}")
        else:
            count, seconds = splits.get(clip.split or _ALL, (0, 0.0))
            splits[clip.split or _ALL] = count + 1, seconds + sound.seconds
            lengths.append(sound.seconds)
            symbols.update(text)
            words.update(text.split())
            speakers |= {clip.speaker} if clip.speaker else set()
    return RecordingFacts(
        splits,
        tuple(sorted(lengths)),
        symbols,
        (words.total(), len(words)),
        len(speakers),
        normaliser.changed,
        tuple(faults),
        broken,
    )


def describe_recordings(facts: RecordingFacts) -> list[str]:
    r"""Return lines that show a set: its splits, its transcripts, and what is wrong with it.

    >>> sizes = {"train": (2, 90.0)}
    >>> facts = RecordingFacts(sizes, (30.0, 60.0), Counter("si no"), (2, 2), 1, Counter(), ("x.wav is silent",), 0)
    >>> print(*describe_recordings(facts), sep="\n")
    train: 2 clips, 1.5 min
    clips: 30.0 to 60.0 s long, half of them at least 60.0 s; 1 speaker
    transcripts: 2 words, of which 2 different; 4 symbols: i n o s
    1 cannot be used:
      x.wav is silent
    """
    lines = [f"{name}: {count:,} clips, {duration(seconds)}" for name, (count, seconds) in facts.splits.items()]
    if facts.lengths:
        least, half, most = facts.lengths[0], facts.lengths[len(facts.lengths) // 2], facts.lengths[-1]
        spoken = f"; {facts.speakers:,} speaker{'s' * (facts.speakers != 1)}" if facts.speakers else ""
        letters = sorted(symbol for symbol in facts.symbols if symbol != " ")
        lines += [
            f"clips: {least:.1f} to {most:.1f} s long, half of them at least {half:.1f} s{spoken}",
            f"transcripts: {facts.words[0]:,} words, of which {facts.words[1]:,} different; "
            f"{len(letters)} symbols: {' '.join(letters)}",
        ]
    if facts.changed:
        rules = ", ".join(f"{count:,} {rule}" for rule, count in facts.changed.most_common())
        lines.append(f"transcripts that training would change: {rules}")
    if facts.faults:
        lines.append(f"{len(facts.faults):,} cannot be used:")
        lines += [f"  {fault}" for fault in facts.faults]
    return lines
