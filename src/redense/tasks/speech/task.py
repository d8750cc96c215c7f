"""Speech recognition as the engine sees it: trained with CTC, judged by the word errors of its greedy reading."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import DataError
from redense.tasks.graphs import Graph
from redense.tasks.task import Split

from . import METRIC
from .config import SpeechData, SpeechModel
from .data.clips import Utterance
from .data.loading import Corpus, load_corpus
from .evidence import evidence
from .examples import PADDING, SpeechBatch, SpeechExamples
from .exporting import graphs
from .network.models import EXCLUDE, build
from .spectrogram import frames_once_in
from .store import stored
from .transcripts.alphabet import BLANK
from .transcripts.decoding import greedy, spell
from .transcripts.scoring import Unit, error_counts

log = logging.getLogger(__name__)

_COMPARED = 8  # clips that an export is compared with the network on
_EVALUATED = 40_000  # frames evaluated at once


class Speech:
    """Speech recognition: CTC loss, word and character errors of greedy decoding, as the paper's section 3.3 has it.

    Raises:
        DataError: the data is missing, broken or unfit.
        MissingExtraError: soundfile is not installed.
    """

    name = "speech"
    own_data = "tones, which redense makes itself"
    metric = METRIC
    include: Sequence[str] | None = None

    def __init__(self, data: SpeechData, model: SpeechModel, corpus: Corpus | None = None) -> None:
        corpus = corpus or load_corpus(data)
        self.alphabet, self.parts = corpus.alphabet, corpus.parts
        self.fingerprint, self.known_as = corpus.fingerprint, corpus.known_as
        self.exclude: Sequence[str] = EXCLUDE[model.name]
        self._data, self._model = data, model
        self._splits = {name: self._examples(corpus, name) for name in corpus.splits}
        if data.features == "live" and any(map(self._counted_anew, self._splits.values())):  # other batches
            self.known_as = (self.fingerprint, *self.known_as)
            self.fingerprint += "/frames as made"
        train = self._splits["train"]
        self.notes = (*corpus.notes, *self._unexpected(len(train)), *self._too_short(train))
        self._set_widths()

    def _examples(self, corpus: Corpus, split: Split) -> SpeechExamples:
        data, utterances = self._data, corpus.splits[split]
        store = stored(utterances, data) if data.features == "stored" else None
        parts = corpus.parts if split == "test" else ()
        return SpeechExamples(utterances, self.alphabet, data, store=store, parts=parts, training=split == "train")

    def _counted_anew(self, part: SpeechExamples) -> bool:
        """Whether an older redense took other lengths for those of a split, by which clips are put into batches."""
        before = [frames_once_in(utterance.seconds, self._data.spectrogram) for utterance in part.utterances]
        return before != list(part.lengths)

    def _set_widths(self) -> None:
        """Find the longest clip and transcript: outcomes of all batches have the same widths."""
        self._longest = max(max(part.lengths, default=0) for part in self._splits.values())
        self._frames = -(-self._longest // self._model.frames_to_one)
        self._symbols = max(max(map(len, part.symbols), default=0) for part in self._splits.values())

    def _unexpected(self, train: int) -> list[str]:
        expected = self._data.expected
        if expected is None or train == min(expected.train, self._data.limit or expected.train):
            return []
        return [f"{train:,} training clips, the recipe expects {expected.train:,}"]

    def _too_short(self, train: SpeechExamples) -> list[str]:
        stride = self._model.frames_to_one
        short = [
            utterance.clip.name
            for utterance, symbols, frames in zip(train.utterances, train.symbols, train.lengths, strict=True)
            if -(-frames // stride) < needed_frames(symbols.tolist())
        ]
        if not short:
            return []
        names = f"{', '.join(short[:3])}{', ...' if len(short) > 3 else ''}"
        say = f"{len(short):,} training clips are too short for their transcripts at stride {stride}"
        return [f"{say}, and teach nothing: {names}"]

    # --- data -------------------------------------------------------------------------------------------------------

    @property
    def evaluation_batch(self) -> int:
        """Clips evaluated at once: as many of the longest as make 40,000 frames."""
        return max(1, min(64, _EVALUATED // self._longest))

    def examples(self, split: Split) -> SpeechExamples:
        """Return a split."""
        return self._splits[split]

    def utterances(self, split: Split) -> Sequence[Utterance]:
        """Return the clips of a split, in order: where their files are, and what is said in them."""
        return self._splits[split].utterances

    # --- model ------------------------------------------------------------------------------------------------------

    def build_model(self) -> nn.Module:
        """Return a freshly initialised network."""
        return build(self._model, self._data.spectrogram.bins, self.alphabet.size)

    def pretrained(self, weights: str) -> dict[str, Tensor]:
        """Refuse a library's weights: none has these networks.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"no library has weights of {self._model.name}, got {weights!r}: start from a file or a run folder"
        )

    def log_probs(self, model: nn.Module, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the symbols' probabilities, (t, b, size), and the frames of each clip (b,)."""
        logits, lengths = model(batch.frames, batch.lengths)
        return logits.float().log_softmax(2), lengths

    def loss(self, model: nn.Module, batch: SpeechBatch) -> Tensor:
        """Return minus the logarithm of the transcripts' probability, on average over the clips of a batch."""
        log_probs, lengths = self.log_probs(model, batch)
        return ctc_losses(log_probs, lengths, batch.symbols).mean()

    def outputs(self, model: nn.Module, batch: SpeechBatch) -> Tensor:
        """Return the logits of all frames that the clips of a batch have: (rows, size)."""
        logits, lengths = model(batch.frames, batch.lengths)
        return logits[torch.arange(len(logits), device=lengths.device)[:, None] < lengths]

    def outcome(self, model: nn.Module, batch: SpeechBatch) -> dict[str, Tensor]:
        """Return of every clip what was read and what was said, symbols and -1 after the end; loss, frames, test set.

        ``hypothesis`` int16 (b, w) and ``reference`` int16 (b, v) have the same widths for all batches.
        """
        log_probs, lengths = self.log_probs(model, batch)
        return {
            "hypothesis": greedy(log_probs, lengths, self._frames).symbols.to(torch.int16),
            "reference": _widened(batch.symbols, self._symbols),
            "loss": ctc_losses(log_probs, lengths, batch.symbols),
            "frames": lengths,
            "part": batch.part,
        }

    # --- metrics ----------------------------------------------------------------------------------------------------

    def texts(self, symbols: Tensor) -> list[str]:
        """Return the texts of symbols (n, w), -1 after the end."""
        return spell(symbols, self.alphabet)

    def metrics(self, outcome: Mapping[str, Tensor]) -> dict[str, float]:
        """Return mean loss, word and character error rate in %; word error rates of several test sets one by one."""
        heard, said = self.texts(outcome["hypothesis"]), self.texts(outcome["reference"])
        out = {
            "loss": float(outcome["loss"].double().mean()),
            "wer": _rate(heard, said, "words"),
            "cer": _rate(heard, said, "characters"),
        }
        for index, part in enumerate(self.parts):
            rows = (outcome["part"] == index).nonzero().flatten().tolist()
            if rows and len(rows) < len(said):
                out[f"wer {part}"] = _rate([heard[row] for row in rows], [said[row] for row in rows], "words")
        return out

    def graphs(self, model: nn.Module) -> list[Graph]:
        """Return the network as a graph of frames and lengths to logits and lengths."""
        examples = self.examples("validation")
        chosen = (range(min(len(examples), _COMPARED)), [len(examples) - 1])
        batches = [examples.__getitems__(list(numbers)) for numbers in chosen]
        calls = [(batch.frames, batch.lengths) for batch in batches]
        return graphs(model, calls, self._model.frames_to_one, self.alphabet.size)

    def artifacts(self) -> dict[str, str]:
        """Return what `redense transcribe` needs beside the weights: the alphabet."""
        return {"alphabet.json": json.dumps(list(self.alphabet.symbols), ensure_ascii=False) + "\n"}

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the error rates of every test set, and the test clips in which more or fewer errors were made."""
        test = self.utterances("test")
        return evidence(
            outcomes,
            self.alphabet,
            sets=[utterance.clip.part for utterance in test] if self.parts else None,
            seconds=[utterance.seconds for utterance in test],
            sound=self._sound,
        )

    def _sound(self, index: int) -> tuple[Tensor, int]:
        rate = self._data.spectrogram.rate
        return torch.from_numpy(self.utterances("test")[index].clip.samples(rate)), rate


def ctc_losses(log_probs: Tensor, lengths: Tensor, symbols: Tensor) -> Tensor:
    """Return minus the logarithm of the transcripts' probability, (b,); 0 where a clip is too short for its own.

    Args:
        log_probs: (t, b, size).
        lengths: frames of each clip, (b,).
        symbols: (b, n), -1 after the end.
    """
    counts = (symbols != PADDING).sum(1)
    return F.ctc_loss(
        log_probs, symbols.clamp_min(BLANK + 1), lengths, counts, blank=BLANK, reduction="none", zero_infinity=True
    )


def needed_frames(symbols: Sequence[int]) -> int:
    """Return the frames that CTC needs at least: one a symbol, and one between two that are the same.

    >>> needed_frames([1, 2, 2])
    4
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))


def _rate(heard: Sequence[str], said: Sequence[str], unit: Unit) -> float:
    rate = error_counts(heard, said, unit).rate
    return math.nan if rate is None else rate


def _widened(symbols: Tensor, width: int) -> Tensor:
    return F.pad(symbols[:, :width], (0, max(0, width - symbols.shape[1])), value=PADDING).to(torch.int16)
