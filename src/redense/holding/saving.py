"""Masks as state dicts: whole and packed to bits, or sharded for ``torch.distributed.checkpoint`` (DCP)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from redense import masks as masking
from redense.errors import ParameterError, StateError
from redense.layers.names import clean_name
from redense.masks.sharding import cut, local, whole, wrap
from redense.phase import Phase, Sparsity, ordered
from redense.schedule import Schedule
from redense.schedules.numeric import as_int

from .masked import Masked

FORMAT = 1  # of state dicts

Candidates = Callable[[Sparsity | None], dict[str, nn.Parameter]]
"""Sparsity of a phase -> the parameters that the phase prunes."""


def state_of_masks(masked: Masked | None) -> dict[str, Any]:
    """Return the masks in force, packed to bits, and what surgery keeps, as tensors and plain data."""
    if not masked:
        return {"masks": {}, "masked": [], "held": {"steps": 0, "drifting": {}}}
    packed = {name: {"shape": list(m.shape), "bits": masking.pack(whole(m))} for name, m in masked.masks.items()}
    state: dict[str, Any] = {"masks": packed, "masked": list(packed), "held": _held(masked, masked.masks)}
    state["held"]["each"] = list(masked.steps)
    if masked.phase.surgery:
        state["surgery"] = {
            "steps": masked.steps[-1],
            "weights": {name: whole(weight).clone() for name, weight in masked.full.items()},
            "thresholds": dict(masked.thresholds),
        }
    return state


def masked_from(
    state: Mapping[str, Any],
    phase: Phase,
    parameters: Mapping[str, nn.Parameter],
    every: Mapping[str, nn.Parameter],
    optimizers: Sequence[Optimizer],
    seed: int,
) -> Masked | None:
    """Return the masks of a sparse phase that `state_of_masks` or `from_shards` gave; nothing is selected.

    None if it has none, because it was saved after ``close()``.

    What has no mask was frozen, or held by no optimizer, when its phase began: it stays dense until the next one.

    Args:
        state: what was saved.
        phase: the phase it was saved in.
        parameters: those that the phase would prune if it began now.
        every: all parameters of the model: one that was frozen since its phase began is still masked.
        optimizers: those that hold them.
        seed: of surgery.

    Raises:
        StateError: the state is damaged, or of other parameters.
    """
    saved = state["masks"]
    # A list is whole where a distributed checkpoint has loaded no more of a dict than it was given.
    known = [*state.get("masked", ()), *state.get("held", {}).get("drifting", {})]
    if lost := [name for name in known if name not in saved]:
        raise StateError(
            f"the saved state has no mask of '{lost[0]}': it is damaged. With torch.distributed.checkpoint, which "
            "loads only what is in the state that it is given, save and load sharded_state_dict()"
        )
    same = "model" in state and {"model": state["model"]} == _digest(every)
    for name in (*saved, *(() if same else parameters)):
        if name not in every or name not in saved:
            where = "model" if name not in every else "saved state"
            raise StateError(
                f"the {where} has no mask or parameter '{name}': the saved state is of another model, or of one whose "
                "layers were called or wrapped otherwise. Make them as they were when it was saved, and then load it"
            )
        shape = list(saved[name].shape if isinstance(saved[name], Tensor) else saved[name]["shape"])
        if list(every[name].shape) != shape:
            raise StateError(
                f"'{name}' has shape {list(every[name].shape)}, its saved mask {shape}: "
                "the saved state is of another model"
            )
    if not saved:
        return None
    if phase.surgery and "surgery" not in state:
        raise StateError("the saved state has no weights for the surgery of its phase: it is damaged")
    parameters = {name: every[name] for name in saved}
    try:
        masks = {name: _unpacked(item) for name, item in saved.items()}
    except ParameterError as damage:
        raise StateError(f"the saved state is damaged: {damage}") from None
    masked = Masked(phase, parameters, masks, optimizers, seed)
    masked.steps = _steps_of_each(state.get("held", {}), len(masked.steps))
    masked.drifting = {name for name, yes in state.get("held", {}).get("drifting", {}).items() if yes}
    if phase.surgery:
        masked.steps[-1] = int(state["surgery"]["steps"])
        masked.thresholds = dict(state["surgery"]["thresholds"])
        for name, weight in state["surgery"]["weights"].items():
            local(masked.full[name]).copy_(local(cut(weight, masked.full[name])))
    return masked


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Return what tells one model's state from another's: a digest of its parameters' names and shapes."""
    return _digest({clean_name(name): parameter for name, parameter in model.named_parameters()})


def _digest(parameters: Mapping[str, nn.Parameter]) -> dict[str, str]:
    text = repr(sorted((name, tuple(parameter.shape)) for name, parameter in parameters.items()))
    return {"model": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _held(masked: Masked | None, names: Iterable[str]) -> dict[str, Any]:
    """Return how far a phase is, and of which parameters the states have to be masked at each step."""
    drifting = masked.drifting if masked else set[str]()
    return {"steps": masked.steps[-1] if masked else 0, "drifting": {name: name in drifting for name in names}}


def _steps_of_each(held: Mapping[str, Any], optimizers: int) -> list[int]:
    """Return how many steps each optimizer has made in a phase; a sharded or older state knows those of the last."""
    each = held.get("each")
    return (
        [int(step) for step in each] if each and len(each) == optimizers else [int(held.get("steps", 0))] * optimizers
    )


def check_format(state: Mapping[str, Any], key: str, expected: dict[str, Any], needs: Sequence[str]) -> None:
    """Raise unless a state is of our format, has what it needs, and was saved with what is expected under ``key``.

    Raises:
        StateError: it is not, or has not, or was not.
    """
    if not isinstance(state, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StateError(f"a state is what state_dict() gave, got {type(state).__name__}")
    if state.get("format") != FORMAT:
        raise StateError(f"this is no state of redense's format {FORMAT}: it has {sorted(map(str, state))[:8]}")
    of_block = "schedule" not in state and isinstance(state.get("phase"), Mapping)
    if of_block and key == "schedule":
        raise StateError("this is the state of a block: give it to redense.sparse(..., state=...), and not to a DSD")
    if "schedule" in state and key == "phase":
        raise StateError("this is the state of a DSD: give it to redense.DSD(..., state=...), and not to a block")
    if key not in state:
        raise StateError(f"the saved state is damaged: it has no '{key}'")
    if ordered(state[key]) != ordered(expected):
        raise StateError(f"the saved state is of another {key}: saved {state.get(key)}, now {expected}")
    for needed in needs:
        if needed not in state:
            raise StateError(f"the saved state is damaged: it has no '{needed}'")


def check_progress(state: Mapping[str, Any], optimizers: int, phases: int) -> None:
    """Raise unless a state says how far each of so many optimizers is, in a schedule of so many phases.

    Raises:
        StateError: it does not.
    """
    phase, given = as_int(state["phase"]), state["steps"]
    steps = [as_int(step) for step in cast("Sequence[object]", given)] if isinstance(given, (list, tuple)) else [None]
    if any(step is None or step < 0 for step in steps):
        raise StateError(f"the saved state is damaged: steps must be whole numbers of at least 0, got {given!r}")
    if phase is None or not 0 <= phase <= phases:
        raise StateError(f"the saved state is damaged: phase must be in 0 to {phases}, got {state['phase']!r}")
    if len(steps) != optimizers:
        raise StateError(f"the saved state is of {len(steps)} optimizers, this DSD has {optimizers}")


# --- sharded --------------------------------------------------------------------------------------------------------


def sharded(schedule: Schedule, candidates: Candidates, masked: Masked | None) -> dict[str, Any]:
    """Return the schedule and the shards of a state for DCP, which asks a checkpoint for each key of it."""
    data = schedule.to_dict()
    for plain, phase in zip(data["phases"], schedule.phases, strict=True):
        if isinstance(phase.sparsity, Mapping):  # never as pairs, which checkpoints of an older redense have no key for
            plain["sparsity"] = dict(phase.sparsity)
    return {"schedule": data, "sharded": _shards_of(schedule, candidates, masked)}


def _shards_of(schedule: Schedule, candidates: Candidates, masked: Masked | None) -> dict[str, Any]:
    """Return masks, and what surgery keeps, for every parameter that any phase prunes; ones where no mask holds.

    A DCP load goes into such a state of a fresh object, which may be in another phase than the saved one.
    """
    parameters: dict[str, nn.Parameter] = {}
    for phase in schedule.phases:
        if phase.is_sparse:
            parameters |= candidates(phase.sparsity)
    free = set(parameters)
    if masked:  # also what was frozen since
        parameters |= {name: masked.parameters[name] for name in masked.masks}
    masks = masked.masks if masked else {}
    out: dict[str, Any] = {"masks": {name: _as_bytes(masks.get(name), p) for name, p in parameters.items()}}
    out["held"] = _held(masked, parameters)
    each = masked.steps if masked else []
    frozen = [name for name in masks if name not in free]
    if frozen or len(each) > 1:  # in one list, because the keys of a state are the same at every step
        out["held"]["steps"] = [*each, *frozen]
    if any(phase.surgery for phase in schedule.phases):
        own = masked if masked and masked.phase.surgery else None
        full = own.full if own else {}
        out["surgery"] = {
            "steps": own.steps[-1] if own else 0,
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
    held = sharded.get("held", {})
    steps = held.get("steps", 0)
    listed = cast("list[int | str]", steps if isinstance(steps, list) else [steps])
    each, frozen = [one for one in listed if isinstance(one, int)], [one for one in listed if isinstance(one, str)]
    names = list(dict.fromkeys([*candidates(phase.sparsity), *frozen]))
    for name in names:
        if name not in sharded["masks"]:
            raise StateError(
                f"the mask of '{name}' was not loaded, which was frozen in its phase: freeze it after load_state_dict, "
                "and not before the sharded_state_dict that the checkpoint is loaded into"
                if name in frozen
                else f"the saved state has no mask of '{name}': it is of another model"
            )
        state["masks"][name] = sharded["masks"][name]
    drifting = {name: yes for name, yes in held.get("drifting", {}).items() if name in state["masks"]}
    state["held"] = {"steps": each[-1] if each else 0, "each": each, "drifting": drifting}
    if phase.surgery:
        surgery = sharded["surgery"]
        state["surgery"] = {"steps": surgery["steps"]}
        state["surgery"] |= {key: {name: surgery[key][name] for name in names} for key in ("weights", "thresholds")}
    return state


def _unpacked(item: Any) -> Tensor:
    """A saved mask, packed to bits or a (sharded) tensor, as booleans."""
    if isinstance(item, Tensor):
        return wrap(local(item).bool(), item)
    return masking.unpack(item["bits"], item["shape"])


def _as_bytes(mask: Tensor | None, parameter: nn.Parameter) -> Tensor:
    part = torch.ones_like(local(parameter), dtype=torch.uint8) if mask is None else local(mask).to(torch.uint8)
    return wrap(part.detach().contiguous(), parameter)
