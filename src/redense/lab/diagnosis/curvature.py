"""Curvature: the two ends of the Hessian's spectrum at a solution, from Hessian-vector products alone.

Eigenvalues are in the loss's unit per squared weight.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .landscape import DiagnosisError, Loss, State, borrowed, finite, unshared

Method = Literal["lanczos", "power"]

_CHANCE = 0.01  # that an end of the spectrum lies beyond what was found, by more than the tolerance
_ROUNDING = 1e-5  # of the spectrum: what single-precision products cannot tell from zero

_Operator = Callable[[Tensor], Tensor]
_Ends = tuple[float, float, float, float, int]  # top, bottom, their residuals, products spent


@dataclass(frozen=True)
class Sharpness:
    """The two ends of the Hessian's spectrum at a solution; see `sharpness`."""

    top: float
    bottom: float
    kind: Literal["saddle", "minimum", "undecided"]
    loss: float
    gradient_norm: float
    weights: int
    method: Method
    products: int
    """Hessian-vector products spent, each of about the cost of two gradients."""
    tolerance: float
    chance: float
    """At most about so likely an end lies beyond ``top`` or ``bottom`` by more than the tolerance."""
    residuals: tuple[float, float]
    """``|Hv - top v|`` and ``|Hv - bottom v|`` of the vectors found."""
    converged: bool
    seed: int


def sharpness(
    model: nn.Module,
    state: State,
    loss: Loss,
    *,
    tolerance: float = 0.01,
    products: int | None = None,
    method: Method = "lanczos",
    seed: int = 0,
) -> Sharpness:
    """Return the largest and the smallest eigenvalue of the loss's Hessian H over the trainable weights.

    ``kind``: with m = tolerance times the spectrum's extent (0 included), "saddle" when bottom < -m, which is certain
    since v'Hv < 0 proves it; "minimum" when converged to bottom >= -m, flat in most directions though it may be; else
    "undecided". It speaks of the curvature alone: only where ``gradient_norm`` is near 0 is it a stationary point.

    Both methods use products Hv, by differentiating the gradient once more (Pearlmutter 1994), from a seeded random v.
    With k products over n weights they miss an end by more than a share e of the spectrum's width with a chance of at
    most about the one given here, whatever the spectrum is (Kuczynski and Wozniakowski 1992; in exact arithmetic):

    - "power": ``v <- Hv / |Hv|`` gives the end of larger magnitude s, the same with ``H - s I`` the other, k for each:
      ``2 sqrt(n) (1 - e) ** k``, if one end is clearly larger (the residuals tell). The smallest eigenvalue of a
      network is tiny beside the shift and takes hundreds of products.
    - "lanczos": the extremes of H in the space of all those v, from the same products, both ends at once:
      ``2 sqrt(n) exp(-(2 k - 1) sqrt(e))``. At e = 1 % and a million weights 62 products instead of 2 x 1215.
      Only three vectors are kept; the orthogonality that this loses repeats eigenvalues but adds none.

    Eigenvalues change when one layer is scaled up and the next down, though the network does not (Dinh et al. 2017):
    set them beside `weight_noise`, which is relative to each layer. All trainable weights count, also those under a
    mask: that tells whether a sparse solution is a saddle of the dense loss. Memory: one gradient's graph is kept.

    Args:
        model: any module; only parameters with ``requires_grad`` count.
        state: the solution.
        loss: twice differentiable, in single precision or better; weight decay counts only if it is part of it.
        tolerance: e, in (0, 1).
        products: most products to spend; ``None`` spends what brings the chance to 1 %.
        method: see above.
        seed: of the first v.

    Raises:
        DiagnosisError: a setting, a loss that is not finite, or one whose second derivative PyTorch does not have.
        StateError: the state does not fit the model.
    """
    check_spectrum(tolerance, products, method)
    state = unshared(model, state)
    with borrowed(model) as load, _twice_differentiable():
        load(state)
        weights = [p for p in model.parameters() if p.requires_grad]
        if not weights:
            raise DiagnosisError("sharpness needs a trainable weight, but every parameter of the model is frozen")
        value, gradient, hessian = _hessian(model, loss, weights)
        size = gradient.numel()
        start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        start = (start / start.norm()).to(gradient)
        budget = products or products_needed(size, tolerance, method)
        budget = min(budget, size) if method == "lanczos" else budget
        top, bottom, high, low, spent = _METHODS[method](hessian, start, budget)
    extent = max(top, 0.0) - min(bottom, 0.0)
    chance = 0.0 if spent < budget else chance_of_missing(size, tolerance, spent, method)
    converged = chance <= _CHANCE and (method == "lanczos" or max(high, low) <= tolerance * extent)
    margin = max(tolerance, _ROUNDING) * extent
    kind = "saddle" if bottom < -margin else "minimum" if converged else "undecided"
    norm = finite(gradient.norm(), "the gradient")
    return Sharpness(
        top, bottom, kind, value, norm, size, method, spent, tolerance, chance, (high, low), converged, seed
    )  # fmt: skip


def check_spectrum(tolerance: float, products: int | None = None, method: str = "lanczos") -> None:
    """Refuse settings of `sharpness` that mean nothing."""
    if not 0 < tolerance < 1:
        raise DiagnosisError(f"tolerance of sharpness must be a share of the spectrum in (0, 1), got {tolerance}")
    if products is not None and products < 2:
        raise DiagnosisError(f"products of sharpness must be at least 2, got {products}")
    if method not in _METHODS:
        raise DiagnosisError(f"method of sharpness must be one of {', '.join(_METHODS)}, got {method!r}")


def chance_of_missing(weights: int, tolerance: float, products: int, method: Method) -> float:
    """Return the upper bound of the chance that `sharpness` misses an end by more than the tolerance, at most 1.

    A Krylov space as large as the whole misses nothing.
    """
    if method == "lanczos" and products >= weights:
        return 0.0
    decay = (1 - tolerance) ** (products // 2) if method == "power" else math.exp((1 - 2 * products) * tolerance**0.5)
    return min(1.0, 2 * math.sqrt(weights) * decay)


def products_needed(weights: int, tolerance: float, method: Method = "lanczos") -> int:
    """Return how many Hessian-vector products make `chance_of_missing` 1 %.

    >>> products_needed(1_000_000, 0.01), products_needed(1_000_000, 0.01, "power")
    (62, 2430)
    """
    nats = math.log(2 * math.sqrt(weights) / _CHANCE)
    if method == "power":
        return 2 * math.ceil(nats / -math.log1p(-tolerance))
    return max(2, min(weights, math.ceil((nats / math.sqrt(tolerance) + 1) / 2)))


def _hessian(model: nn.Module, loss: Loss, weights: Sequence[nn.Parameter]) -> tuple[float, Tensor, _Operator]:
    """Return the loss, its gradient as one vector, and ``v -> H v``; the graph of the gradient is kept and reused."""
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    with torch.enable_grad():
        output = loss(model)
        value = finite(output, "the loss")
        if not output.requires_grad:
            raise DiagnosisError("the loss does not depend on the weights: it must be computed with gradients enabled")
        gradient = torch.autograd.grad(output, weights, create_graph=True, **options)
    # Double precision where there is any: dot products over millions of weights stay exact at little cost.
    dtype = torch.float32 if weights[0].device.type == "mps" else torch.float64
    curved = [g for g in gradient if g.requires_grad]
    sizes = [w.numel() for w in weights]

    def product(vector: Tensor) -> Tensor:
        parts = [v.view_as(w).to(w.dtype) for v, w in zip(vector.split(sizes), weights, strict=True)]
        mine = [part for part, g in zip(parts, gradient, strict=True) if g.requires_grad]
        if not curved:  # a linear loss
            return torch.zeros_like(vector)
        try:
            out = torch.autograd.grad(curved, weights, mine, retain_graph=True, **options)
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            reason = " ".join(str(error).split())
            raise DiagnosisError(f"the loss has no second derivative in PyTorch, so no sharpness: {reason}") from None
        return torch.cat([part.reshape(-1).to(dtype) for part in out])

    return value, torch.cat([g.detach().reshape(-1).to(dtype) for g in gradient]), product


def _lanczos(hessian: _Operator, start: Tensor, products: int) -> _Ends:
    """Three-term recurrence ``b_k v_k+1 = H v_k - a_k v_k - b_k-1 v_k-1``; the ends are those of its tridiagonal."""
    diagonal: list[float] = []
    beside: list[float] = []
    before, vector, beta = torch.zeros_like(start), start, 0.0
    while True:
        image = hessian(vector).detach() - beta * before
        diagonal.append(finite(torch.dot(image, vector), "the curvature"))
        image -= diagonal[-1] * vector
        beta = float(image.norm())
        # Nothing new in the next direction, to rounding: the space holds all eigenvalues that the start can show.
        exhausted = beta <= 1e-6 * max(map(abs, diagonal + beside))
        if exhausted or len(diagonal) >= products:
            break
        beside.append(beta)
        before, vector = vector, image / beta
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.tensor(beside, dtype=torch.float64)
        tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    left = [beta * abs(float(vectors[-1, i])) for i in (-1, 0)]
    return float(values[-1]), float(values[0]), left[0], left[1], len(diagonal)


def _power(hessian: _Operator, start: Tensor, products: int) -> _Ends:
    """Power iteration for the end of larger magnitude, then on the operator shifted by it for the other."""
    first, first_residual = _power_once(hessian, start, products // 2, 0.0)
    other, other_residual = _power_once(hessian, start, products // 2, first)
    (bottom, low), (top, high) = sorted([(first, first_residual), (other, other_residual)])
    return top, bottom, high, low, products // 2 * 2


def _power_once(hessian: _Operator, vector: Tensor, products: int, shift: float) -> tuple[float, float]:
    value = residual = 0.0
    for _ in range(products):
        image = hessian(vector).detach() - shift * vector
        value = finite(torch.dot(vector, image), "the curvature")
        residual = float((image - value * vector).norm())
        norm = float(image.norm())
        if not norm:
            break
        vector = image / norm
    return value + shift, residual


_METHODS: dict[Method, Callable[[_Operator, Tensor, int], _Ends]] = {"lanczos": _lanczos, "power": _power}


@contextlib.contextmanager
def _twice_differentiable() -> Iterator[None]:
    # The fused attention kernels and cuDNN's recurrent layers have no second derivative; the plain ones have.
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield
