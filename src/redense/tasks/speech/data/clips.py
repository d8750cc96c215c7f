"""A clip: a sound file, or a piece of one, and what is said in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redense.tasks.speech.audio import Samples, read
from redense.tasks.task import Split


def duration(seconds: float) -> str:
    """Return how long recordings are.

    >>> duration(5400), duration(90)
    ('1.5 h', '1.5 min')
    """
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


@dataclass(frozen=True)
class Clip:
    """One line of a corpus.

    Args:
        path: of the sound file.
        name: of the clip in messages and reports; different clips of a corpus differ in it.
        text: the transcript.
        split: where the corpus puts it; None leaves that to us.
        part: which of several test sets it belongs to, e.g. ``92``.
        speaker: who speaks, if that is known.
        start: of the piece, in seconds.
        length: of the piece, in seconds; None goes on to the end.
    """

    path: Path
    name: str
    text: str
    split: Split | None = None
    part: str = ""
    speaker: str = ""
    start: float = 0.0
    length: float | None = None

    def samples(self, rate: int) -> Samples:
        """Return its samples (n,) at ``rate`` a second.

        Raises:
            DataError: it cannot be read; the message names it.
            MissingExtraError: soundfile is not installed.
        """
        return read(self.path, rate, self.start, self.length)
