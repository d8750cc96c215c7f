"""A trained network that listens: sound in, words with their times out, for recordings of any length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from redense.errors import StateError
from redense.tasks.weights import verify_answer, verify_finite

from .audio import Samples
from .config import SpectrogramSettings, SpeechData, SpeechModel
from .network.models import build
from .spectrogram import spectrogram
from .streaming import Pieces, log_probs_of, read_blocks
from .transcripts.alphabet import BLANK, Alphabet
from .transcripts.beam import BeamDecoder
from .transcripts.decoding import GreedyStream, Word

_PAUSE = 0.4  # seconds in which nothing is said: a sentence may end there
_SHORTEST, _LONGEST = 4.0, 30.0  # seconds that a beam searches at once


@dataclass(frozen=True)
class TimedWord:
    """A word with its first and last moment, in seconds."""

    text: str
    start: float
    end: float


class Decoder(Protocol):
    """Turns frames into words as they come; what it gives back is final."""

    def feed(self, log_probs: Tensor) -> list[Word]:
        """Take the next frames (t, symbols), and return the words that are finished."""
        ...

    def finish(self) -> list[Word]:
        """Return the words that are left."""
        ...


@dataclass(frozen=True)
class Recogniser:
    """A network with all that it needs to listen.

    Args:
        network: frames (b, t, bins), lengths (b,) -> logits (t', b, symbols), lengths.
        alphabet: what its outputs stand for.
        settings: from samples to frames.
        stride: frames to one output.
    """

    network: nn.Module
    alphabet: Alphabet
    settings: SpectrogramSettings
    stride: int = 1
    device: str = "cpu"

    @classmethod
    def load(
        cls,
        data: SpeechData,
        model: SpeechModel,
        alphabet: Alphabet,
        weights: Path,
        device: str = "cpu",
    ) -> Recogniser:
        """Return the network of a recipe with the weights of a safetensors file.

        Raises:
            StateError: the file is missing, damaged, of another model or alphabet, or of numbers that are not finite.
        """
        network = build(model, data.spectrogram.bins, alphabet.size)
        try:
            network.load_state_dict(load_file(weights), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StateError(f"{weights} is missing, damaged or of another model: {reason}") from None
        verify_finite(network.state_dict(), weights)
        return cls(network.eval().to(device), alphabet, data.spectrogram, model.frames_to_one, device)

    @property
    def rate(self) -> int:
        """Samples a second that it listens to."""
        return self.settings.rate

    @property
    def hop(self) -> int:
        """Samples from one output to the next."""
        return self.settings.step * self.stride

    def log_probs(self, samples: Tensor) -> Tensor:
        """Return log probabilities (t, symbols) of samples (n,), on CPU."""
        with torch.inference_mode():
            frames = spectrogram(samples.to(self.device), self.settings)
            logits, _ = self.network(frames.unsqueeze(0), torch.tensor([len(frames)], device=self.device))
            return verify_answer(logits[:, 0].float().log_softmax(1).cpu())

    def transcribe(
        self, blocks: Iterable[Samples], decoder: Decoder | None = None, pieces: Pieces | None = None
    ) -> Iterator[TimedWord]:
        """Yield the words of a recording as they are found, in memory that does not grow with it.

        Args:
            blocks: samples at ``rate``, in order.
            decoder: a new one for each recording; without it the paper's greedy one.
            pieces: how a long recording is cut.

        Raises:
            DataError: there is no sound in it.
        """
        decoder = decoder or GreedyStream(self.alphabet)
        for log_probs in log_probs_of(blocks, self.log_probs, self.rate, self.hop, pieces):
            yield from self._timed(decoder.feed(log_probs))
        yield from self._timed(decoder.finish())

    def predict(self, path: str | Path) -> str:
        """Return what is said in a sound file, read greedily.

        Raises:
            DataError: it is missing, or holds no sound.
        """
        return " ".join(word.text for word in self.transcribe(read_blocks(Path(path), self.rate)))

    def _timed(self, words: Iterable[Word]) -> Iterator[TimedWord]:
        seconds = self.hop / self.rate
        for word in words:
            yield TimedWord(word.text, round(word.start * seconds, 3), round(word.end * seconds, 3))


class BeamStream:
    """Beam search over stretches that end in pauses, since its hypotheses cannot be settled while one speaks.

    A stretch is at least 4 s long and at most 30 s; the language model begins a sentence with each.

    Args:
        decoder: does the search.
        seconds: from one frame to the next.
    """

    def __init__(self, decoder: BeamDecoder, seconds: float) -> None:
        self._decoder = decoder
        self._pause = max(1, round(_PAUSE / seconds))
        self._shortest, self._longest = (max(2, round(bound / seconds)) for bound in (_SHORTEST, _LONGEST))
        spaces = [index for index, symbol in enumerate(decoder.alphabet.symbols, 1) if symbol.isspace()]
        self._quiet = torch.tensor([BLANK, *spaces])
        self._kept: Tensor | None = None
        self._offset = 0

    def feed(self, log_probs: Tensor) -> list[Word]:
        """Take the next frames (t, symbols), and return the words of the stretches that have ended."""
        self._kept = log_probs if self._kept is None else torch.cat([self._kept, log_probs])
        words: list[Word] = []
        while (cut := self._cut()) is not None:
            words += self._decoded(cut)
        return words

    def finish(self) -> list[Word]:
        """Return the words that are left."""
        return self._decoded(len(self._kept)) if self._kept is not None else []

    def _decoded(self, cut: int) -> list[Word]:
        kept = self._kept if self._kept is not None else torch.empty(0, 0)
        found = self._decoder.words(kept[:cut])
        words = [Word(word.text, word.start + self._offset, word.end + self._offset) for word in found]
        self._kept, self._offset = kept[cut:], self._offset + cut
        return words

    def _cut(self) -> int | None:
        """Return where a stretch ends: in the first long pause, or in the longest one before it is too long."""
        kept = self._kept
        if kept is None or len(kept) < self._shortest:
            return None
        runs = _runs(torch.isin(kept.argmax(1), self._quiet).tolist(), self._shortest)
        for start, end in runs:
            if end - start >= self._pause and (end < len(kept) or len(kept) >= self._longest):
                return (max(start, self._shortest) + end) // 2
        if len(kept) < self._longest:
            return None
        inside = [(start, min(end, self._longest)) for start, end in runs if start < self._longest]
        if not inside:
            return self._longest
        start, end = max(inside, key=lambda run: run[1] - run[0])
        return max(self._shortest, (start + end + 1) // 2)


def _runs(flags: list[bool], least: int) -> list[tuple[int, int]]:
    """Return the stretches of True, (start, end) each, that end after ``least``."""
    runs: list[tuple[int, int]] = []
    end = 0
    for flag, run in itertools.groupby(flags):
        start, end = end, end + len(list(run))
        if flag and end > least:
            runs.append((start, end))
    return runs
