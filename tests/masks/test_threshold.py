"""The threshold of a selection: how much is looked at, and samples that mislead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from mask_samples import prune_by_sorting
from torch import Tensor

from redense import masks
from redense.errors import ScoreError
from redense.masks import blocks, threshold


@pytest.mark.parametrize("kind", ["normal", "narrow", "equal", "two values", "mostly zero", "mostly one"])
@pytest.mark.parametrize("sparsity", [0.00001, 0.3, 0.99999])
@pytest.mark.parametrize("absolute", [True, False])
def test_of_a_large_selection_little_is_looked_at_twice(
    kind: str, sparsity: float, absolute: bool, monkeypatch: pytest.MonkeyPatch
):
    normal = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    scores = {
        "normal": normal,
        "narrow": 1 + normal.abs() / 1e4,  # the upper halves of the bits are all the same
        "equal": torch.full_like(normal, 0.5),
        "two values": (normal > 0.3).float(),
        "mostly zero": normal * (normal.abs() > 1.5),
        "mostly one": torch.where(normal.abs() > 1.9, normal, 1.0),
    }[kind]
    keep, sizes = threshold._keep_highest, list[int]()  # pyright: ignore[reportPrivateUsage]

    def noting(keys: Sequence[Tensor], count: int) -> Sequence[Tensor]:
        sizes.append(sum(part.numel() for part in keys))
        return keep(keys, count)

    monkeypatch.setattr(threshold, "_keep_highest", noting)
    mask = masks.select(scores, sparsity, absolute=absolute)
    rule = scores.abs() if absolute else scores
    assert torch.equal(mask, prune_by_sorting({"w": rule}, sparsity)["w"])
    assert sum(sizes) < 0.05 * scores.numel()


def test_a_magnitude_is_looked_at_by_half_its_bits_where_that_tells(monkeypatch: pytest.MonkeyPatch):
    outside, looks = threshold._prune_outside, list[object]()  # pyright: ignore[reportPrivateUsage]

    def noting(*given: Any) -> bool:
        looks.append(given[4])
        return outside(*given)

    monkeypatch.setattr(threshold, "_prune_outside", noting)
    normal = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    upper, bits = blocks.upper_bits, blocks.magnitude_bits
    for scores, look in [
        (normal, upper),
        (1 + normal.abs() / 1e4, bits),
        (normal.double(), bits),
        (normal.half(), bits),
    ]:
        masks.select(scores, 0.3, absolute=True)
        masks.select(scores.abs(), 0.3)
        assert looks == [look, look]
        looks.clear()


def test_half_the_bits_of_a_magnitude_are_in_its_order():
    special = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1e-38,
        1.0,
        -1.0,
        1.0000001,
        3.4e38,
        -3.4028235e38,
        math.inf,
        math.nan,
        -math.nan,
    ]
    values = torch.cat([torch.tensor(special), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
    order = blocks.magnitude_bits(values).sort().indices
    upper = blocks.upper_bits(values)[order]
    assert upper.dtype == torch.int16
    assert (upper.diff() >= 0).all()
    assert upper.unique().numel() > 100
    infinite = blocks.upper_bits(torch.tensor([math.inf]))
    assert torch.equal(upper >= infinite, ~values[order].isfinite())


@pytest.mark.parametrize("more", [0, 1])
def test_where_many_scores_are_equal_the_threshold_is_known(more: int, monkeypatch: pytest.MonkeyPatch):
    scores = (torch.rand(300_001, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    smaller = int((scores == 0).sum())
    expected = prune_by_sorting({"w": scores}, (smaller + more) / scores.numel())["w"]
    monkeypatch.setattr(threshold, "_keep_highest", None)
    mask = masks.select(scores, (smaller + more) / scores.numel())  # the threshold is a bound of the bracket
    assert int((~mask).sum()) == smaller + more
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("bounds", [(0, 1, 2), (2**14, 2**14 + 1, 2**14 + 2), (-5, 7, 2**14), (0, 0, 0), (-2, -1, 1)])
@pytest.mark.parametrize("times", [1, 2])
def test_selection_survives_a_sample_that_misleads(
    bounds: tuple[int, int, int], times: int, monkeypatch: pytest.MonkeyPatch
):
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(threshold, "_PARTITION_BELOW", 16)
    honest, misled = threshold._bracket, [bounds] * times  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(threshold, "_bracket", lambda *given: misled.pop() if misled else honest(*given))
    assert torch.equal(masks.select(scores, 0.4, absolute=True), prune_by_sorting({"w": scores.abs()}, 0.4)["w"])
    assert len(misled) < times


def test_the_highest_are_kept_whatever_their_number():
    keys = torch.randint(1 << 20, (10_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    order = keys.sort(stable=True).indices
    for count in range(0, 10_001, 5):
        (kept,) = threshold._keep_highest([keys], count)  # pyright: ignore[reportPrivateUsage]
        assert not kept[order[:count]].any()
        assert kept[order[count:]].all()


def test_a_block_of_ones_is_summed_without_an_overflow():
    for size in (3, 1 << 14, 1 << 17, 3 << 15, (1 << 17) + 1):
        assert threshold._sum(torch.ones(size, dtype=torch.int16)) == size  # pyright: ignore[reportPrivateUsage]


# --- what a GPU does, on the CPU ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "few values", "equal", "sorted", "mostly one"])
@pytest.mark.parametrize(
    ("numel", "dtype"),
    [
        (7, torch.float32),
        (7, torch.bfloat16),
        (300_001, torch.float32),
        pytest.param(300_001, torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_to_choose_from_all_at_once_is_a_stable_sort(kind: str, dtype: torch.dtype, numel: int):
    normal = torch.randn(numel, generator=torch.Generator().manual_seed(3))
    scores = {
        "normal": normal,
        "few values": (3 * normal).round(),
        "equal": torch.full_like(normal, -0.5),
        "sorted": normal.sort().values,
        "mostly one": torch.where(normal.abs() > 1.9, normal, 1.0),
    }[kind].to(dtype)
    parts = {"a": scores[: numel // 3], "b": scores[numel // 3 :]}
    for key, rule in ((blocks.magnitude_bits, torch.abs), (blocks.ordered_bits, torch.clone)):
        for sparsity in (0.2, 0.5, 0.9999):
            count = round(sparsity * numel)
            chosen = {name: torch.empty(part.shape, dtype=torch.bool) for name, part in parts.items()}
            threshold._prune_at_once(parts, chosen, count, key)  # pyright: ignore[reportPrivateUsage]
            expected = prune_by_sorting({name: rule(part) for name, part in parts.items()}, sparsity)
            assert all(torch.equal(chosen[name], expected[name]) for name in parts)


def test_from_all_at_once_little_is_sorted(monkeypatch: pytest.MonkeyPatch):
    sizes = list[int]()

    def noting(self: Tensor, *, stable: bool) -> Tensor:
        sizes.append(self.numel())
        return torch.argsort(self, stable=stable)

    monkeypatch.setattr(torch.Tensor, "argsort", noting)
    scores = torch.randn(300_001, generator=torch.Generator().manual_seed(3))
    chosen = {"w": torch.empty(scores.shape, dtype=torch.bool)}
    threshold._prune_at_once({"w": scores}, chosen, 90_000, blocks.magnitude_bits)  # pyright: ignore[reportPrivateUsage]
    assert sum(sizes) < 0.05 * scores.numel()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("numel", [7, 300_001])
def test_from_all_at_once_a_score_without_an_order_is_found(bad: float, numel: int):
    scores = {"a": torch.ones(numel), "b": torch.ones(numel)}
    scores["b"][numel // 2] = bad
    chosen = {name: torch.empty(numel, dtype=torch.bool) for name in scores}
    with pytest.raises(ScoreError, match=f"1 of the {numel} scores of 'b'"):
        threshold._prune_at_once(scores, chosen, 3, blocks.magnitude_bits)  # pyright: ignore[reportPrivateUsage]
