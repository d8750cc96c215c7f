"""Transcripts as they are learned: the letters of a language, and a count of all that was changed. No torch here."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from redense.tasks.words import DOTLESS, JOINERS, invisible, is_letter, lower, words_of

from .signs import is_bracket, is_number, is_read_out

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ACCENTS = "\u0300", "\u036f"
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"))


@dataclass(frozen=True)
class Language:
    """The letters of a language, and what is written in more than one way."""

    letters: str
    apostrophe: bool = False
    replace: tuple[tuple[str, str], ...] = ()


LANGUAGES: dict[str, Language] = {
    "en": Language(_LATIN, apostrophe=True),
    "es": Language(_LATIN + "áéíñóúü"),
    "fr": Language(_LATIN + "àâçèéêëîïôùûüÿ", apostrophe=True, replace=(("œ", "oe"), ("æ", "ae"))),
    "it": Language(_LATIN + "àèéìíîòóùú", apostrophe=True),
    "de": Language(_LATIN + "äöüß"),
    "nl": Language(_LATIN + "áèéêëíïóôöúü", apostrophe=True, replace=(("ĳ", "ij"),)),
    "pt": Language(_LATIN + "àáâãçéêíóôõúü"),
    "ro": Language(_LATIN + "ăâîșț", replace=(("ş", "ș"), ("ţ", "ț"))),
    "cs": Language(_LATIN + "áčďéěíňóřšťúůýž"),
    "ru": Language("абвгдеёжзийклмнопрстуфхцчшщъыьэюя"),
    "bg": Language("абвгдежзийклмнопрстуфхцчшщъьюя"),
}
"""What is known of languages; any other keeps every letter of Unicode, and apostrophes inside words."""


def unknown_language(language: str | None) -> str:
    """Return a note on a language of which nothing is known here; none for any other.

    >>> unknown_language("es"), unknown_language("tr"), unknown_language("spa")[:35]
    ('', '', "data.language 'spa' changes nothing")
    """
    if language is None or language in LANGUAGES or language in DOTLESS:
        return ""
    known = ", ".join([*LANGUAGES, *DOTLESS])
    return (
        f"data.language {language!r} changes nothing: no letters are known of it, only of {known}; every letter is kept"
    )


@dataclass
class Normaliser:
    """Turns transcripts into symbols to learn; ``changed`` counts the transcripts that each rule changed.

    >>> normaliser = Normaliser("es", accents="fold")
    >>> normaliser("Una moneda, ¡señor!"), normaliser.changed["accents folded"]
    (('una moneda senor', None), 1)
    >>> normaliser("[tono]")
    ('', 'has brackets, which describe a sound')
    """

    language: str | None = None
    accents: Literal["keep", "fold"] = "keep"
    case: Literal["lower", "keep"] = "lower"
    digits: Literal["drop", "keep"] = "drop"
    changed: Counter[str] = field(default_factory=Counter[str])

    def __call__(self, text: str) -> tuple[str, str | None]:
        """Return the transcript and what is wrong with it, if anything."""
        if fault := self._fault(text):
            return "", fault
        known = LANGUAGES.get(self.language or "")
        text = text.translate(_APOSTROPHES)
        if invisible(text):
            self.changed["without invisible characters"] += 1
        text = self._note("composed (NFC)", text, unicodedata.normalize("NFC", text))
        if self.case == "lower":
            text = self._note("to lower case", text, lower(text, self.language))
        for before, after in known.replace if known else ():
            text = self._note(f"{before} -> {after}", text, _replaced(text, before, after))
        if self.accents == "fold":
            text = self._note("accents folded", text, fold(text))
        elif known:
            letters = known.letters + known.letters.upper()
            # A mark that NFC has left beside its letter, as that of a Russian stress, is an accent of no language here.
            plain = "".join(c if c in letters or not is_letter(c) else fold(c) for c in text if c not in JOINERS)
            text = self._note("accents of other languages folded", text, plain)
        keeps = known is None or known.apostrophe
        text = self._note("without punctuation", text, _words(text, apostrophe=keeps))
        if known and (foreign := sorted({c for c in text.lower() if c not in known.letters and not _is_shared(c)})):
            return "", f"has the letter {foreign[0]!r}, which is none of language {self.language}"
        return (text, None) if text else ("", "has no words")

    def _fault(self, text: str) -> str | None:
        if not text.strip():
            return "has no words"
        if any(map(is_bracket, text)):
            return "has brackets, which describe a sound"
        if self.digits == "drop" and any(map(is_number, text)):
            return "has digits"
        if sign := next(filter(is_read_out, text), None):
            return f"has the sign {sign}"
        return None

    def _note(self, what: str, before: str, after: str) -> str:
        if before != after:
            self.changed[what] += 1
        return after


def fold(text: str) -> str:
    """Return text without the accents of Latin, Greek and Cyrillic; the marks of other scripts are letters there.

    >>> fold("niño, čeština")
    'nino, cestina'
    """
    parts = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in parts if not _ACCENTS[0] <= c <= _ACCENTS[1]))


def _is_shared(c: str) -> bool:
    """Whether a normalised text of any language may have a character: where digits are kept, these too."""
    return c in " '" or unicodedata.category(c) in ("Nd", "No")


def _replaced(text: str, before: str, after: str) -> str:
    """Replace letters, capital ones by capital ones: Œuvre -> Oeuvre, ŒUVRE -> OEUVRE."""
    text = text.replace(before, after)
    large = re.compile(f"{before.upper()}(?=(.?))")
    return large.sub(lambda found: after.upper() if found[1].isupper() else after.capitalize(), text)


def _words(text: str, *, apostrophe: bool) -> str:
    """Leave words and one space between them; apostrophes only inside words, hyphens part them."""

    def other(before: str, c: str, after: str) -> str:
        if c != "'":
            return " "
        inside = is_letter(before) and is_letter(after)
        return ("'" if inside else " ") if apostrophe else ""

    return words_of(text, other)
