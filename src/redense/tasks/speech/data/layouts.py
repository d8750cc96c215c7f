"""Which layout a source has, and who reads it."""

from __future__ import annotations

from pathlib import Path

from ....errors import DataError, nearest
from ... import catalog
from .clips import Clip
from .corpora import find_librispeech, is_common_voice, read_common_voice, read_librispeech
from .manifests import find_tables, read_manifest, read_manifests, read_tables
from .tones import tones_folder
from .wsj import is_wsj, read_wsj


def read_source(source: str) -> list[Clip]:
    """Return the clips of a source: ``tones``, a name of ``redense data list``, a manifest, or a folder.

    A folder is one of: the discs of WSJ, LibriSpeech, a language of Common Voice, lists of JSON lines, a Hugging Face
    audio folder.

    Raises:
        DataError: there is no such thing, or no layout that is known; the message says what could be meant.
    """
    if source == "tones":
        return read_manifests(tones_folder())
    if source in catalog.SOURCES:
        return read_folder(catalog.check(catalog.SOURCES[source]))
    path = Path(source).expanduser()
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        return read_manifest(path.absolute())
    if not path.is_dir():
        names = ["tones", *catalog.SOURCES]
        raise DataError(
            f"no recordings at {source!r}: expected an existing folder or manifest (.jsonl), or one of "
            f"{', '.join(names)}{nearest(source, names)}"
        )
    return read_folder(path.absolute())


def read_folder(folder: Path) -> list[Clip]:
    """Return the clips of a folder of any layout.

    Raises:
        DataError: it has none that is known.
    """
    if is_wsj(folder):
        return read_wsj(folder)
    if parts := find_librispeech(folder):
        return read_librispeech(parts)
    if is_common_voice(folder):
        return read_common_voice(folder)
    if find_tables(folder):
        return read_tables(folder)
    if clips := read_manifests(folder):
        return clips
    raise DataError(
        f"{folder}: no transcripts found; expected lists of JSON lines (train.jsonl, ...: audio_filepath, text), "
        "metadata.csv (file_name, transcription), train-*/SPEAKER/CHAPTER/*.trans.txt as in LibriSpeech, train.tsv "
        "with clips/ as in Common Voice, or the discs of WSJ (11-13.1, ..., 13-34.1)"
    )
