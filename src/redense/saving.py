"""The masks of a `DSD` as ``torch.distributed.checkpoint`` (DCP) saves and loads them: sharded, under fixed keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import masks as masking
from .errors import StateError
from .holding import Masked
from .phase import Sparsity
from .schedule import Schedule
from .sharding import local, wrap

Candidates = Callable[[Sparsity | None], dict[str, nn.Parameter]]
"""Sparsity of a phase -> the parameters that the phase prunes."""


def shards_of(schedule: Schedule, candidates: Candidates, masked: Masked | None) -> dict[str, Any]:
    """Return masks, and what surgery keeps, for every parameter that any phase prunes; ones where no mask holds.

    A DCP load goes into such a state of a fresh object, which may be in another phase than the saved one.
    """
    parameters: dict[str, nn.Parameter] = {}
    for phase in schedule.phases:
        if phase.is_sparse:
            parameters |= candidates(phase.sparsity)
    masks = masked.masks if masked else {}
    out: dict[str, Any] = {"masks": {name: _as_bytes(masks.get(name), p) for name, p in parameters.items()}}
    if any(phase.surgery for phase in schedule.phases):
        own = masked if masked and masked.phase.surgery else None
        full = own.full if own else {}
        out["surgery"] = {
            "steps": own.steps if own else 0,
            "weights": {name: full.get(name, p.detach()).clone() for name, p in parameters.items()},
            "thresholds": {name: own.thresholds.get(name, 0.0) if own else 0.0 for name in parameters},
        }
    return out


def from_shards(state: Mapping[str, Any], schedule: Schedule, candidates: Candidates) -> dict[str, Any]:
    """Return the state that ``load_state_dict`` takes, whose masks are those of the phase it was saved in.

    Raises:
        StateError: the state has no mask of a parameter.
    """
    state = dict(state)
    sharded = state.pop("sharded")
    index = state.get("phase")
    state["masks"] = {}
    if not isinstance(index, int):
        return state
    phase = schedule.phases[min(index, len(schedule.phases) - 1)]
    if not phase.is_sparse:
        return state
    for name in candidates(phase.sparsity):
        if name not in sharded["masks"]:
            raise StateError(f"the saved state has no mask of '{name}': it is of another model")
        state["masks"][name] = sharded["masks"][name]
    if phase.surgery:
        surgery, names = sharded["surgery"], list(candidates(phase.sparsity))
        state["surgery"] = {"steps": surgery["steps"]}
        state["surgery"] |= {key: {name: surgery[key][name] for name in names} for key in ("weights", "thresholds")}
    return state


def unpacked(item: Any) -> Tensor:
    """Return a saved mask, packed to bits or a (sharded) tensor, as booleans.

    Raises:
        ParameterError: the number of packed bytes does not fit the shape.
    """
    if isinstance(item, Tensor):
        return wrap(local(item).bool(), item)
    return masking.unpack(item["bits"], item["shape"])


def _as_bytes(mask: Tensor | None, parameter: nn.Parameter) -> Tensor:
    part = torch.ones_like(local(parameter), dtype=torch.uint8) if mask is None else local(mask).to(torch.uint8)
    return wrap(part.detach().contiguous(), parameter)
