"""`redense data check PATH` for recordings: every clip is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from redense.errors import DataError
from redense.files.opening import at_home
from redense.files.visible import counted
from redense.tasks.faults import Checked, Fault, fault_lines
from redense.tasks.folders import TEXTS, endings_said, paths_below, walk
from redense.tasks.speech.audio import SUFFIXES
from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.transcripts.text import Normaliser
from redense.tasks.task import Split

from .checking import OnDone, listen
from .clips import Clip, Utterance, duration
from .layouts import layout_of
from .loading import changes_said, corpus_of, read_clips
from .wsj import is_wsj

_ALL = "not divided"
# Words of the notes that tell of more than single clips, or of letters, which are known once all clips are divided.
_SHOWN = (
    *("flatter", "divided by", "into a split", "data.language", "several transcripts", "is the file whole"),
    "redense's own set",
    *("which no training transcript has", "which is not in data.alphabet"),
)
_FEW = 100  # clips of a validation or test split: fewer are said


def check(config: SpeechData, full: bool, show: OnDone) -> Checked:
    """Return what `redense data check` says of recordings: they are always read whole, and as training would read them.

    Args:
        config: names the source.
        full: changes nothing.
        show: called with how many clips are done and how many there are.

    Raises:
        DataError: it is in no known layout, or a list of it is damaged.
        MissingExtraError: soundfile is not installed.
    """
    clips = read_clips(config)
    normaliser = Normaliser(config.language, config.accents, config.case, config.digits)
    usable, faults, broken = _heard(clips, config, normaliser, show)
    notes, refusal = (), ""
    try:
        corpus = corpus_of(clips, config)
        notes = (
            *corpus.notes[:1],
            *(note for note in corpus.notes[1:] if any(word in note for word in _SHOWN)),
            *small_notes(corpus.splits),
        )
    except DataError as error:
        refusal = str(error)
    notes = (*notes, *_unnamed(config, clips))
    splits: dict[str, list[float]] = {}
    for one in usable:
        splits.setdefault(one.clip.split or _ALL, []).append(one.seconds)
    words = [word for one in usable for word in one.text.split()]
    symbols, layout = sorted(set().union(*(one.text for one in usable))), _layout(config)
    plain = {
        "layout": layout,
        "splits": {name: {"clips": len(own), "seconds": round(sum(own), 3)} for name, own in splits.items()},
        "words": len(words),
        "different_words": len(set(words)),
        "symbols": "".join(symbols),
        "changed": dict(normaliser.changed),
        "notes": notes,
    }
    lines = [f"{name}: {counted(len(own), 'clip')}, {duration(sum(own))}" for name, own in splits.items()]
    if usable:
        lengths = sorted(one.seconds for one in usable)
        speakers = {one.clip.speaker for one in usable} - {""}
        spoken = f"; {counted(len(speakers), 'speaker')}" if speakers else ""
        letters = [symbol for symbol in symbols if symbol != " "]
        lines += [
            f"clips: {lengths[0]:.1f} to {lengths[-1]:.1f} s long, half of them at least "
            f"{lengths[len(lengths) // 2]:.1f} s{spoken}",
            f"transcripts: {len(words):,} words, of which {len(set(words)):,} different; "
            f"{len(letters)} symbols: {' '.join(letters)}",
        ]
    if normaliser.changed:
        lines.append(f"transcripts that training would change: {changes_said(normaliser)}")
    lines += [*fault_lines(faults, ""), *(f"note: {note}" for note in notes)]
    lines += [f"taken for {layout}"] if layout else []
    return Checked(lines, plain, faults, refusal, broken)


def _heard(
    clips: Sequence[Clip], config: SpeechData, normaliser: Normaliser, show: OnDone
) -> tuple[list[Utterance], list[Fault], bool]:
    """Return the usable clips, what is wrong with each of the others, and whether one is no sound that can be read."""
    usable: list[Utterance] = []
    faults: list[Fault] = []
    sounds = listen(clips, " + ".join(config.sources), config.max_seconds, show)
    for clip, sound in zip(clips, sounds, strict=True):
        text, fault = normaliser(clip.text)
        if sound.fault:
            faults.append(Fault(clip.name, sound.fault))
        elif sound.seconds > config.max_seconds:  # no more than that was decoded
            faults.append(Fault(clip.name, f"is longer than {config.max_seconds:g} s (data.max_seconds)"))
        elif sound.seconds < config.min_seconds:
            faults.append(Fault(clip.name, f"is {sound.seconds:.2g} s long, shorter than {config.min_seconds:g} s"))
        elif fault:
            faults.append(Fault(clip.name, fault))
        else:
            usable.append(Utterance(clip, text, sound.seconds, sound.digest))
    return usable, faults, any(sound.fault for sound in sounds)


def _layout(config: SpeechData) -> str:
    """Return what the folders of a set are taken for."""
    folders = [at_home(source) for source in config.sources]
    return " and ".join(layout_of(folder.absolute())[0] for folder in folders if folder.is_dir())


def _unnamed(config: SpeechData, clips: Sequence[Clip]) -> list[str]:
    """Count the sound files of the folders that no clip is of."""
    named = {clip.path for clip in clips}
    notes: list[str] = []
    for source in config.sources:
        folder = at_home(source).absolute()
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
