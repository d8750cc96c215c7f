"""Batches of a split: frames padded with 0 and symbols padded with -1, each with its lengths."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .config import SpeechData
from .data.clips import Utterance
from .spectrogram import augmented, frames_in, spectrogram, with_noise
from .store import FeatureStore
from .transcripts.alphabet import Alphabet

PADDING = -1
"""What fills up symbols that are shorter than others."""


class SpeechBatch(NamedTuple):
    """Clips of a batch: frames float32 (b, t, bins), their lengths int64 (b,), symbols int64 (b, n), -1 after the end.

    ``part`` int64 (b,) is the test set that a clip belongs to, where there are several.
    """

    frames: Tensor
    lengths: Tensor
    symbols: Tensor
    part: Tensor


class SpeechExamples:
    """A split of clips: a list of indices -> `SpeechBatch`. ``lengths`` are frames."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        alphabet: Alphabet,
        data: SpeechData,
        *,
        store: FeatureStore | None = None,
        parts: Sequence[str] = (),
        training: bool = False,
    ) -> None:
        self.utterances, self.data, self.store, self.training = utterances, data, store, training
        self.symbols = [torch.tensor(alphabet.encode(utterance.text)) for utterance in utterances]
        self.parts = [parts.index(utterance.clip.part) if parts else 0 for utterance in utterances]
        self.lengths: Sequence[int] = (
            store.lengths if store else [frames_in(utterance.seconds, data.spectrogram) for utterance in utterances]
        )
        self.seed = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def begin_epoch(self, seed: int) -> None:
        """Make the augmentation of the coming epoch depend on ``seed`` and the indices alone."""
        self.seed = seed

    def __getitems__(self, indices: Sequence[int]) -> SpeechBatch:
        frames = [self._frames(index) for index in indices]
        return SpeechBatch(
            pad_sequence(frames, batch_first=True),
            torch.tensor([len(clip) for clip in frames]),
            pad_sequence([self.symbols[index] for index in indices], batch_first=True, padding_value=PADDING),
            torch.tensor([self.parts[index] for index in indices]),
        )

    def _frames(self, index: int) -> Tensor:
        augment = self.data.augment
        draws = self.training and bool(augment.times or augment.frequencies or self.data.noise is not None)
        generator = torch.Generator()
        if draws:
            digest = hashlib.sha256(f"{self.seed}/{index}".encode()).digest()
            generator.manual_seed(int.from_bytes(digest[:7], "big"))
        if self.store:
            frames = self.store[index]
        else:
            clip, settings = self.utterances[index].clip, self.data.spectrogram
            samples = torch.from_numpy(clip.samples(settings.rate))
            if draws and self.data.noise is not None:
                samples = with_noise(samples, self.data.noise, generator)
            frames = spectrogram(samples, settings)
        return augmented(frames, augment, generator) if draws else frames
