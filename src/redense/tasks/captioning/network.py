"""NeuralTalk (Karpathy and Fei-Fei 2015; Vinyals et al. 2015): an LSTM that reads an image, then a sentence.

The image's features are the LSTM's first input, the words so far the next ones; after every word it says which one
comes next:

    x0 = We f + be,  xt = Ws[word t],  h, c = LSTM(x, h, c),  logits t = Wd ht + bd

What the LSTM gives for the image alone is not used. Every weight starts uniform in [-0.1, 0.1], ``be`` at 0 and ``bd``
at the words' log frequencies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CaptionModel

State = tuple[Tensor, Tensor]
"""Output and cell of the LSTM: (b, hidden) each."""

_START = 0.1  # every weight starts in [-0.1, 0.1]


class OneBiasLSTM(nn.LSTM):
    """PyTorch's LSTM with one bias instead of two that are only ever added, as in the paper's count of weights.

    With ``tanh=False`` its output is ``o * c`` and not ``o * tanh(c)``, which is what NeuralTalk does unless told
    otherwise; PyTorch has no kernel for that.

    Args:
        inputs: size of an input.
        hidden: size of the output.
        tanh: whether the cell is squashed once more on its way out.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor

    def __init__(self, inputs: int, hidden: int, *, tanh: bool = True) -> None:
        super().__init__(inputs, hidden, batch_first=True)
        self.tanh = tanh
        del self.bias_hh_l0
        # Where the kernel looks for it; no parameter, and not in the state dict.
        self.register_buffer("bias_hh_l0", torch.zeros(4 * hidden), persistent=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:  # pyright: ignore[reportIncompatibleMethodOverride]  # inputs of one length, no packing
        """Return the outputs (b, t, hidden), and the state after the last of the inputs (b, t, inputs)."""
        if self.tanh:
            start = None if state is None else (state[0][None], state[1][None])
            with _kernel_for(x):
                outputs, (h, c) = super().forward(x, start)
            return outputs, (h[0], c[0])
        gates = F.linear(x, self.weight_ih_l0, self.bias_ih_l0)
        if state is None:
            zeros = x.new_zeros(len(x), self.hidden_size, dtype=gates.dtype)
            state = zeros, zeros
        outputs, h, c = _scan(gates.transpose(0, 1), self.weight_hh_l0, *state)
        return outputs.transpose(0, 1), (h, c)


@contextlib.contextmanager
def _kernel_for(x: Tensor) -> Iterator[None]:
    """Turn oneDNN off where PyTorch would ask it for a bf16 LSTM that it does not have: a processor without AVX-512."""
    in_bf16 = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    in_bf16 = in_bf16 and torch.get_autocast_dtype("cpu") == torch.bfloat16
    enabled = torch._C._get_mkldnn_enabled()
    if not in_bf16 or not enabled or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield
        return
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags warns of what it sets beside
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


class NeuralTalk(nn.Module):
    """Image features and the words so far to logits of the next word.

    Args:
        features: numbers that the CNN gives for an image.
        words: of the vocabulary, with the one that begins and ends a sentence.
        config: its sizes.
        log_frequencies: of the words, (words,), where the decoder's bias starts; nothing: 0.
    """

    def __init__(
        self, features: int, words: int, config: CaptionModel, log_frequencies: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.image = nn.Linear(features, config.width)
        self.words = nn.Embedding(words, config.width)
        self.lstm = OneBiasLSTM(config.width, config.hidden, tanh=config.tanh)
        self.decoder = nn.Linear(config.hidden, words)
        self.dropout = nn.Dropout(config.dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-_START, _START)
            self.image.bias.zero_()
            self.decoder.bias.copy_(torch.zeros(words) if log_frequencies is None else torch.tensor(log_frequencies))

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        """Return the logits after every word: features (b, d) and words (b, t), 0 first, to (b, t, words)."""
        inputs = torch.cat([self.image(features).unsqueeze(1), self.words(words)], dim=1)
        outputs, _ = self.lstm(self.dropout(inputs))
        return self.decoder(self.dropout(outputs[:, 1:]))

    def look(self, features: Tensor) -> State:
        """Return the state after the images, from which sentences are written: features (b, d)."""
        return self.lstm(self.dropout(self.image(features)).unsqueeze(1))[1]

    def next_words(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the logits after one more word of each sentence: words (b,) to (b, words)."""
        outputs, state = self.lstm(self.dropout(self.words(words)).unsqueeze(1), state)
        return self.decoder(self.dropout(outputs.squeeze(1))), state


def _scan(gates: Tensor, recurrent: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM whose output is ``o * c``: gates (t, b, 4 hidden) are the inputs' part, in PyTorch's order i, f, g, o."""
    outputs: list[Tensor] = []
    weights = recurrent.t()
    for own in gates.unbind():
        i, f, g, o = torch.addmm(own, h, weights).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * c
        outputs.append(h)
    return torch.stack(outputs), h, c
