"""Notice what moves a masked weight between two optimizer steps: an outer optimizer, a swap of weights, another loop.

A few masked places of every weight are looked at before each step, and now and then all of them. On the CPU that is
exact in time; elsewhere the answer is read one step later, when the device has come to it, so that no work waits for
the question.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from redense.errors import OptimizerError
from redense.masks.applying import is_dense
from redense.masks.blocks import block_of, blocks

_log = logging.getLogger(__name__)

PLACES = 64  # looked at in each weight
_WITH_PRODUCTS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Questions:
    """Questions to devices whose answers are read later: whether anything in a tensor is not zero."""

    def __init__(self) -> None:
        self._asked: list[tuple[list[str], list[int], Tensor, Any]] = []

    def ask(self, parts: Iterable[tuple[str, Tensor]]) -> None:
        """Ask it of one-dimensional tensors; in few kernels, however many there are."""
        of: dict[torch.device, list[tuple[str, Tensor]]] = {}
        for name, values in parts:
            of.setdefault(values.device, []).append((name, values))
        for device, asked in of.items():
            names, values = [name for name, _ in asked], [part for _, part in asked]
            found = torch.cat(values).ne(0).to("cpu", non_blocking=True)
            event = torch.Event(device)
            event.record()
            self._asked.append((names, [part.numel() for part in values], found, event))

    def answers(self) -> list[str]:
        """Return the names for which something is not zero, of all that was asked; wait where it is not known yet."""
        yes: dict[str, None] = {}
        for names, sizes, found, event in self._asked:
            event.synchronize()
            if bool(found.any()):
                flags = zip(names, torch.split(found, sizes), strict=True)
                yes |= dict.fromkeys(name for name, flag in flags if bool(flag.any()))
        self._asked.clear()
        return list(yes)


class Watch:
    """A sample of the masked places of some weights; everything here is this rank's part."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Tensor, Tensor]] = {}  # the mask that was sampled, flat indices where it is False
        self._questions = defaultdict[int, Questions](Questions)  # of each asker, so that none waits for another's

    def forget(self) -> None:
        """Draw the places anew: the masks have changed."""
        self._places.clear()
        self._questions.clear()

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

    def check(
        self, asker: int, weights: Mapping[str, tuple[Tensor, Tensor, Tensor]], *, whole: Collection[str] = ()
    ) -> None:
        """Raise if a masked weight is not zero.

        Args:
            asker: who asks once a step: an optimizer's id.
            weights: name -> the mask of all ranks; this rank's part of the weight and of the mask, of the same strides.
            whole: the names of those all of whose masked places are looked at.

        Raises:
            OptimizerError: it is not; the weight is named.
        """
        _refuse(self._questions[asker].answers())
        here, elsewhere = list[tuple[str, Tensor]](), list[tuple[str, Tensor]]()
        for name, (of_all, weight, mask) in weights.items():
            places = self.places(name, of_all, mask)
            if places.numel():
                values = _under(mask, weight) if name in whole else flat(weight).index_select(0, places)
                (here if values.device.type == "cpu" else elsewhere).append((name, values))
        _refuse([name for name, values in here if bool(values.any())])
        self._questions[asker].ask(elsewhere)


class Loaded:
    """Whether the weights under saved masks are those that were saved with them: what the masks remove is zero there.

    Weights may be loaded before the masks or after them, so that it is known at the first step.
    """

    def __init__(self) -> None:
        self._others: dict[str, tuple[Tensor, Tensor]] = {}  # indices of some kept weights, and the values of then

    def note(self, weights: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        """Look at weights before saved masks are put on them: each with its name and its mask, of this rank's part."""
        self._others.clear()
        for name, weight, mask in weights:
            if weight.device.type != "meta" and bool((weight.ne(0) & ~mask).any()):
                places = _some(flat(mask))
                self._others[name] = places, flat(weight).index_select(0, places).clone()

    def rename(self, now: Mapping[str, str]) -> None:
        """Call weights by other names: old -> new."""
        self._others = {now.get(name, name): noted for name, noted in self._others.items()}

    def warn(self, weights: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> None:
        """Warn of weights that were others when they were looked at and that nothing has loaded since, once."""
        if not self._others:
            return
        still = [
            name
            for name, (places, values) in self._others.items()
            if name in weights
            and places.numel()
            and weights[name][1].shape.numel() > int(places.max())
            and torch.equal(flat(weights[name][1]).index_select(0, places.to(weights[name][1].device)), values)
        ]
        for name in weights:
            self._others.pop(name, None)
        if still:
            _log.warning(
                "the weights of '%s'%s are not those that were saved with the masks: what these remove was not zero. "
                "They are masked and trained on. Load the weights of the same checkpoint, too; an average is masked by "
                "mask_copy() before it is saved",
                still[0],
                f" and {len(still) - 1} more" if len(still) > 1 else "",
            )


def _under(mask: Tensor, weight: Tensor) -> Tensor:
    """Return, of each block of a weight, something that is 0 where all of it is 0 where the mask is False."""
    kept, own = flat(mask).view(torch.uint8), flat(weight)
    if own.device.type != "cpu" or own.dtype not in _WITH_PRODUCTS:
        return torch.stack([(part.ne(0) > k).any() for k, part in zip(blocks(kept), blocks(own), strict=True)])
    # Products and their maximum take a third of the time of comparisons.
    buffer = torch.empty(min(block_of(own), own.numel()), dtype=own.dtype, device=own.device)
    parts = ((buffer[: k.numel()].copy_(k), part) for k, part in zip(blocks(kept), blocks(own), strict=True))
    largest = torch.stack([factor.sub_(1).mul_(part).abs_().max() for factor, part in parts])
    if bool(largest.isnan().any()):  # 0 times an infinity that is kept
        return own.masked_select(kept == 0).ne(0).any().view(1)
    return largest


def flat(tensor: Tensor) -> Tensor:
    """Return the elements of a dense tensor in the order of memory, as a view; of another, in logical order."""
    if tensor.is_contiguous():
        return tensor.detach().view(-1)
    if not is_dense(tensor):  # a view that leaves out columns, say, has others' elements between its own
        return tensor.detach().reshape(-1)
    return tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def _some_removed(mask: Tensor) -> Tensor:
    """Return up to `PLACES` flat indices where the mask is False, spread over all of it."""
    return _some(~flat(mask))


def _some(chosen: Tensor) -> Tensor:
    """Return up to `PLACES` indices where a flat tensor is True, spread over all of it."""
    every = chosen.nonzero().flatten()
    step = max(every.numel() // PLACES, 1)
    return every[::step][:PLACES].clone()


def _refuse(bad: list[str]) -> None:
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise OptimizerError(
            f"removed weights of '{bad[0]}'{more} are not zero any more: something has written them since the last "
            "step, or their states in the optimizer before it. If an optimizer wraps the one that redense was given "
            "(Lookahead, SWA, schedule-free), give redense the outer one; if weights were loaded, load those of this "
            "phase; drive SAM by step(closure) under surgery"
        )
