"""BLEU against two independent implementations: multi-bleu's formula written anew, and pycocoevalcap's."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks.captioning.bleu import bleu, chrf, scores_of, statistics

WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9).map(tuple)
SETS = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=4)), min_size=1, max_size=8)


def multi_bleu(hypotheses: list[tuple[str, ...]], references: list[list[tuple[str, ...]]], order: int) -> float:
    """``multi-bleu.perl``, as its source reads: clipped matches, closest reference length, no smoothing."""
    matches, totals, written, wanted = [0] * order, [0] * order, 0, 0
    for words, own in zip(hypotheses, references, strict=True):
        written += len(words)
        wanted += min((abs(len(words) - len(other)), len(other)) for other in own)[1]
        for n in range(1, order + 1):
            grams = Counter(words[i : i + n] for i in range(len(words) - n + 1))
            most: Counter[tuple[str, ...]] = Counter()
            for other in own:
                most |= Counter(other[i : i + n] for i in range(len(other) - n + 1))
            matches[n - 1] += sum(min(count, most[gram]) for gram, count in grams.items())
            totals[n - 1] += max(0, len(words) - n + 1)
    if 0 in matches:
        return 0.0
    brevity = min(1.0, math.exp(1 - wanted / written))
    return 100 * brevity * math.exp(sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / order)


@given(SETS)
def test_it_is_multi_bleus_of_every_order(cases):
    hypotheses, references = [words for words, _ in cases], [own for _, own in cases]
    scores = bleu(statistics(hypotheses, references))
    for order in (1, 2, 3, 4):
        assert scores[f"bleu{order}"] == pytest.approx(multi_bleu(hypotheses, references, order), abs=1e-6)


@pytest.mark.slow
def test_it_is_pycocoevalcaps_too():
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer")
    random = np.random.default_rng(0)

    def sentence() -> tuple[str, ...]:
        return tuple(random.choice(list("abc"), random.integers(4, 12)))

    hypotheses, references = [sentence() for _ in range(50)], [[sentence() for _ in range(3)] for _ in range(50)]
    theirs = scorer.BleuScorer(n=4)
    for words, own in zip(hypotheses, references, strict=True):
        theirs += (" ".join(words), [" ".join(other) for other in own])
    expected, _ = theirs.compute_score(option="closest")
    for mine, score in zip(bleu(statistics(hypotheses, references)).values(), expected, strict=True):
        assert mine == pytest.approx(100 * score, abs=1e-4)  # it adds a little to denominators


def test_words_are_not_tokenised_again():
    assert bleu(statistics([("it's", "a", "b", "c")], [[("it's", "a", "b", "c")]]))["bleu4"] == pytest.approx(100)
    assert bleu(statistics([("it's",)], [[("it", "'s")]]))["bleu1"] == 0
    assert bleu(statistics([("A",)], [[("a",)]]))["bleu1"] == 0


def test_a_network_that_says_nothing_scores_zero():
    rows = statistics([(), ()], [[("a",)], [("b", "c")]])
    assert set(bleu(rows).values()) == {0.0}


def test_as_many_references_as_hypotheses_are_expected():
    with pytest.raises(ValueError, match="reference"):
        statistics([("a",)], [])
    with pytest.raises(ValueError, match="reference"):
        statistics([("a",)], [[]])


def test_many_sets_are_scored_at_once():
    rows = statistics([tuple("abcd"), tuple("abxd")], [[tuple("abcd")], [tuple("abcd")]])
    both = scores_of(np.stack([rows[0], rows.sum(0)]))
    assert both[0].tolist() == [100.0] * 4
    assert both[1].tolist() == list(bleu(rows).values())


def test_chrf_is_sacrebleus_with_any_number_of_references():
    sacrebleu = pytest.importorskip("sacrebleu")
    expected = sacrebleu.corpus_chrf(["a red dog", "a cat"], [["a red dog", "the cat"], ["one dog", ""]]).score
    found = chrf([("a", "red", "dog"), ("a", "cat")], [[("a", "red", "dog"), ("one", "dog")], [("the", "cat")]])
    assert found == pytest.approx(expected)
    assert chrf([("a", "b")], [[("a", "b")]]) == pytest.approx(100)
