"""The networks of section 3.3 of the paper: Deep Speech, Deep Speech 2, and a bidirectional LSTM beside them.

All take frames (b, t, bins) and lengths (b,), and give logits (t', b, size) and their lengths: t' is t / stride. What
lies behind the end of a clip is never computed with: a clip gives the same alone and in a batch.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from redense.tasks.speech.config import SpeechModel

from .modules import ClippedConvolution, ClippedLinear, ClippedRecurrence, GatedLSTM, Packing, shortened

EXCLUDE: dict[str, tuple[str, ...]] = {
    "deepspeech": ("first.*", "output.*"),
    "deepspeech2": ("convolutions.*", "output.*"),
    "blstm": ("output.*",),
}
"""What is never pruned. The paper prunes the fully-connected and the recurrent layers: its 77 % of Deep Speech and
99.5 % of Deep Speech 2 count neither the first layers nor the output."""


def build(model: SpeechModel, bins: int, size: int) -> nn.Module:
    """Return a network for frames of ``bins`` frequencies and ``size`` outputs (symbols and the blank).

    >>> network = build(SpeechModel(), bins=161, size=29)
    >>> f"{sum(parameter.numel() for parameter in network.parameters()):,}"  # as in the paper
    '8,139,805'
    """
    networks = {"deepspeech": DeepSpeech, "deepspeech2": DeepSpeech2, "blstm": BLSTM}
    return networks[model.name](model, bins, size)


class DeepSpeech(nn.Module):
    """Deep Speech (Hannun et al. 2014): three fully-connected layers, a recurrent one, and another fully-connected one.

    The first sees a window of ``context`` frames. With 11 frames of 161 bins, 1024 units and 29 outputs it has the
    paper's 8,139,805 parameters.
    """

    def __init__(self, model: SpeechModel, bins: int, size: int) -> None:
        super().__init__()
        hidden = model.hidden
        self.context, self.stride = model.context, model.frames_to_one
        self.first = ClippedLinear(model.context * bins, hidden)
        self.second = ClippedLinear(hidden, hidden)
        self.third = ClippedLinear(hidden, hidden)
        self.recurrent = ClippedRecurrence(hidden, hidden)
        self.fourth = ClippedLinear(hidden, hidden)
        self.output = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (b, t, bins), lengths (b,) -> logits (t', b, size), lengths (b,)."""
        rows, packing = windows(frames, lengths, self.context, self.stride)
        for layer in (self.first, self.second, self.third):
            rows = self.dropout(layer(rows))
        rows = self.fourth(self.recurrent(rows, packing))
        return packing.pad(self.output(self.dropout(rows))), packing.lengths


class DeepSpeech2(nn.Module):
    """Deep Speech 2 (Amodei et al. 2016): convolutions, recurrent layers, a fully-connected one; all normalised.

    With 161 bins, 32 filters and seven layers of 1760 units, every layer has the paper's number of parameters:
    67,645,664 without the output, to which 54 symbols add 95,094.
    """

    def __init__(self, model: SpeechModel, bins: int, size: int) -> None:
        super().__init__()
        hidden, channels = model.hidden, model.channels
        first = ClippedConvolution(1, channels, bins, (_height(41, bins), 11), (2, model.frames_to_one))
        second = ClippedConvolution(channels, channels, first.bins, (_height(21, first.bins), 11), (2, 1))
        self.convolutions = nn.ModuleList([first, second])
        sizes = [channels * second.bins] + [hidden] * (model.depth - 1)
        self.recurrent = nn.ModuleList(ClippedRecurrence(inputs, hidden, norm=True) for inputs in sizes)
        self.fourth = ClippedLinear(hidden, hidden, norm=True)
        self.output = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (b, t, bins), lengths (b,) -> logits (t', b, size), lengths (b,)."""
        maps = frames[:, : int(lengths.max())].transpose(1, 2).unsqueeze(1)
        for convolution in self.convolutions:
            maps, lengths = convolution(maps, lengths)
        packing = Packing(lengths)
        rows = packing.pack(maps.permute(3, 0, 1, 2)).flatten(1)
        for layer in self.recurrent:
            rows = self.dropout(layer(rows, packing))
        return packing.pad(self.output(self.fourth(rows))), packing.lengths


class BLSTM(nn.Module):
    """Bidirectional LSTM layers over windows of frames, whose gates are pruned one by one."""

    def __init__(self, model: SpeechModel, bins: int, size: int) -> None:
        super().__init__()
        self.context, self.stride = model.context, model.frames_to_one
        self.lstm = GatedLSTM(model.context * bins, model.hidden, model.depth, model.dropout)
        self.output = nn.Linear(2 * model.hidden, size)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (b, t, bins), lengths (b,) -> logits (t', b, size), lengths (b,)."""
        rows, packing = windows(frames, lengths, self.context, self.stride)
        return packing.pad(self.output(self.dropout(self.lstm(rows, packing)))), packing.lengths


def _height(wanted: int, bins: int) -> int:
    """Return the odd height of a filter that is no larger than the map: oneDNN's backward pass crashes on others."""
    return min(wanted, bins - 1 + bins % 2)


def windows(frames: Tensor, lengths: Tensor, context: int, stride: int) -> tuple[Tensor, Packing]:
    """Return what lies around every ``stride``-th frame: rows (n, bins * context); frames are 0 outside of a clip."""
    packing = Packing(shortened(lengths, stride))
    around = F.pad(frames[:, : int(lengths.max())], (0, 0, context // 2, context // 2))
    return packing.pack(around.unfold(1, context, stride).transpose(0, 1)).flatten(1), packing
