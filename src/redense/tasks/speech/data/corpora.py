"""Corpora in their own layouts: LibriSpeech's folders of chapters, Common Voice's tables."""

from __future__ import annotations

from pathlib import Path

from ....errors import DataError
from ...names import can_be_a_file
from ...task import Split
from .clips import Clip
from .manifests import read_rows, split_named

_TABLES: dict[str, Split] = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}


def find_librispeech(folder: Path) -> list[Path]:
    """Return the folders ``train-clean-100``, ``dev-clean``, ... of LibriSpeech and its kin, here or one below."""
    for root in (folder, folder / "LibriSpeech", folder / "LibriTTS"):
        if root.is_dir():
            found = [below for below in sorted(root.iterdir()) if below.is_dir() and split_named(below.name)[0]]
            found = [below for below in found if next(below.glob("*/*/*.trans.txt"), None)]
            if found:
                return found
    return []


def read_librispeech(parts: list[Path]) -> list[Clip]:
    """Read ``SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt``: lines of a name and its sentence.

    Raises:
        DataError: a line has no sentence.
    """
    clips: list[Clip] = []
    for part in parts:
        split, rest = split_named(part.name)
        for transcript in sorted(part.glob("*/*/*.trans.txt")):
            for number, line in enumerate(_lines(transcript), start=1):
                name, space, text = line.partition(" ")
                if not space or not name or "/" in name or not can_be_a_file(name):
                    raise DataError(f"{transcript}, line {number}: expected a name and its sentence, got {line[:60]!r}")
                path = transcript.with_name(f"{name}.flac")
                speaker = transcript.parent.parent.name
                own = rest if split == "test" else ""
                clips.append(Clip(path, f"{part.name}/{name}", text, split=split, part=own, speaker=speaker))
    return clips


def is_common_voice(folder: Path) -> bool:
    """Whether a folder is one language of Common Voice."""
    tables = [*_TABLES, "validated.tsv"]
    return (folder / "clips").is_dir() and any((folder / name).is_file() for name in tables)


def read_common_voice(folder: Path) -> list[Clip]:
    """Read ``train.tsv``, ``dev.tsv`` and ``test.tsv`` (or only ``validated.tsv``): columns path, sentence, client_id.

    Raises:
        DataError: a table lacks a column.
    """
    tables: dict[str, Split | None] = {name: split for name, split in _TABLES.items() if (folder / name).is_file()}
    clips: list[Clip] = []
    for name, split in (tables or {"validated.tsv": None}).items():
        for line, row in read_rows(folder / name):
            path, sentence = row.get("path"), row.get("sentence")
            if not path or sentence is None:
                raise DataError(f"{folder / name}, line {line}: expected the columns path and sentence")
            if Path(path).is_absolute() or ".." in Path(path).parts or not can_be_a_file(path):
                raise DataError(f"{folder / name}, line {line}: {path!r} is not in the folder clips")
            file = path if Path(path).suffix else f"{path}.mp3"  # the first releases left the ending out
            speaker = str(row.get("client_id") or "")
            clips.append(Clip(folder / "clips" / file, file, sentence, split=split, speaker=speaker))
    return clips


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no text in UTF-8 that can be read: {error}") from None
