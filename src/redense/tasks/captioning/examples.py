"""Batches of captioned images: pairs of image and sentence to train on, images with all their sentences to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PAD = -1


class Pairs(NamedTuple):
    """A training batch.

    ``features`` float32 (b, d); ``words`` int64 (b, t), 0 and then the sentence, padded with 0; ``following`` int64
    (b, t), the sentence and then 0, padded with -1.
    """

    features: Tensor
    words: Tensor
    following: Tensor


class Judged(NamedTuple):
    """Images with all their sentences.

    ``features`` (b, d), ``image`` int64 (b,) their places among all that are judged, and ``words`` and ``following`` of
    their sentences, int64 (s, t), of which ``owner`` int64 (s,) says whose they are.
    """

    features: Tensor
    image: Tensor
    words: Tensor
    following: Tensor
    owner: Tensor


class CaptionPairs:
    """The training split: every sentence with its image. Batches hold sentences of about one length.

    Args:
        features: of the images, float32 (n, d).
        sentences: of each image, as indices.
        longest: words of a sentence; what is longer is cut.
    """

    def __init__(self, features: Tensor, sentences: Sequence[Sequence[Sequence[int]]], longest: int) -> None:
        pairs = [(image, words[:longest]) for image, own in enumerate(sentences) for words in own]
        self.features = features
        self.owner = torch.tensor([image for image, _ in pairs], dtype=torch.long)
        self.lengths: Sequence[int] = [len(words) + 1 for _, words in pairs]
        self.words, self.following = as_tensors([words for _, words in pairs])

    def __len__(self) -> int:
        return len(self.owner)

    def begin_epoch(self, seed: int) -> None:
        """Change nothing: nothing is augmented."""

    def __getitems__(self, indices: Sequence[int]) -> Pairs:
        where = torch.as_tensor(indices)
        longest = max(self.lengths[index] for index in indices)
        return Pairs(self.features[self.owner[where]], self.words[where, :longest], self.following[where, :longest])


class CaptionedImages:
    """A split to judge by: every image once, with all its sentences.

    Args:
        features: of the images, float32 (n, d).
        sentences: of each image, as indices.
        places: of the images among all that are judged.
    """

    def __init__(self, features: Tensor, sentences: Sequence[Sequence[Sequence[int]]], places: Sequence[int]) -> None:
        self.features, self.places = features, torch.tensor(places)
        counts = torch.tensor([len(own) for own in sentences])
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
        self.words, self.following = as_tensors([words for own in sentences for words in own])

    def __len__(self) -> int:
        return len(self.features)

    def begin_epoch(self, seed: int) -> None:
        """Change nothing."""

    def __getitems__(self, indices: Sequence[int]) -> Judged:
        where = torch.as_tensor(indices)
        spans = [torch.arange(int(self.starts[index]), int(self.starts[index + 1])) for index in indices]
        rows = torch.cat(spans)
        owner = torch.repeat_interleave(torch.arange(len(indices)), torch.tensor([len(span) for span in spans]))
        used = int((self.following[rows] != PAD).sum(1).max()) if len(rows) else 1
        return Judged(
            self.features[where], self.places[where], self.words[rows, :used], self.following[rows, :used], owner
        )


def as_tensors(sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return what the network reads of sentences and what it is to say next, int64 (s, longest + 1) each.

    >>> words, following = as_tensors([[5, 6], [7]])
    >>> words.tolist(), following.tolist()
    ([[0, 5, 6], [0, 7, 0]], [[5, 6, 0], [7, 0, -1]])
    """
    longest = max(map(len, sentences), default=0) + 1
    words = torch.zeros(len(sentences), longest, dtype=torch.long)
    following = torch.full_like(words, PAD)
    for row, sentence in enumerate(sentences):
        words[row, 1 : len(sentence) + 1] = torch.tensor(sentence, dtype=torch.long)
        following[row, : len(sentence) + 1] = torch.tensor([*sentence, 0])
    return words, following
