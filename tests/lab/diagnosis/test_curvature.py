"""Both ends of a Hessian's spectrum, against Hessians that are known."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.lab.diagnosis.curvature import chance_of_missing, products_needed
from redense.lab.diagnosis.report import (
    DiagnosisError,
    sharpness,
)

from .known import Point, X, Y, copy, double_well, network, quadratic, rotated


def bulk(n: int, *ends: float) -> list[float]:
    """A spectrum as networks have it: nearly all of it around zero, and a few outliers."""
    return [*torch.linspace(-0.01, 0.05, n - len(ends)).tolist(), *ends]


# --- sharpness ------------------------------------------------------------------------------------------------------

Method = Literal["lanczos", "power"]
BOTH = pytest.mark.parametrize("method", ["lanczos", "power"])


@BOTH
@pytest.mark.parametrize(
    ("eigenvalues", "kind"),
    [
        ((5.0, 3.0, 1.0, 0.5), "minimum"),
        ((5.0, 3.0, 1.0, -1.0), "saddle"),
        ((2.0, 1.0, 0.0, -7.0), "saddle"),  # the larger magnitude is the negative one
        ((0.0, 0.0, 0.0, 4.0), "minimum"),  # flat in most directions
        ((-1.0, -2.0, -3.0, -4.0), "saddle"),
        ((10.0, 3.0, 1.0, -0.05), "minimum"),  # not clearly negative beside its spectrum
        ((3.0, 3.0, 3.0, 3.0), "minimum"),
        ((0.0, 0.0, 0.0, 0.0), "minimum"),
        ((1e-4, 5e-5, 0.0, -5e-5), "saddle"),  # clear beside its own spectrum, however small
    ],
)
def test_both_ends_of_a_known_hessian_are_found(eigenvalues: tuple[float, ...], kind: str, method: Method) -> None:
    state = {"w": torch.tensor([0.3, -0.2, 0.5, 0.1])}
    found = sharpness(Point(0, 0, 0, 0), state, quadratic(rotated(*eigenvalues)), tolerance=0.03, method=method)
    scale = max(map(abs, eigenvalues))
    assert found.top == pytest.approx(max(eigenvalues), abs=1e-3 * scale + 1e-12)
    assert found.bottom == pytest.approx(min(eigenvalues), abs=1e-3 * scale + 1e-12)
    assert found.kind == kind
    assert found.weights == 4
    assert found.converged


def test_a_single_weight_has_one_curvature() -> None:
    found = sharpness(Point(1.0), {"w": torch.tensor([0.0])}, double_well)  # the hill: 4 w^3 - 4 w, 12 w^2 - 4
    assert (found.top, found.bottom, found.kind, found.gradient_norm, found.loss) == (-4, -4, "saddle", 0, 1)
    found = sharpness(Point(1.0), {"w": torch.tensor([1.0])}, double_well)
    assert (found.top, found.bottom, found.kind, found.products, found.chance) == (8, 8, "minimum", 1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_stand_out_of_a_large_flat_bulk(seed: int) -> None:
    hessian = rotated(*bulk(400, 10.0, 4.0, -0.4))
    found = sharpness(Point(*[0.1] * 400), {"w": torch.zeros(400)}, quadratic(hessian), seed=seed)
    assert found.products == products_needed(400, 0.01) < 50
    assert found.top == pytest.approx(10, rel=1e-4)
    assert found.bottom == pytest.approx(-0.4, rel=0.02)
    assert found.kind == "saddle"
    assert found.converged


@pytest.mark.slow
def test_the_power_iteration_needs_many_more_products_for_the_smallest() -> None:
    hessian, state = quadratic(rotated(*bulk(400, 10.0, 4.0, -0.4))), {"w": torch.zeros(400)}
    few = sharpness(Point(*[0.1] * 400), state, hessian, method="power", products=2 * products_needed(400, 0.01))
    assert few.top == pytest.approx(10, rel=1e-3)
    assert few.bottom > -0.2
    assert not few.converged
    assert few.kind == "undecided"
    many = sharpness(Point(*[0.1] * 400), state, hessian, method="power")
    assert many.products == products_needed(400, 0.01, "power")
    assert many.bottom == pytest.approx(-0.4, rel=0.01)
    assert many.kind == "saddle"


def test_a_minimum_is_claimed_only_when_converged() -> None:
    bowl, state = quadratic(rotated(*[1.0 + i / 400 for i in range(400)])), {"w": torch.zeros(400)}
    few = sharpness(Point(*[0.1] * 400), state, bowl, products=5)
    assert few.chance == 1
    assert not few.converged
    assert few.kind == "undecided"
    assert sharpness(Point(*[0.1] * 400), state, bowl).kind == "minimum"


def test_rounding_is_not_taken_for_a_saddle() -> None:
    flat = quadratic(rotated(*[0.0] * 50, *[100.0] * 50))
    assert sharpness(Point(*[0.1] * 100), {"w": torch.ones(100)}, flat, tolerance=1e-6).kind != "saddle"


def test_the_chance_of_missing_is_an_upper_bound() -> None:
    # The power iteration has no easy spectrum here: how often random starts miss the top of a bulk, against the bound.
    n, tolerance = 100, 0.05
    values = torch.cat([torch.linspace(0, 1 - tolerance, n - 1), torch.ones(1)]).double()
    generator = torch.Generator().manual_seed(0)
    for k in (4, 6, 8, 10):
        starts = torch.randn(300, n, generator=generator, dtype=torch.float64)
        # Best Rayleigh quotient of the Krylov space, by an orthonormal basis of it.
        missed = 0
        for start in starts:
            basis = torch.linalg.qr(torch.stack([start * values**j for j in range(k)], 1)).Q
            best = torch.linalg.eigvalsh(basis.T @ (values.unsqueeze(1) * basis))[-1]
            missed += bool(best < 1 - tolerance)
        assert missed / 300 <= chance_of_missing(n, tolerance, k, "lanczos") + 0.03
    assert chance_of_missing(n, tolerance, n, "lanczos") == 0
    for method in ("lanczos", "power"):
        needed = products_needed(10**5, 0.01, method)
        assert (
            chance_of_missing(10**5, 0.01, needed, method) <= 0.01 < chance_of_missing(10**5, 0.01, needed - 2, method)
        )


@pytest.mark.parametrize(("method", "tolerance"), [("lanczos", 0.005), ("power", 0.05)])
def test_curvature_of_a_network_is_that_of_its_full_hessian(method: Method, tolerance: float) -> None:
    model = network(4).double()
    state, names = copy(model), [name for name, _ in model.named_parameters()]
    x = X.double()
    model.eval()

    def flat_loss(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in model.parameters()])
        weights = {n: v.view_as(p) for (n, p), v in zip(model.named_parameters(), parts, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, weights, (x,)), Y)

    flat = torch.cat([state[name].reshape(-1) for name in names])
    hessian = torch.autograd.functional.hessian(flat_loss, flat)
    expected = torch.linalg.eigvalsh(hessian)
    loss = lambda model: F.cross_entropy(model(x), Y)  # noqa: E731  # a formula of one line
    found = sharpness(model, state, loss, tolerance=tolerance, method=method)
    width = float(expected[-1] - expected[0])
    assert found.top == pytest.approx(float(expected[-1]), abs=tolerance * width)
    assert found.bottom == pytest.approx(float(expected[0]), abs=tolerance * width)
    assert found.weights == len(flat)
    assert found.gradient_norm == pytest.approx(float(torch.func.grad(flat_loss)(flat).norm()))


def test_frozen_and_tied_weights_count_as_the_optimizer_counts_them() -> None:
    model = Point(1.0, 1.0)
    model.register_parameter("frozen", nn.Parameter(torch.tensor([5.0]), requires_grad=False))
    model.register_parameter("tied", model.w)
    loss = lambda m: (m.w * torch.tensor([1.0, 3.0]) * m.tied).sum() + 100 * m.frozen.square().sum()  # noqa: E731  # a formula of one line
    found = sharpness(model, copy(model), loss)
    assert found.weights == 2
    assert (found.top, found.bottom) == (pytest.approx(6), pytest.approx(2))
    model.w.requires_grad_(False)
    with pytest.raises(DiagnosisError, match="every parameter of the model is frozen"):
        sharpness(model, copy(model), loss)


def test_a_linear_loss_and_an_unused_weight_have_no_curvature() -> None:
    model = Point(1.0, 2.0)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))

    def linear(model: Any) -> Tensor:
        return 3 * model.w.sum()

    found = sharpness(model, copy(model), linear)
    assert (found.top, found.bottom, found.weights) == (0, 0, 5)
    assert found.gradient_norm == pytest.approx(math.sqrt(18))


def test_attention_and_recurrent_layers_have_curvature() -> None:
    torch.manual_seed(0)
    layer = nn.ModuleDict({"lstm": nn.LSTM(4, 4), "attention": nn.MultiheadAttention(4, 2)})
    x = torch.randn(5, 2, 4)

    def loss(model: Any) -> Tensor:
        hidden, _ = model.lstm(x)
        return model.attention(hidden, hidden, hidden, need_weights=False)[0].square().mean()

    assert sharpness(layer, copy(layer), loss, products=4).top > 0


def test_a_loss_without_second_derivative_says_so() -> None:
    model = nn.Linear(4, 5)
    targets, lengths = torch.tensor([[1, 2]]), torch.tensor([6])

    def ctc(model: nn.Module) -> Tensor:
        return F.ctc_loss(model(X[:6, :4]).log_softmax(-1).unsqueeze(1), targets, lengths, torch.tensor([2]))

    with pytest.raises(DiagnosisError, match="no second derivative in PyTorch"):
        sharpness(model, copy(model), ctc)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0}, r"in \(0, 1\), got 0"),
        ({"tolerance": 1.0}, r"in \(0, 1\), got 1.0"),
        ({"products": 1}, "at least 2, got 1"),
        ({"method": "magic"}, "lanczos, power, got 'magic'"),
    ],
)
def test_sharpness_refuses_senseless_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DiagnosisError, match=message):
        sharpness(Point(1.0), {"w": torch.ones(1)}, double_well, **settings)


def test_a_loss_that_hides_its_gradient_is_refused() -> None:
    with pytest.raises(DiagnosisError, match="gradients enabled"):
        sharpness(Point(1.0), {"w": torch.ones(1)}, lambda m: double_well(m).detach())
