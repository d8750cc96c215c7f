from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redense.errors import DataError
from redense.tasks.speech.transcripts.language import END, START, UNKNOWN, read_words, train

TEXT = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog",
    "the mat",
    "a dog sat",
    "on the mat sat a cat and the dog",
    "the cat",
]
SENTENCES = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=12
)


def mass(model, history):
    return sum(10 ** model.log10(word, history) for word in [*model.words, END, UNKNOWN])


@given(sentences=SENTENCES, order=st.integers(2, 4), data=st.data())
@settings(deadline=None)
def test_the_probabilities_after_any_history_sum_to_one(sentences, order, data):
    model = train(sentences, order)
    words = st.sampled_from([*model.words, UNKNOWN, "never seen"])
    history = data.draw(st.lists(words, max_size=4))
    assert mass(model, history) == pytest.approx(1)
    assert mass(model, [START, *history]) == pytest.approx(1)


def test_estimated_discounts_leave_a_distribution_too():
    # Words in Zipf's way, so that there are n-grams seen once, twice, three and four times.
    sentences = [" ".join(f"w{(i * j) % 17 % (j + 3)}" for j in range(1, 9)) for i in range(1, 60)]
    model = train(sentences, 3)
    for history in ([], [START], ["w0"], ["w1", "w2"], ["w2", "w0"], [START, "w1"], ["w9", "nothing"]):
        assert mass(model, history) == pytest.approx(1)


def test_discounts_and_probabilities_are_those_of_the_formula():
    # Bigrams a b, a c, b </s>, c </s>, <s> a: fallback discounts .5, 1, 1.5 (too little text to estimate them).
    model = train(["a b", "a c"], order=2)
    # Continuations: a 1 (after <s>), b 1, c 1, </s> 2 (after b, c): sum 5;
    # discounts .5 .5 .5 1 = 2.5; 5 words with <unk>.
    left = 2.5 / 5
    a, end = 0.5 / 5 + left / 5, 1 / 5 + left / 5
    assert 10 ** model.log10("a", []) == pytest.approx(a)
    assert 10 ** model.log10(END, []) == pytest.approx(end)
    assert 10 ** model.log10("nothing", []) == pytest.approx(left / 5)
    # After a: b and c once each, discounts .5 each: .5 of the mass is left for p(b) = a's.
    assert 10 ** model.log10("b", ["a"]) == pytest.approx(0.5 / 2 + 0.5 * a)
    assert 10 ** model.log10("a", ["a"]) == pytest.approx(0.5 * a)
    # <s> a was seen twice: discount 1 of 2.
    assert 10 ** model.log10("a", [START]) == pytest.approx(1 / 2 + 1 / 2 * a)


def test_a_model_prefers_what_it_has_read():
    model = train(TEXT, 3)
    assert model.log10("cat", ["the"]) > model.log10("on", ["the"])
    assert model.perplexity(TEXT) < model.perplexity([" ".join(reversed(line.split())) for line in TEXT])


def test_kneser_ney_counts_contexts_and_not_occurrences():
    # "francisco" is frequent but only ever follows "san": alone it is unlikely.
    model = train(["san francisco"] * 9 + ["a tea", "b tea", "c tea"], 2)
    assert model.log10("francisco", ["new"]) < model.log10("tea", ["new"])
    assert model.log10("francisco", ["san"]) > math.log10(0.5)


@pytest.mark.parametrize("order", [2, 3, 4, 6])
def test_kenlm_reads_the_file_and_gives_the_same_scores(tmp_path, order):
    kenlm = pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    dictionary = pytest.importorskip("flashlight.lib.text.dictionary")
    model = train(TEXT, order)
    path = tmp_path / "text.arpa"
    model.write(path)
    words = [*model.words, UNKNOWN]
    loaded = kenlm.KenLM(str(path), dictionary.Dictionary(words))
    for sentence in [*TEXT, "the dog and the cat", "mat mat bird cat the the", "bird", "cat"]:
        state, history = loaded.start(False), [START]
        for word in sentence.split():
            known = word if word in words else UNKNOWN
            state, given = loaded.score(state, words.index(known))
            assert given == pytest.approx(model.log10(word, history), abs=2e-5)
            history.append(word)
        assert loaded.finish(state)[1] == pytest.approx(model.log10(END, history), abs=2e-5)


def test_words_are_read_back_from_the_file(tmp_path):
    model = train([*TEXT, "año nuevo"], 2)
    path = tmp_path / "text.arpa"
    model.write(path)
    assert sorted(read_words(path)) == model.words
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "content", [b"", b"mmap lm http://kheafield.com/code\n\x00\xff\xfe", b"\\data\\\n", b"\x1f\x8b\x08"]
)
def test_a_file_that_is_no_arpa_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no ARPA file"):
        read_words(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the language model .*No such file"):
        read_words(tmp_path / "none.arpa")


@pytest.mark.parametrize(
    ("sentences", "order", "message"),
    [
        ([], 2, "needs text"),
        ([" "], 2, "needs text"),
        (["a <s>"], 2, "'<s>'"),
        (["a"], 1, "2 to 6"),
        (["a"], 7, "2 to 6"),
    ],
    ids=["nothing", "blanks", "mark", "order 1", "order 7"],
)
def test_what_cannot_be_trained_on_is_refused(sentences, order, message):
    with pytest.raises(DataError, match=message):
        train(sentences, order)


def test_sentences_shorter_than_the_order_are_fine(tmp_path):
    model = train(["a", "b"], 5)
    assert mass(model, [START]) == pytest.approx(1)
