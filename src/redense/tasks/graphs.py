"""Graphs of a task's network for export: tensors alone, with inputs to compare them with the network on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph to export.

    Args:
        name: of its file, without the ending.
        module: tensors to a tensor or a tuple of them; in evaluation mode, on the CPU, of the network's own weights.
        network: what the network itself gives for the same inputs.
        inputs: a name for each input, each with its axes of any length: ``{"images": {0: "batch"}}``.
        outputs: a name for each output.
        calls: inputs to compare on, from the validation split if it is there; the first has lengths above 1 in every
            such axis.
        about: what it takes and gives, in a line of the card.
    """

    name: str
    module: nn.Module
    network: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    calls: Sequence[Inputs]
    about: str


@dataclass(frozen=True, eq=False)
class Standalone:
    """A trained network without the data that it learned from.

    Args:
        network: in evaluation mode.
        make: returns the graphs of it, or of a copy, with inputs made at random.
    """

    network: nn.Module
    make: Callable[[nn.Module], list[Graph]]

    def graphs(self, model: nn.Module) -> list[Graph]:
        """Return the graphs of the network, or of a copy."""
        return self.make(model)


@runtime_checkable
class ExportsGraphs(Protocol):
    """A task whose network can be exported as graphs."""

    def graphs(self, model: nn.Module) -> list[Graph]:
        """Return the graphs of a trained network, which is in evaluation mode and on the CPU."""
        ...
