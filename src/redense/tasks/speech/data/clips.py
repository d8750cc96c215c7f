"""A clip: a sound file, or a piece of one, and what is said in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.tasks.speech.audio import Samples, read
from redense.tasks.task import Split


def duration(seconds: float) -> str:
    """Return how long recordings are.

    >>> duration(5400), duration(90)
    ('1.5 h', '1.5 min')
    """
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def named_once(clips: Iterable[tuple[Path, Clip]]) -> None:
    """Refuse clips that two lists name, if both put them into one split, or one of the lists into none.

    They would be learned twice, and a test clip that another list names without its split would be trained on.

    Args:
        clips: each with its list.

    Raises:
        DataError: there is one.
    """
    seen: dict[Any, tuple[Path, Clip]] = {}
    for path, clip in clips:
        first, other = seen.setdefault(clip.sound, (path, clip))
        if first != path and (clip.split == other.split or None in (clip.split, other.split)):
            raise DataError(
                f"{first} and {path} both name {clip.name}: remove one of them, or move it to another folder"
            )


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

    @property
    def sound(self) -> tuple[Path, float, float | None]:
        """The file, and the piece of it that is heard."""
        return self.path, self.start, self.length

    def samples(self, rate: int) -> Samples:
        """Return its samples (n,) at ``rate`` a second.

        Raises:
            DataError: it cannot be read; the message names it.
            MissingExtraError: soundfile is not installed.
        """
        return read(self.path, rate, self.start, self.length)


@dataclass(frozen=True)
class Utterance:
    """A clip that can be used: ``text`` is normalised; once it is heard, ``digest`` tells its sound from others'.

    ``lacking``: seconds that its list or its header announces, and its file has not.
    """

    clip: Clip
    text: str
    seconds: float = 0.0
    digest: str = ""
    lacking: float = 0.0
