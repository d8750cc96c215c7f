from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import DataError
from redense.tasks.speech.transcripts.scoring import (
    align,
    by_group,
    change,
    error_counts,
    score,
    units,
    utterance_counts,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=9).map(" ".join)


def distance(one: list[str], other: list[str]) -> int:
    """Wagner and Fischer's table, written down here alone."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@pytest.mark.parametrize("unit", ["words", "characters"])
@given(hypothesis=WORDS, reference=WORDS)
def test_errors_are_the_edit_distance(unit, hypothesis, reference):
    counts = error_counts([hypothesis], [reference], unit)
    assert counts.errors == distance(units(hypothesis, unit), units(reference, unit))
    assert counts.reference == len(units(reference, unit))
    assert counts.reference - counts.deletions + counts.insertions == len(units(hypothesis, unit))


@pytest.mark.parametrize("unit", ["words", "characters"])
@given(hypothesis=WORDS, reference=WORDS)
def test_an_alignment_spells_both_texts_and_has_as_many_errors_as_counted(unit, hypothesis, reference):
    edits = align(hypothesis, reference, unit)
    assert [e.reference for e in edits if e.reference is not None] == units(reference, unit)
    assert [e.hypothesis for e in edits if e.hypothesis is not None] == units(hypothesis, unit)
    assert sum(e.kind != "hit" for e in edits) == error_counts([hypothesis], [reference], unit).errors
    for edit in edits:
        assert (edit.kind == "hit") == (edit.reference == edit.hypothesis)


@given(texts=st.lists(st.tuples(WORDS, WORDS), max_size=6))
def test_the_counts_of_a_set_are_the_sum_over_its_utterances(texts):
    heard, said = [one for one, _ in texts], [other for _, other in texts]
    rows = utterance_counts(heard, said)
    assert rows.shape == (len(texts), 4)
    for row, hypothesis, reference in zip(rows, heard, said, strict=True):
        assert row[1:].sum() == error_counts([hypothesis], [reference]).errors
    assert error_counts(heard, said).errors == rows[:, 1:].sum()


def test_a_rate_is_over_the_whole_set_and_not_a_mean_of_rates():
    assert score(utterance_counts(["x", "a b c d e f g h i"], ["y", "a b c d e f g h i"])).rate == pytest.approx(10)


def test_empty_references_and_hypotheses_are_scored_and_counted():
    result = score(utterance_counts(["noise", "", "a b", ""], ["", "a", "a b", ""]))
    assert (result.counts.insertions, result.counts.deletions, result.counts.hits) == (1, 1, 2)
    assert (result.empty_references, result.empty_hypotheses, result.wrong) == (2, 2, 2)
    assert result.rate == pytest.approx(100 * 2 / 3)


def test_a_set_without_a_reference_word_has_no_rate():
    result = score(utterance_counts(["a", "b c"], ["", " "]))
    assert result.rate is None
    assert result.interval is None
    assert change(utterance_counts(["a"], [""]), utterance_counts(["b"], [""])) is None


def test_nothing_at_all_has_no_rate():
    result = score(utterance_counts([], []))
    assert (result.utterances, result.rate, result.interval) == (0, None, None)


def test_an_interval_is_the_same_for_the_same_seed_and_holds_the_rate():
    rows = np.array([[5, 1, 0, 0], [9, 0, 1, 2], [3, 3, 0, 0], [8, 0, 0, 0]] * 10)
    first, again, other = score(rows, seed=3), score(rows, seed=3), score(rows, seed=4)
    assert first.interval == again.interval != other.interval
    assert first.rate is not None
    assert first.interval is not None
    assert first.interval[0] < first.rate < first.interval[1]


def test_an_interval_is_that_of_normal_theory_for_many_utterances():
    rng = np.random.default_rng(0)
    errors = rng.poisson(3, size=2000)
    rows = np.stack([20 - np.minimum(errors, 20), np.minimum(errors, 20), 0 * errors, 0 * errors], axis=1)
    result = score(rows, draws=4000)
    assert result.interval is not None
    deviation = 100 * rows[:, 1].std() / 20 / np.sqrt(2000)
    assert (result.interval[1] - result.interval[0]) / 2 == pytest.approx(1.96 * deviation, rel=0.06)


def test_utterances_are_drawn_whole():
    # Half the utterances are all wrong: drawn word by word the interval would be ten times narrower.
    rows = np.array([[0, 100, 0, 0], [100, 0, 0, 0]] * 10)
    interval = score(rows).interval
    assert interval is not None
    assert interval[1] - interval[0] > 30


def test_a_change_is_paired_over_utterances():
    before = np.array([[8, 2, 0, 0], [2, 8, 0, 0]] * 20)
    after = np.array([[9, 1, 0, 0], [3, 7, 0, 0]] * 20)
    result = change(before, after)
    assert result is not None
    assert result.points == pytest.approx(-10)
    assert result.relative == pytest.approx(20)
    assert result.interval == pytest.approx((-10, -10))  # every utterance gains one word of ten
    assert result.better == 1


def test_no_change_is_better_in_half_the_draws():
    rows = np.array([[8, 2, 0, 0], [2, 8, 0, 0]])
    result = change(rows, rows)
    assert result is not None
    assert (result.points, result.relative, result.better) == (0, 0, 0.5)


def test_a_change_from_no_error_has_no_relative_size():
    result = change(np.array([[4, 0, 0, 0]]), np.array([[3, 1, 0, 0]]))
    assert result is not None
    assert (result.points, result.relative, result.interval) == (25, None, None)


def test_groups_keep_their_order():
    assert {name: list(places) for name, places in by_group(["b", "a", "b"]).items()} == {"b": [0, 2], "a": [1]}


def test_unequal_numbers_are_an_error():
    with pytest.raises(DataError, match="got 1 hypotheses for 2 references"):
        utterance_counts(["a"], ["a", "b"])
    with pytest.raises(DataError, match="different references"):
        change(np.array([[1, 0, 0, 0]]), np.array([[2, 0, 0, 0]]))


def test_words_are_what_unicode_takes_for_words():
    assert error_counts(["a b c d"], ["a\u00a0b  c\u2028d"]).errors == 0
