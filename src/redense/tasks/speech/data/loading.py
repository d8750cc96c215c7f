"""Loading the recordings that a recipe names: three splits of usable clips, and a note on what cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redense.errors import DataError
from redense.files.visible import counted
from redense.tasks import catalog
from redense.tasks.classification.data.duplicates import Marked, shared_examples
from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.text import Normaliser, unknown_language
from redense.tasks.split_names import idle_shares
from redense.tasks.task import Split

from .checking import listen
from .clips import Clip, Utterance, duration
from .layouts import TONES, read_source
from .overlaps import doubtful, overlapping

_FEWEST = 10  # clips that are divided by name, where sentences are too few
_NAMED = 3  # clips of a cause that a note names


@dataclass(frozen=True)
class Corpus:
    """Three splits, their alphabet, and what was done to get there.

    ``known_as`` are other fingerprints of the same data: an older redense's did not say which of several test sets a
    clip is in.
    """

    splits: Mapping[Split, Sequence[Utterance]]
    alphabet: Alphabet
    notes: tuple[str, ...]
    fingerprint: str
    known_as: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of several test sets, in order; none if there is only one."""
        return tuple(sorted({*_parts(self.splits["test"])}))


def load_corpus(config: SpeechData) -> Corpus:
    """Read the transcripts, listen to every clip once, and split by sentence what the corpus does not split itself.

    Raises:
        DataError: no such data, or nothing left of a split.
        MissingExtraError: soundfile is not installed.
    """
    return corpus_of(read_clips(config), config)


def read_clips(config: SpeechData) -> list[Clip]:
    """Return the clips of all sources of a recipe, under names that tell them from each other.

    Raises:
        DataError: no such data, or a list of it is damaged.
    """
    several = len(config.sources) > 1
    clips: list[Clip] = []
    for source in config.sources:
        own = read_source(source)
        # A clip's name must tell it from the others, also from those of another source.
        clips += [replace(clip, name=f"{source}/{clip.name}") for clip in own] if several else own
    _verify_once(clips)
    return clips


def _verify_once(clips: Sequence[Clip]) -> None:
    """Refuse a clip that is listed twice with one transcript, unless both are training's: it would be judged by twice.

    Raises:
        DataError: there is one.
    """
    seen: dict[Any, Clip] = {}
    for clip in clips:
        first = seen.setdefault((*clip.sound, clip.text, clip.split), clip)
        if first is not clip and clip.split != "train":
            names = clip.name if first.name == clip.name else f"{clip.name} and {first.name}"
            raise DataError(f"{names}: one recording with one transcript is there twice; remove one of the two")


def corpus_to_judge(config: SpeechData, split: str | None) -> tuple[Corpus, str]:
    """Return recordings that nothing is trained on, as a test split, and which of them they are.

    Args:
        config: with the alphabet.
        split: of the recordings, or ``all``; None: their test split if they have one, else all.

    Raises:
        DataError: there are none, or nothing of them can be used.
    """
    clips = read_clips(config)
    chosen = split or ("test" if any(clip.split == "test" for clip in clips) else "all")
    judged = [replace(clip, split="test") for clip in clips if chosen in ("all", clip.split)]
    if not judged:
        raise DataError(f"{' + '.join(config.sources)} has no {chosen} split: give --split all")
    return corpus_of(judged, config, ("test",)), chosen


def corpus_of(
    clips: Sequence[Clip], config: SpeechData, needed: Collection[Split] = ("train", "validation", "test")
) -> Corpus:
    """Return the splits of clips, their alphabet, and a word on what was left out.

    Args:
        clips: of a set.
        config: says what is learned of them.
        needed: the splits that may not be empty.

    Raises:
        DataError: nothing is left of a split, or a sound is broken and the recipe refuses such.
    """
    place = " + ".join(config.sources)
    drops = _Drops()
    normaliser = Normaliser(config.language, config.accents, config.case, config.digits)
    readable: list[Utterance] = []
    for clip in clips:
        text, fault = normaliser(clip.text)
        if fault:
            drops.add(fault, clip)
        else:
            readable.append(Utterance(clip, text))
    alphabet = Alphabet(tuple(config.alphabet)) if config.alphabet else None
    if alphabet:
        readable = _spellable(readable, alphabet, "which is not in data.alphabet", drops)
    usable, broken = _audible(readable, config, place, drops)
    if config.broken == "refuse" and broken:
        raise DataError(
            f"{place}: a clip {drops.words(broken[0])}; repair it, or leave such out with data.broken: skip"
        )
    splits, divided = _divide(usable, config)
    splits["test"] = _with_names(splits["test"])
    alphabet = alphabet or Alphabet.of(utterance.text for utterance in splits["train"] or usable)
    for name, part in splits.items():
        splits[name] = _spellable(part, alphabet, "which no training transcript has", drops)
    splits["train"] = splits["train"] if config.limit is None else _first_by_hash(splits["train"], config.limit)
    for name, part in splits.items():
        if not part and name in needed:
            raise DataError(
                f"{place}: no clip is left for {'training' if name == 'train' else name} of {len(clips):,}; "
                f"{drops.summary() or 'the corpus has no such split'}"
            )
    notes = (
        *_notes(place, len(clips), splits, normaliser, drops),
        *(note for source in config.sources for note in catalog.namesake(source, TONES)),
        *divided,
        *doubtful(place, [one for part in splits.values() for one in part]),
        *_shared(place, splits),
        *overlapping(place, splits),
    )
    parts = _parts(splits["test"])
    digest, *others = [_fingerprint(splits, own) for own in ([parts, []] if parts else [[]])]
    return Corpus(splits, alphabet, notes, digest, tuple(others))


def _parts(test: Sequence[Utterance]) -> list[str]:
    """Return the test set of every test clip; nothing where there is only one."""
    parts = [one.clip.part for one in test]
    return parts if len({*parts}) > 1 else []


def _with_names(test: list[Utterance]) -> list[Utterance]:
    """Return test clips of which those in a set without a name are called `test`, where there are sets with one."""
    if len({one.clip.part for one in test}) == 1:
        return test
    return [replace(one, clip=replace(one.clip, part=one.clip.part or "test")) for one in test]


def split_of(text: str, config: SpeechData) -> Split:
    """Return where a sentence belongs: the same one is always on the same side, in every source.

    >>> split_of("un zorro", SpeechData()) == split_of("un zorro", SpeechData(source="x"))
    True
    """
    part = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "test" if part < config.test else "validation" if part < config.test + config.validation else "train"


def _spellable(utterances: Sequence[Utterance], alphabet: Alphabet, why: str, drops: _Drops) -> list[Utterance]:
    """Return those that an alphabet can spell; ``why`` says of a letter why the others are left out."""
    kept: list[Utterance] = []
    for one in utterances:
        if foreign := sorted(set(one.text) - set(alphabet.symbols)):
            drops.add(f"has {foreign[0]!r}, {why}", one.clip)
        else:
            kept.append(one)
    return kept


def _audible(
    readable: Sequence[Utterance], config: SpeechData, place: str, drops: _Drops
) -> tuple[list[Utterance], list[str]]:
    """Return the clips with sound that can be used, and what is wrong with the sound of others."""
    usable, broken = list[Utterance](), list[str]()
    sounds = listen([one.clip for one in readable], place, config.max_seconds)
    for one, sound in zip(readable, sounds, strict=True):
        if sound.fault:
            drops.add(sound.fault, one.clip)
            broken.append(sound.fault)
        elif sound.seconds > config.max_seconds:
            drops.add(f"is longer than {config.max_seconds:g} s", one.clip)
        elif sound.seconds < config.min_seconds:
            drops.add(f"is shorter than {config.min_seconds:g} s", one.clip)
        else:
            lacking = max(sound.lacking, (one.clip.length or 0.0) - sound.seconds)
            usable.append(replace(one, seconds=sound.seconds, digest=sound.digest, lacking=lacking))
    return usable, broken


def _divide(usable: Sequence[Utterance], config: SpeechData) -> tuple[dict[Split, list[Utterance]], list[str]]:
    """Put every clip where its corpus puts it; where it names no validation or test clips, sentences decide.

    Where there are so few different sentences that a split would be empty, clips are divided by their names instead,
    which the notes say.
    """
    given: set[Split | None] = {utterance.clip.split for utterance in usable}
    divided = "validation" in given and "test" in given
    # By their places: clips of several splits may have one name.
    free = {
        place: one
        for place, one in enumerate(usable)
        if one.clip.split is None or (one.clip.split == "train" and not divided)
    }
    drawn: dict[int, Split] = {}
    for place, one in free.items():
        name = split_of(one.text, config)
        drawn[place] = "train" if name in given else name
    notes: list[str] = []
    names: tuple[Split, ...] = ("train", "validation", "test")
    empty = [name for name in names if name not in given and name not in drawn.values()]
    if empty and len(free) >= _FEWEST:
        of_name = _by_name([*free.values()], given, config)
        drawn = {place: of_name[one.clip.name] for place, one in free.items()}
        notes.append(
            f"{_different(len({one.text for one in free.values()}))} too few to divide by: the clips are divided "
            "by their names, and the same sentence may be in training and in the test"
        )
    splits: dict[Split, list[Utterance]] = {"train": [], "validation": [], "test": []}
    for place, one in enumerate(usable):
        splits[drawn.get(place) or one.clip.split or "train"].append(one)
    said = [*_unplaced(splits, given), *_said_again(splits, given)]
    return splits, [*notes, *idle_shares(config, given, "validation", "test"), *said]


def _unplaced(splits: Mapping[Split, Sequence[Utterance]], given: Collection[Split | None]) -> list[str]:
    """Say where the clips went that have no split, where others have one."""
    loose = {name: [one for one in part if one.clip.split is None] for name, part in splits.items()}
    count = sum(map(len, loose.values()))
    if not count or len(given) == 1:
        return []
    names = {"train": "training", "validation": "validation", "test": "the test"}
    where = " and ".join(f"{len(part):,} to {names[name]}" for name, part in loose.items() if part)
    some = next(one.clip.name for part in loose.values() for one in part)
    return [f"no list, folder or source puts {counted(count, 'clip')} into a split, such as {some}: {where}"]


def _said_again(splits: Mapping[Split, Sequence[Utterance]], given: Collection[Split | None]) -> list[str]:
    """Count the training clips without a split of their own whose sentence a given validation or test split has."""
    held: tuple[Split, ...] = ("validation", "test")
    said = {one.text for name in held if name in given for one in splits[name]}
    again = sum(one.clip.split is None and one.text in said for one in splits["train"])
    if not again:
        return []
    return [
        f"{counted(again, 'clip')} of a source without splits went to training, with a sentence that given validation "
        "or test clips say: the figures flatter"
    ]


def _different(count: int) -> str:
    return "1 sentence is" if count == 1 else f"{count:,} different sentences are"


def _by_name(free: Sequence[Utterance], given: Collection[Split | None], config: SpeechData) -> dict[str, Split]:
    """Return clip -> split by the hash of the names, for the splits that are not given."""
    names = list(dict.fromkeys(_names_by_hash(free)))  # two transcripts of a recording go together
    out: dict[str, Split] = dict.fromkeys(names, "train")
    shares: dict[Split, float] = {"test": config.test, "validation": config.validation}
    start = 0
    for split, share in shares.items():
        if split not in given:
            count = max(1, round(share * len(names)))
            out |= dict.fromkeys(names[start : start + count], split)
            start += count
    return out


def _first_by_hash(part: Sequence[Utterance], count: int) -> list[Utterance]:
    order = sorted(range(len(part)), key=lambda place: _hash(part[place]))
    return [part[place] for place in sorted(order[:count])]


def _names_by_hash(part: Sequence[Utterance]) -> list[str]:
    return [one.clip.name for one in sorted(part, key=_hash)]


def _hash(one: Utterance) -> bytes:
    return hashlib.sha256(one.clip.name.encode("utf-8", "surrogateescape")).digest()


class _Drops(dict[str, list[str]]):
    """Cause -> names of the clips that were left out for it."""

    def add(self, cause: str, clip: Clip) -> None:
        self.setdefault(cause, []).append(clip.name)

    def words(self, cause: str) -> str:
        names = self[cause]
        more = ", ..." if len(names) > _NAMED else ""
        return f"{cause}: {len(names):,} ({', '.join(names[:_NAMED])}{more})"

    def summary(self) -> str:
        return "; ".join(self.words(cause) for cause in sorted(self, key=lambda cause: -len(self[cause])))


def _notes(
    place: str, total: int, splits: Mapping[Split, Sequence[Utterance]], normaliser: Normaliser, drops: _Drops
) -> tuple[str, ...]:
    lengths = {name: duration(sum(utterance.seconds for utterance in part)) for name, part in splits.items()}
    sizes = ", ".join(f"{len(part):,} {name} ({lengths[name]})" for name, part in splits.items() if part)
    notes = [f"{place}: {sizes} of {total:,} in all"]
    if drops:
        left = sum(map(len, drops.values()))
        notes.append(f"left out {left:,} clips: {drops.summary()}")
    if normaliser.changed:
        notes.append(f"transcripts changed: {changes_said(normaliser)}")
    if said := unknown_language(normaliser.language):
        notes.append(said)
    return tuple(notes)


def changes_said(normaliser: Normaliser) -> str:
    """Return how many transcripts each rule has changed, in words."""
    return ", ".join(f"{count:,} {rule}" for rule, count in normaliser.changed.most_common())


def _shared(place: str, splits: Mapping[Split, Sequence[Utterance]]) -> list[str]:
    """Name recordings that are in two splits."""
    parts: dict[str, Marked] = {}
    for name, part in splits.items():
        known = [f"{one.digest} {one.clip.start} {one.clip.length}".encode() for one in part]
        digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in known)
        parts["training" if name == "train" else name] = Marked(
            np.frombuffer(digests, np.uint64), lambda index, part=part: part[index].clip.name
        )
    return shared_examples(place, parts, "clips")


def _fingerprint(splits: Mapping[Split, Sequence[Utterance]], parts: Sequence[str]) -> str:
    known: dict[str, Any] = {
        name: [(one.clip.name, one.text, one.digest, *_piece(one.clip)) for one in part]
        for name, part in splits.items()
    }
    if parts:
        known["parts"] = parts
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _piece(clip: Clip) -> tuple[float | None, ...]:
    """Return where a piece begins and how long it is, in seconds; nothing of a whole file, which its bytes tell."""
    return (clip.start, clip.length) if clip.start or clip.length is not None else ()
