"""The line between two solutions, and noise: each against an answer known beforehand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense.errors import StateError
from redense.lab.diagnosis.report import (
    DiagnosisError,
    Probes,
    Settings,
    diagnose,
    input_noise,
    line,
    weight_noise,
)

from .known import Point, State, X, copy, cross_entropy, double_well, error, network, quadratic, rotated


def test_barrier_of_a_double_well_is_its_hill() -> None:
    found = line(Point(7.0), {"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}, double_well)
    assert len(found.losses) == len(found.alphas) == 21
    assert (found.barrier, found.barrier_at, found.buffers) == (1.0, 0.5, "none")
    for alpha, loss in zip(found.alphas, found.losses, strict=True):
        assert loss == pytest.approx(((2 * alpha - 1) ** 2 - 1) ** 2, abs=1e-6)


def test_barrier_is_measured_from_the_chord_not_from_zero() -> None:
    tilted = lambda model: double_well(model) + 3 * model.w.sum()  # noqa: E731  # a formula of one line
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
    loss = lambda model: float(cross_entropy(model))  # noqa: E731  # a formula of one line
    torch.manual_seed(1)
    first = weight_noise(network(2), state, loss, [0.3], draws=3, seed=5)
    torch.manual_seed(2)
    assert weight_noise(network(3), state, loss, [0.3], draws=3, seed=5) == first
    assert weight_noise(network(3), state, loss, [0.3], draws=3, seed=6).values != first.values


@pytest.mark.parametrize(("scales", "draws"), [([], 1), ([-0.1], 1), ([math.nan], 1), ([0.1], 0)])
def test_noise_refuses_senseless_settings(scales: list[float], draws: int) -> None:
    with pytest.raises(DiagnosisError, match="of noise must be"):
        weight_noise(Point(1.0), {"w": torch.ones(1)}, lambda m: 0.0, scales, draws)
