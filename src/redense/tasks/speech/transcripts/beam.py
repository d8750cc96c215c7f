"""Beam search with words and an n-gram language model, by flashlight-text (KenLM inside).

What is maximised is log p(path of symbols) + ``lm_weight`` log10 p(words) + ``word_score`` times the number of words:
flashlight's own scale, in which language models count in log10. The lexicon holds the search to known words: what is
not in it cannot be heard. Without words and model it is CTC's prefix search over the alphabet.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from redense.errors import DataError, MissingExtraError
from redense.files.opening import is_regular

from .alphabet import BLANK, Alphabet
from .decoding import GreedyStream, Word
from .language import read_words
from .scoring import error_counts

_SPACE = " "
_NEVER = -1e4  # a log probability that no beam keeps, and that still is a number
WIDEST = 10_000  # a search of 100 is usual; each hypothesis takes memory for every frame
LM_WEIGHTS = (0.5, 1.0, 2.0, 3.0, 4.0)
WORD_SCORES = (-1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Search:
    """The width of a search, and the weights of language model and words.

    Args:
        width: hypotheses that are kept.
        threshold: those that are so much worse than the best, in log probability, are dropped.
        lm_weight: of log10 of the language model's probability.
        word_score: added for every word; a model prefers few words, this makes up for it.
    """

    width: int = 100
    threshold: float = 50.0
    lm_weight: float = 2.0
    word_score: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.width <= WIDEST:
            raise DataError(f"a beam is 1 to {WIDEST:,} wide, got {self.width:,}")
        if not self.threshold > 0:
            raise DataError(f"the threshold of a beam must be above 0, got {self.threshold:g}")
        for name in ("lm_weight", "word_score"):
            if not math.isfinite(getattr(self, name)):
                raise DataError(f"{name} must be a finite number, got {getattr(self, name)}")


class Lexicon:
    """The words that can be heard, spelled with an alphabet, and the language model that weighs them.

    Args:
        alphabet: of the network; words are parted by its blank ' '.
        words: that can be heard; those that the alphabet cannot spell are left out and counted in ``unspellable``.
            None: those of the ARPA file. Those that an ARPA file lacks are as likely as any unknown word, and counted
            in ``unweighed``.
        model: an ARPA file, or KenLM's binary (which does not tell its words: give them). None: every word is as
            likely as any other.

    Raises:
        DataError: no word can be spelled, the model knows none of them, the alphabet has no blank, or the model cannot
            be read.
        MissingExtraError: flashlight-text is not installed.
    """

    def __init__(self, alphabet: Alphabet, words: Iterable[str] | None = None, model: Path | None = None) -> None:
        decoder, _ = _flashlight()
        own = words is None
        if _SPACE not in alphabet.symbols:
            raise DataError("a search for words needs ' ' in the alphabet, to part them; search without words")
        if words is None:
            if model is None:
                raise DataError("a lexicon needs words, or a language model that has some")
            words = read_words(model)
        given = list(dict.fromkeys(words))
        self.alphabet = alphabet
        symbols = set(alphabet.symbols) - {_SPACE}
        self.words = [word for word in given if word and symbols.issuperset(word)]
        self.unspellable = len(given) - len(self.words)
        if not self.words:
            raise DataError(
                f"none of {len(given):,} words can be spelled with the {len(alphabet.symbols)} symbols of the network"
                f"{f', such as {given[0]!r}' if given else ''}: is the case right?"
            )
        self.space = alphabet.encode(_SPACE)[0]
        self.model = decoder.ZeroLM() if model is None else _kenlm(model, self.words)
        self.unweighed = 0 if own or model is None else _unweighed(model, self.words)
        self.trie = decoder.Trie(alphabet.size, self.space)
        start = self.model.start(False)
        for index, word in enumerate(self.words):
            _, likely = self.model.score(start, index)
            self.trie.insert([*alphabet.encode(word), self.space], index, likely)
        self.trie.smear(decoder.SmearingMode.MAX)


class BeamDecoder:
    """Beam search over the frames of one utterance after the other.

    Args:
        alphabet: of the network.
        lexicon: words and language model; None searches over the alphabet alone.
        search: how.

    Raises:
        MissingExtraError: flashlight-text is not installed.
    """

    def __init__(self, alphabet: Alphabet, lexicon: Lexicon | None = None, search: Search | None = None) -> None:
        self.alphabet, self.lexicon, self.search = alphabet, lexicon, search or Search()
        _flashlight()

    @cached_property
    def _decoder(self) -> Any:
        decoder, _ = _flashlight()
        how, criterion = self.search, decoder.CriterionType.CTC
        every = self.alphabet.size
        if self.lexicon is None:
            options = decoder.LexiconFreeDecoderOptions(how.width, every, how.threshold, 0.0, 0.0, True, criterion)
            self._zero = decoder.ZeroLM()  # flashlight holds no reference
            return decoder.LexiconFreeDecoder(options, self._zero, -1, BLANK, [])
        options = decoder.LexiconDecoderOptions(
            how.width, every, how.threshold, how.lm_weight, how.word_score, -math.inf, 0.0, True, criterion
        )
        lexicon = self.lexicon
        unknown = len(lexicon.words)  # with a score of -inf it is never chosen
        return decoder.LexiconDecoder(options, lexicon.trie, lexicon.model, lexicon.space, BLANK, unknown, [], False)

    def words(self, log_probs: Tensor) -> list[Word]:
        """Return the words of one utterance; log_probs: (t, symbols) of a log-softmax.

        The frames of a word are those of its symbols on the best of the paths that were found.
        """
        if not len(log_probs):
            return []
        frames = log_probs.detach().to("cpu", torch.float32)
        if frames.shape[1] != self.alphabet.size:
            raise DataError(f"got {frames.shape[1]} outputs a frame, the alphabet has {self.alphabet.size}")
        frames = frames.nan_to_num(_NEVER).clamp(min=_NEVER)
        if self.lexicon is not None:
            # A word ends with a blank ' '; after the last one of an utterance nobody hears it.
            end = frames.new_full((1, self.alphabet.size), _NEVER)
            end[0, self.lexicon.space] = 0.0
            frames = torch.cat([frames, end])
        frames = frames.contiguous()
        found = self._decoder.decode(frames.data_ptr(), *frames.shape)
        if not found:
            return []
        stream = GreedyStream(self.alphabet)
        path = found[0].tokens[1:-1]  # the first entry and the last are of no frame
        return [*stream.follow(path[: len(log_probs)]), *stream.finish()]

    def text(self, log_probs: Tensor) -> str:
        """Return the text of one utterance; log_probs: (t, symbols)."""
        return " ".join(word.text for word in self.words(log_probs))

    def texts(self, log_probs: Tensor, lengths: Tensor) -> list[str]:
        """Return the texts of a batch; log_probs: (t, b, symbols), lengths: (b,)."""
        return [self.text(log_probs[: int(length), row]) for row, length in enumerate(lengths.tolist())]


@dataclass(frozen=True)
class Tuned:
    """The best weights of a grid on some utterances.

    Args:
        rates: word error rate in % of each (lm_weight, word_score) that was tried.
    """

    search: Search
    rates: dict[tuple[float, float], float]


def tune(
    lexicon: Lexicon,
    utterances: Sequence[Tensor],
    references: Sequence[str],
    search: Search | None = None,
    *,
    lm_weights: Sequence[float] = LM_WEIGHTS,
    word_scores: Sequence[float] = WORD_SCORES,
) -> Tuned:
    """Return the weights with the lowest word error rate; of equals the smallest language model weight.

    Args:
        lexicon: words and language model.
        utterances: of the validation split, (t, symbols) each; never those that are reported.
        references: what was said.
        search: width and threshold.
        lm_weights: tried, each with every one of ``word_scores``.
        word_scores: tried.

    Raises:
        DataError: there is nothing to tune on.
    """
    search = search or Search()
    if not any(reference.split() for reference in references):
        raise DataError("weights are tuned on transcripts: the validation split has no word")
    rates: dict[tuple[float, float], float] = {}
    for weight in lm_weights:
        for bonus in word_scores:
            decoder = BeamDecoder(lexicon.alphabet, lexicon, replace(search, lm_weight=weight, word_score=bonus))
            counts = error_counts([decoder.text(one) for one in utterances], references)
            rates[weight, bonus] = counts.rate or 0.0
    weight, bonus = min(rates, key=lambda pair: (rates[pair], abs(pair[0]), abs(pair[1])))
    return Tuned(replace(search, lm_weight=weight, word_score=bonus), rates)


def _unweighed(path: Path, words: Sequence[str]) -> int:
    """Return how many words an ARPA file lacks; 0 for a binary, which does not tell its own.

    Raises:
        DataError: it has none of them: it would weigh nothing.
    """
    try:
        known = set(read_words(path))
    except DataError:
        return 0
    count = sum(word not in known for word in words)
    if count == len(words):
        raise DataError(
            f"the language model {path} has none of the {count:,} words that can be heard, such as {words[0]!r}: is "
            "the case right?"
        )
    return count


def _kenlm(path: Path, words: Sequence[str]) -> Any:
    _, dictionary = _flashlight()
    from flashlight.lib.text.decoder import kenlm

    if not is_regular(path):
        raise DataError(f"there is no language model {path}: give an ARPA file or KenLM's binary")
    try:
        with _without_chatter():
            return kenlm.KenLM(str(path), dictionary.Dictionary(list(words)))
    except (RuntimeError, ValueError) as error:
        # C++ says where in its own sources, and then what is wrong.
        reason = " ".join(str(error).partition("Exception.")[2].split()) or str(error).splitlines()[0]
        raise DataError(f"KenLM cannot read {path}: {reason[:200]}") from None


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep off the terminal what KenLM says of its progress, past Python, to the error output."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _flashlight() -> tuple[ModuleType, ModuleType]:
    try:
        from flashlight.lib.text import decoder, dictionary
    except ImportError as error:
        raise MissingExtraError("beam search needs flashlight-text: pip install 'redense[speech]'") from error
    return decoder, dictionary
