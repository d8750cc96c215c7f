"""The paper's hypotheses measured (Han et al. 2017, sections 1 and 5): the effect of DSD on a network.

The paper explains its gain by an escape from saddle points, better minima, smoother solutions that noise disturbs
less, and weights that start anew; it measured none of it. `diagnose` does, for the solutions at the ends of the phases
of one flow. Set it beside the same of the `restart` arm: what both show is not the mask's doing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from redense.errors import StateError

from .curvature import check_spectrum, products_needed, sharpness
from .landscape import (
    DiagnosisError,
    Loss,
    Metric,
    NoisyMetric,
    State,
    borrowed,
    check_noise,
    check_points,
    finite,
    input_noise,
    line,
    unshared,
    weight_noise,
)
from .moments import Cycle, check_bins, five_moments
from .solutions import check_mask, distance, similarity, take

__all__ = [
    "Cycle",
    "DiagnosisError",
    "Probes",
    "Settings",
    "diagnose",
    "distance",
    "five_moments",
    "input_noise",
    "line",
    "sharpness",
    "similarity",
    "weight_noise",
]


@dataclass(frozen=True)
class Probes:
    """The measurements that the caller's task can make of a model. ``None`` is left out of the diagnosis.

    Args:
        loss: mean loss over a fixed sample, differentiable.
        metric: the task's figure over a fixed sample.
        activations: ``(examples, units)`` of the last hidden layer over a fixed sample.
        noisy_metric: ``(model, scale, seed)``: the metric under input noise.
        recompute: measures BatchNorm's running statistics anew, in place.
    """

    loss: Loss
    metric: Metric
    activations: Callable[[nn.Module], Tensor] | None = None
    noisy_metric: NoisyMetric | None = None
    recompute: Callable[[nn.Module], object] | None = None


@dataclass(frozen=True)
class Settings:
    """The resolution of `diagnose`; see the functions for each setting."""

    points: int = 21
    tolerance: float = 0.01
    products: int | None = None
    weight_scales: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    input_scales: tuple[float, ...] = (0.1, 0.2, 0.4)
    draws: int = 5
    bins: int = 101
    seed: int = 0

    def __post_init__(self) -> None:
        check_points(self.points)
        check_spectrum(self.tolerance, self.products)
        check_bins(self.bins)
        check_noise(self.weight_scales, self.draws)
        check_noise(self.input_scales, self.draws)


Progress = Callable[[int, int, str], None]
"""``progress(done, total, what)``: work done and in all, about in evaluations of a sample; what comes next, "" at the
end."""


@dataclass(frozen=True)
class _Part:
    section: str
    labels: dict[str, str]
    measure: Callable[[], Any]
    work: int = 1

    def __str__(self) -> str:
        return f"{self.section.replace('_', ' ')}: {' to '.join(self.labels.values())}"

    def row(self) -> dict[str, Any]:
        try:
            found = asdict(self.measure())
        except DiagnosisError as error:
            found = {"error": str(error)}
        return {**self.labels, **found}


@dataclass(frozen=True)
class _Level:
    loss: float
    metric: float


def diagnose(
    model: nn.Module,
    states: Mapping[str, State],
    probes: Probes,
    *,
    cycle: Cycle | None = None,
    layer: str | None = None,
    settings: Settings | None = None,
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Measure one flow and return plain JSON data: section -> rows; the model is afterwards what it was.

    Sections with a row per solution (``state``): levels (loss and metric), sharpness, weight_noise, input_noise. With a
    row per pair (``from``, ``to``), neighbours and first to last: line, distance, similarity. With a cycle:
    five_moments of a layer, and distances of kept and regrown weights. A row has the fields of what the function of
    the section's name returns; one that cannot be measured has ``error`` instead, and the others go on.

    Args:
        model: on its device; its own weights do not matter.
        states: name -> state dict at the end of each phase, in order; at least two.
        probes: what to measure with.
        cycle: the masks, and which states they belong to; ``None`` for a flow without a mask.
        layer: of the five moments; the masked one with most weights if not given.
        settings: how finely; `Settings()` if not given.
        progress: called before every part and at the end.

    Raises:
        ParameterError: ``layer`` has no mask, or a mask is of no weight.
        StateError: fewer than two states, or states that do not fit the model or the cycle.
    """
    if len(states) < 2:
        raise StateError(f"a diagnosis compares at least two states, got {len(states)}: {', '.join(states) or 'none'}")
    settings = settings or Settings()
    with borrowed(model) as load:
        states = {name: unshared(model, state) for name, state in states.items()}
        for state in states.values():
            load(state)
    parts = _parts(model, states, probes, settings)
    if cycle is not None:
        parts += _cycle_parts(states, cycle, layer, settings)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    masks = None if cycle is None else cycle.masks
    for a, b in _pairs(states):
        distances = partial(distance, states[a], states[b], trainable, masks)
        parts.append(_Part("distance", {"from": a, "to": b}, distances))
    result: dict[str, Any] = {"states": list(states), "settings": asdict(settings)}
    done, total = 0, sum(part.work for part in parts)
    for part in parts:
        progress(done, total, str(part))
        result.setdefault(part.section, []).append(part.row())
        done += part.work
    progress(total, total, "")
    return json.loads(json.dumps(result, allow_nan=False))


def _parts(model: nn.Module, states: Mapping[str, State], probes: Probes, settings: Settings) -> list[_Part]:
    """Return the parts that need the model, cheap ones first."""
    at = partial(_at, model)
    seed, draws = settings.seed, settings.draws
    parts: list[_Part] = []
    activations = probes.activations
    if activations is not None:
        hidden = cache(lambda name: at(states[name], activations))
        parts += [
            _Part("similarity", {"from": a, "to": b}, lambda a=a, b=b: similarity(hidden(a), hidden(b)))
            for a, b in _pairs(states)
        ]
    for name, state in states.items():
        parts.append(_Part("levels", {"state": name}, partial(at, state, partial(_level, probes)), 2))
    for a, b in _pairs(states):
        along = partial(line, model, states[a], states[b], probes.loss, settings.points, recompute=probes.recompute)
        parts.append(_Part("line", {"from": a, "to": b}, along, settings.points))
    size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    products = settings.products or products_needed(max(size, 1), settings.tolerance)
    curvature = partial(sharpness, tolerance=settings.tolerance, products=settings.products, seed=seed)
    for name, state in states.items():
        # A product costs about two forward and backward passes.
        parts.append(_Part("sharpness", {"state": name}, partial(curvature, model, state, probes.loss), 4 * products))
    for name, state in states.items():
        noisy = partial(weight_noise, model, state, probes.metric, settings.weight_scales, draws, seed)
        parts.append(_Part("weight_noise", {"state": name}, noisy, 1 + draws * len(settings.weight_scales)))
        if probes.noisy_metric is not None:
            noisy = partial(input_noise, model, state, probes.noisy_metric, settings.input_scales, draws, seed)
            parts.append(_Part("input_noise", {"state": name}, noisy, 1 + draws * len(settings.input_scales)))
    return parts


def _cycle_parts(states: Mapping[str, State], cycle: Cycle, layer: str | None, settings: Settings) -> list[_Part]:
    for name, mask in cycle.masks.items():
        for state in states.values():
            check_mask(mask, take(state, name), name)
    layer = layer or max(cycle.masks, key=lambda name: cycle.masks[name].numel(), default="")
    moments = partial(five_moments, layer, states, cycle, bins=settings.bins)
    with contextlib.suppress(DiagnosisError):  # a wrong name is told now, not after an hour; a diverged flow in its row
        moments()
    return [_Part("five_moments", {"layer": layer}, moments)]


def _at(model: nn.Module, state: State, measure: Callable[[nn.Module], Any]) -> Any:
    with borrowed(model) as load, torch.no_grad():
        load(state)
        return measure(model)


def _level(probes: Probes, model: nn.Module) -> _Level:
    return _Level(finite(probes.loss(model), "the loss"), finite(probes.metric(model), "the metric"))


def _pairs(states: Mapping[str, State]) -> list[tuple[str, str]]:
    names = list(states)
    return [*pairwise(names), *([(names[0], names[-1])] if len(names) > 2 else [])]
