"""The Wall Street Journal corpus as the LDC distributes it: WSJ0 (LDC93S6A) and WSJ1 (LDC94S13A), folders of discs.

The lists on the discs say what belongs to a set. Training is si-284 (81 hours), validation the 503 sentences of
November 1993's development set, tests are the evaluations of 1992 and 1993 with 20,000 and 64,000 words; all without
spoken punctuation, as in the usual recipe (Kaldi's, egs/wsj).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from redense.errors import DataError
from redense.files.opening import is_regular, read_bytes
from redense.tasks.task import Split

from .clips import Clip

LISTS: tuple[tuple[str, Split, str], ...] = (
    ("13-34.1/wsj1/doc/indices/si_tr_s.ndx", "train", ""),
    ("11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx", "train", ""),
    ("13-34.1/wsj1/doc/indices/h1_p0.ndx", "validation", ""),
    ("11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx", "test", "92"),
    ("13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx", "test", "93"),
)
"""The lists of the sets, by disc."""

_LINE = re.compile(r"^(\d+)_(\d+)_(\d+)\s*:\s*/?(\S+)$")
_DOT = re.compile(r"^(.*)\((\w+)\)\s*$")
_NOISE = re.compile(r"^\[[^\]]*\]$|^~$|^\.$")


def is_wsj(folder: Path) -> bool:
    """Whether a folder holds the corpus's discs."""
    return any((folder / name).is_file() for name, _, _ in LISTS)


def read_wsj(folder: Path) -> list[Clip]:
    """Read the sets from their lists, and the sentences from the ``.dot`` files of all discs.

    Raises:
        DataError: a list is missing, or a clip has no sentence.
    """
    if missing := [name for name, _, _ in LISTS if not (folder / name).is_file()]:
        raise DataError(
            f"{folder} lacks {missing[0]}" + (f" and {len(missing) - 1} more lists" if missing[1:] else "") + ": it "
            "must hold the discs of WSJ0 (LDC93S6A) and WSJ1 (LDC94S13A) as folders 11-1.1, ..., 13-34.1"
        )
    sentences = read_sentences(sorted(folder.glob("1[13]-*/**/*.[dD][oO][tT]")))
    clips: list[Clip] = []
    for name, split, part in LISTS:
        for path in read_list(folder, name):
            utterance = path.stem.lower()
            if utterance not in sentences:
                raise DataError(f"{path}: none of the .dot files of {folder} has a sentence for {utterance}")
            clips.append(Clip(path, utterance, sentences[utterance], split, part, speaker=utterance[:3]))
    return clips


def read_list(folder: Path, name: str) -> list[Path]:
    """Return the sound files of a list: ``11_13_1:wsj0/si_tr_s/01i/01ic0201.wv1`` is on disc 11-13.1."""
    paths: list[Path] = []
    for line in _lines(folder / name):
        if not (match := _LINE.match(line.strip())):
            continue  # a comment
        first, second, third, path = match.groups()
        if name.endswith("wsj1/eval/h1_p0.ndx") and second == "32":
            second = "33"  # this list names the wrong disc
        if path.startswith("wsj0/si_tr_s/401") and (first, second, third) == ("11", "2", "1"):
            continue  # as the usual recipe has it
        if not path.lower().endswith((".wv1", ".wav", ".flac", ".sph")):
            path += ".wv1"
        paths.append(_existing(folder / f"{first}-{second}.{third}" / path))
    return paths


def read_sentences(paths: Iterable[Path]) -> dict[str, str]:
    """Return utterance -> sentence from lines such as ``The sale of the hotels (01ic0201)``."""
    sentences: dict[str, str] = {}
    for path in paths:
        for line in _lines(path):
            if match := _DOT.match(line.strip()):
                sentences[match[2].lower()] = plain(match[1])
    return sentences


def plain(line: str) -> str:
    r"""Return the words of a detailed transcript: without noises, pauses, and marks of emphasis or mistakes.

    >>> plain(r"the <uh> *sale* of [door_slam] ~ new\-york . rose .POINT five %PERCENT ,COMMA he sa:id")
    'the uh sale of new-york rose POINT five PERCENT COMMA he said'
    """
    words: list[str] = []
    for word in line.split():
        bare = word.replace("\\", "")
        if not _NOISE.match(bare):
            bare = re.sub(r"^<(.*)>$", r"\1", bare).replace("*", "").replace(":", "").replace("!", "")
            words.append(re.sub(r"^[^\w\s]+(?=[A-Z]{2})", "", bare))  # ,COMMA: punctuation that is read out
    return " ".join(word for word in words if word)


def _lines(path: Path) -> list[str]:
    try:
        return read_bytes(path).decode("latin-1").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _existing(path: Path) -> Path:
    """Return the file, or the same one unpacked beside it: the discs hold sound in a form that few programs read."""
    ends = (path.suffix, ".wav", ".flac", ".sph")
    return next((other for end in ends if is_regular(other := path.with_suffix(end))), path)
