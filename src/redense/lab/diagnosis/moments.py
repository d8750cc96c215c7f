"""The distribution of a layer's weights at the five moments of D-S-D: the figure of Han et al. 2017."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from redense.errors import ParameterError, StateError, nearest

from .landscape import DiagnosisError, State, check_same
from .solutions import check_mask, distance, take

_MOMENTS = ("before pruning", "just pruned", "after sparse training", "re-dense start", "after dense training")


@dataclass(frozen=True)
class Cycle:
    """One D-S-D of a flow: the masks of its sparse phase (True = kept), and the names of its three states.

    Args:
        masks: parameter name -> mask.
        dense: the state before pruning.
        sparse: the state after sparse training.
        redense: the state after the last dense training.
        start: where released weights do not start from zero: the tensors at the re-dense start.
    """

    masks: Mapping[str, Tensor]
    dense: str = "dense"
    sparse: str = "sparse"
    redense: str = "redense"
    start: State | None = None


@dataclass(frozen=True)
class Weights:
    """Some weights of a layer at one moment; ``counts``: how many fall into each bin."""

    moment: str
    weights: int
    counts: tuple[int, ...]
    mean: float | None
    deviation: float | None
    mean_magnitude: float | None


@dataclass(frozen=True)
class FiveMoments:
    """The distribution of one layer's weights through D-S-D; see `five_moments`."""

    name: str
    edges: tuple[float, ...]
    """Of the bins that all histograms share, symmetric about 0, which is in the middle of one."""
    moments: tuple[Weights, ...]
    old: Weights
    """The kept weights at the last moment."""
    regrown: Weights
    """The regrown weights at the last moment."""
    cut: float
    """The magnitude that separates as many small weights before pruning as were pruned."""
    stayed_small: float | None
    """Share of the regrown weights that ended below the cut: pruning would take them again."""
    old_moved: float | None
    """Relative L2 change of the old weights in the last dense phase."""


def five_moments(name: str, states: Mapping[str, State], cycle: Cycle, *, bins: int = 101) -> FiveMoments:
    """Return the paper's weight-distribution figure for one layer: histograms at five moments over common bins.

    Before pruning, just pruned, after sparse training, at the re-dense start, after dense training. As in the paper,
    weights under the mask are left out of the second and third histogram and are the spike at zero in the fourth
    (Han et al. 2017, for GoogLeNet's inception_5b 3x3).

    Args:
        name: of the layer's weight in the states and masks.
        states: those that the cycle names.
        cycle: which states, and the masks.
        bins: an odd number.

    Raises:
        DiagnosisError: bins that are not odd.
        ParameterError: no mask or no weight of this name.
        StateError: a state that is missing or does not fit the mask.
    """
    check_bins(bins)
    if name not in cycle.masks:
        raise ParameterError(f"'{name}' has no mask{nearest(name, cycle.masks)}; the figure is of a pruned layer")
    missing = [state for state in (cycle.dense, cycle.sparse, cycle.redense) if state not in states]
    if missing:
        raise StateError(f"no state '{missing[0]}' among {', '.join(states)}: name the states of the cycle")
    dense, sparse, end = (take(states[state], name) for state in (cycle.dense, cycle.sparse, cycle.redense))
    mask = check_mask(cycle.masks[name], dense, name)
    check_same({name: dense}, {name: sparse})
    check_same({name: dense}, {name: end})
    start = sparse * mask if cycle.start is None else take(cycle.start, name)
    shown = (dense, dense[mask], sparse[mask], start, end)
    limit = float(torch.cat([w.flatten() for w in shown]).abs().max()) or 1.0
    if not math.isfinite(limit):
        raise DiagnosisError(f"the weights of '{name}' are not finite: the flow has diverged")
    pruned = int((~mask).sum())
    magnitudes = dense.abs().flatten().sort().values
    cut = float(magnitudes[pruned - 1]) if pruned else 0.0
    regrown, old = end[~mask], end[mask]
    moved = distance({name: sparse}, {name: end}, [name], {name: mask}).kept
    return FiveMoments(
        name,
        tuple(limit * (2 * i / bins - 1) for i in range(bins + 1)),
        tuple(_weights(moment, w, bins, limit) for moment, w in zip(_MOMENTS, shown, strict=True)),
        _weights("old", old, bins, limit),
        _weights("regrown", regrown, bins, limit),
        cut,
        float((regrown.abs() < cut).double().mean()) if pruned else None,
        moved.relative if moved else None,
    )


def _weights(moment: str, w: Tensor, bins: int, limit: float) -> Weights:
    counts = tuple(int(n) for n in torch.histc(w, bins, -limit, limit))
    if not w.numel():
        return Weights(moment, 0, counts, None, None, None)
    return Weights(
        moment, w.numel(), counts, float(w.mean()), float(w.std(correction=0)), float(w.abs().mean())
    )  # fmt: skip


def check_bins(bins: int) -> None:
    """Refuse bins without one around zero."""
    if bins < 3 or bins % 2 == 0:
        raise DiagnosisError(f"bins must be an odd number from 3, so that zero has a bin of its own; got {bins}")


def cycle_moments(states: Mapping[str, State], cycle: Cycle, *, bins: int = 101) -> dict[str, Any]:
    """Return the five moments of every pruned layer of one D-S-D, as plain JSON data; histograms, and no weights.

    ``layers`` has the fields of `FiveMoments` for each, in the order of the masks, or ``name`` and ``error`` where it
    cannot be measured; ``default`` is the index of the largest.
    """
    layers: list[dict[str, Any]] = []
    for name in cycle.masks:
        try:
            layers.append(asdict(five_moments(name, states, cycle, bins=bins)))
        except DiagnosisError as error:
            layers.append({"name": name, "error": str(error)})
    sizes = [mask.numel() for mask in cycle.masks.values()]
    found = {
        "dense": cycle.dense,
        "sparse": cycle.sparse,
        "redense": cycle.redense,
        "default": max(range(len(sizes)), key=lambda index: sizes[index], default=0),
        "layers": layers,
    }
    return json.loads(json.dumps(found, allow_nan=False))
