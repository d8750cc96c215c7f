"""Solutions set side by side: how far weights travelled, how alike hidden units are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redense.errors import ParameterError, StateError, nearest

from .landscape import DiagnosisError, State, check_same, finite

_MOST_MATCHED = 1024  # units whose partners are looked for: the assignment is cubic


# --- the way travelled ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Travel:
    """The distance that weights moved, L2: ``length = |b - a|``; ``start = |a|``; ``relative = length / start``."""

    weights: int
    length: float
    start: float
    relative: float | None
    """``None`` where the weights started at zero."""


@dataclass(frozen=True)
class Distance:
    """The way from one solution to another, in all and per tensor; see `distance`."""

    total: Travel
    tensors: dict[str, Travel]
    kept: Travel | None
    """Of the weights that the masks keep; ``None`` without masks."""
    regrown: Travel | None
    """Of the weights under the masks: pruned, then regrown."""


def distance(a: State, b: State, names: Sequence[str], masks: Mapping[str, Tensor] | None = None) -> Distance:
    """Return the L2 distance between two solutions over the tensors called ``names``, summed in double precision.

    Args:
        a: where the way starts.
        b: where it ends.
        names: tensors that count, usually the trainable parameters, tied ones once.
        masks: True = kept; splits the pruned tensors' way into that of kept and that of regrown weights. Tensors
            without a mask (biases, normalisation) are in neither.

    Raises:
        ParameterError: a name that a state does not have.
        StateError: tensors or masks of different shapes.
    """
    tensors: dict[str, Travel] = {}
    squares: dict[str, list[float]] = {"total": [0, 0.0, 0.0], "kept": [0, 0.0, 0.0], "regrown": [0, 0.0, 0.0]}

    def add(group: str, before: Tensor, moved: Tensor) -> list[float]:
        part = [before.numel(), float(moved.square().sum()), float(before.square().sum())]
        squares[group] = [old + new for old, new in zip(squares[group], part, strict=True)]
        return part

    for name in names:
        before, after = take(a, name), take(b, name)
        check_same({name: before}, {name: after})
        moved = after - before
        tensors[name] = _travel(add("total", before, moved))
        if masks is not None and name in masks:
            mask = check_mask(masks[name], before, name)
            add("kept", before[mask], moved[mask])
            add("regrown", before[~mask], moved[~mask])
    return Distance(
        _travel(squares["total"]),
        tensors,
        None if masks is None else _travel(squares["kept"]),
        None if masks is None else _travel(squares["regrown"]),
    )


def _travel(part: Sequence[float]) -> Travel:
    weights, length, start = int(part[0]), math.sqrt(finite(part[1], "a distance")), math.sqrt(part[2])
    return Travel(weights, length, start, length / start if start else None)


# --- hidden units ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Similarity:
    """The similarity of two layers on the same examples; see `similarity`. ``None``: every unit of one is constant."""

    examples: int
    units: tuple[int, int]
    constant: tuple[int, int]
    """Units that have one value for all examples (dead ones, usually)."""
    cka: float | None
    best: float | None
    matched: float | None
    same: float | None
    in_place: float | None
    """Share of the units whose best partner is the unit of the same index; ``None`` for layers of different size."""


def similarity(x: Tensor, y: Tensor) -> Similarity:
    """Return how alike the hidden units of two networks are. ``x: (examples, units)``, ``y: (examples, units of y)``.

    - ``cka``: linear centred kernel alignment ``|Y' X|^2 / (|X' X| |Y' Y|)``, Frobenius norms, columns centred; 0 to 1,
      unchanged by rotation and scale (Kornblith et al. 2019).
    - ``best``: Pearson correlation of each unit of x with its most alike unit of y, averaged.
    - ``matched``: the same with every unit of y taken at most once, the best assignment of all (Li et al. 2016).
    - ``same``: the same with the unit of the same index. Near ``best``, the networks still share their units; far
      below, the units have changed roles: the paper's symmetry breaking.

    Constant units of x are left out, constant ones of y correlate 0. Of more than 1024 units of x, 1024 evenly spaced
    ones are matched. Few examples make all figures high by chance: take several times as many as units.

    Raises:
        DiagnosisError: not two matrices over the same two or more examples, or values that are not finite.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) < 2:
        raise DiagnosisError(
            "activations must be two matrices (examples, units) over the same examples, at least 2; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    if not (bool(x.isfinite().all()) and bool(y.isfinite().all())):
        raise DiagnosisError("activations must be finite: a network has diverged, its units cannot be compared")
    (x, x_live), (y, y_live) = _centred(x), _centred(y)
    sizes, constant = (x.shape[1], y.shape[1]), (int((~x_live).sum()), int((~y_live).sum()))
    if not (x_live.any() and y_live.any()):
        return Similarity(len(x), sizes, constant, None, None, None, None, None)
    live = x_live.nonzero().flatten()
    if len(live) > _MOST_MATCHED:
        live = live[torch.linspace(0, len(live) - 1, _MOST_MATCHED, dtype=torch.float64).round().long()]
    # Columns of length 1: a product of two is their correlation.
    correlation = torch.nn.functional.normalize(x[:, live], dim=0).T @ torch.nn.functional.normalize(y, dim=0)
    same = in_place = None
    if sizes[0] == sizes[1]:
        own = correlation.gather(1, live.unsqueeze(1)).flatten()
        same = float(own.mean())
        in_place = float((own >= correlation.amax(1)).double().mean())
    best = float(correlation.amax(1).mean())
    return Similarity(len(x), sizes, constant, _cka(x, y), best, _matched(correlation), same, in_place)


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    centred = x - x.mean(0)
    live = centred.abs().amax(0) > 1e-7 * x.abs().amax(0)  # below that it is rounding
    return centred * live, live


def _cka(x: Tensor, y: Tensor) -> float:
    if len(x) < max(x.shape[1], y.shape[1]):  # |Y' X|^2 = <X X', Y Y'>, the smaller matrices here
        one, other = x @ x.T, y @ y.T
        return float((one * other).sum() / (one.norm() * other.norm()))
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def _matched(correlation: Tensor) -> float:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(correlation.numpy(), maximize=True)
    return float(correlation[torch.from_numpy(rows), torch.from_numpy(columns)].mean())


def take(state: State, name: str) -> Tensor:
    """Return a tensor of a state on CPU in double precision."""
    if name not in state:
        raise ParameterError(f"no tensor '{name}' in the state{nearest(name, state)}")
    return state[name].detach().cpu().double()


def check_mask(mask: Tensor, weight: Tensor, name: str) -> Tensor:
    """Return the mask on CPU, or say how it does not fit its weight."""
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise StateError(
            f"the mask of '{name}' must be boolean of shape {tuple(weight.shape)}, "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return mask.cpu()
