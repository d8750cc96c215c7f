"""Greedy ("max") decoding of CTC, as in the paper, and words with the frames that they span.

Graves et al., Connectionist temporal classification, 2006, section 3.2: the best path, repeats merged, blanks dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redense.errors import DataError

from .alphabet import BLANK, Alphabet

PADDING = -1


@dataclass(frozen=True)
class Greedy:
    """The symbols on the best paths of a batch, -1 beyond each one's last: (b, w) each.

    Args:
        symbols: indices of the alphabet.
        starts: the first frame of each.
        ends: the frame after its last.
    """

    symbols: Tensor
    starts: Tensor
    ends: Tensor

    def texts(self, alphabet: Alphabet) -> list[str]:
        """Return the text of every row."""
        return [alphabet.decode(row) for row in self.symbols.tolist()]


@dataclass(frozen=True)
class Word:
    """A word and the frames that it spans, the last one not included."""

    text: str
    start: int
    end: int


def greedy(log_probs: Tensor, lengths: Tensor, width: int | None = None) -> Greedy:
    """Return what the best paths spell, for a whole batch at once.

    Args:
        log_probs: (t, b, symbols), or anything with the same order such as logits.
        lengths: (b,) frames of each; what comes after is padding.
        width: pad to so many symbols, so that batches can be put together; without it to the longest.

    >>> path = torch.tensor([0, 2, 2, 0, 2, 1])
    >>> found = greedy(torch.nn.functional.one_hot(path).unsqueeze(1), torch.tensor([6]))
    >>> found.symbols.tolist(), found.starts.tolist(), found.ends.tolist()
    ([[2, 2, 1]], [[1, 4, 5]], [[3, 5, 6]])

    Raises:
        DataError: there are more symbols than ``width``.
    """
    time, batch = log_probs.shape[:2]
    best = log_probs.argmax(2).T  # (b, t)
    best = best.masked_fill(torch.arange(time, device=best.device) >= lengths.to(best.device).unsqueeze(1), BLANK)
    edge = best.new_full((batch, 1), BLANK)
    spoken = best != BLANK
    first = spoken & (best != torch.cat([edge, best[:, :-1]], 1))
    last = spoken & (best != torch.cat([best[:, 1:], edge], 1))
    place = first.cumsum(1) - 1  # of the symbol that a frame belongs to
    longest = int(first.sum(1).max()) if batch and time else 0
    if width is not None and longest > width:
        raise DataError(f"a transcript of {longest} symbols does not fit into {width}")
    symbols, starts, ends = (best.new_full((batch, width or longest), PADDING) for _ in range(3))
    row, frame = first.nonzero(as_tuple=True)
    symbols[row, place[row, frame]] = best[row, frame]
    starts[row, place[row, frame]] = frame
    row, frame = last.nonzero(as_tuple=True)
    ends[row, place[row, frame]] = frame + 1
    return Greedy(symbols, starts, ends)


def words_of(spoken: Iterable[tuple[str, int, int]]) -> list[Word]:
    """Return the words in a stream of characters, each with its first frame and the one after its last.

    >>> words_of([("h", 3, 5), ("i", 6, 7), (" ", 9, 10), ("a", 12, 13)])
    [Word(text='hi', start=3, end=7), Word(text='a', start=12, end=13)]
    """
    words: list[Word] = []
    text, start, end = "", 0, 0
    for character, first, after in spoken:
        if character.isspace():
            if text:
                words.append(Word(text, start, end))
            text = ""
            continue
        if not text:
            start = first
        text, end = text + character, after
    if text:
        words.append(Word(text, start, end))
    return words


class GreedyStream:
    """The best path, frame by frame: the same words however the frames are cut.

    >>> stream = GreedyStream(Alphabet(("a", " ")))
    >>> frames = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 0, 1, 0, 1]))
    >>> stream.feed(frames[:2]), stream.feed(frames[2:]), stream.finish()
    ([], [Word(text='a', start=0, end=2)], [Word(text='aa', start=4, end=7)])
    """

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet = alphabet
        self._frame, self._before = 0, BLANK
        self._spoken: list[tuple[str, int, int]] = []  # of the word at hand

    def feed(self, log_probs: Tensor) -> list[Word]:
        """Take the next frames (t, symbols), and return the words that are finished."""
        return self.follow(log_probs.argmax(1).tolist())

    def follow(self, path: Iterable[int]) -> list[Word]:
        """Take the symbol of each of the next frames, and return the words that are finished."""
        words: list[Word] = []
        for symbol in path:
            frame, self._frame = self._frame, self._frame + 1
            before, self._before = self._before, symbol
            if symbol == BLANK:
                continue
            character = self._alphabet.symbols[symbol - 1]
            if symbol == before and self._spoken:
                self._spoken[-1] = (character, self._spoken[-1][1], frame + 1)
            elif character.isspace():
                words += self.finish()
            elif symbol != before:
                self._spoken.append((character, frame, frame + 1))
        return words

    def finish(self) -> list[Word]:
        """Return the word that is left."""
        words, self._spoken = words_of(self._spoken), []
        return words


def characters(found: Greedy, row: int, alphabet: Alphabet) -> list[tuple[str, int, int]]:
    """Return the characters of a row with the frames that each spans."""
    columns = (found.symbols[row].tolist(), found.starts[row].tolist(), found.ends[row].tolist())
    return [
        (alphabet.symbols[symbol - 1], start, end)
        for symbol, start, end in zip(*columns, strict=True)
        if symbol != PADDING
    ]


def spell(rows: Sequence[Sequence[int]] | Tensor, alphabet: Alphabet) -> list[str]:
    """Return the texts of padded rows of indices: (n, w)."""
    listed = rows.tolist() if isinstance(rows, Tensor) else rows
    return [alphabet.decode(row) for row in listed]
