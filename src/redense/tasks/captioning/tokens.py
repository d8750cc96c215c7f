"""Sentences as words, and words as numbers, as NeuralTalk has them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redense.errors import DataError
from redense.files.json_text import parse_json
from redense.tasks.words import lower, words_of

END = "."
"""How the word that begins and ends every sentence is written; its index is 0."""


def tokenize(sentence: str) -> tuple[str, ...]:
    """Return the words of a sentence in any script: in small letters, without punctuation, cut at white space.

    >>> tokenize("A dog's ball -- it isn't red .")
    ('a', 'dogs', 'ball', 'it', 'isnt', 'red')
    """
    return tuple(words_of(lower(sentence), lambda before, c, after: "").split())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows; index 0 begins and ends a sentence.

    Args:
        words: of indices 1, 2, ...
        counts: how often each of indices 0, 1, ... occurs in the training sentences.
        dropped: how many kinds of words were too rare.
        dropped_tokens: how often they occurred.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    dropped: int = 0
    dropped_tokens: int = 0

    def __len__(self) -> int:
        return len(self.words) + 1

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> index."""
        return {word: index for index, word in enumerate(self.words, 1)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the indices of words; a word that is not known is left out, as in NeuralTalk."""
        index = self.index
        return [index[token] for token in tokens if token in index]

    def decode(self, indices: Iterable[int]) -> tuple[str, ...]:
        """Return the words of indices up to the end of the sentence; padding below 0 ends it, too.

        >>> vocabulary(([("a", "dog")]), threshold=1).decode([2, 1, 0, 1])
        ('dog', 'a')
        """
        words: list[str] = []
        for index in indices:
            if index <= 0:
                break
            words.append(self.words[index - 1])
        return tuple(words)

    def to_json(self) -> str:
        """Return it as text, for `vocabulary_from_json`."""
        known = {"words": self.words, "counts": self.counts, "dropped": self.dropped}
        return json.dumps({**known, "dropped_tokens": self.dropped_tokens}, ensure_ascii=False) + "\n"

    def log_frequencies(self) -> list[float]:
        """Return the logarithm of how often each index occurs, the largest being 0: the first bias of the decoder.

        So the untrained network knows which words are frequent, which saves it the first steps (NeuralTalk, driver.py).
        """
        largest = max(self.counts)
        return [math.log(count / largest) for count in self.counts]


def vocabulary_from_json(text: str) -> Vocabulary:
    """Return the vocabulary that `Vocabulary.to_json` wrote.

    Raises:
        ValueError: it is none.

    >>> vocabulary_from_json(Vocabulary(("dog",), (2, 3)).to_json()).decode([1, 0])
    ('dog',)
    """
    data: Any = parse_json(text)
    try:
        words, counts = tuple(map(str, data["words"])), tuple(map(int, data["counts"]))
        known = Vocabulary(words, counts, int(data["dropped"]), int(data["dropped_tokens"]))
    except (ArithmeticError, KeyError, TypeError) as error:
        raise ValueError(f"no vocabulary ({error!r})") from None
    if len(counts) != len(known) or len(set(words)) != len(words):
        raise ValueError(f"{len(words)} words and {len(counts)} counts, expected a word once and one count more")
    return known


def vocabulary(sentences: Sequence[Sequence[str]], threshold: int) -> Vocabulary:
    """Return the words that occur at least ``threshold`` times in training sentences, the most frequent first.

    >>> vocabulary([("a", "dog"), ("a", "cat")], threshold=2).words
    ('a',)
    """
    counts = Counter(token for sentence in sentences for token in sentence)
    kept = sorted((word for word in counts if counts[word] >= threshold), key=lambda word: (-counts[word], word))
    rare = [count for count in counts.values() if count < threshold]
    return Vocabulary(
        tuple(kept),
        (len(sentences), *(counts[word] for word in kept)),
        dropped=len(rare),
        dropped_tokens=sum(rare),
    )


def vocabulary_of(
    tokens: Sequence[Sequence[Sequence[str]]], threshold: int, place: str, longest: int | None = None
) -> tuple[Vocabulary, tuple[str, ...]]:
    """Return the vocabulary of training images, each with the words of its sentences, and notes on what is not learned.

    Args:
        tokens: of each image, the words of each sentence.
        threshold: how often a word has to occur.
        place: what a user calls the set.
        longest: words after which a training sentence is cut.

    Raises:
        DataError: no word occurs often enough.
    """
    sentences = [words for own in tokens for words in own]
    known = vocabulary(sentences, threshold)
    if len(known) < 2:
        raise DataError(f"{place}: no word occurs {threshold} times in the training sentences: lower data.threshold")
    total = sum(map(len, sentences))
    share = known.dropped_tokens / total if total else 0.0
    notes = [
        f"vocabulary: {len(known.words):,} words; {known.dropped:,} that occur less than {threshold} times in the "
        f"training sentences are left out ({share:.1%} of all words)"
    ]
    lengths = [len(known.encode(words)) for words in sentences]
    if cut := sum(length > longest for length in lengths) if longest else 0:
        notes.append(
            f"{place}: {cut:,} training {'sentence has' if cut == 1 else 'sentences have'} more than {longest} known "
            f"words, and {'is' if cut == 1 else 'are'} cut there (data.longest)"
        )
    if empty := lengths.count(0):
        notes.append(
            f"{place}: {empty:,} training {'sentence has' if empty == 1 else 'sentences have'} no word that occurs "
            f"{threshold} times, and {'is' if empty == 1 else 'are'} not learned: lower data.threshold to keep them"
        )
    return known, tuple(notes)
