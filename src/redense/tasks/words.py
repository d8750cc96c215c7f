"""The words of a text in any script: letters, their marks and numbers, by the categories of Unicode.

A word is what the standard's word boundaries (UAX #29) make of letters, marks and numbers; only what is no part of a
word is taken away. A vowel sign of Hindi or Thai is a mark, a joiner inside a Persian word is part of its spelling, a
soft hyphen is neither seen nor spoken.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

ZERO_WIDTH_SPACE = "\u200b"
JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner: inside a word they are spelling."""

DOTLESS = ("tr", "az")
"""Languages with an i without a dot."""

_PRESENTATION = "\ufe0e\ufe0f\u20e3"  # picture or text, and the frame of a key: how a sign is drawn
_INSIDE = "\u00b7\u05f3\u05f4"  # the middle dot of Catalan, geresh and gershayim of Hebrew
_OVER = "\u055b\u055c\u055e"  # Armenian writes its marks of emphasis, exclamation and question inside the word
# Punctuation that is a script's space: Tibetan, Ethiopic, Ogham, Runic; Aegean, Ugaritic, Old Persian, Aramaic,
# Phoenician, cuneiform.
_BETWEEN = "\u0f0b\u0f0c\u1361\u1680\u16eb\u16ec\u16ed\u2e31" + (
    "\U00010100\U00010101\U0001039f\U000103d0\U00010857\U0001091f\U00012470"
)
_WITHOUT_SPACES = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "CJK", "HIRAGANA", "KATAKANA", "JAVANESE", "BALINESE")


def words_of(text: str, other: Callable[[str, str, str], str]) -> str:
    """Return the words of a text with one space between two.

    Args:
        text: in any script; it is composed (NFC) first.
        other: gives what stands for a character of punctuation or a sign, from the character before it, itself, and the
            one behind: ``" "`` to end a word, ``""`` to leave it out, or what is kept.

    >>> words_of("co\u00adoperate, no\u2060where!", lambda before, c, after: " ")
    'cooperate nowhere'
    """
    text = unicodedata.normalize("NFC", text)
    kept: list[str] = []
    for index, c in enumerate(text):
        before, after = text[index - 1] if index else " ", text[index + 1] if index + 1 < len(text) else " "
        kept.append(_kept(c, kept[-1] if kept else " ", before, after, other))
        if not kept[-1]:
            kept.pop()
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def invisible(text: str) -> bool:
    """Whether a text has characters without a shape that are no part of a word: soft hyphens, byte order marks, ...

    >>> invisible("co\u00adoperate"), invisible("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
    (True, False)
    """
    return any(unicodedata.category(c) == "Cf" and c not in JOINERS for c in text)


def lower(text: str, language: str | None = None) -> str:
    """Return a text in small letters, composed (NFC); Turkish and Azeri have an i without a dot.

    >>> lower("\u0130stanbul"), lower("Irak", "tr") == "\u0131rak"
    ('istanbul', True)
    """
    if language in DOTLESS:
        text = text.replace("I", "\u0131")
    return unicodedata.normalize("NFC", text.lower().replace("i\u0307", "i"))


def is_letter(c: str) -> bool:
    """Whether a character is part of a word wherever it stands: a letter or a number, or a mark over one."""
    return unicodedata.category(c)[0] in "LMN"


def _kept(c: str, last: str, before: str, after: str, other: Callable[[str, str, str], str]) -> str:
    kind = unicodedata.category(c)
    if kind[0] in "LN":
        return c
    if c.isspace() or c in _BETWEEN:
        return " "
    if kind[0] == "M":  # a mark without its letter is that of a sign which was left out
        return c if c not in _PRESENTATION and (is_letter(last[-1]) or last[-1] in JOINERS) else ""
    if c in JOINERS:
        return c if last[-1] not in JOINERS and is_letter(last[-1]) and is_letter(after) else ""
    if c == ZERO_WIDTH_SPACE:  # where nobody writes spaces, it parts words
        return " " if _is_without_spaces(before) or _is_without_spaces(after) else ""
    if kind == "Cf" or c in _OVER:
        return ""
    if c in _INSIDE:
        return c if is_letter(last[-1]) and is_letter(after) else " "
    return other(before, c, after)


def _is_without_spaces(c: str) -> bool:
    return unicodedata.name(c, "").startswith(_WITHOUT_SPACES)
