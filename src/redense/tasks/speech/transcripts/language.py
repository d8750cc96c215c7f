"""A language model of words: n-grams with interpolated, modified Kneser-Ney smoothing, written as ARPA.

Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1998, section 3; the details are
those of KenLM's ``lmplz`` (one ``<s>``, n-grams that begin with it keep their true counts, the words are interpolated
with a uniform distribution that includes ``<unk>``), so that either program may have trained a file.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from redense.errors import DataError
from redense.files.opening import open_text
from redense.files.writing import written_aside

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
NGram: TypeAlias = tuple[str, ...]

_NEVER = -99.0  # log10 of a probability of 0, by SRILM's custom
_FALLBACK = (0.5, 1.0, 1.5)  # lmplz --discount_fallback: where the text is too small to estimate discounts
ORDERS = range(2, 7)
"""Lengths of the longest n-grams that the KenLM in flashlight-text reads."""


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram model with back-off weights, as an ARPA file has it.

    Args:
        tables: by length - 1: log10 probability of every n-gram.
        backoffs: log10 weight of what an n-gram leaves to shorter contexts; 0 where it is missing.

    >>> model = train(["a b", "a c"], order=2)
    >>> round(10 ** model.log10("b", ["a"]) + 10 ** model.log10("c", ["a"]), 3)
    0.7
    """

    tables: tuple[Mapping[NGram, float], ...]
    backoffs: Mapping[NGram, float]

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        return len(self.tables)

    @property
    def words(self) -> list[str]:
        """The words that it knows, sorted; without ``<s>``, ``</s>`` and ``<unk>``."""
        return sorted(word for (word,) in self.tables[0] if word not in (START, END, UNKNOWN))

    def log10(self, word: str, history: Sequence[str]) -> float:
        """Return log10 of the probability of a word after others; what it does not know is ``<unk>``.

        ``history`` begins with ``<s>`` at the beginning of a sentence.
        """
        known = self.tables[0]
        place = [one if (one,) in known else UNKNOWN for one in (*history, word)][-self.order :]
        weight = 0.0
        while len(place) > 1:
            found = self.tables[len(place) - 1].get(tuple(place))
            if found is not None:
                return weight + found
            weight += self.backoffs.get(tuple(place[:-1]), 0.0)
            place = place[1:]
        return weight + known[(place[0],)]

    def perplexity(self, sentences: Iterable[str]) -> float:
        """Return the perplexity of sentences: their ends count as words, unknown words as ``<unk>``.

        Raises:
            DataError: there are no sentences.
        """
        total, count = 0.0, 0
        for sentence in sentences:
            words = [START, *sentence.split(), END]
            total += sum(self.log10(words[place], words[:place]) for place in range(1, len(words)))
            count += len(words) - 1
        if not count:
            raise DataError("the perplexity of no sentences is not defined: give at least one")
        return 10 ** (-total / count)

    def arpa(self) -> Iterator[str]:
        r"""Yield the lines of an ARPA file.

        >>> list(train(["a"]).arpa())[:6]
        ['\\data\\', 'ngram 1=4', 'ngram 2=2', 'ngram 3=1', '', '\\1-grams:']
        """
        yield "\\data\\"
        for length, table in enumerate(self.tables, 1):
            yield f"ngram {length}={len(table)}"
        for length, table in enumerate(self.tables, 1):
            yield ""
            yield f"\\{length}-grams:"
            for ngram in sorted(table):
                backoff = self.backoffs.get(ngram)
                tail = "" if backoff is None else f"\t{backoff:.8g}"
                yield f"{table[ngram]:.8g}\t{' '.join(ngram)}{tail}"
        yield ""
        yield "\\end\\"

    def write(self, path: Path) -> None:
        """Write an ARPA file, in one step."""
        with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in self.arpa())


def train(sentences: Iterable[str], order: int = 3) -> LanguageModel:
    """Return the model of some text, a sentence an entry, words between blanks.

    Raises:
        DataError: there is no word, a word is one of ARPA's own marks, or the order is not 2 to 6.
    """
    if order not in ORDERS:
        raise DataError(f"the order of a language model must be {ORDERS[0]} to {ORDERS[-1]}, got {order}")
    seen = _counts(sentences, order)
    adjusted = [_continuations(seen[length - 1], seen[length]) for length in range(1, order)] + [seen[-1]]
    adjusted[0].pop((START,), None)  # it is never predicted
    vocabulary = {word for (word,) in adjusted[0]} | {END, UNKNOWN}
    uniform = 1 / len(vocabulary)
    tables: list[dict[NGram, float]] = []  # probabilities, until the end
    backoffs: dict[NGram, float] = {}
    for counts in adjusted:
        discounts = _discounts(counts)
        sums, removed = defaultdict[NGram, int](int), defaultdict[NGram, float](float)
        for ngram, count in counts.items():
            sums[ngram[:-1]] += count
            removed[ngram[:-1]] += _discount(count, discounts)
        left = {context: removed[context] / sums[context] for context in sums}
        table: dict[NGram, float] = {}
        for ngram, count in counts.items():
            context, lower = ngram[:-1], tables[-1][ngram[1:]] if tables else uniform
            table[ngram] = (count - _discount(count, discounts)) / sums[context] + left[context] * lower
        if not tables:
            table[(UNKNOWN,)] = left[()] * uniform
        backoffs |= {context: math.log10(weight) for context, weight in left.items() if context}
        tables.append(table)
    logs = [{ngram: math.log10(value) for ngram, value in table.items()} for table in tables]
    logs[0][(START,)] = _NEVER
    return LanguageModel(tuple(logs), backoffs)


def read_words(path: Path) -> list[str]:
    """Return the words of an ARPA file, in its order; without ``<s>``, ``</s>`` and ``<unk>``.

    Raises:
        DataError: it cannot be read, or is no ARPA file.
    """
    words: list[str] = []
    inside = False
    try:
        with open_text(path) as file:
            for number, line in enumerate(file):
                text = line.strip("\n\r \t")
                if text.startswith("\\"):
                    if inside:
                        break
                    inside = text == "\\1-grams:"
                elif inside and text:
                    word = text.split("\t")[1] if "\t" in text else text.split(" ")[1]
                    words.append(word)
                elif not inside and number > 1000:
                    break
    except OSError as error:
        raise DataError(f"cannot read the language model {path}: {error.strerror}") from None
    except (UnicodeDecodeError, IndexError):
        words = []
    if not words:
        raise DataError(f"{path} is no ARPA file: it has no \\1-grams: section with words; is it compressed or binary?")
    marks = {START, END, UNKNOWN, "<UNK>"}
    return [word for word in words if word not in marks]


def _counts(sentences: Iterable[str], order: int) -> list[Counter[NGram]]:
    """Return by length - 1 how often every n-gram is in the text."""
    seen: list[Counter[NGram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = sentence.split()
        for mark in (START, END, UNKNOWN):
            if mark in words:
                raise DataError(f"the word '{mark}' has a meaning of its own in language models: take it out: {words}")
        if not words:
            continue
        words = (START, *words, END)
        for length, counter in enumerate(seen, 1):
            counter.update(words[place : place + length] for place in range(len(words) - length + 1))
    if not seen[0]:
        raise DataError("a language model needs text: there was no word in it")
    return seen


def _continuations(shorter: Mapping[NGram, int], longer: Iterable[NGram]) -> dict[NGram, int]:
    """Return after how many different words every n-gram comes; what begins a sentence keeps its count."""
    different = Counter(ngram[1:] for ngram in longer)
    return {ngram: count if ngram[0] == START else different[ngram] for ngram, count in shorter.items()}


def _discounts(counts: Mapping[NGram, int]) -> tuple[float, float, float]:
    """Return the discounts of n-grams seen once, twice, and more often (Chen and Goodman, equation 26)."""
    often = Counter(counts.values())
    n1, n2, n3, n4 = (often[times] for times in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < d <= times for times, d in enumerate(found, 1)) else _FALLBACK


def _discount(count: int, discounts: tuple[float, float, float]) -> float:
    return discounts[min(count, 3) - 1]
