"""The networks of speech recognition as graphs of any batch and any length.

Training packs the frames that clips have into rows, which depends on the numbers in ``lengths``: no graph can hold
that. Here every layer computes on the padded batch, and what lies behind the end of a clip is closed, or 0 again,
where a layer looks beyond one frame. A clip gives the same numbers, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import StateError
from redense.tasks.graphs import Graph, Inputs

from .network.models import BLSTM, DeepSpeech, DeepSpeech2
from .network.modules import GATES, ClippedConvolution, ClippedLinear, ClippedRecurrence, GatedLSTM, clipped, shortened
from .network.recurrence import CEILING, CLOSED


def graphs(network: nn.Module, calls: Sequence[Inputs], frames_to_one: int, symbols: int) -> list[Graph]:
    """Return the network as a graph of frames and lengths to logits and lengths.

    Args:
        network: in evaluation mode.
        calls: to compare on, frames (b, t, bins) and lengths (b,) each.
        frames_to_one: frames to one output.
        symbols: how many, CTC's blank among them.

    Raises:
        StateError: it is another network.
    """
    about = (
        f"frames (batch, time, {calls[0][0].shape[2]}) and the frames of each clip (batch) to logits "
        f"(time / {frames_to_one}, batch, {symbols}) and their number (batch)"
    )
    inputs = {"frames": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    return [Graph("model", exportable(network), network, inputs, ("logits", "logit_lengths"), calls, about)]


def exportable(network: nn.Module) -> nn.Module:
    """Return a module that gives what a network of `redense.tasks.speech.network.models` does, with the same weights.

    It takes frames (b, t, bins), 0 behind the end of each clip, and lengths (b,), and gives logits (t', b, size), 0
    behind the end, and lengths (b,).

    Raises:
        StateError: it is another network.
    """
    form = next((form for kind, form in _FORMS.items() if isinstance(network, kind)), None)
    if form is None:
        raise StateError(f"a network of the class {type(network).__name__} cannot be exported as a graph of any length")
    return _Exportable(network, form).eval()


Frames = tuple[Tensor, Tensor, Tensor]
"""What a layer gives: rows (t', b, f), the frames that clips have (t', b), and lengths (b,)."""


class _Exportable(nn.Module):
    """A network with its layers over the padded batch, as one of `_FORMS` has them, in place of its own ``forward``."""

    def __init__(self, network: Any, form: Callable[[Any, Tensor, Tensor], Frames]) -> None:
        super().__init__()
        self.network, self._form = network, form

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.arange(frames.shape[1], device=frames.device)[None, :] < lengths[:, None]
        rows, mask, lengths = self._form(self.network, frames * own[:, :, None], lengths)
        return self.network.output(rows) * mask[:, :, None], lengths


def _windows(network: DeepSpeech | BLSTM, frames: Tensor, lengths: Tensor) -> Frames:
    """Frames (b, t, bins) to windows (t', b, bins * context)."""
    half = network.context // 2
    padded = F.pad(frames, (0, 0, half, half)).transpose(0, 1)  # here, so that what follows needs no copy
    count = (frames.shape[1] + network.stride - 1) // network.stride
    starts = torch.arange(count, device=frames.device) * network.stride
    # (t', b, bins, context), in the order of `Tensor.unfold`
    around = torch.stack([padded.index_select(0, starts + offset) for offset in range(network.context)], -1)
    lengths = shortened(lengths, network.stride)
    return around.flatten(2), _mask(count, lengths), lengths


def _deepspeech(network: DeepSpeech, frames: Tensor, lengths: Tensor) -> Frames:
    rows, mask, lengths = _windows(network, frames, lengths)
    for layer in (network.first, network.second, network.third):
        rows = _linear(layer, rows)
    return _linear(network.fourth, _recurrence(network.recurrent, rows, mask)), mask, lengths


def _deepspeech2(network: DeepSpeech2, frames: Tensor, lengths: Tensor) -> Frames:
    maps = frames.transpose(1, 2).unsqueeze(1)
    for layer in network.convolutions:
        maps, lengths = _convolution(layer, maps, lengths)
    mask = _mask(maps.shape[3], lengths)
    rows = maps.permute(3, 0, 1, 2).flatten(2)
    for layer in network.recurrent:
        rows = _recurrence(layer, rows, mask)
    return _linear(network.fourth, rows), mask, lengths


def _blstm(network: BLSTM, frames: Tensor, lengths: Tensor) -> Frames:
    rows, mask, lengths = _windows(network, frames, lengths)
    steps = torch.arange(rows.shape[0], device=rows.device)[:, None]
    turned = torch.where(mask, lengths[None, :] - 1 - steps, steps)
    return _lstm(network.lstm, rows * mask[:, :, None], turned, mask), mask, lengths


_FORMS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Frames]] = {
    DeepSpeech: _deepspeech,
    DeepSpeech2: _deepspeech2,
    BLSTM: _blstm,
}


def _mask(count: Any, lengths: Tensor) -> Tensor:
    """Return which of so many frames the clips have: (t, b)."""
    return torch.arange(count, device=lengths.device)[:, None] < lengths[None, :]


def _norm(norm: nn.Module | None, rows: Tensor) -> Tensor:
    """Normalise (t, b, f) over f by statistics of training."""
    if not isinstance(norm, nn.BatchNorm1d):
        return rows
    return norm(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


def _linear(layer: ClippedLinear, rows: Tensor) -> Tensor:
    return clipped(_norm(layer.norm, layer.linear(rows)))


def _recurrence(layer: Any, rows: Tensor, mask: Tensor) -> Tensor:
    own: ClippedRecurrence = layer
    inputs = torch.where(mask[:, :, None], _norm(own.norm, own.inputs(rows)), CLOSED)
    weights = torch.stack([own.forwards.weight, own.backwards.weight]).transpose(1, 2)
    both = torch.stack([inputs, inputs.flip(0)], 1)  # (t, 2, b, h)

    def step(state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.clamp(x + torch.bmm(state, weights), 0.0, CEILING)
        return state, state.clone()

    start = torch.zeros_like(both[0])
    states = _over_time(step, start, both)
    return states[:, 0] + states[:, 1].flip(0)


def _convolution(layer: Any, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    own: ClippedConvolution = layer
    lengths = shortened(lengths, own.stride)
    maps = own.convolution(maps)
    rows = maps.permute(3, 0, 1, 2).flatten(2)  # (t, b, channel * frequency)
    rows = clipped(_norm(own.norm, rows)) * _mask(rows.shape[0], lengths)[:, :, None]
    return rows.unflatten(2, maps.shape[1:3]).permute(1, 2, 3, 0), lengths


def _over_time(step: Callable[[Any, Tensor], tuple[Any, Tensor]], start: Any, inputs: Tensor) -> Tensor:
    """Return what ``step`` gives at each step of inputs (t, ...); it takes and gives a state too, first ``start``."""
    from torch._higher_order_ops.scan import scan  # the loop of any length that torch.export and ONNX both have

    return scan(step, start, inputs, dim=0)[1]


def _lstm(lstm: GatedLSTM, rows: Tensor, turned: Tensor, mask: Tensor) -> Tensor:
    for layer in lstm.layers:
        directions: Any = layer
        forwards = _direction(rows, directions["forwards"])
        backwards = _direction(_turn(rows, turned), directions["backwards"])
        rows = torch.cat([forwards, _turn(backwards, turned)], 2) * mask[:, :, None]
    return rows


def _direction(rows: Tensor, gates: Any) -> Tensor:
    parts = [gates[name] for name in GATES]
    inputs = torch.cat([F.linear(rows, gate.inputs.weight, gate.inputs.bias + gate.hidden.bias) for gate in parts], 2)
    weights = torch.cat([gate.hidden.weight for gate in parts]).t()

    def step(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        i, f, g, o = (x + torch.mm(state[0], weights)).chunk(4, 1)
        cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        output = torch.sigmoid(o) * torch.tanh(cell)
        return (output, cell), output.clone()

    zeros = torch.zeros_like(rows[0, :, :1]).expand(-1, weights.shape[0]).clone()
    return _over_time(step, (zeros, zeros.clone()), inputs)


def _turn(rows: Tensor, turned: Tensor) -> Tensor:
    return rows.gather(0, turned[:, :, None].expand_as(rows))
