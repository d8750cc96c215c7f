"""Batches of a split: every example once, the same order for the same seed, alike lengths together."""

from __future__ import annotations

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.lab.training.batches import Batches


@given(
    examples=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    seed=st.none() | st.integers(0, 9),
    grouped=st.booleans(),
)
def test_every_example_comes_once_and_only_the_last_batch_is_smaller(examples, batch_size, seed, grouped):
    lengths = [index * 7919 % 31 for index in range(examples)] if grouped else None
    batches = Batches(examples, batch_size, seed=seed, lengths=lengths)
    parts = list(batches)
    assert len(parts) == len(batches)
    assert sorted(chain(*parts)) == list(range(examples))
    assert list(batches) == parts
    assert all(len(part) == batch_size for part in parts[:-1])


@given(seed=st.integers(0, 99), skip=st.integers(0, 5), limit=st.integers(5, 9))
def test_an_epoch_that_goes_on_has_the_batches_that_were_left(seed, skip, limit):
    lengths = [index * 7919 % 31 for index in range(100)]
    whole = list(Batches(100, 10, seed=seed, limit=limit, lengths=lengths))
    assert list(Batches(100, 10, seed=seed, limit=limit, skip=skip, lengths=lengths)) == whole[skip:]


def test_batches_hold_examples_of_about_one_length():
    lengths = torch.randint(1, 1000, (2000,), generator=torch.Generator().manual_seed(0))

    def padded(batches: Batches) -> int:
        return sum(int(lengths[part].max()) * len(part) for part in batches)

    needed = int(lengths.sum())
    assert padded(Batches(2000, 20, seed=0)) > 1.8 * needed
    assert padded(Batches(2000, 20, seed=0, lengths=lengths.tolist())) < 1.05 * needed


def test_batches_of_a_pool_come_in_no_order_of_length():
    lengths = list(range(1000))
    means = [sum(part) / len(part) for part in Batches(1000, 20, seed=3, lengths=lengths)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_without_a_seed_the_longest_come_first():
    assert list(Batches(5, 2, lengths=[3, 9, 1, 9, 4])) == [[1, 3], [4, 0], [2]]
