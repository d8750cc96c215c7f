"""Corpora in their own layouts: LibriSpeech's chapters, Common Voice's tables, LJSpeech's list, texts beside sounds."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from redense.errors import DataError
from redense.files.opening import is_regular, open_text, read_text
from redense.tasks.folders import TEXTS, paths_below, subfolders, visible
from redense.tasks.names import by_plain_name, can_be_a_file
from redense.tasks.speech.audio import SUFFIXES
from redense.tasks.split_names import split_named, verify_folders, verify_names
from redense.tasks.tables import FILES, cells, read_rows, unreadable
from redense.tasks.task import Split

from .clips import Clip, named_once
from .manifests import TEXT_COLUMNS

_IN_WORDS = ("normalized_text", "normalized_transcription", "normalized_transcript", "text_normalized")
_LOOKED_AT = 1 << 16  # characters of a first line

_TABLES: dict[str, Split] = {"train.tsv": "train", "dev.tsv": "validation", "test.tsv": "test"}
_ALL = "validated.tsv"
_LIST = "metadata"


def find_librispeech(folder: Path) -> list[Path]:
    """Return the folders ``train-clean-100``, ``dev-clean``, ... of LibriSpeech and its kin, here or one below."""
    for root in (folder, folder / "LibriSpeech", folder / "LibriTTS"):
        if root.is_dir():
            found = [root / name for name in subfolders(root) if split_named(name)[0]]
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
        for transcript in visible(part.glob("*/*/*.trans.txt"), part):
            for number, line in enumerate(_lines(transcript), start=1):
                name, space, text = line.partition(" ")
                if not space or not name or "/" in name or not can_be_a_file(name):
                    raise DataError(f"{transcript}, line {number}: expected a name and its sentence, got {line[:60]!r}")
                path = _sound(transcript.parent, name, ".flac")
                speaker = transcript.parent.parent.name
                own = rest if split == "test" else ""
                clips.append(Clip(path, f"{part.name}/{name}", text, split=split, part=own, speaker=speaker))
    return clips


def is_common_voice(folder: Path) -> bool:
    """Whether a folder is one language of Common Voice."""
    return (folder / "clips").is_dir() and bool(_tables(folder))


def read_common_voice(folder: Path) -> list[Clip]:
    """Read ``train.tsv``, ``dev.tsv`` and ``test.tsv`` (or only ``validated.tsv``): columns path, sentence, client_id.

    Raises:
        DataError: a table lacks a column.
    """
    clips: list[Clip] = []
    for table, split in _tables(folder).items():
        for line, row in read_rows(table):
            path, sentence = row.get("path"), row.get("sentence")
            if not path or sentence is None:
                raise DataError(f"{table}, line {line}: expected the columns path and sentence")
            if Path(path).is_absolute() or ".." in Path(path).parts or not can_be_a_file(path):
                raise DataError(f"{table}, line {line}: {path!r} is not in the folder clips")
            file = path if Path(path).suffix else f"{path}.mp3"  # the first releases left the ending out
            speaker = str(row.get("client_id") or "")
            clips.append(Clip(folder / "clips" / file, file, sentence, split=split, speaker=speaker))
    return clips


def _tables(folder: Path) -> dict[Path, Split | None]:
    """Return the tables of Common Voice in a folder, whatever their capitals, with their splits."""
    names = [*_TABLES, _ALL]
    named = [path for path in folder.iterdir() if path.name.lower() in names and path.is_file()]
    named.sort(key=lambda path: names.index(path.name.lower()))
    splits: dict[Path, Split | None] = {path: _TABLES.get(path.name.lower()) for path in named}
    divided: dict[Path, Split | None] = {path: split for path, split in splits.items() if split}
    return divided or splits


def find_ljspeech(folder: Path) -> list[Path]:
    """Return the lists of LJSpeech's layout in a folder: ``metadata.csv`` with bars, ``metadata_train.csv``, ...

    Raises:
        DataError: a file that is called so cannot be read.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".csv" and path.stem.lower().startswith(_LIST))
    return [path for path in visible(found, folder) if path.is_file() and _has_bars(path)]


def read_ljspeech(paths: list[Path]) -> list[Clip]:
    """Read lines ``NAME|TEXT`` or ``NAME|TEXT|TEXT WITH NUMBERS IN WORDS``; sounds lie in ``wavs/``.

    Raises:
        DataError: a line has no text, two lists name one clip, or one has its split inside its name.
    """

    def own(path: Path) -> str:
        return path.stem[len(_LIST) :].strip("_-")

    verify_names(paths if len(paths) > 1 else [], own)
    clips: list[tuple[Path, Clip]] = []
    for path in paths:
        split, _ = split_named(own(path))
        places = [place for place in (path.parent / "wavs", path.parent / "wav", path.parent) if place.is_dir()]
        rows = cells(path)
        columns = _columns(rows[0][1], path) if rows else None
        for line, row in rows[1:] if columns else rows:
            name, *texts = [row[place] for place in columns if place < len(row)] if columns else row
            name, said = name.strip(), [text.strip() for text in texts if text.strip()]
            if not said or not can_be_a_file(name) or ".." in Path(name).parts:
                raise DataError(f"{path}, line {line}: expected NAME|TEXT, got {'|'.join(row)[:60]!r}")
            sound = _sound(places[0], name, ".wav")
            if "/" in name and not is_regular(sound):  # a path from the list's folder
                sound = _sound(path.parent, name, ".wav")
            clips.append((path, Clip(sound, name, said[-1], split=split)))
    named_once(clips)
    return [clip for _, clip in clips]


def _columns(first: Sequence[str], path: Path) -> list[int] | None:
    """Return the places of the name, the text and the text in words, if the first line names columns; else None.

    Raises:
        DataError: it names the files, and none of the texts.
    """
    names = [cell.strip().lower() for cell in first]
    file = next((names.index(name) for name in ("audio_file", *FILES) if name in names), None)
    texts = [names.index(name) for name in (*TEXT_COLUMNS, *_IN_WORDS) if name in names]
    if file is None or (file and not texts):  # a transcript may be one of these words
        return None
    if not texts:
        raise DataError(f"{path}, line 1: no column of texts, expected one called {', '.join(TEXT_COLUMNS)}")
    return [file, *texts]


def read_text_files(folder: Path) -> list[Clip]:
    """Read sounds that have their transcript in a file of the same name beside them: ``a.wav`` and ``a.txt``.

    A sound without one has an empty transcript, so that it is counted. The folder of a split may be above them.

    Raises:
        DataError: a transcript is no text in UTF-8, two sounds have one transcript, folders have splits inside their
            names, or those of two splits are one by a link.
    """
    names = subfolders(folder)
    verify_folders(folder, names)
    _verify_apart([folder / name for name in names if split_named(name)[0]])
    texts = {path.with_suffix(""): path for path in paths_below(folder, (".txt",))}
    sounds = paths_below(folder, SUFFIXES)
    heard: dict[Path, Path] = {}
    for path in sounds:
        if (first := heard.setdefault(path.with_suffix(""), path)) != path and path.with_suffix("") in texts:
            raise DataError(f"{first} and {path.name} have one transcript, as one recording twice: remove one of them")
    left = by_plain_name((stem for stem in texts if stem not in heard), folder)
    for name, stem in by_plain_name((stem for stem in heard if stem not in texts), folder).items():
        if stem and (other := left.get(name)):  # the two names are of different systems
            texts[stem] = texts.pop(other)
    if any(path in texts for path in heard):
        sounds += [path for stem in texts if stem not in heard for path in _beside(stem)]
    clips: list[Clip] = []
    for path in sorted(sounds):
        name = path.relative_to(folder)
        split = split_named(name.parts[0])[0] if len(name.parts) > 1 else None
        transcript = texts.get(path.with_suffix(""))
        clips.append(Clip(path, str(name), " ".join(_lines(transcript)) if transcript else "", split=split))
    return clips if any(clip.text for clip in clips) else []


def _verify_apart(folders: Sequence[Path]) -> None:
    """Refuse folders of splits that are one by a link: its files would be found in one of them alone."""
    seen: dict[Path, Path] = {}
    for path in folders:
        if (first := seen.setdefault(path.resolve(), path)) != path:
            raise DataError(
                f"{first} and {path} are one folder, by a link: remove the link, or link to other recordings"
            )


def _beside(stem: Path) -> list[Path]:
    """Return the files beside a transcript that are called like it and no text: sounds of an ending not read here."""
    found = visible(stem.parent.glob(f"{glob.escape(stem.name)}.*"), stem.parent)
    return [path for path in found if path.suffix.lower() not in TEXTS and path.with_suffix("") == stem]


def _has_bars(path: Path) -> bool:
    try:
        with open_text(path) as file:
            first = file.readline(_LOOKED_AT)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    return "|" in first and "file_name" not in first


def _sound(folder: Path, name: str, usual: str) -> Path:
    """Return the sound file of a name: with the usual ending, or another that is there."""
    path = folder / name
    if path.suffix.lower() in SUFFIXES:
        return path
    first = folder / f"{name}{usual}"
    return (
        first if is_regular(first) else next((p for end in SUFFIXES if is_regular(p := folder / f"{name}{end}")), first)
    )


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).removeprefix("\ufeff").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no text in UTF-8 that can be read: {error}") from None
