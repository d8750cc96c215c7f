"""The first pruning of a schedule that begins sparse, taken back where a checkpoint is loaded before any training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from redense.masks.sharding import local

from .neutral import Neutrals


@dataclass
class _Kept:
    """A tensor, its values before it was pruned, what a pruned one is, and its version after that."""

    tensor: Tensor
    values: Tensor
    neutral: float
    version: int = -1


class FirstPruning:
    """Copies of weights and optimizer states from before they were pruned, until something else has changed them."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def copy(self, parameters: Mapping[str, nn.Parameter], optimizers: Iterable[Optimizer]) -> None:
        """Copy what is about to be pruned."""
        tensors: list[tuple[Tensor, float]] = [(parameter, 0.0) for parameter in parameters.values()]
        neutrals = Neutrals()
        for optimizer in optimizers:
            for name, parameter in parameters.items():
                tensors += [(s.tensor, s.neutral) for s in neutrals.states(optimizer, name, parameter)]
        self._kept = [_Kept(tensor, tensor.detach().clone(), neutral) for tensor, neutral in tensors]

    def done(self) -> None:
        """Note that what has changed now is not to count as a change: the pruning, or a step that trains nothing."""
        for kept in self._kept:
            kept.version = kept.tensor._version

    def forget_changed(self) -> None:
        """Forget what was loaded since: it stays as it is, though a step that trains nothing may come next."""
        self._kept = [kept for kept in self._kept if kept.tensor._version == kept.version]

    def forget(self) -> None:
        """Forget all of it: there was a real step."""
        self._kept = []

    def undo(self) -> None:
        """Put back the values of what was neither loaded nor trained since."""
        for kept in self._kept:
            if kept.tensor._version == kept.version and _is_pruned(kept):
                local(kept.tensor.detach()).copy_(local(kept.values))
        self._kept = []


def _is_pruned(kept: _Kept) -> bool:
    """Whether a tensor is what pruning leaves of its values."""
    # Versions do not tell: a distributed checkpoint is loaded into the shard of a detached DTensor, which has its own.
    now, before = local(kept.tensor.detach()), local(kept.values)
    if now.is_sparse:  # the momentum of sparse gradients
        now, before = now.to_dense(), before.to_dense()
    return bool(((now == before) | (now == kept.neutral)).all())
