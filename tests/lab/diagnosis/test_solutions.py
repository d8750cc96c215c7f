"""How far apart two solutions are, and how alike their units: against answers known beforehand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import ParameterError, StateError
from redense.lab.diagnosis.report import (
    DiagnosisError,
    distance,
    similarity,
)

from .known import hidden

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
