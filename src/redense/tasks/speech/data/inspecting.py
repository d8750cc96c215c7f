"""`redense data check PATH` for recordings: every clip is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks.faults import Checked, Fault, fault_lines
from redense.tasks.folders import TEXTS, endings_said, paths_below, walk
from redense.tasks.speech.audio import SUFFIXES
from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.transcripts.text import Normaliser
from redense.tasks.task import Split

from .checking import OnDone, listen
from .clips import Clip, duration
from .layouts import layout_of
from .loading import Utterance, corpus_of, read_clips
from .wsj import is_wsj

_ALL = "not divided"
_FEW = 100  # clips of a validation or test split: fewer are said


@dataclass(frozen=True)
class RecordingFacts:
    """The facts of a set of recordings.

    Args:
        splits: split -> usable clips, and their seconds.
        lengths: seconds of the usable clips, the shortest first.
        symbols: character -> how often it occurs in the normalised transcripts of usable clips.
        words: words of the same transcripts, and how many of them are different.
        speakers: how many are named.
        changed: rule of normalisation -> transcripts that it changed.
        faults: what cannot be used, and why; a clip each.
        broken: how many of these are no sound that can be read.
        notes: what is to be known of the splits that training would make, a sentence each.
        refusal: why training refuses the set as it is; nothing where it does not.
        layout: what the source was taken for.
    """

    splits: dict[str, tuple[int, float]]
    lengths: tuple[float, ...]
    symbols: Counter[str]
    words: tuple[int, int]
    speakers: int
    changed: Counter[str]
    faults: tuple[Fault, ...]
    broken: int
    notes: tuple[str, ...] = ()
    refusal: str = ""
    layout: str = ""


def inspect_recordings(config: SpeechData, on_done: OnDone | None = None) -> RecordingFacts:
    """Listen to every clip of a set and read its transcript as training would with these settings.

    Args:
        config: names the source.
        on_done: called with what is done, how many clips are done and how many there are.

    Raises:
        DataError: it is in no known layout, or a list of it is damaged.
        MissingExtraError: soundfile is not installed.
    """
    place = " + ".join(config.sources)
    clips = read_clips(config)
    normaliser = Normaliser(config.language, config.accents, config.case, config.digits)
    splits: dict[str, tuple[int, float]] = {}
    lengths: list[float] = []
    symbols, words = Counter[str](), Counter[str]()
    speakers: set[str] = set()
    faults: list[Fault] = []
    broken = 0
    for clip, sound in zip(clips, listen(clips, place, config.max_seconds, on_done), strict=True):
        text, fault = normaliser(clip.text)
        if sound.fault:
            broken += 1
            faults.append(Fault(clip.name, sound.fault))
        elif sound.seconds > config.max_seconds:  # no more than that was decoded
            faults.append(Fault(clip.name, f"is longer than {config.max_seconds:g} s (data.max_seconds)"))
        elif sound.seconds < config.min_seconds:
            faults.append(Fault(clip.name, f"is {sound.seconds:.2g} s long, shorter than {config.min_seconds:g} s"))
        elif fault:
            faults.append(Fault(clip.name, fault))
        else:
            count, seconds = splits.get(clip.split or _ALL, (0, 0.0))
            splits[clip.split or _ALL] = count + 1, seconds + sound.seconds
            lengths.append(sound.seconds)
            symbols.update(text)
            words.update(text.split())
            speakers |= {clip.speaker} if clip.speaker else set()
    notes, refusal = (), ""
    try:
        corpus = corpus_of(clips, config)
        notes = (
            *corpus.notes[:1],
            *(note for note in corpus.notes[1:] if "flatter" in note or "divided by" in note),
            *small_notes(corpus.splits),
        )
    except DataError as error:
        refusal = str(error)
    return RecordingFacts(
        splits,
        tuple(sorted(lengths)),
        symbols,
        (words.total(), len(words)),
        len(speakers),
        normaliser.changed,
        tuple(faults),
        broken,
        (*notes, *_unnamed(config, clips)),
        refusal,
        _layout(config),
    )


def check(config: SpeechData, full: bool, show: Callable[[int, int], None]) -> Checked:
    """Return what `redense data check` says of recordings, which it always reads whole."""
    facts = inspect_recordings(config, show)
    splits = {name: {"clips": clips, "seconds": round(seconds, 3)} for name, (clips, seconds) in facts.splits.items()}
    plain = {"layout": facts.layout, "splits": splits, "words": facts.words[0], "different_words": facts.words[1]}
    plain |= {"symbols": "".join(sorted(facts.symbols)), "changed": dict(facts.changed), "notes": facts.notes}
    return Checked(describe_recordings(facts), plain, list(facts.faults), facts.refusal, bool(facts.broken))


def describe_recordings(facts: RecordingFacts) -> list[str]:
    r"""Return lines that show a set: its splits, its transcripts, and what is wrong with it.

    >>> sizes = {"train": (2, 90.0)}
    >>> faults = (Fault("x.wav", "is silent"),)
    >>> facts = RecordingFacts(sizes, (30.0, 60.0), Counter("si no"), (2, 2), 1, Counter(), faults, 0)
    >>> print(*describe_recordings(facts), sep="\n")
    train: 2 clips, 1.5 min
    clips: 30.0 to 60.0 s long, half of them at least 60.0 s; 1 speaker
    transcripts: 2 words, of which 2 different; 4 symbols: i n o s
    1 cannot be used:
      x.wav is silent
    """
    lines = [
        f"{name}: {counted(count, 'clip')}, {duration(seconds)}" for name, (count, seconds) in facts.splits.items()
    ]
    if facts.lengths:
        least, half, most = facts.lengths[0], facts.lengths[len(facts.lengths) // 2], facts.lengths[-1]
        spoken = f"; {counted(facts.speakers, 'speaker')}" if facts.speakers else ""
        letters = sorted(symbol for symbol in facts.symbols if symbol != " ")
        lines += [
            f"clips: {least:.1f} to {most:.1f} s long, half of them at least {half:.1f} s{spoken}",
            f"transcripts: {facts.words[0]:,} words, of which {facts.words[1]:,} different; "
            f"{len(letters)} symbols: {' '.join(letters)}",
        ]
    if facts.changed:
        rules = ", ".join(f"{count:,} {rule}" for rule, count in facts.changed.most_common())
        lines.append(f"transcripts that training would change: {rules}")
    lines += fault_lines(facts.faults, "")
    lines += [f"note: {note}" for note in facts.notes]
    return [*lines, *([f"taken for {facts.layout}"] if facts.layout else [])]


def _layout(config: SpeechData) -> str:
    """Return what the folders of a set are taken for."""
    folders = [Path(source).expanduser() for source in config.sources]
    return " and ".join(layout_of(folder.absolute())[0] for folder in folders if folder.is_dir())


def _unnamed(config: SpeechData, clips: Sequence[Clip]) -> list[str]:
    """Count the sound files of the folders that no clip is of."""
    named = {clip.path for clip in clips}
    notes: list[str] = []
    for source in config.sources:
        folder = Path(source).expanduser().absolute()
        if folder.is_dir() and not is_wsj(folder):
            if others := Counter({end: n for end, n in walk(folder, SUFFIXES).others.items() if end not in TEXTS}):
                notes.append(f"{source}: passed over for their endings: {endings_said(others)}")
            rest = [path for path in paths_below(folder, SUFFIXES) if path not in named]
            if rest:
                some = rest[0].relative_to(folder)
                notes.append(
                    f"{source}: {counted(len(rest), 'sound file')} without a transcript, not used, such as {some}"
                )
    return notes


def small_notes(splits: Mapping[Split, Sequence[Utterance]]) -> list[str]:
    """Return sentences on splits of so few clips that figures say little."""
    notes: list[str] = []
    few: tuple[Split, ...] = ("validation", "test")
    for name in few:
        words = sum(len(one.text.split()) for one in splits[name])
        if len(splits[name]) < _FEW:
            notes.append(
                f"only {len(splits[name])} {name} {'clip' if len(splits[name]) == 1 else 'clips'}, with "
                f"{counted(words, 'word')}: one wrong word is {100 / words:.1f} points of the word error rate"
            )
    return notes
