"""The layouts of sets of recordings, and the reader of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from redense.errors import DataError, nearest
from redense.files.opening import at_home
from redense.tasks import catalog
from redense.tasks.folders import has_any
from redense.tasks.names import Alike
from redense.tasks.speech.audio import SUFFIXES

from .clips import Clip
from .corpora import (
    find_librispeech,
    find_ljspeech,
    is_common_voice,
    read_common_voice,
    read_librispeech,
    read_ljspeech,
    read_text_files,
)
from .manifests import (
    JSON,
    find_manifests,
    find_tables,
    named_tables,
    names_sounds,
    read_manifest,
    read_manifests,
    read_tables,
)
from .tones import tones_folder
from .wsj import is_wsj, read_wsj

TONES = "tones"
"""The name of the set that is made here."""


def read_source(source: str) -> list[Clip]:
    """Return the clips of a source: ``tones``, a name of ``redense data list``, a manifest, or a folder.

    A folder is one of: the discs of WSJ, LibriSpeech, a language of Common Voice, lists of JSON lines, a Hugging Face
    audio folder, DeepSpeech's or LJSpeech's tables, or sounds with texts beside them.

    Raises:
        DataError: there is no such thing, or no layout that is known; the message says what could be meant.
    """
    if source == TONES:
        return read_manifests(tones_folder())
    if source in catalog.SOURCES:
        return read_folder(catalog.check(catalog.SOURCES[source]))
    path = at_home(source)
    if path.is_file() and path.suffix.lower() in JSON:
        return _with_files(read_manifest(path.absolute()), path.absolute().parent)
    if not path.is_dir():
        names = [TONES, *catalog.SOURCES]
        raise DataError(
            f"no recordings at {source!r}: expected an existing folder or manifest (.jsonl), or one of "
            f"{', '.join(names)}{nearest(source, names)}"
        )
    return _with_files(read_folder(path.absolute()), path.absolute())


def _with_files(clips: Sequence[Clip], root: Path) -> list[Clip]:
    """Return clips with the paths of their files, which a list may write otherwise."""
    alike = Alike(root)
    return [replace(clip, path=alike.find(clip.path)) for clip in clips]


def read_folder(folder: Path) -> list[Clip]:
    """Return the clips of a folder of any layout.

    Raises:
        DataError: it has none that is known.
    """
    return layout_of(folder)[1]()


def layout_of(folder: Path) -> tuple[str, Callable[[], list[Clip]]]:
    """Return what a folder of recordings is taken for, and what reads it.

    Raises:
        DataError: it is in no layout that is known.
    """
    if is_wsj(folder):
        return "the discs of WSJ", lambda: read_wsj(folder)
    if parts := find_librispeech(folder):
        return "LibriSpeech's folders", lambda: read_librispeech(parts)
    if is_common_voice(folder):
        return "a language of Common Voice", lambda: read_common_voice(folder)
    if lists := find_ljspeech(folder):
        return f"LJSpeech's layout, {' and '.join(path.name for path in lists)}", lambda: read_ljspeech(lists)
    if tables := find_tables(folder):
        names = " and ".join(str(path.relative_to(folder)) for path in tables)
        return f"recordings with their transcripts in {names}", lambda: read_tables(folder)
    if lists := find_manifests(folder):
        names = " and ".join(path.name for path in lists)
        return f"lists of JSON lines, {names}", lambda: read_manifests(folder)
    if clips := read_text_files(folder):
        return "sounds with texts of the same names beside them", lambda: clips
    raise DataError(
        f"{folder}: no transcripts found; expected lists of JSON lines (train.jsonl, ...: audio_filepath, text), "
        "metadata.csv (file_name, transcription), train.csv (wav_filename, transcript) as for DeepSpeech, metadata.csv "
        "(NAME|TEXT) with wavs/ as LJSpeech has it, a.txt beside a.wav, train-*/SPEAKER/CHAPTER/*.trans.txt as in "
        "LibriSpeech, train.tsv with clips/ as in Common Voice, or the discs of WSJ (11-13.1, ..., 13-34.1)"
    )


def looks_like_recordings(place: Path) -> bool:
    """Whether a file or folder is one of recordings: a list of them, a corpus, or a folder with sound files."""
    if place.is_file():
        return place.suffix.lower() in JSON
    if is_wsj(place) or find_librispeech(place) or is_common_voice(place):
        return True
    return any(map(names_sounds, [*find_manifests(place), *named_tables(place)])) or has_any(place, SUFFIXES)
