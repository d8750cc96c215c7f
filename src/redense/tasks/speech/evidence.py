"""Evidence of speech recognition: the transcripts of trained networks, by set and clip, as plain data for the report.

Networks are compared by what they heard in the same clips. An outcome has ``hypothesis`` and ``reference``, the symbols
of every clip, (n, width) padded with -1.
"""

from __future__ import annotations

import base64
import io
import math
import wave
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redense.errors import DataError
from redense.tasks.evidence import Missing

from .audio import resample
from .schema import KIND, Change, Clip, Clips, Edit, Rate, SetRow, SpeechEvidence
from .transcripts.alphabet import Alphabet
from .transcripts.decoding import spell
from .transcripts.scoring import Rows, Unit, align, by_group, change, score, utterance_counts

MOST_SHOWN = 12  # clips of each kind that go into the report
MOST_SOUND = 3 << 20  # bytes of their sound, all together
RATE = 16_000  # Hz, at most, of a clip in the report

Outcome = Mapping[str, Tensor]
Sound = Callable[[int], tuple[Tensor, int] | None]
"""A test clip by index: its waveform (n,) in [-1, 1] and its rate in Hz; None where it cannot be had."""

_UNITS: tuple[Unit, ...] = ("words", "characters")


def evidence(
    outcomes: Mapping[str, Outcome],
    alphabet: Alphabet,
    *,
    sets: Sequence[str] | None = None,
    seconds: Sequence[float] | None = None,
    sound: Sound | None = None,
    most: int = MOST_SHOWN,
) -> dict[str, Any]:
    """Return what networks heard, as plain JSON data; or ``missing``, with the reason why it cannot be told.

    Args:
        outcomes: network -> outcome over the same clips; the first is the baseline, the last the one that is judged.
        alphabet: of the networks.
        sets: the test set of every clip, where there are several.
        seconds: the length of every clip.
        sound: gives the sound of clips; None where the task has none.
        most: how many better, worse and other clips are picked out.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    if not outcomes or any(not {"hypothesis", "reference"} <= set(outcome) for outcome in outcomes.values()):
        return Missing(kind=KIND, missing="what was heard was not kept; evaluate the networks anew").to_dict()
    references = spell(next(iter(outcomes.values()))["reference"], alphabet)
    heard = {name: spell(outcome["hypothesis"], alphabet) for name, outcome in outcomes.items()}
    rows: dict[Unit, list[Rows]] = {
        unit: [utterance_counts(hypotheses, references, unit) for hypotheses in heard.values()] for unit in _UNITS
    }
    groups = by_group(sets) if sets is not None and len(set(sets)) > 1 else {}
    every = np.arange(len(references))
    tables = (_rates(None, rows, every), *(_rates(name, rows, places) for name, places in groups.items()))
    names, texts = list(heard), list(heard.values())
    first, last = rows["words"][0], rows["words"][-1]
    better, worse, same = _ordered(first, last)
    player = _Player(sound)

    def shown(index: int) -> Clip:
        one, other = (
            tuple(Edit(edit.kind, edit.reference, edit.hypothesis) for edit in align(text[index], references[index]))
            for text in (texts[0], texts[-1])
        )
        return Clip(
            index=index,
            set=sets[index] if sets and groups else None,
            seconds=round(float(seconds[index]), 2) if seconds else None,
            errors=(int(first[index, 1:].sum()), int(last[index, 1:].sum())),
            edits=(one, other),
            sound=player.encoded(index),
        )

    def clips(which: list[int], judged: Rows, most: int) -> Clips:
        wholly = int((judged[which, 1:].sum(axis=1) == 0).sum())
        return Clips(total=len(which), wholly=wholly, shown=tuple(map(shown, which[:most])))

    # Sound has room for so much: what is better is shown first.
    kinds = {
        "better": clips(better, last, most),
        "worse": clips(worse, first, most),
        "same": clips(same, last, most // 2),
    }
    return SpeechEvidence(
        networks=tuple(names),
        utterances=len(references),
        seconds=round(math.fsum(seconds), 3) if seconds is not None else None,
        sets=tables,
        **kinds,
        no_sound=player.no_sound,
    ).to_dict()


def wav(waveform: Tensor, rate: int) -> tuple[bytes, int]:
    """Return a mono WAV file of 16 bits and its rate, which is 16 kHz at most: small, and any browser plays it.

    Args:
        waveform: (n,), in [-1, 1]; what is louder is clipped.
        rate: in Hz.
    """
    own, rate = rate, min(rate, RATE)
    samples = resample(torch.nan_to_num(waveform.detach().float().cpu()).numpy(), own, rate)
    whole = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(whole.tobytes())
    return file.getvalue(), rate


class _Player:
    """The sound of clips as the report holds it, as long as there is room."""

    def __init__(self, sound: Sound | None) -> None:
        self._sound, self._room = sound, MOST_SOUND
        self.no_sound = None if sound else "the task gives no sound of its examples"

    def encoded(self, index: int) -> str | None:
        """Return the WAV file of a clip in base64; None where there is none, which ``no_sound`` explains."""
        if self._sound is None:
            return None
        try:
            found = self._sound(index)
        except DataError as error:  # the recording has gone since; the transcripts have not
            self.no_sound = str(error)
            return None
        if found is None:
            self.no_sound = self.no_sound or "some recordings could not be had"
            return None
        data, _ = wav(*found)
        if len(data) > self._room:
            self.no_sound = f"more than {MOST_SOUND >> 20} MB of sound would make the page large"
            return None
        self._room -= len(data)
        return base64.b64encode(data).decode()


def _rates(name: str | None, rows: Mapping[Unit, Sequence[Rows]], places: NDArray[Any]) -> SetRow:
    """Return the score of every network over some clips, and what the later ones change against the first."""
    return SetRow(
        name=name,
        utterances=len(places),
        words=tuple(_rate(one[places], "words") for one in rows["words"]),
        characters=tuple(_rate(one[places], "characters") for one in rows["characters"]),
        changes=tuple(_change(rows["words"][0][places], one[places]) for one in rows["words"][1:]),
    )


def _rate(rows: Rows, unit: Unit) -> Rate:
    found = score(rows, unit)
    return Rate(
        rate=_rounded(found.rate),
        interval=_rounded(found.interval),
        reference=found.counts.reference,
        substitutions=found.counts.substitutions,
        deletions=found.counts.deletions,
        insertions=found.counts.insertions,
        wrong=found.wrong,
        empty_references=found.empty_references,
        empty_hypotheses=found.empty_hypotheses,
    )


def _change(before: Rows, after: Rows) -> Change | None:
    found = change(before, after)
    return Change(**{name: _rounded(value) for name, value in vars(found).items()}) if found else None


def _rounded(value: Any) -> Any:
    """Return a number, or both ends of an interval, with four decimals; None stays None."""
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    return None if value is None else round(value, 4)


def _ordered(before: Rows, after: Rows) -> tuple[list[int], list[int], list[int]]:
    """Return the clips with fewer errors, with more, and with as many, the greatest change first; equals by index.

    Of those with as many errors the ones with most errors come first: they say more than what both heard right.
    """
    was, now = before[:, 1:].sum(axis=1), after[:, 1:].sum(axis=1)
    gain = was - now
    order = np.argsort(-np.abs(gain), kind="stable")
    better, worse = (order[sign * gain[order] > 0].tolist() for sign in (1, -1))
    same = np.flatnonzero(gain == 0)
    return better, worse, same[np.argsort(-now[same], kind="stable")].tolist()
