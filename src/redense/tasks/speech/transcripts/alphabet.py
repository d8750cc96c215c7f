"""The symbols that a recogniser writes. No torch here."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from redense.errors import DataError

BLANK = 0
"""The index of CTC's blank, which stands for no symbol; symbols begin at 1."""


@dataclass(frozen=True)
class Alphabet:
    """Characters in the order of their indices, after the blank.

    >>> alphabet = Alphabet.of(["hola", "la ola"])
    >>> alphabet.symbols
    (' ', 'a', 'h', 'l', 'o')
    >>> alphabet.encode("hola"), alphabet.decode([2, 4])
    ([3, 5, 4, 2], 'al')

    Raises:
        DataError: a symbol is no single character, or given twice, or there is none.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.symbols:
            raise DataError("an alphabet needs at least one symbol, got none")
        for symbol in self.symbols:
            if len(symbol) != 1:
                raise DataError(f"an alphabet's symbols are single characters, got {symbol!r}")
        if twice := sorted({symbol for symbol in self.symbols if self.symbols.count(symbol) > 1}):
            given = "".join(self.symbols)
            composed = unicodedata.normalize("NFC", given)
            cure = "" if composed == given else f"; letters and their accents are apart in it, write it as {composed!r}"
            raise DataError(f"an alphabet's symbols differ from each other, got {twice[0]!r} twice{cure}")

    @classmethod
    def of(cls, texts: Iterable[str]) -> Alphabet:
        """Return the characters of ``texts``, sorted, so that the order does not depend on that of the texts."""
        return cls(tuple(sorted(set().union(*texts))))

    @property
    def size(self) -> int:
        """Number of outputs of a network: the symbols and the blank."""
        return len(self.symbols) + 1

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols, start=1)}

    def encode(self, text: str) -> list[int]:
        """Return the index of every character, each at least 1.

        Raises:
            DataError: a character is not in the alphabet.
        """
        try:
            return [self._index[character] for character in text]
        except KeyError as error:
            raise DataError(
                f"the alphabet has no {error.args[0]!r} (in {text[:60]!r}): add it to data.alphabet, or leave it out"
            ) from None

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of indices; blanks and paddings (-1) are left out."""
        return "".join(self.symbols[index - 1] for index in indices if index > BLANK)
