"""Splits: disjoint, stratified and exact. Labels made wrong on purpose: how many, which, and none that is judged by."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import DataError
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.splits import limit_to, pick, split_off, with_noise

# Splitting


COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(lambda counts: sum(counts) > 0)
"""Examples of each class."""


@given(
    counts=COUNTS,
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_a_split_is_disjoint_complete_stratified_and_exact(counts: list[int], share: float, seed: int):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    kept, held = split_off(labels, share, seed)
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    for part in (kept, held):
        assert part.tolist() == sorted(part.tolist())
    taken = torch.bincount(labels[held], minlength=len(counts)).tolist()
    for count, take in zip(counts, taken, strict=True):
        assert take <= max(count - 1, 0)
        assert abs(take - share * count) <= 1 + 1e-6
    possible = sum(max(count - 1, 0) for count in counts)
    assert len(held) <= max(round(share * len(labels)), 0)
    if all(count >= 1 / (1 - share) + 1 for count in counts):
        assert len(held) == min(round(share * len(labels)), possible)


def test_a_split_depends_on_its_seed_alone():
    labels = torch.arange(100) % 2
    torch.manual_seed(1)
    first = split_off(labels, 0.3, 0)[1].tolist()
    torch.manual_seed(2)
    assert split_off(labels, 0.3, 0)[1].tolist() == first
    assert split_off(labels, 0.3, 1)[1].tolist() != first


@given(
    counts=COUNTS,
    limit=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_a_limit_is_exact_and_stratified_and_keeps_every_class_it_can(counts: list[int], limit: int, seed: int):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kept = limit_to(labels, limit, seed)
    assert len(kept) == min(limit, len(labels))
    assert kept.tolist() == sorted(set(kept.tolist()))
    taken = torch.bincount(labels[kept], minlength=len(counts)).tolist()
    if limit >= sum(count > 0 for count in counts):
        assert all(take > 0 for take, count in zip(taken, counts, strict=True) if count)
    if limit >= 10 * len(counts) and min(counts) * limit >= len(labels):  # no class needs a favour
        for take, count in zip(taken, counts, strict=True):
            assert abs(take - min(limit / len(labels), 1) * count) <= 1 + 1e-6


def test_pick_is_the_same_on_every_version():
    assert pick(torch.arange(20) % 2, [3, 2], seed=7).tolist() == [3, 6, 8, 10, 11]


def test_classes_with_equal_remainders_are_drawn_by_the_seed():
    four = torch.arange(48) // 4
    held = [torch.bincount(four[split_off(four, 0.1, seed)[1]], minlength=12).tolist() for seed in (0, 1, 0)]
    assert held == [[1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0], held[0]]
    kept = [torch.bincount(four[limit_to(four, 6, seed)], minlength=12).tolist() for seed in (0, 1, 0)]
    assert kept == [[1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0], kept[0]]
    assert torch.equal(four[limit_to(four, 6, 0, draw=False)], torch.arange(6))
    large = torch.repeat_interleave(torch.arange(6), torch.tensor([20, 20, 20, 1, 1, 1]))
    assert [torch.bincount(large[limit_to(large, 7, seed)]).tolist() for seed in (0, 2)] == [
        [2, 1, 1, 1, 1, 1],  # one of the three large classes gives what the small ones take
        [1, 1, 2, 1, 1, 1],
    ]


def test_where_no_remainders_are_equal_the_split_is_the_one_of_before():
    whole, uneven = torch.arange(40) % 4, torch.repeat_interleave(torch.arange(4), torch.tensor([14, 23, 35, 41]))
    small = torch.repeat_interleave(torch.arange(6), torch.tensor([40, 41, 1, 2, 1, 1]))
    assert split_off(whole, 0.1, 0)[1].tolist() == [2, 25, 32, 35]
    assert limit_to(whole, 8, 0).tolist() == [2, 12, 15, 25, 26, 32, 35, 37]
    assert split_off(uneven, 0.1, 3)[1].tolist() == [6, 21, 25, 37, 38, 65, 68, 75, 77, 87, 92]
    assert limit_to(uneven, 11, 3).tolist() == [6, 21, 25, 37, 38, 65, 68, 75, 77, 87, 92]
    assert limit_to(small, 10, 1).tolist() == [13, 20, 35, 56, 71, 72, 81, 83, 84, 85]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_validation_share_outside_0_to_1_is_refused(share: float):
    with pytest.raises(DataError, match=r"in \(0, 1\)"):
        load_splits("sample", validation=share)


@given(count=st.integers(1, 200), classes=st.integers(2, 12), share=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_no_more_labels_change_than_are_drawn(count: int, classes: int, share: float, seed: int):
    labels = torch.arange(count) % classes
    before = labels.clone()
    noisy = with_noise(labels, classes, share, seed)
    assert torch.equal(labels, before)
    assert int((noisy != labels).sum()) <= round(share * count)
    assert int(noisy.min()) >= 0
    assert int(noisy.max()) < classes
    assert torch.equal(noisy, with_noise(labels, classes, share, seed))


def test_labels_are_drawn_from_all_classes_alike():
    noisy = with_noise(torch.zeros(20_000, dtype=torch.long), 10, 0.5, seed=0)
    counts = torch.bincount(noisy, minlength=10)
    assert all(900 < int(count) < 1100 for count in counts[1:])
    assert int(counts[0]) - 10_000 < 1100


def test_only_training_labels_are_made_wrong(image_folder):
    clean = load_images(ImageData(source=str(image_folder)))
    noisy = load_images(ImageData(source=str(image_folder), label_noise=0.5))
    assert torch.equal(clean.test.labels, noisy.test.labels)
    assert torch.equal(clean.validation.labels, noisy.validation.labels)
    changed = int((clean.train.labels != noisy.train.labels).sum())
    assert 0.25 * len(clean.train) < changed < 0.5 * len(clean.train)
    assert noisy.notes[-1].endswith("50% of the training labels are random, as data.label_noise asks")
    assert noisy.fingerprint != clean.fingerprint
