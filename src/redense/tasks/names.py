"""Names of files and classes that somebody else wrote."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from redense.files.visible import folded

Named = TypeVar("Named")

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes


def can_be_a_file(name: str) -> bool:
    r"""Whether a file can be called so and a terminal can show it: no control characters, no half characters.

    A name that is no UTF-8 is one, as Python reads it from the file system. Of a path no part has more than 255 bytes,
    and all of it fewer than 4,096, as on Linux; to ask for a longer one is an error of the system.

    >>> [can_be_a_file(name) for name in ("dog.png", "caf\udce9.png", "", "a\0.png", "\x1b[2J", "\ud800")]
    [True, True, False, False, False, False]
    >>> [can_be_a_file(name) for name in ("a/" * 9 + "b" * 255, "a/" + "b" * 256, "é" * 128, "a/" * 2048)]
    [True, False, False, False]
    """
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME:
        return False
    return bool(name) and not any(unicodedata.category(letter) == "Cc" for letter in name)


def in_utf8(name: str) -> str:
    r"""Return the name of a file or folder as UTF-8 has it, whatever the locale that Python has read it in.

    In the locale C letters beyond ASCII are half characters; a name that is no UTF-8 stays as it is.

    >>> in_utf8("caf\udcc3\udca9") == in_utf8("caf\u00e9") == "caf\u00e9", in_utf8("caf\udce9") == "caf\udce9"
    (True, True)
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return name


def plain_name(name: str) -> str:
    r"""Return a file's name as file systems and archives that change letters would still know it.

    >>> plain_name("cafe\u0301.WAV") == plain_name("caf\u00e9.wav")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


def by_plain_name(paths: Iterable[Path], root: Path) -> dict[str, Path | None]:
    """Return the paths below a folder by their `plain_name` from there; None where several have one."""
    return one_each((plain_name(str(path.relative_to(root))), path) for path in paths)


def one_each(pairs: Iterable[tuple[str, Named]]) -> dict[str, Named | None]:
    """Return name -> what it is the name of; None where it is that of several.

    >>> one_each([("cat", 1), ("dog", 2), ("cat", 3)])
    {'cat': None, 'dog': 2}
    """
    found: dict[str, Named | None] = {}
    for name, named in pairs:
        found[name] = None if name in found else named
    return found


def called_alike(names: Iterable[str]) -> list[list[str]]:
    r"""Return the names that look like one: they differ in case, spaces, how letters are composed, or leading zeros.

    >>> called_alike(["cat", "Cat ", "hot dog", "hot_dog", "dogs", "7", "07", "10"])
    [['cat', 'Cat '], ['hot dog', 'hot_dog'], ['7', '07']]
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_look(name), []).append(name)
    return [own for own in found.values() if len(own) > 1]


@lru_cache(1 << 16)
def _look(name: str) -> str:
    look = " ".join(re.split(r"[ _-]+", folded(name))).strip()
    return (look.lstrip("0") or "0") if look.isdecimal() else look


def apart(names: Sequence[str]) -> list[str]:
    r"""Return names with quotes, so that a reader can tell those apart that look alike.

    >>> apart(["cat", "Cat"]), apart(["caf\u00e9", "cafe\u0301"])
    (["'cat'", "'Cat'"], ["'caf\\xe9'", "'cafe\\u0301'"])
    """
    seen = {unicodedata.normalize("NFC", repr(name)) for name in names}
    return list(map(repr if len(seen) == len(names) else ascii, names))


def like_another(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on a name that is none of ``known`` and looks like one of them; else nothing.

    >>> like_another("Cat", ["dog", "cat"]), like_another("cow", ["dog", "cat"])
    (": 'Cat' is called like 'cat'", '')
    """
    other = next((one for one in known if _look(one) == _look(name)), None)
    return ": {} is called like {}".format(*apart([name, other])) if other is not None else ""


class Alike:
    """Files whose names a list writes in other capitals, or with letters composed otherwise, as archives leave them.

    Args:
        root: below which they are looked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, dict[str, Path | None]] = {}

    def find(self, path: Path) -> Path:
        """Return the path of the one file that is there under such a name; else the path itself."""
        try:
            if path == self.root or not path.is_relative_to(self.root) or path.exists():
                return path
            folder = self.find(path.parent)
            if folder not in self._folders:
                self._folders[folder] = by_plain_name(folder.iterdir() if folder.is_dir() else (), folder)
        except OSError:  # a name that is too long, a folder that may not be read
            return path
        return self._folders[folder].get(plain_name(path.name)) or path
