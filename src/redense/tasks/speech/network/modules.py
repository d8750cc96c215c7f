"""Layers over clips of different lengths: only the frames that clips have are ever computed with."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recurrence import CEILING, CLOSED, scan

GATES = ("input", "forget", "cell", "output")
"""The gates of an LSTM, in PyTorch's order."""


class Packing:
    """The places of a batch's frames: ``rows`` (n, ...) are those that clips have, padded is (t, b, ...)."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths, self.clips = lengths, len(lengths)
        self.longest = int(lengths.max())
        self.mask = torch.arange(self.longest, device=lengths.device)[:, None] < lengths  # (t, b)
        self._places = self.mask.flatten().nonzero().squeeze(1)

    def pack(self, padded: Tensor) -> Tensor:
        """Return the rows (n, ...) of (t, b, ...)."""
        return padded[self.mask]

    def pad(self, rows: Tensor, fill: float = 0.0) -> Tensor:
        """Return (t, b, ...) of rows (n, ...), ``fill`` where clips have ended."""
        padded = rows.new_full((self.longest * self.clips, *rows.shape[1:]), fill)
        return padded.index_copy(0, self._places, rows).unflatten(0, (self.longest, self.clips))

    def turned(self, padded: Tensor) -> Tensor:
        """Return (t, b, f) with every clip turned round in time, its padding where it was."""
        steps = torch.arange(self.longest, device=padded.device)[:, None]
        places = torch.where(self.mask, self.lengths - 1 - steps, steps)
        return padded.gather(0, places[:, :, None].expand_as(padded))


def clipped(rows: Tensor) -> Tensor:
    """Return min(max(x, 0), 20)."""
    return F.hardtanh(rows, 0.0, CEILING)


class ClippedLinear(nn.Module):
    """A fully-connected layer with clipped ReLU; with ``norm``, batch normalisation over all frames, not a bias."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=not norm)
        self.norm = nn.BatchNorm1d(outputs) if norm else None
        start_(self.linear)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n, inputs) -> (n, outputs)."""
        rows = self.linear(rows)
        return clipped(rows if self.norm is None else self.norm(rows))


class ClippedRecurrence(nn.Module):
    """A bidirectional layer of clipped ReLU units: one projection of the input for both directions, which are summed.

    With ``norm``, batch normalisation over all frames of the batch (sequence-wise: Amodei et al. 2016, section 3.2) of
    the projection, in place of a bias.
    """

    def __init__(self, inputs: int, hidden: int, *, norm: bool = False) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, hidden, bias=not norm)
        self.norm = nn.BatchNorm1d(hidden) if norm else None
        self.forwards = nn.Linear(hidden, hidden, bias=False)
        self.backwards = nn.Linear(hidden, hidden, bias=False)
        start_(self.inputs)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Rows (n, inputs) -> (n, hidden)."""
        projected = self.inputs(rows)
        if self.norm is not None:
            projected = self.norm(projected)
        weights = torch.stack([self.forwards.weight, self.backwards.weight])
        # In fp32 also under autocast: errors would add up from step to step.
        with torch.autocast(rows.device.type, enabled=False):
            states = scan(packing.pad(projected.float(), CLOSED), weights.float())
        return packing.pack(states)


class ClippedConvolution(nn.Module):
    """A convolution over frequency and time, normalised over (channel, frequency), with clipped ReLU.

    Batch normalisation sees only the frames that clips have; what lies behind them is 0 again for the next layer.
    """

    def __init__(self, inputs: int, outputs: int, bins: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride[1]
        self.bins = (bins + 2 * (kernel[0] // 2) - kernel[0]) // stride[0] + 1
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm1d(outputs * self.bins)
        start_(self.convolution)

    def forward(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (b, inputs, bins, t) of so many frames -> (b, outputs, self.bins, t / stride) and their lengths."""
        lengths = shortened(lengths, self.stride)
        packing = Packing(lengths)
        maps = self.convolution(maps)
        rows = packing.pack(maps.permute(3, 0, 1, 2)).flatten(1)
        rows = clipped(self.norm(rows)).unflatten(1, maps.shape[1:3])
        return packing.pad(rows).permute(1, 2, 3, 0), lengths


class GatedLSTM(nn.Module):
    """Bidirectional LSTM layers whose gates are weights of their own, so that each is pruned to the same sparsity.

    It computes what `torch.nn.LSTM` does on packed sequences, an order of magnitude quicker on a CPU: the backward
    direction sees every clip turned round, so that it starts at its end, and packing is not needed.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = hidden
        sizes = [inputs] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleDict({direction: _gates(size, hidden) for direction in ("forwards", "backwards")})
            for size in sizes
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Rows (n, inputs) -> (n, 2 hidden)."""
        for index, layer in enumerate(self.layers):
            directions = cast("nn.ModuleDict", layer)
            padded = packing.pad(self.dropout(rows) if index else rows)
            forwards = self._scan(padded, directions["forwards"])
            backwards = packing.turned(self._scan(packing.turned(padded), directions["backwards"]))
            rows = packing.pack(torch.cat([forwards, backwards], 2))
        return rows

    def _scan(self, padded: Tensor, gates: Any) -> Tensor:
        parts = [getattr(gates[name], part) for part in ("inputs", "hidden") for name in GATES]
        # In one run of memory, as cuDNN wants them: else it would copy them together at every call.
        values = torch.cat([v.flatten() for v in (*(p.weight for p in parts), *(p.bias for p in parts))])
        rows, inputs = len(GATES) * self.hidden, padded.shape[2]
        sizes = [rows * inputs, rows * self.hidden, rows, rows]
        w_inputs, w_hidden, *biases = torch.split(values, sizes)
        weights = [w_inputs.view(rows, inputs), w_hidden.view(rows, self.hidden), *biases]
        state = padded.new_zeros(1, padded.shape[1], self.hidden)
        out, _, _ = torch.lstm(padded, (state, state), weights, True, 1, 0.0, self.training, False, False)
        return out


class _Gate(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.hidden = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)  # as nn.LSTM starts


def _gates(inputs: int, hidden: int) -> nn.ModuleDict:
    return nn.ModuleDict({gate: _Gate(inputs, hidden) for gate in GATES})


def shortened(lengths: Tensor, stride: int) -> Tensor:
    """Return the lengths (b,) after a layer that takes every ``stride``-th frame, the first one included."""
    return torch.div(lengths + (stride - 1), stride, rounding_mode="floor")


def start_(layer: nn.Linear | nn.Conv2d) -> None:
    """Draw weights for ReLU units (He et al. 2015); biases are 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
