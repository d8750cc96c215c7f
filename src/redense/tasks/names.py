"""Names of files that come out of lists which somebody else wrote."""

from __future__ import annotations

import os
import unicodedata


def can_be_a_file(name: str) -> bool:
    r"""Whether a file can be called so and a terminal can show it: no control characters, no half characters.

    A name that is no UTF-8 is one, as Python reads it from the file system.

    >>> [can_be_a_file(name) for name in ("dog.png", "caf\udce9.png", "", "a\0.png", "\x1b[2J", "\ud800")]
    [True, True, False, False, False, False]
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return bool(name) and not any(unicodedata.category(letter) == "Cc" for letter in name)
