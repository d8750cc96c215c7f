"""The network of captions as two graphs: looking at an image, and one more word. A loop around them writes.

Both are steps of one LSTM cell, written out: one form for PyTorch's kernel and for NeuralTalk's output ``o * c``.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import StateError
from redense.tasks.graphs import Graph, Inputs, Standalone

from .captioner import open_writer
from .config import CaptionData, CaptionModel
from .network import NeuralTalk, OneBiasLSTM

_STATE = ("output", "cell")


def graphs(model: nn.Module, features: Tensor, longest: int) -> list[Graph]:
    """Return the graphs ``look`` and ``next_words``, with the states of real sentences to compare on.

    Args:
        model: in evaluation mode.
        features: of images, (b, d).
        longest: words of a sentence.

    Raises:
        StateError: it is another network.
    """
    if not isinstance(model, NeuralTalk):
        raise StateError(f"a network of the class {type(model).__name__} has no two steps to export")

    def next_words(words: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        logits, (output, cell) = model.next_words(words, (output, cell))
        return logits, output, cell

    rows = {0: "batch"}
    d, hidden, words = model.image.in_features, model.lstm.hidden_size, model.decoder.out_features
    state = f"the state: output and cell (batch, {hidden}) each"
    return [
        Graph(
            "look",
            Look(model),
            model.look,
            {"features": rows},
            _STATE,
            [(features,), (features[:1],)],
            f"features of images (batch, {d}) to {state}",
        ),
        Graph(
            "next_words",
            NextWords(model),
            next_words,
            {"words": rows, **dict.fromkeys(_STATE, rows)},
            ("logits", *(f"next_{name}" for name in _STATE)),
            _steps(model, features, longest),
            f"words (batch), 0 first, and {state}, to logits of the next word (batch, {words}), and the state then",
        ),
    ]


def alone(folder: Path, data: CaptionData, model: CaptionModel) -> Standalone:
    """Return the network of a run or export without its data, and without the CNN that sees pictures for it.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    network = open_writer(folder, model)[0]
    features = torch.rand(32, network.image.in_features, generator=torch.Generator().manual_seed(0))
    return Standalone(network, lambda copied: graphs(copied, features, model.longest))


@torch.no_grad()
def _steps(model: NeuralTalk, features: Tensor, longest: int) -> list[Inputs]:
    """Return words and states of greedy sentences, of every step; and of one image alone."""
    state, last = model.look(features), torch.zeros(len(features), dtype=torch.long)
    steps: list[Inputs] = []
    for _ in range(longest):
        steps.append((last, *state))
        logits, state = model.next_words(last, state)
        last = logits.argmax(1)
    return [*steps, tuple(tensor[:1] for tensor in steps[-1])]


class _Cell(nn.Module):
    """One step of the network's LSTM."""

    def __init__(self, network: NeuralTalk) -> None:
        super().__init__()
        self.network = network

    def step(self, x: Tensor, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """Input (b, width), output and cell (b, hidden), both 0 if there are none, to the next ones."""
        lstm: OneBiasLSTM = self.network.lstm
        gates = F.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0)
        if h is not None:
            gates = gates + F.linear(h, lstm.weight_hh_l0)
        i, f, g, o = gates.chunk(4, 1)
        new = torch.sigmoid(i) * torch.tanh(g)
        c = new if c is None else torch.sigmoid(f) * c + new
        return torch.sigmoid(o) * (torch.tanh(c) if lstm.tanh else c), c


class Look(_Cell):
    """`NeuralTalk.look` as a graph."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (b, d) to the state."""
        return self.step(self.network.image(features), None, None)


class NextWords(_Cell):
    """`NeuralTalk.next_words` as a graph."""

    def forward(self, words: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words (b,) and the state to logits (b, words) and the next state."""
        output, cell = self.step(self.network.words(words), output, cell)
        return self.network.decoder(output), output, cell
