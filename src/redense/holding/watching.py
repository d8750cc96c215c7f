"""Notice what moves a masked weight between two optimizer steps: an outer optimizer, a swap of weights, another loop.

A few masked places of every weight are looked at before each step. On the CPU that is exact in time; elsewhere the
answer is fetched without waiting for the device, and so comes one step later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from redense.errors import OptimizerError
from redense.masks.applying import is_dense

PLACES = 64  # looked at in each weight


class Watch:
    """A sample of the masked places of some weights; everything here is this rank's part."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Tensor, Tensor]] = {}  # the mask that was sampled, flat indices where it is False
        self._pending: list[tuple[list[str], Tensor, Any]] = []

    def forget(self) -> None:
        """Draw the places anew: the masks have changed."""
        self._places.clear()
        self._pending.clear()

    def places(self, name: str, whole: Tensor, mask: Tensor) -> Tensor:
        """Return flat indices, in the order of memory, of some places where a mask is False.

        Args:
            name: of the weight.
            whole: the mask of all ranks, whose identity says whether the places are still its own.
            mask: this rank's part of it.
        """
        known = self._places.get(name)
        if known is None or known[0] is not whole:
            known = self._places[name] = (whole, _some_removed(mask))
        return known[1]

    def check(self, weights: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> None:
        """Raise if a masked weight is not zero.

        Args:
            weights: name -> the mask of all ranks; this rank's part of the weight and of the mask, of the same strides.

        Raises:
            OptimizerError: it is not; the weight is named.
        """
        self._ask()
        found: dict[torch.device, list[tuple[str, Tensor]]] = {}
        for name, (whole, weight, mask) in weights.items():
            places = self.places(name, whole, mask)
            if places.numel():
                found.setdefault(weight.device, []).append((name, flat(weight).index_select(0, places)))
        for device, samples in found.items():
            names = [name for name, _ in samples]
            if device.type == "cpu":
                if any(bool(values.any()) for _, values in samples):
                    _refuse(names, torch.stack([values.any() for _, values in samples]))
            else:
                moved = torch.stack([values.ne(0).any() for _, values in samples])
                self._pending.append((names, moved.to("cpu", non_blocking=True), _recorded(device)))

    def _ask(self) -> None:
        while self._pending and self._pending[0][2].query():
            names, moved, _ = self._pending.pop(0)
            _refuse(names, moved)


def flat(tensor: Tensor) -> Tensor:
    """Return the elements of a dense tensor in the order of memory, as a view; of another, in logical order."""
    if tensor.is_contiguous():
        return tensor.detach().view(-1)
    if not is_dense(tensor):  # a view that leaves out columns, say, has others' elements between its own
        return tensor.detach().reshape(-1)
    return tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def _some_removed(mask: Tensor) -> Tensor:
    """Return up to `PLACES` flat indices where the mask is False, spread over all of it."""
    removed = (~flat(mask)).nonzero().flatten()
    step = max(removed.numel() // PLACES, 1)
    return removed[::step][:PLACES].clone()


def _recorded(device: torch.device) -> Any:
    event = torch.Event(device)
    event.record()
    return event


def _refuse(names: list[str], moved: Tensor) -> None:
    bad = [name for name, yes in zip(names, cast("Any", moved).tolist(), strict=True) if yes]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise OptimizerError(
            f"removed weights of '{bad[0]}'{more} are not zero any more: something has written them since the last "
            "step. If an optimizer wraps the one that redense was given (Lookahead, SWA, schedule-free), give redense "
            "the outer one; if weights were loaded, load those of this phase"
        )
