"""The parts of a model that a scan prunes, one at a time: its parameters, and the gates of recurrent ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from redense.criteria import Criterion, get_criterion, magnitude, random
from redense.files.checksums import sha256
from redense.layers.names import unwrap
from redense.masks.packing import pack
from redense.parameters import chosen_of, first_layers, judge

_GATES = {"LSTM": "ifgo", "LSTMCell": "ifgo", "GRU": "rzn", "GRUCell": "rzn"}  # PyTorch's order of the rows
_QUANTILES = 200


@dataclass(frozen=True)
class Part:
    """A parameter, or one gate of it; ``weight`` gives what its layer computes from it and uses, if it does that."""

    name: str
    parameter: str
    tensor: nn.Parameter
    gate: bool
    weight: Callable[[], Tensor] | None

    @property
    def magnitudes(self) -> tuple[float, ...]:
        """Evenly spaced quantiles of the absolute weights that the layer uses."""
        used = self.weight() if self.weight else self.tensor.detach()
        values = used.abs().float().flatten().sort().values.cpu()
        return tuple(float(value) for value in values[evenly(values.numel())])


def evenly(count: int) -> Tensor:
    """Return 201 indices, spread evenly from the first to the last of so many.

    In float32 the last one of more than 2**24 may be rounded to one that is not there.
    """
    places = torch.linspace(0, count - 1, _QUANTILES + 1, dtype=torch.float32, device="cpu")
    return places.round().long().clamp_max_(count - 1)


def parts_of(
    model: nn.Module, include: str | Sequence[str] | None, exclude: str | Sequence[str], inputs: Any
) -> dict[str, Part]:
    """Return the parameters that can be pruned, by name; those without any weight are passed over."""
    verdicts = judge(model, include, exclude, first_layers(model, inputs))
    weights = {verdict.name: verdict.kind.effective for verdict in verdicts}
    chosen = {name: parameter for name, parameter in chosen_of(verdicts).items() if parameter.numel()}
    return {name: Part(name, name, parameter, False, weights[name]) for name, parameter in chosen.items()}


def with_gates(model: nn.Module, parts: Iterable[Part]) -> list[Part]:
    """Return the parts, and behind each recurrent matrix its gates, which are in the same memory."""
    kinds: dict[int, str] = {}
    for module in unwrap(model).modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if attribute.startswith(("weight_ih", "weight_hh")):
                kinds[id(parameter)] = _GATES.get(getattr(module, "mode", type(module).__name__), "")
    every: list[Part] = []
    for part in parts:
        every.append(part)
        letters = kinds.get(id(part.tensor), "")
        for index, letter in enumerate(letters):
            rows = nn.Parameter(part.tensor.detach().chunk(len(letters))[index], requires_grad=False)
            if part.tensor.grad is not None:
                rows.grad = part.tensor.grad.chunk(len(letters))[index]
            every.append(Part(f"{part.name}[{letter}]", part.name, rows, True, _rows_of(part, index, len(letters))))
    return every


def key_of(name: str, criterion: str | Criterion, masks: Mapping[str, Tensor]) -> str:
    """Return what a measurement is kept under, so that it is not taken for one under other masks.

    Weights, seed and sparsity, which are kept beside it, decide over the masks of our own criteria. Another's scores
    may come from gradients, from inputs that were measured, or from code that was edited since.
    """
    ours = get_criterion(criterion) in (magnitude, random)
    if ours and name in masks:
        return name
    told = [each if ours else each + sha256(pack(mask).numpy().tobytes()) for each, mask in sorted(masks.items())]
    return f"{name} {sha256(' '.join(told).encode())[:16]}"


def _rows_of(part: Part, index: int, count: int) -> Callable[[], Tensor] | None:
    weight = part.weight
    return None if weight is None else lambda: weight().chunk(count)[index]
