"""Speech recognition on random frames of the real shape: for plans and dry runs where the data is not at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from redense.tasks.task import Split

from .config import SpeechData, SpeechModel
from .examples import PADDING, SpeechBatch
from .network.models import EXCLUDE
from .task import Speech
from .transcripts.alphabet import Alphabet

_SYMBOLS_A_SECOND = 12.0  # of read speech, about


class RandomClips:
    """A split of clips of random frames; each index has its own."""

    def __init__(self, count: int, frames: int, bins: int, symbols: int, spoken: int) -> None:
        self.count, self.frames, self.bins, self.alphabet, self.spoken = count, frames, bins, symbols, spoken
        self.lengths: Sequence[int] = [frames] * count

    def __len__(self) -> int:
        return self.count

    def begin_epoch(self, seed: int) -> None:
        """Change nothing: nothing is augmented."""

    def __getitems__(self, indices: Sequence[int]) -> SpeechBatch:
        generators = [torch.Generator().manual_seed(index) for index in indices]
        frames = [torch.randn(self.frames, self.bins, generator=generator) for generator in generators]
        symbols = [torch.randint(1, self.alphabet + 1, (self.spoken,), generator=g) for g in generators]
        return SpeechBatch(
            torch.stack(frames),
            torch.full((len(indices),), self.frames),
            pad_sequence(symbols, batch_first=True, padding_value=PADDING),
            torch.zeros(len(indices), dtype=torch.int64),
        )


class SketchedSpeech(Speech):
    """The task with ``examples`` random clips of ``seconds`` in every split, and an alphabet of ``symbols``."""

    def __init__(self, data: SpeechData, model: SpeechModel, *, frames: int, symbols: int, examples: int) -> None:
        self.alphabet = Alphabet(tuple(chr(ord("a") + index) for index in range(symbols)))
        self.fingerprint = f"sketch/{frames}/{symbols}/{examples}"
        self.parts, self.notes, self.exclude = (), (), EXCLUDE[model.name]
        self._data, self._model = data, model
        self._longest, self._frames = frames, -(-frames // model.frames_to_one)
        seconds = frames * data.spectrogram.hop / 1000
        self._symbols = max(1, min(round(_SYMBOLS_A_SECOND * seconds), self._frames // 2))
        self._clips = RandomClips(examples, frames, data.spectrogram.bins, symbols, self._symbols)

    def examples(self, split: Split) -> RandomClips:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a split; all are the same."""
        return self._clips
