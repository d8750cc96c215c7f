"""The loss around a solution: along the line to another, and under noise on weights or input.

A solution is a state dict. Every function borrows the model and puts it back: weights, buffers and the train or eval
mode of each module are afterwards, bit for bit, what they were; gradients are never touched. The caller's functions
see the model in eval mode. Losses and metrics are in the caller's unit.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from redense.errors import RedenseError, StateError
from redense.pruning import derive_seed

State = Mapping[str, Tensor]
Loss = Callable[[nn.Module], Tensor]
"""``loss(model)``: mean loss over a fixed sample, a scalar, differentiable, the same at every call."""
Metric = Callable[[nn.Module], float]
NoisyMetric = Callable[[nn.Module, float, int], float]
"""``metric(model, scale, seed)`` with noise of ``scale`` on the input; scale 0 is no noise."""


class DiagnosisError(RedenseError, ValueError):
    """Something that cannot be measured: a diverged solution, a loss without second derivative, a senseless setting."""


# --- the line between two solutions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """The loss along a straight line; see `line`."""

    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    barrier: float
    barrier_at: float
    """Where on the line, 0 to 1, the barrier stands; 0 if there is none."""
    lowest_at: float
    """Where on the line the loss is lowest."""
    buffers: Literal["none", "interpolated", "recomputed"]
    """What was done with running statistics (BatchNorm) between the ends."""


def line(
    model: nn.Module,
    a: State,
    b: State,
    loss: Loss,
    points: int = 21,
    *,
    recompute: Callable[[nn.Module], object] | None = None,
) -> Line:
    """Return the loss L along ``(1 - t) a + t b``, t = 0 to 1, and the barrier between the two solutions.

    barrier = max over t of ``L((1 - t) a + t b) - ((1 - t) L(a) + t L(b))``, at least 0 (Entezari et al. 2022; linear
    mode connectivity, Frankle et al. 2020). No barrier: the two lie in one basin of the loss.

    Running statistics are interpolated as weights are, unless ``recompute(model)`` is given to measure them anew; it
    is then called at every point, the ends too. Integer buffers are those of the nearer end.

    Raises:
        DiagnosisError: fewer than 3 points, or a loss that is not finite.
        StateError: the states do not fit each other or the model.
    """
    check_points(points)
    a, b = unshared(model, a), unshared(model, b)
    check_same(a, b)
    alphas = tuple(i / (points - 1) for i in range(points))
    losses: list[float] = []
    with borrowed(model) as load, torch.no_grad():
        for alpha in alphas:
            load({name: _between(a[name], b[name], alpha) for name in a})
            if recompute:
                recompute(model)
                model.eval()
            losses.append(finite(loss(model), f"the loss at {alpha:g} of the line"))
    excess = [value - ((1 - t) * losses[0] + t * losses[-1]) for t, value in zip(alphas, losses, strict=True)]
    highest = max(range(points), key=lambda i: excess[i])
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    has_buffers = any(name not in weights and a[name].is_floating_point() for name in a)
    return Line(
        alphas,
        tuple(losses),
        excess[highest],
        alphas[highest],
        alphas[min(range(points), key=lambda i: losses[i])],
        "recomputed" if recompute else "interpolated" if has_buffers else "none",
    )


def check_points(points: int) -> None:
    """Refuse a line without a point between its ends."""
    if points < 3:
        raise DiagnosisError(f"points of a line must be at least 3 (both ends and one between), got {points}")


def _between(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    b = b.to(a.device)
    if not a.is_floating_point():
        return a if alpha < 0.5 else b
    return torch.lerp(a, b, alpha)  # exactly a at 0 and b at 1


# --- noise ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """The metric under noise, one entry a scale; see `weight_noise` and `input_noise`."""

    clean: float
    scales: tuple[float, ...]
    values: tuple[tuple[float | None, ...], ...]
    """One a draw, the same draws for every scale; ``None`` where the metric was not finite."""
    means: tuple[float | None, ...]
    """Over the draws; ``None`` if one was not finite."""
    deviations: tuple[float | None, ...]
    """Standard deviation over the draws (n - 1); ``None`` for a single draw."""
    draws: int
    seed: int


def weight_noise(
    model: nn.Module, state: State, metric: Metric, scales: Sequence[float], draws: int = 10, seed: int = 0
) -> Noise:
    """Return the metric with Gaussian noise on the weights: ``W + scale * rms(W) * N(0, 1)``, tensor by tensor.

    ``rms(W) = sqrt(mean(W ** 2))``: the noise is relative to each tensor's own scale. All trainable parameters are
    disturbed, the zeros of a sparse solution too. A draw is the same N(0, 1) for every scale, solution and device.

    Raises:
        DiagnosisError: no scale, a negative one, or no draws.
        StateError: the state does not fit the model.
    """

    def disturbed(model: nn.Module, scale: float, draw_seed: int) -> float:
        if scale:
            generator = torch.Generator().manual_seed(draw_seed)
            for weight in model.parameters():
                if weight.requires_grad and weight.numel():
                    noise = torch.randn(weight.shape, generator=generator).to(weight)
                    weight.add_(noise * (scale * weight.float().square().mean().sqrt()))
        return metric(model)

    return input_noise(model, state, disturbed, scales, draws, seed)


def input_noise(
    model: nn.Module, state: State, metric: NoisyMetric, scales: Sequence[float], draws: int = 10, seed: int = 0
) -> Noise:
    """Return the metric with noise on the input, which ``metric(model, scale, seed)`` itself draws.

    The seeds of the draws are the same for every scale and solution.

    Raises:
        DiagnosisError: no scale, a negative one, or no draws.
        StateError: the state does not fit the model.
    """
    check_noise(scales, draws)
    state = unshared(model, state)
    seeds = [derive_seed(seed, draw, "noise") for draw in range(draws)]
    values: list[tuple[float | None, ...]] = []
    with borrowed(model) as load, torch.no_grad():

        def at(scale: float, draw_seed: int) -> float:
            load(state)
            return float(metric(model, scale, draw_seed))

        clean = finite(at(0.0, seeds[0]), "the metric without noise")
        for scale in scales:
            drawn = [at(scale, draw_seed) for draw_seed in seeds]
            values.append(tuple(value if math.isfinite(value) else None for value in drawn))
    known = [[value for value in row if value is not None] for row in values]
    means = tuple(statistics.fmean(row) if len(row) == draws else None for row in known)
    deviations = tuple(statistics.stdev(row) if len(row) == draws > 1 else None for row in known)
    return Noise(clean, tuple(scales), tuple(values), means, deviations, draws, seed)


def check_noise(scales: Sequence[float], draws: int) -> None:
    """Refuse scales and draws that mean nothing."""
    if not scales or not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise DiagnosisError(f"scales of noise must be at least one number, none below 0, got {list(scales)}")
    if draws < 1:
        raise DiagnosisError(f"draws of noise must be at least 1, got {draws}")


# --- the model, lent ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def borrowed(model: nn.Module) -> Iterator[Callable[[State], None]]:
    """Lend the model: give a function that loads a state into it, in eval mode; put everything back at the end."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    modes = [(module, module.training) for module in model.modules()]

    def load(state: State) -> None:
        try:
            model.load_state_dict(state)
        except (RuntimeError, KeyError) as error:
            raise StateError(f"the state is of another model: {' '.join(str(error).split())[:300]}") from None

    model.eval()
    try:
        yield load
    finally:
        model.load_state_dict(own)
        for module, training in modes:
            module.training = training


def unshared(model: nn.Module, state: State) -> State:
    """Return the state with a copy of each tensor that is the model's own: loading another would change it unseen."""
    own = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    return {
        name: value.detach().clone() if value.untyped_storage().data_ptr() in own else value
        for name, value in state.items()
    }


def check_same(a: State, b: State) -> None:
    """Refuse two states whose names or shapes differ."""
    for name in [*a, *b]:
        if name not in a or name not in b:
            raise StateError(f"'{name}' is in only one of the two states: they must be of one model")
        if a[name].shape != b[name].shape:
            raise StateError(
                f"'{name}' must have one shape in both states, got {tuple(a[name].shape)} and {tuple(b[name].shape)}"
            )


def finite(value: Tensor | float, what: str) -> float:
    """Return a number, or say that the solution has diverged."""
    number = float(value.detach() if isinstance(value, Tensor) else value)
    if not math.isfinite(number):
        raise DiagnosisError(f"{what} is {number}: the solution has diverged, nothing can be measured there")
    return number
