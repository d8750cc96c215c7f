"""Signs of a transcript that are read out, or that describe a sound: by the categories of Unicode, not by a list."""

from __future__ import annotations

import unicodedata
from functools import cache

_READ = frozenset("%‰‱٪؉؊&⁊@#*/\\^_§ªº¼½¾")
"""Signs that Unicode counts among punctuation, marks, letters or numbers."""
_READ_ALONE = frozenset("°©®¦℗℔℥♀♂♭♮۽۾҂௳௴௵௶௷௸௺")
"""Symbols that are read out, and that Unicode does not spell in letters. All others are pictures or ornaments."""
_UNREAD = frozenset("\uff5e\u223c\uff1d\u2236\u2219\u22c5≪≫")
"""Signs of mathematics that people write for tildes that draw out a vowel, a double hyphen, a colon, dots, quotes."""
_ZERO = "\u3007"
"""A number by its category. In Chinese and Japanese it is a letter, as the ideographs of other numbers are."""
_QUOTES = frozenset("「」『』〈〉《》༺༻༼༽᚛᚜")
"""Brackets by their category that are quotation marks or ornaments."""


@cache
def is_bracket(c: str) -> bool:
    """Whether a character is a bracket, between which a sound is described. What is in parentheses may be said.

    >>> [is_bracket(c) for c in "[<{【⟦"], [is_bracket(c) for c in "(「«„"]
    ([True, True, True, True, True], [False, False, False, False])
    """
    c = _plain(c)
    if c in "<>":
        return True
    name = unicodedata.name(c, "")
    brackets = unicodedata.category(c) in ("Ps", "Pe") and c not in _QUOTES
    return brackets and "PARENTHESIS" not in name and "QUOTATION" not in name


@cache
def is_number(c: str) -> bool:
    """Whether a character is a number: a digit, a fraction, a Roman numeral.

    >>> [is_number(c) for c in "7⅓Ⅳ七"]
    [True, True, True, False]
    """
    return c.isdigit() or (unicodedata.category(c) in ("No", "Nl") and c != _ZERO)


@cache
def is_read_out(c: str) -> bool:
    """Whether a character is a sign that is read out as a word: of a currency, of mathematics, an abbreviation.

    Punctuation is not, nor are arrows, shapes, notes, emoji and the ornaments of a script.

    >>> [is_read_out(c) for c in "€₹№℃≥&"], [is_read_out(c) for c in "!…→♪😀۞"]
    ([True, True, True, True, True, True], [False, False, False, False, False, False])
    """
    kind = unicodedata.category(c)
    if kind == "Sc" or c in _READ or _plain(c) in _READ:
        return True
    if kind == "Sm":
        return c not in _UNREAD and not _is_drawn(c) and not is_bracket(c)
    return kind == "So" and (c in _READ_ALONE or any(unicodedata.category(own)[0] in "LN" for own in _spelt(c)))


def _is_drawn(c: str) -> bool:
    """Whether a sign of mathematics is an arrow or a shape. Among the shapes is the sharp of music, which is read."""
    name = unicodedata.name(c, "")
    return "ARROW" in name or "HARPOON" in name or ("\u2500" <= c <= "\u27bf" and c != "♯")


def _plain(c: str) -> str:
    """Return a character in its usual width: East Asian texts have others that are as wide as an ideograph."""
    form = unicodedata.normalize("NFKC", c)
    return form if len(form) == 1 else c


def _spelt(c: str) -> str:
    """Return the letters that a symbol stands for, those of №, ㎏ and Ⓐ; nothing for most."""
    form = unicodedata.normalize("NFKD", c)
    return "" if form == c else form
