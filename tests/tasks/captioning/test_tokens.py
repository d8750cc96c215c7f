"""Words of sentences, and the words that a network knows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redense.tasks.captioning.tokens import tokenize, vocabulary, vocabulary_of

SENTENCES = st.lists(st.lists(st.sampled_from(["a", "dog", "red", "ball", "runs"]), min_size=1), min_size=1)


def test_words_are_small_and_without_punctuation_as_in_neuraltalk():
    assert tokenize("A Man's dog -- red, “white” & blue .") == ("a", "mans", "dog", "red", "white", "blue")
    assert tokenize("$5 + 3 😀 naïve") == ("5", "3", "naïve")
    assert tokenize(" ... ") == ()


def test_sentences_that_are_cut_are_counted():
    tokens = [[["a", "red", "dog"], ["a", "dog"]], [["a", "dog", "rare"]]]
    _, notes = vocabulary_of(tokens, 1, "set", 2)
    assert notes[1] == "set: 2 training sentences have more than 2 known words, and are cut there (data.longest)"
    assert len(vocabulary_of(tokens, 1, "set", 3)[1]) == 1


@given(SENTENCES, st.integers(1, 4))
def test_a_vocabulary_has_exactly_the_words_that_are_frequent_enough(sentences, threshold):
    words = vocabulary(sentences, threshold)
    flat = [word for sentence in sentences for word in sentence]
    assert set(words.words) == {word for word in flat if flat.count(word) >= threshold}
    assert words.counts == (len(sentences), *(flat.count(word) for word in words.words))
    assert sum(words.counts[1:]) + words.dropped_tokens == len(flat)
    assert words.dropped == len(set(flat)) - len(words.words)


@given(SENTENCES)
def test_what_is_encoded_comes_back_but_for_unknown_words(sentences):
    words = vocabulary(sentences, 2)
    for sentence in sentences:
        indices = words.encode(sentence)
        assert 0 not in indices
        assert words.decode([*indices, 0, 1]) == tuple(word for word in sentence if word in words.words)


def test_log_frequencies_begin_at_the_end_of_a_sentence():
    words = vocabulary([("a", "dog"), ("a", "a")], 1)
    assert words.words == ("a", "dog")
    assert [round(value, 4) for value in words.log_frequencies()] == [-0.4055, 0.0, -1.0986]  # log 2/3, 1, 1/3


def test_decoding_stops_at_padding():
    assert vocabulary([("a", "dog")], 1).decode([1, -1, 2]) == ("a",)
