from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import DataError
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.decoding import Word, characters, greedy, spell, words_of

ALPHABET = Alphabet(tuple(" abc"))
PATHS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=5)


def frames_of(paths, size=5, noise=0.3):
    """Log probabilities (t, b, size) whose best paths are these, with noise in the padding."""
    time = max(map(len, paths)) + 2
    generator = torch.Generator().manual_seed(0)
    out = torch.rand(time, len(paths), size, generator=generator)
    for row, path in enumerate(paths):
        for frame, symbol in enumerate(path):
            out[frame, row, symbol] = 2
    return out.log_softmax(2), torch.tensor([len(path) for path in paths])


def collapse(path):
    """Return the symbols that CTC reads from a path: repeats are one, blanks none (Graves et al. 2006, section 3)."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


@given(paths=PATHS)
def test_a_batch_is_decoded_as_ctc_reads_each_path(paths):
    found = greedy(*frames_of(paths))
    for row, path in enumerate(paths):
        expected = collapse(path)
        assert found.symbols[row, : len(expected)].tolist() == expected
        assert (found.symbols[row, len(expected) :] == -1).all()
    assert found.symbols.shape[1] == max(len(collapse(path)) for path in paths)


@given(paths=PATHS)
def test_every_symbol_spans_its_run_of_frames(paths):
    found = greedy(*frames_of(paths))
    for row, path in enumerate(paths):
        for symbol, start, end in zip(
            *(t[row].tolist() for t in (found.symbols, found.starts, found.ends)), strict=True
        ):
            if symbol == -1:
                assert (start, end) == (-1, -1)
                continue
            assert set(path[start:end]) == {symbol}
            assert start == 0 or path[start - 1] != symbol
            assert end == len(path) or path[end] != symbol


@given(st.lists(st.integers(1, 3)))
def test_a_path_with_a_blank_after_every_symbol_collapses_to_its_symbols(symbols):
    path = [index for symbol in symbols for index in (symbol, symbol, 0)]
    assert greedy(*frames_of([path])).symbols[0].tolist() == symbols


def test_repeats_are_one_symbol_and_blanks_are_none():
    assert greedy(*frames_of([[0, 3, 3, 0, 3, 1, 1, 0]])).symbols.tolist() == [[3, 3, 1]]


def test_padding_says_nothing():
    log_probs, lengths = frames_of([[1, 2], [2, 0, 2, 2, 3]])
    log_probs[2:, 0] = log_probs[2:, 0].roll(1, dims=-1) + 5
    assert greedy(log_probs, lengths).symbols[0].tolist() == [1, 2, -1]


def test_rows_can_be_padded_to_one_width():
    log_probs, lengths = frames_of([[2, 3]])
    assert greedy(log_probs, lengths, width=4).symbols.tolist() == [[2, 3, -1, -1]]
    with pytest.raises(DataError, match="2 symbols does not fit into 1"):
        greedy(log_probs, lengths, width=1)


def test_an_utterance_without_frames_is_empty():
    found = greedy(torch.zeros(0, 2, 5), torch.tensor([0, 0]))
    assert found.symbols.shape == (2, 0)
    assert found.texts(ALPHABET) == ["", ""]


def test_words_carry_the_frames_of_their_symbols():
    #                      a  b  b  _  ' ' ' '  c  _ c
    found = greedy(*frames_of([[0, 2, 3, 3, 0, 1, 1, 0, 4, 0, 4]]))
    assert words_of(characters(found, 0, ALPHABET)) == [Word("ab", 1, 4), Word("cc", 8, 11)]
    assert found.texts(ALPHABET) == ["ab cc"]


def test_blanks_alone_are_no_words():
    assert words_of([(" ", 0, 1), (" ", 3, 4)]) == []


def test_padded_rows_are_spelled():
    assert spell(torch.tensor([[2, 1, 3, -1], [-1, -1, -1, -1]]), ALPHABET) == ["a b", ""]
