"""What a batch of captioned images holds."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks.captioning.examples import PAD, CaptionedImages, CaptionPairs

SENTENCES = st.lists(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=3), min_size=1, max_size=5)


@given(SENTENCES)
def test_every_sentence_is_a_pair_with_its_own_image(sentences):
    features = torch.arange(len(sentences), dtype=torch.float).unsqueeze(1)
    pairs = CaptionPairs(features, sentences, longest=4)
    flat = [(image, words[:4]) for image, own in enumerate(sentences) for words in own]
    assert len(pairs) == len(flat) == len(pairs.lengths)
    batch = pairs.__getitems__(list(range(len(pairs))))
    for row, (image, words) in enumerate(flat):
        assert float(batch.features[row, 0]) == image
        used = len(words) + 1
        assert batch.words[row, :used].tolist() == [0, *words]
        assert batch.following[row, :used].tolist() == [*words, 0]
        assert (batch.following[row, used:] == PAD).all()
        assert pairs.lengths[row] == used


def test_a_batch_is_no_longer_than_its_longest_sentence():
    pairs = CaptionPairs(torch.zeros(2, 1), [[[1], [1, 2, 3]], [[4, 5]]], longest=9)
    assert pairs.__getitems__([0, 2]).words.shape == (2, 3)
    assert pairs.__getitems__([1]).words.shape == (1, 4)


@given(SENTENCES)
def test_to_be_judged_every_image_comes_once_with_all_its_sentences(sentences):
    features = torch.arange(len(sentences), dtype=torch.float).unsqueeze(1)
    images = CaptionedImages(features, sentences, places=[10 + i for i in range(len(sentences))])
    order = list(reversed(range(len(sentences))))
    batch = images.__getitems__(order)
    assert batch.image.tolist() == [10 + i for i in order]
    assert batch.features[:, 0].tolist() == order
    for place, image in enumerate(order):
        rows = (batch.owner == place).nonzero().flatten().tolist()
        said = [[w for w in batch.following[row].tolist() if w > 0] for row in rows]
        assert said == sentences[image]
        assert all((batch.following[row] == 0).sum() == 1 for row in rows)
