"""Recordings with their sentences, out of Debian packages: as a folder of clips and one list of them, MANIFEST.

A line of the list is JSON: ``audio_filepath`` (below the folder), ``text`` as the package has it, ``speaker`` where one
can tell. What of it is usable is decided when it is read (see `redense.tasks.speech.data`).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import copy

MANIFEST = "manifest.jsonl"

_DIALOG = re.compile(r'dialogId\("([^"]*)",\s*"([^"]*)"|dialogStr\("((?:[^"\\]|\\.)*)"\)')

_FISH = {"m": "small fish", "v": "big fish"}


@dataclass(frozen=True)
class Recording:
    """A file of a package, the place it gets, and what is said in it."""

    path: Path
    name: str
    text: str
    speaker: str


Read = Callable[[Sequence[Path], str], Iterator[Recording]]
"""(unpacked packages, language) -> the recordings in them."""


def tux(unpacked: Sequence[Path], language: str) -> Iterator[Recording]:
    """Find ``X_desc_es.ogg`` with the line ``es.utf8=...`` of ``X.txt`` in the package of Tux Paint's stamps."""
    (folder,) = unpacked
    ending = f"_desc_{language}.ogg"
    for path in sorted(folder.rglob(f"*{ending}")):
        words = path.with_name(path.name.removesuffix(ending) + ".txt")
        if not words.is_file():
            continue
        lines = words.read_text(encoding="utf-8", errors="replace").splitlines()
        mark = f"{language}.utf8="
        text = next((line.removeprefix(mark) for line in lines if line.startswith(mark)), "")
        yield Recording(path, f"tux/{path.relative_to(folder).as_posix()}", text.strip(), f"tux-{language}")


def asterisk(unpacked: Sequence[Path], language: str) -> Iterator[Recording]:
    """Read the lines ``name: text`` of ``core-sounds-es.txt.gz`` of the first package; ``es_*/name.wav`` of the second.

    Raises:
        FileNotFoundError: there is no folder of that language.
    """
    words, sounds = unpacked
    folder = next(iter(sorted(sounds.glob(f"{language}_*"))), None)
    if folder is None:
        raise FileNotFoundError(f"{sounds} has no folder {language}_*")
    with gzip.open(words / f"core-sounds-{language}.txt.gz", "rt", encoding="utf-8", errors="replace") as lines:
        sentences: dict[str, str] = {}
        for line in lines:
            name, colon, text = line.partition(":")
            if colon and not line.startswith(";"):
                sentences.setdefault(name.strip(), text.strip())
    for name, text in sorted(sentences.items()):
        path = folder / f"{name}.wav"
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            yield Recording(path, f"asterisk/{name}.wav", text, folder.name)


def fillets(unpacked: Sequence[Path], language: str) -> Iterator[Recording]:
    """Read ``dialogId(id, font, english)`` and the ``dialogStr(text)`` after it; ``X-m-Y`` is the small fish's.

    The packages are that of the scripts and that of the language's sounds.

    >>> _DIALOG.findall('dialogId("let-m-divna", "font_small", "What?")')
    [('let-m-divna', 'font_small', '')]
    """
    scripts, sounds = unpacked
    for script in sorted(scripts.glob(f"script/*/dialogs_{language}.lua")):
        level, current = script.parent.name, ""
        for match in _DIALOG.finditer(script.read_text(encoding="utf-8", errors="replace")):
            if match[1] is not None:
                current = match[1]
                continue
            path = sounds / "sound" / level / language / f"{current}.ogg"
            if current and path.is_file():
                speaker = _FISH.get(current.partition("-")[2].partition("-")[0], "")
                text = match[3].replace('\\"', '"').replace("\\n", " ")
                yield Recording(path, f"{level}/{current}.ogg", text, speaker)
            current = ""


def tux_and_asterisk(unpacked: Sequence[Path], language: str) -> Iterator[Recording]:
    """Read Tux Paint's package, and then Asterisk's two."""
    yield from tux(unpacked[:1], language)
    yield from asterisk(unpacked[1:], language)


def arrange(read: Read, language: str, unpacked: Sequence[Path], ready: Path) -> None:
    """Copy the recordings of a language that the unpacked packages hold, and write the list of them.

    Raises:
        FileNotFoundError: there are none.
    """
    lines: list[str] = []
    for recording in read(unpacked, language):
        copy(recording.path, ready / recording.name)
        entry = {"audio_filepath": recording.name, "text": recording.text}
        if recording.speaker:
            entry["speaker"] = recording.speaker
        lines.append(json.dumps(entry, ensure_ascii=False))
    if not lines:
        raise FileNotFoundError("no recording with a sentence")
    (ready / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
