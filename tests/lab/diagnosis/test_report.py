"""Every measure against an answer known beforehand, and the model afterwards bit for bit what it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from redense.errors import ParameterError, StateError
from redense.lab.diagnosis.curvature import chance_of_missing, products_needed
from redense.lab.diagnosis.report import (
    Cycle,
    DiagnosisError,
    Probes,
    Settings,
    diagnose,
    distance,
    input_noise,
    line,
    sharpness,
    similarity,
    weight_noise,
)

State = dict[str, Tensor]


class Point(nn.Module):
    """A model that is nothing but its weights."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float32))


def network(seed: int = 0, *, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [
        nn.Linear(6, 8),
        nn.BatchNorm1d(8) if norm else nn.Identity(),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    ]
    model = nn.Sequential(*layers)
    if norm:
        with torch.no_grad():
            model(torch.randn(64, 6) * 2 + 1)  # running statistics that are not those of the start
    return model


def sample(seed: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)


X, Y = sample()


def cross_entropy(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y)


def error(model: nn.Module) -> float:
    return 100 * float((model(X).argmax(1) != Y).double().mean())


def copy(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def quadratic(hessian: Tensor) -> Callable[[nn.Module], Tensor]:
    """``1/2 w' H w``: its Hessian is H everywhere."""

    def loss(model: Any) -> Tensor:
        return 0.5 * model.w @ hessian @ model.w

    return loss


def rotated(*eigenvalues: float, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues along random axes."""
    generator = torch.Generator().manual_seed(seed)
    n = len(eigenvalues)
    axes = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    return (axes @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ axes.T).float()


def bulk(n: int, *ends: float) -> list[float]:
    """A spectrum as networks have it: nearly all of it around zero, and a few outliers."""
    return [*torch.linspace(-0.01, 0.05, n - len(ends)).tolist(), *ends]


# --- line -----------------------------------------------------------------------------------------------------------


def double_well(model: Any) -> Tensor:
    return (model.w.square() - 1).square().sum()


def test_barrier_of_a_double_well_is_its_hill() -> None:
    found = line(Point(7.0), {"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}, double_well)
    assert len(found.losses) == len(found.alphas) == 21
    assert (found.barrier, found.barrier_at, found.buffers) == (1.0, 0.5, "none")
    for alpha, loss in zip(found.alphas, found.losses, strict=True):
        assert loss == pytest.approx(((2 * alpha - 1) ** 2 - 1) ** 2, abs=1e-6)


def test_barrier_is_measured_from_the_chord_not_from_zero() -> None:
    tilted = lambda model: double_well(model) + 3 * model.w.sum()  # noqa: E731
    found = line(Point(7.0), {"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}, tilted)
    assert found.barrier == pytest.approx(1.0)
    assert (found.barrier_at, found.lowest_at) == (0.5, 0)
    assert found.losses[0] == -3
    assert found.losses[-1] == 3


def test_a_convex_loss_has_no_barrier() -> None:
    bowl = quadratic(rotated(1.0, 2.0, 3.0))
    found = line(Point(0, 0, 0), {"w": torch.tensor([1.0, 2, 3])}, {"w": torch.tensor([-4.0, 0, 1])}, bowl, points=5)
    assert found.barrier == 0
    assert found.barrier_at == 0
    assert max(found.losses) == max(found.losses[0], found.losses[-1])


def test_ends_of_the_line_are_the_solutions_themselves() -> None:
    a, b = copy(network(1)), copy(network(2))
    seen: list[State] = []
    model = network(3)

    def loss(model: nn.Module) -> Tensor:
        seen.append(copy(model))
        assert not model.training
        return cross_entropy(model)

    found = line(model, a, b, loss, points=3)
    for state, expected in ((seen[0], a), (seen[-1], b)):
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    model.load_state_dict(b)
    assert found.losses[-1] == float(cross_entropy(model.eval()).detach())


def test_running_statistics_are_interpolated_and_it_is_said() -> None:
    a, b = copy(network(1)), copy(network(2))
    means: list[Tensor] = []

    def loss(model: Any) -> Tensor:
        means.append(model[1].running_mean.clone())
        return cross_entropy(model)

    assert line(network(3), a, b, loss, points=3).buffers == "interpolated"
    assert torch.allclose(means[1], (a["1.running_mean"] + b["1.running_mean"]) / 2)
    assert (
        line(network(3, norm=False), copy(network(1, norm=False)), copy(network(2, norm=False)), cross_entropy).buffers
        == "none"
    )


def test_integer_buffers_are_those_of_the_nearer_end() -> None:
    a, b = copy(network(1)), copy(network(2))
    b["1.num_batches_tracked"] += 7
    seen: list[int] = []

    def loss(model: Any) -> Tensor:
        seen.append(int(model[1].num_batches_tracked))
        return cross_entropy(model)

    line(network(3), a, b, loss, points=4)
    assert seen == [1, 1, 8, 8]


def test_the_second_name_of_a_tied_weight_is_no_buffer() -> None:
    model = nn.ModuleDict({"one": nn.Linear(6, 6), "two": nn.Linear(6, 6)})
    model["two"].weight = model["one"].weight
    found = line(model, copy(model), copy(model), lambda m: m["one"](X).square().mean(), points=3)  # type: ignore[index]
    assert found.buffers == "none"


def test_running_statistics_are_recomputed_at_every_point_when_asked() -> None:
    a, b = copy(network(1)), copy(network(2))
    calls = []

    def recompute(model: nn.Module) -> None:
        model.train()  # and left so: the loss must see eval mode all the same
        with torch.no_grad():
            model(X)
        calls.append(1)

    def loss(model: nn.Module) -> Tensor:
        assert not any(module.training for module in model.modules())
        return cross_entropy(model)

    found = line(network(3), a, b, loss, points=4, recompute=recompute)
    assert found.buffers == "recomputed"
    assert len(calls) == 4


def test_states_that_are_the_models_own_tensors_do_not_change_under_the_measure() -> None:
    model = network(1)
    other, own = copy(network(2)), copy(model)
    assert line(model, other, model.state_dict(), cross_entropy) == line(network(3), other, own, cross_entropy)
    live = {"dense": other, "redense": model.state_dict()}
    probes, quick = Probes(cross_entropy, error), Settings(points=3, products=3, weight_scales=(0.5,), draws=1)
    found = diagnose(model, live, probes, settings=quick)
    assert found == diagnose(network(3), {"dense": other, "redense": own}, probes, settings=quick)


def test_a_line_refuses_what_it_cannot_measure() -> None:
    a = copy(network(1))
    with pytest.raises(DiagnosisError, match="at least 3"):
        line(network(), a, a, cross_entropy, points=2)
    with pytest.raises(StateError, match=r"'4.bias' is in only one"):
        line(network(), a, {k: v for k, v in a.items() if k != "4.bias"}, cross_entropy)
    with pytest.raises(StateError, match=r"'4.bias' must have one shape in both states, got \(3,\) and \(4,\)"):
        line(network(), a, a | {"4.bias": torch.zeros(4)}, cross_entropy)
    with pytest.raises(StateError, match="of another model"):
        line(Point(1.0), a, a, double_well)
    with pytest.raises(DiagnosisError, match="is nan: the solution has diverged"):
        line(network(), a, a | {"4.bias": torch.full((3,), math.nan)}, cross_entropy)


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
    loss = lambda model: F.cross_entropy(model(x), Y)  # noqa: E731
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
    loss = lambda m: (m.w * torch.tensor([1.0, 3.0]) * m.tied).sum() + 100 * m.frozen.square().sum()  # noqa: E731
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


# --- noise ----------------------------------------------------------------------------------------------------------


def test_weight_noise_has_the_size_of_each_tensors_own_scale() -> None:
    first = nn.Linear(200, 100)
    with torch.no_grad():
        first.weight.mul_(1000)
    model = nn.Sequential(first, nn.Linear(100, 50))
    state = copy(model)
    moved: list[State] = []

    def metric(model: nn.Module) -> float:
        moved.append({name: value - state[name] for name, value in model.state_dict().items()})
        return 0.0

    weight_noise(model, state, metric, [0.1, 0.2], draws=2)
    clean, one, other, twice, _ = moved
    assert not any(value.any() for value in clean.values())
    for name, weight in state.items():
        scale = float(one[name].square().mean().sqrt() / weight.square().mean().sqrt())
        assert scale == pytest.approx(0.1, rel=0.3 if "bias" in name else 0.03)
        assert torch.allclose(twice[name], 2 * one[name], rtol=1e-3, atol=1e-5 * float(weight.abs().max()))
        assert not torch.equal(one[name], other[name])


def test_noise_reports_mean_and_deviation_over_the_draws() -> None:
    values = iter([1.0, 2.0, 4.0, 6.0, 5.0, math.inf, 5.0])
    found = input_noise(Point(1.0), {"w": torch.ones(1)}, lambda m, scale, seed: next(values), [0.1, 0.2], draws=3)
    assert found.clean == 1
    assert found.values == ((2, 4, 6), (5, None, 5))
    assert found.means == (4, None)
    assert found.deviations == (2, None)
    single = weight_noise(Point(1.0), {"w": torch.ones(1)}, lambda m: 3.0, [0.1], draws=1)
    assert (single.means, single.deviations) == ((3.0,), (None,))


def test_input_noise_gives_every_scale_the_same_draws() -> None:
    seen: list[tuple[float, int]] = []

    def metric(model: nn.Module, scale: float, seed: int) -> float:
        seen.append((scale, seed))
        return scale

    input_noise(Point(1.0), {"w": torch.ones(1)}, metric, [0.1, 0.2], draws=2)
    (_, first), (_, second) = seen[1:3]
    assert seen == [(0.0, first), (0.1, first), (0.1, second), (0.2, first), (0.2, second)]
    assert first != second


def test_noise_is_the_same_for_the_same_seed_and_no_other() -> None:
    state = copy(network(1))
    loss = lambda model: float(cross_entropy(model))  # noqa: E731
    torch.manual_seed(1)
    first = weight_noise(network(2), state, loss, [0.3], draws=3, seed=5)
    torch.manual_seed(2)
    assert weight_noise(network(3), state, loss, [0.3], draws=3, seed=5) == first
    assert weight_noise(network(3), state, loss, [0.3], draws=3, seed=6).values != first.values


@pytest.mark.parametrize(("scales", "draws"), [([], 1), ([-0.1], 1), ([math.nan], 1), ([0.1], 0)])
def test_noise_refuses_senseless_settings(scales: list[float], draws: int) -> None:
    with pytest.raises(DiagnosisError, match="of noise must be"):
        weight_noise(Point(1.0), {"w": torch.ones(1)}, lambda m: 0.0, scales, draws)


# --- distance -------------------------------------------------------------------------------------------------------


def test_distance_is_the_length_of_the_way_and_adds_up() -> None:
    a = {"w": torch.tensor([3.0, 4.0, 0.0, 0.0]), "b": torch.tensor([0.0])}
    b = {"w": torch.tensor([3.0, 4.0, 3.0, 4.0]), "b": torch.tensor([12.0])}
    found = distance(a, b, ["w", "b"], {"w": torch.tensor([True, True, False, False])})
    assert (found.total.length, found.total.start, found.total.relative, found.total.weights) == (13, 5, 13 / 5, 5)
    assert (found.tensors["w"].length, found.tensors["w"].relative) == (5, 1)
    assert found.tensors["b"].relative is None
    assert found.kept is not None
    assert (found.kept.length, found.kept.start, found.kept.weights) == (0, 5, 2)
    assert found.regrown is not None
    assert (found.regrown.length, found.regrown.relative, found.regrown.weights) == (5, None, 2)
    plain = distance(a, b, ["w"])
    assert (plain.kept, plain.regrown, list(plain.tensors)) == (None, None, ["w"])


def test_distance_refuses_what_does_not_fit() -> None:
    a = {"weight": torch.ones(3)}
    with pytest.raises(ParameterError, match="no tensor 'weigth' in the state; did you mean 'weight'"):
        distance(a, a, ["weigth"])
    with pytest.raises(StateError, match="one shape"):
        distance(a, {"weight": torch.ones(2)}, ["weight"])
    with pytest.raises(StateError, match=r"mask of 'weight' must be boolean of shape \(3,\), got torch.float32"):
        distance(a, a, ["weight"], {"weight": torch.ones(3)})
    with pytest.raises(DiagnosisError, match="diverged"):
        distance(a, {"weight": torch.tensor([1, math.nan, 1])}, ["weight"])


# --- similarity -----------------------------------------------------------------------------------------------------


def hidden(examples: int, units: int, seed: int = 0) -> Tensor:
    return torch.randn(examples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("examples", [20, 200])  # either side of the two ways to compute CKA
def test_cka_ignores_rotation_scale_and_shift_and_nothing_else(examples: int) -> None:
    x = hidden(examples, 30)
    turn = torch.linalg.qr(hidden(30, 30, 1)).Q
    assert similarity(x, x).cka == pytest.approx(1)
    assert similarity(x, 7 * x @ turn + 3).cka == pytest.approx(1)
    projected = similarity(x[:, :20], x @ torch.linalg.qr(hidden(30, 20, 1)).Q).cka
    assert projected is not None
    assert projected < 0.95


def test_cka_is_that_of_its_definition() -> None:
    x, y = hidden(50, 8), hidden(50, 5, 1)
    y[:, 0] += x[:, 0]
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50
    k, other = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = torch.trace(k @ other) / torch.sqrt(torch.trace(k @ k) * torch.trace(other @ other))
    assert similarity(x, y).cka == pytest.approx(float(expected))
    assert similarity(y, x).cka == pytest.approx(float(expected))
    assert similarity(x[:6], y[:6]).cka == pytest.approx(
        float(similarity(torch.cat([x[:6]] * 3), torch.cat([y[:6]] * 3)).cka or 0)
    )


def test_units_that_changed_places_are_found_again() -> None:
    x = hidden(300, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3)).roll(1)
    found = similarity(x, 2 * x[:, order] + 1)
    assert (found.best, found.matched) == (pytest.approx(1), pytest.approx(1))
    assert found.same is not None
    assert found.same < 0.6
    assert found.in_place == float((order == torch.arange(12)).double().mean())
    assert similarity(x, x).in_place == 1


def test_a_unit_is_matched_only_once() -> None:
    x = hidden(400, 3)
    doubled = torch.stack([x[:, 0], x[:, 0], x[:, 1]], 1)
    found = similarity(doubled, x)
    assert found.best == pytest.approx(1)
    assert found.matched == pytest.approx(2 / 3, abs=0.1)


def test_constant_units_are_left_out_or_count_as_unlike() -> None:
    x = hidden(300, 4)
    dead = x.clone()
    dead[:, 1] = 0.1
    dead[::2, 1] += 8e-9  # constant but for the rounding of single precision
    found = similarity(dead.float(), x)
    assert found.constant == (1, 0)
    assert found.same == pytest.approx(1)
    found = similarity(x, dead.float())
    assert found.constant == (0, 1)
    assert found.same == pytest.approx(0.75)
    nothing = similarity(torch.ones(5, 2), torch.ones(5, 3))
    assert (nothing.cka, nothing.best, nothing.matched, nothing.same, nothing.in_place) == (None,) * 5
    assert nothing.constant == (2, 3)


def test_of_very_many_units_some_are_matched() -> None:
    x = hidden(100, 1500)
    found = similarity(x, x)
    assert found.units == (1500, 1500)
    assert (found.matched, found.same, found.in_place) == (pytest.approx(1), pytest.approx(1), 1)


@given(st.integers(2, 30), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_similarities_keep_their_order(examples: int, units: int, others: int, seed: int) -> None:
    found = similarity(hidden(examples, units, seed), hidden(examples, others, seed + 100))
    assert found.cka is not None
    assert found.best is not None
    assert found.matched is not None
    assert -1e-9 <= found.cka <= 1 + 1e-9
    assert found.best <= 1 + 1e-9
    if units <= others:
        assert found.matched <= found.best + 1e-9
    if units == others:
        assert found.same is not None
        assert found.same <= found.matched + 1e-9


def test_similarity_refuses_what_is_no_activation() -> None:
    for x, y in [(hidden(5, 2), hidden(6, 2)), (hidden(1, 2), hidden(1, 2)), (torch.ones(3), torch.ones(3))]:
        with pytest.raises(DiagnosisError, match="two matrices"):
            similarity(x, y)
    with pytest.raises(DiagnosisError, match="finite"):
        similarity(hidden(5, 2), hidden(5, 2) * math.inf)


# --- all of it ------------------------------------------------------------------------------------------------------

QUICK = Settings(points=5, weight_scales=(0.1, 0.5), input_scales=(0.5,), draws=2)


def flow() -> tuple[dict[str, State], Cycle]:
    states = {name: copy(network(seed)) for seed, name in enumerate(("dense", "sparse", "redense"))}
    masks = {name: states["dense"][name].abs() > 0.1 for name in ("0.weight", "4.weight")}
    for name, mask in masks.items():
        states["sparse"][name] *= mask
    return states, Cycle(masks)


def noisy_error(model: nn.Module, scale: float, seed: int) -> float:
    noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(seed))
    return 100 * float((model(X + scale * noise).argmax(1) != Y).double().mean())


def hidden_units(model: Any) -> Tensor:
    return model[:3](X)


PROBES = Probes(cross_entropy, error, hidden_units, noisy_error)


def test_a_diagnosis_has_every_part_as_plain_data() -> None:
    states, cycle = flow()
    told: list[tuple[int, int, str]] = []
    found = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK, progress=lambda *what: told.append(what))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    pairs = [("dense", "sparse"), ("sparse", "redense"), ("dense", "redense")]
    for section in ("line", "distance", "similarity"):
        assert [(row["from"], row["to"]) for row in found[section]] == pairs
    for section in ("levels", "sharpness", "weight_noise", "input_noise"):
        assert [row["state"] for row in found[section]] == ["dense", "sparse", "redense"]
    assert not any(
        "error" in row for rows in found.values() if isinstance(rows, list) for row in rows if row != str(row)
    )
    assert found["states"] == ["dense", "sparse", "redense"]
    assert found["five_moments"][0]["name"] == "0.weight"  # the larger one
    assert found["levels"][0]["loss"] == found["line"][0]["losses"][0] == found["sharpness"][0]["loss"]
    assert found["levels"][2]["metric"] == found["weight_noise"][2]["clean"] == found["input_noise"][2]["clean"]
    assert found["distance"][1]["regrown"]["start"] == 0
    assert set(found["distance"][0]["tensors"]) == {n for n, _ in network().named_parameters()}
    done, total, what = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert done[0] == 0
    assert set(total) == {done[-1]}
    assert what[-1] == ""
    assert "line: dense to sparse" in what
    assert "weight noise: redense" in what


def test_a_flow_without_a_mask_is_diagnosed_too() -> None:
    states, _ = flow()
    found = diagnose(network(7), states, Probes(cross_entropy, error), settings=QUICK)
    assert set(found) == {"states", "settings", "levels", "line", "sharpness", "weight_noise", "distance"}
    assert found["distance"][0]["kept"] is None


def test_the_same_seed_gives_the_same_diagnosis() -> None:
    states, cycle = flow()
    torch.manual_seed(1)
    first = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK)
    torch.manual_seed(2)
    assert diagnose(network(8), states, PROBES, cycle=cycle, settings=QUICK) == first


def test_a_diverged_solution_does_not_spoil_the_others() -> None:
    states, cycle = flow()
    states["redense"] = {k: v * math.nan if v.is_floating_point() else v for k, v in states["redense"].items()}
    found = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK)
    errors = {(section, i) for section, rows in found.items() if section not in ("states", "settings")
              for i, row in enumerate(rows) if "error" in row}  # fmt: skip
    single = {(section, 2) for section in ("levels", "sharpness")}
    pairs = {(section, i) for section in ("line", "distance", "similarity") for i in (1, 2)}
    assert errors == single | pairs | {("five_moments", 0)}  # the error rate of NaN is a number, so noise has rows
    assert "diverged" in found["levels"][2]["error"]


def test_what_is_asked_wrongly_is_told_before_anything_is_measured() -> None:
    states, cycle = flow()

    def diagnosed(**changes: Any) -> None:
        arguments: dict[str, Any] = {"states": states, "cycle": cycle} | changes
        told = []
        try:
            diagnose(network(7), probes=PROBES, settings=QUICK, progress=lambda *what: told.append(what), **arguments)
        finally:
            assert not told

    with pytest.raises(StateError, match="at least two states, got 1: dense"):
        diagnosed(states={"dense": states["dense"]})
    with pytest.raises(StateError, match="of another model"):
        diagnosed(states=states | {"redense": {"w": torch.ones(1)}})
    with pytest.raises(ParameterError, match=r"'4\.wieght' has no mask; did you mean '4\.weight'"):
        diagnosed(layer="4.wieght")
    with pytest.raises(ParameterError, match=r"no tensor 'fc\.weight'"):
        diagnosed(cycle=Cycle({"fc.weight": torch.ones(2, dtype=torch.bool)}))
    with pytest.raises(StateError, match="no state 'last'"):
        diagnosed(cycle=Cycle(cycle.masks, redense="last"))
    wrong: dict[str, Any]
    for wrong in ({"points": 1}, {"tolerance": 2.0}, {"bins": 2}, {"draws": 0}, {"weight_scales": ()}):
        with pytest.raises(DiagnosisError):
            Settings(**wrong)


# --- the model afterwards -------------------------------------------------------------------------------------------


def recompute_norm(model: Any) -> None:
    model[1].train()
    model(X)


def measures(states: dict[str, State], cycle: Cycle) -> dict[str, Callable[[nn.Module], object]]:
    a, b = states["dense"], states["redense"]
    return {
        "line": lambda m: line(m, a, b, cross_entropy, 3, recompute=recompute_norm),
        "lanczos": lambda m: sharpness(m, a, cross_entropy, products=3),
        "power": lambda m: sharpness(m, a, cross_entropy, products=4, method="power"),
        "weight noise": lambda m: weight_noise(m, a, error, [0.5], 2),
        "input noise": lambda m: input_noise(m, a, noisy_error, [0.5], 2),
        "diagnose": lambda m: diagnose(m, states, PROBES, cycle=cycle, settings=QUICK),
        "a failure": lambda m: line(m, a, b, lambda m: cross_entropy(m) / 0),
        "an exception": lambda m: weight_noise(m, a, lambda m: 1 / 0, [0.1]),
        "a wrong state": lambda m: sharpness(m, b | {"0.weight": torch.ones(1)}, cross_entropy),
    }


@pytest.mark.parametrize("measure", list(measures(*flow())))
def test_the_model_is_afterwards_bit_for_bit_what_it_was(measure: str) -> None:
    states, cycle = flow()
    given = {name: {k: v.clone() for k, v in state.items()} for name, state in states.items()}
    model = network(7)
    model.train()
    model[1].eval()  # a mode of its own
    model[0].bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, identities = copy(model), [id(p) for p in model.parameters()]
    random = torch.get_rng_state()
    try:
        measures(states, cycle)[measure](model)
    except (DiagnosisError, StateError, ZeroDivisionError):
        assert measure.startswith("a")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [id(p) for p in model.parameters()] == identities
    assert [p.requires_grad for p in model.parameters()] == [True, False, *[True] * 4]
    assert all(p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters())
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), random)
    for name, state in given.items():
        assert all(torch.equal(value, states[name][key]) for key, value in state.items())
