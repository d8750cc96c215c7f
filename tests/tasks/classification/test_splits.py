"""Labels that are made wrong on purpose: how many, which, and never those that are judged by."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.splits import with_noise


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
