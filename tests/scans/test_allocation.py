"""Shares of an overall sparsity: exact in number, and the best that the curves allow."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import redense
from redense.errors import SparsityError
from redense.scans import allocation
from redense.scans.allocation import Allocation

LAYERS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(2, 400), min_size=1, max_size=6)
SPARSITY = st.floats(0, 0.9)


def removed(sparsities: dict[str, float], weights: dict[str, int]) -> int:
    return sum(round(s * weights[name]) for name, s in sparsities.items())


def curves_of(weights: dict[str, int], seed: int) -> dict[str, list[tuple[float, float]]]:
    generator = torch.Generator().manual_seed(seed)
    out: dict[str, list[tuple[float, float]]] = {}
    for name in weights:
        rises = torch.rand(5, generator=generator).cumsum(0).cumsum(0).tolist()  # convex
        out[name] = allocation.knots([(0.15 * (i + 1), rise) for i, rise in enumerate(rises)], 0.05, math.inf)
    return out


@given(LAYERS, SPARSITY, st.integers(0, 5))
def test_every_method_removes_exactly_the_rounded_number_of_weights(weights: dict[str, int], overall: float, seed: int):
    target = round(overall * sum(weights.values()))
    most = sum(size - 1 for size in weights.values())
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(size, generator=generator) for name, size in weights.items()}
    assert removed(allocation.global_magnitude(tensors, overall), weights) == target
    shapes = {name: (size, 1) for name, size in weights.items()}
    assert removed(allocation.erk(shapes, overall), weights) == min(target, most)
    chosen = allocation.from_curves(curves_of(weights, seed), weights, overall=overall)
    assert removed(chosen, weights) == min(target, most)
    assert all(0 <= s < 1 for s in chosen.values())


@given(st.integers(0, 1000), st.floats(0.05, 0.7))
def test_no_shift_of_weights_between_two_layers_is_cheaper(seed: int, overall: float):
    weights = {"a": 1000, "b": 3000, "c": 500, "d": 8000}
    curves = curves_of(weights, seed)
    chosen = allocation.from_curves(curves, weights, overall=overall, highest=0.75)

    def cost(sparsities: dict[str, float]) -> float:
        return sum(allocation.cost_at(curves[name], min(s, 0.75)) for name, s in sparsities.items())

    for more, less in itertools.permutations(weights, 2):
        for count in (30, 200):
            shifted = dict(chosen)
            shifted[more] += count / weights[more]
            shifted[less] -= count / weights[less]
            if shifted[less] >= 0 and shifted[more] <= 0.75:
                assert cost(shifted) >= cost(chosen) - 2e-3  # a few weights of rounding


def test_the_insensitive_layer_is_pruned_first_and_the_larger_of_two_alike_more():
    flat, steep = [(0.0, 0.0), (0.9, 0.01)], [(0.0, 0.0), (0.9, 5.0)]
    assert allocation.from_curves({"flat": flat, "steep": steep}, {"flat": 100, "steep": 100}, overall=0.4) == {
        "flat": 0.8,
        "steep": 0.0,
    }
    bowl = allocation.knots([(0.9, 1.0)], 0.0, math.inf)
    chosen = allocation.from_curves({"small": bowl, "large": bowl}, {"small": 100, "large": 1000}, overall=0.4)
    assert chosen["large"] > chosen["small"] > 0


def test_what_is_missing_beyond_the_curves_is_taken_evenly():
    curve = [(0.0, 0.0), (0.5, 1.0)]
    chosen = allocation.from_curves({"a": curve, "b": curve}, {"a": 100, "b": 100}, overall=0.7, highest=0.9)
    assert chosen == {"a": 0.7, "b": 0.7}
    with pytest.raises(SparsityError, match=r"0\.95 is above the highest that was measured, 0\.9"):
        allocation.from_curves({"a": curve}, {"a": 100}, overall=0.95, highest=0.9)


def test_a_budget_of_drop_is_used_up_and_never_passed():
    curves = curves_of({"a": 1000, "b": 300}, 3)
    weights = {"a": 1000, "b": 300}
    chosen = allocation.from_curves(curves, weights, max_drop=0.5)
    spent = sum(allocation.cost_at(curves[name], s) for name, s in chosen.items())
    assert 0.47 < spent <= 0.5
    assert allocation.from_curves(curves, weights, max_drop=0.0) == {"a": 0.0, "b": 0.0}


def test_noise_below_the_tolerance_and_what_lies_beyond_hope_decide_nothing():
    points = [(0.1, 0.01), (0.2, -0.02), (0.3, 0.005), (0.4, 0.2), (0.5, 0.9), (0.6, 7.0)]
    full = allocation.knots(points, 0.05, 0.8)
    assert full == allocation.knots(points[2:5], 0.05, 0.8)
    assert full[-1] == (0.5, 0.8)
    assert full[0] == (0.0, 0.0)
    assert all(d1 / s1 <= d2 / s2 for (s1, d1), (s2, d2) in itertools.pairwise(full[1:]))


def test_a_point_that_is_worse_than_a_sparser_one_is_noise():
    bump = [(0.2, 0.0), (0.4, 0.5), (0.6, 0.0), (0.7, 0.3), (0.8, 2.0), (0.9, 0.9)]
    without = [(0.2, 0.0), (0.4, 0.0), (0.6, 0.0), (0.7, 0.3), (0.8, 0.9), (0.9, 0.9)]
    assert allocation.knots(bump, 0.01, 5.0) == allocation.knots(without, 0.01, 5.0)


def test_knots_are_convex_and_skip_a_point_that_sticks_out():
    knots = allocation.knots([(0.2, 0.1), (0.4, 0.9), (0.6, 1.0), (0.8, math.inf)], 0.0, math.inf)
    slopes = [(d1 - d0) / (s1 - s0) for (s0, d0), (s1, d1) in itertools.pairwise(knots)]
    assert slopes == sorted(slopes)
    assert (0.4, 0.9) not in knots
    assert knots[-1] == (0.6, 1.0)
    assert allocation.knots([], 0.1, 1.0) == [(0.0, 0.0)]


def test_erk_keeps_small_layers_denser_by_the_formula_of_the_paper():
    shapes = {"a": (64, 64, 3, 3), "b": (256, 128, 3, 3), "c": (128, 512)}
    chosen = allocation.erk(shapes, 0.8)
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    ratios = [(1 - chosen[name]) / raw[name] for name in shapes]
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=1e-3)
    assert chosen["b"] > chosen["a"]


def test_global_magnitude_is_what_the_global_scope_of_a_phase_removes():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Linear(30, 10))
    with torch.no_grad():
        model[1].get_parameter("weight").mul_(3)
    parameters = redense.prunable(model)
    chosen = allocation.global_magnitude(parameters, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, sparsity=0.5, scope="global"):
        zeros = {name: int((p == 0).sum()) for name, p in parameters.items()}
    assert {name: round(s * parameters[name].numel()) for name, s in chosen.items()} == zeros
    quantiles = {name: tuple(sorted(p.detach().abs().flatten().tolist())) for name, p in parameters.items()}
    near = allocation.from_quantiles(quantiles, {name: p.numel() for name, p in parameters.items()}, 0.5)
    assert near == pytest.approx(chosen, abs=0.01)


def test_an_allocation_is_a_mapping_for_schedules_and_yaml_for_recipes():
    chosen = Allocation("uniform", {"fc.weight": 0.25, "0.weight": 0.5}, {"fc.weight": 100, "0.weight": 100})
    assert dict(chosen) == chosen.to_dict() == {"fc.weight": 0.25, "0.weight": 0.5}
    assert chosen.overall == 0.375
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=chosen)
    assert schedule.phases[1].sparsity == dict(chosen)
    assert redense.Schedule.from_dict(schedule.to_dict()) == schedule
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(chosen.to_yaml()) == {"sparse": {"sparsity": dict(chosen)}}
    assert str(chosen).splitlines()[-1].split() == ["overall", "200", "37.5", "%"]


def test_a_share_beyond_what_was_scanned_of_a_layer_has_no_drop():
    beside = {"erk": {"fc.weight": 0.9}, "global": {"fc.weight": 0.5}}
    found = Allocation(
        "uniform", {"fc.weight": 0.5}, {"fc.weight": 100}, 0.25, beside, {"erk": math.inf, "global": 0.25}
    )
    assert str(found).splitlines()[-1].split() == ["sum", "of", "drops", "0.25", "not", "scanned", "0.25"]
    assert "not scanned" in found._repr_html_()
